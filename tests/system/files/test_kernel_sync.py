"""The kernel's asynchronous sync: each one started is told of, once, with its error."""

import errno
import os
import platform
import select
from pathlib import Path

import pytest

from mailtools.system.files import kernel_sync
from mailtools.system.files.kernel_sync import Syncer


@pytest.fixture
def syncer() -> Syncer:
    try:
        return Syncer()
    except OSError as error:
        pytest.skip(f"this kernel has no asynchronous sync: {error}")


def ended(syncer: Syncer, count: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while len(found) < count:
        assert select.select([syncer.eventfd], [], [], 20)[0], "the kernel never told"
        found += syncer.finished()
    return found


def test_an_end_is_told_once(syncer: Syncer, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"x")
    assert syncer.finished() == []
    assert syncer.start(descriptor)
    assert ended(syncer, 1) == [(descriptor, 0)]
    assert syncer.finished() == []
    os.close(descriptor)


def test_many_that_end_before_anybody_looks_are_all_told(syncer: Syncer, tmp_path: Path) -> None:
    started = []
    for number in range(100):
        descriptor = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        os.write(descriptor, b"x")
        if not syncer.start(descriptor):
            os.close(descriptor)
            break
        started.append(descriptor)
    assert len(started) >= 64
    poll = select.poll()
    poll.register(syncer.eventfd, select.POLLIN)
    counted = 0
    while counted < len(started):  # the count of ends is there, and nobody took one
        assert poll.poll(20_000)
        counted += os.eventfd_read(syncer.eventfd)
    os.eventfd_write(syncer.eventfd, counted)
    assert sorted(syncer.finished()) == [(descriptor, 0) for descriptor in started]
    for descriptor in started:
        os.close(descriptor)


def test_what_cannot_be_synced_is_refused_or_told(syncer: Syncer) -> None:
    reading, writing = os.pipe()
    if syncer.start(writing):
        [(descriptor, error)] = ended(syncer, 1)
        assert (descriptor, error) == (writing, errno.EINVAL)
    os.close(reading)
    os.close(writing)
    assert not syncer.start(writing), "a closed descriptor"


def test_an_unknown_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(OSError, match="no asynchronous sync"):
        Syncer()


def test_a_kernel_that_refuses_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernel_sync._CALLS, platform.machine(), (100_000,) * 4)
    with pytest.raises(OSError, match="no asynchronous sync"):
        Syncer()
