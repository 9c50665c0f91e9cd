"""Buffers: the same octets back, in memory or in a file that has no name."""

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from mailtools.system.files import buffer
from mailtools.system.files.buffer import SPILL_AT, Buffer, write_all


@pytest.mark.parametrize("pieces", [[], [b""], [b"a"], [b"a", b"", b"b"], [b"x" * SPILL_AT],
                                    [b"x" * SPILL_AT, b"y"], [b"z" * 1000] * 1000, [b"q" * 3 * SPILL_AT]])  # fmt: skip
def test_the_same_octets_as_often_as_wanted(tmp_path: Path, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    one = Buffer(str(tmp_path / "in.mbox"))
    for piece in pieces:
        one.append(piece)
    assert one.size == len(whole)
    assert one.is_in_memory is (len(whole) <= SPILL_AT)
    assert b"".join(one.blocks()) == b"".join(one.blocks()) == whole
    assert all(len(block) <= SPILL_AT for block in one.blocks())
    assert list(tmp_path.iterdir()) == [], "the file has no name"
    one.append(b"more")
    assert b"".join(one.blocks()) == whole + b"more"
    one.close()
    one.close()


def test_a_file_is_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    one = Buffer(str(tmp_path / "in.mbox"))
    one.append(b"x" * (SPILL_AT + 1))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    one.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_given_back_with_the_last_reference(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    one = Buffer(str(tmp_path / "in.mbox"))
    one.append(b"x" * (SPILL_AT + 1))
    blocks = one.blocks()
    del one
    assert sum(map(len, blocks)) == SPILL_AT + 1
    del blocks
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_does_not_grow_with_the_message(tmp_path: Path) -> None:
    one = Buffer(str(tmp_path / "in.mbox"))
    tracemalloc.start()
    for _ in range(300):
        one.append(bytes(100_000))
    for _ in one.blocks():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one.close()
    assert peak < 3 << 20


def test_a_filesystem_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    one = Buffer(str(tmp_path / "in.mbox"))
    one.append(b"x" * (SPILL_AT + 1))
    assert list(tmp_path.iterdir()) == []
    assert b"".join(one.blocks()) == b"x" * (SPILL_AT + 1)


def test_no_room_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Buffer(str(tmp_path / "gone" / "in.mbox")).append(b"x" * (SPILL_AT + 1))


def test_short_writes_are_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.write
    monkeypatch.setattr(buffer.os, "write", lambda fd, octets: real(fd, bytes(octets)[:7]))
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    write_all(descriptor, b"0123456789" * 10)
    assert os.pread(descriptor, 1000, 0) == b"0123456789" * 10
    os.close(descriptor)
