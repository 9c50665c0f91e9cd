"""Files that are changed whole."""

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, LockTimeoutError
from mailtools.system.files import atomic


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "users"
    atomic.replace(str(path), b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    atomic.replace(str(path), b"two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["users"]


def test_the_old_content_stays_when_the_new_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(CannotWriteError, match="No space"):
        atomic.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["users"]


def test_it_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda d: (steps.append("fsync"), fsync(d))[1])
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (steps.append("rename"), replace(a, b))[1])
    atomic.replace(str(tmp_path / "x"), b"x")
    assert steps == ["fsync", "rename", "fsync"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic.replace(str(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_editors_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "list"

    def add(number: int) -> None:
        atomic.edit(str(path), lambda text: text + f"{number}\n")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, path.read_text().split())) == list(range(30))


def test_octets_that_are_no_text_stay(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a\xff\r\nb\n")
    atomic.edit(str(path), lambda text: text + "c\n")
    assert path.read_bytes() == b"a\xff\r\nb\nc\n"
    before = path.stat().st_ino
    atomic.edit(str(path), lambda text: text)
    assert path.stat().st_ino == before, "nothing to write"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError):
        atomic.replace(str(tmp_path / "none" / "x"), b"x")
    with pytest.raises(CannotWriteError):
        atomic.edit(str(tmp_path / "none" / "x"), str.upper)


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_PATIENCE", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LockTimeoutError, match=r"another program keeps it locked; try again later$"):
        atomic.edit(str(tmp_path / "users"), lambda text: text)
    os.close(descriptor)
    atomic.edit(str(tmp_path / "users"), lambda text: f"{text}now")
    assert (tmp_path / "users").read_text() == "now"
