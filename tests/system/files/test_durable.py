"""system/files/durable: folders that are made and synced, errors of writes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError
from mailtools.system.files import durable


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
