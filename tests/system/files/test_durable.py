"""system/files/durable: files that were replaced, folders that are synced, errors of writes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError
from mailtools.system.files import durable


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    return os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)


def test_a_file_is_still_there_after_it_was_written(tmp_path: Path, descriptor: int) -> None:
    os.write(descriptor, b"x")
    assert durable.is_still(str(tmp_path / "file"), descriptor)


def test_a_file_that_was_removed_or_replaced_is_noticed(tmp_path: Path, descriptor: int) -> None:
    os.remove(tmp_path / "file")
    assert not durable.is_still(str(tmp_path / "file"), descriptor)
    (tmp_path / "new").touch()
    os.rename(tmp_path / "new", tmp_path / "file")
    assert not durable.is_still(str(tmp_path / "file"), descriptor)


def test_a_symbolic_link_to_the_file_is_not_the_file(tmp_path: Path, descriptor: int) -> None:
    os.rename(tmp_path / "file", tmp_path / "moved")
    os.symlink(tmp_path / "moved", tmp_path / "file")
    assert not durable.is_still(str(tmp_path / "file"), descriptor)


def test_a_folder_is_synced_and_its_descriptor_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((fd, os.fstat(fd).st_ino)))
    durable.sync_folder(str(tmp_path))
    ((descriptor, inode),) = synced
    assert inode == tmp_path.stat().st_ino
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_only_folders_are_synced_as_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        durable.sync_folder(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EFBIG, DiskFullError),
        (errno.EACCES, CannotWriteError),
        (errno.EIO, CannotWriteError),
    ],
)
def test_a_write_fails_for_want_of_room_or_for_another_reason(
    number: int, kind: type[CannotWriteError]
) -> None:
    error = durable.write_error("/box", OSError(number, "why"))
    assert (type(error), str(error)) == (kind, "/box: why")


def test_the_consequence_ends_the_sentence() -> None:
    error = durable.write_error("/box", OSError(errno.EIO, "why"), "nothing was removed")
    assert str(error) == "/box: why: nothing was removed"


def test_new_folders_are_private_and_their_names_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    umask = os.umask(0o377)  # would make folders that their owner can neither write nor search
    try:
        durable.make_folders(str(tmp_path / "a/b/c"))
        durable.make_folders(str(tmp_path / "a/b/d"))
        durable.make_folders(str(tmp_path / "a/b/d"))
    finally:
        os.umask(umask)
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b"), str(tmp_path / "a/b")]
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_a_folder_cannot_have_the_name_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        durable.make_folders(str(tmp_path / "file/below"))


def test_the_folder_of_our_own_files_is_no_link(tmp_path: Path) -> None:
    assert durable.make_state_folder(str(tmp_path / "a.mbox")) == str(tmp_path / ".mailtools")
    assert durable.make_state_folder(str(tmp_path / "b.mbox")) == str(tmp_path / ".mailtools")
    (tmp_path / ".mailtools").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".mailtools").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        durable.make_state_folder(str(tmp_path / "a.mbox"))


def test_a_file_that_a_link_led_to_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name, is_elsewhere in (("real", False), ("link", True)):
        path = str(tmp_path / name / "file")
        descriptor = os.open(path, os.O_RDONLY)
        assert durable.is_elsewhere(descriptor, path) is is_elsewhere
        os.close(descriptor)
