"""One mbox read by several processes gives what one process gives."""

import os
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError
from mailtools.core.mbox import scan
from mailtools.system.mbox import parallel


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH_IT", 1)
    monkeypatch.setattr(parallel, "_SHARE", 2000)
    monkeypatch.setattr(parallel, "workers", lambda: 3)


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    path = tmp_path / "many.mbox"
    with path.open("wb") as file:
        for number in range(500):
            body = b"From here on, nothing.\n\n" * (number % 7) + b"x" * (number * 37 % 900)
            file.write(b"From a@b Thu Aug 22 12:00:00 2002\nSubject: %d\n\n%b\n\n" % (number, body))
    return path


def verbatim(read: scan.Read) -> bytes:
    return b"".join(chunk for record in scan.records(read) for chunk in record.chunks())


def test_shares_joined_are_the_file(mbox: Path) -> None:
    shares = parallel.map_shares(str(mbox), verbatim)
    assert shares is not None
    found = list(shares)
    assert len(found) > 10
    assert b"".join(result for _, result in found) == mbox.read_bytes()
    assert sum(octets for octets, _ in found) == mbox.stat().st_size


def test_each_share_is_whole_records(mbox: Path) -> None:
    shares = parallel.map_shares(str(mbox), lambda read: b"%d" % scan.count(read))
    assert shares is not None
    assert sum(int(result) for _, result in shares) == 500


def test_an_error_in_a_share_is_raised_where_it_is_read(mbox: Path) -> None:
    here = os.getpid()

    def fails(read: scan.Read) -> bytes:
        if b"Subject: 300\n" in verbatim(read):
            raise BadDataError(f"seen by {os.getpid() == here}")
        return b""

    shares = parallel.map_shares(str(mbox), fails)
    assert shares is not None
    with pytest.raises(BadDataError, match="seen by True"):
        list(shares)


def test_a_process_that_dies_loses_nothing(mbox: Path) -> None:
    here = os.getpid()

    def dies(read: scan.Read) -> bytes:
        if os.getpid() != here:
            os._exit(9)
        return verbatim(read)

    shares = parallel.map_shares(str(mbox), dies)
    assert shares is not None
    assert b"".join(result for _, result in shares) == mbox.read_bytes()


def test_whoever_stops_listening_leaves_no_process(mbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    shares = parallel.map_shares(str(mbox), verbatim)
    assert shares is not None
    next(shares)
    shares.close()  # type: ignore[attr-defined]
    assert len(children) == 3
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@pytest.mark.parametrize("content", [b"", b"\n\nFrom a@b Thu Aug 22 12:00:00 2002\n\n", b"\x1f\x8bzipped"])
def test_what_is_no_plain_mbox_is_left_to_one_process(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert parallel.map_shares(str(path), verbatim) is None
    assert parallel.map_shares(str(tmp_path / "missing"), verbatim) is None


def test_one_core_is_one_process(mbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    assert parallel.map_shares(str(mbox), verbatim) is None
