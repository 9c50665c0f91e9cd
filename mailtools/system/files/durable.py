"""Helpers for durable writes: sync a folder, recognise a full disk, notice a replaced file.

Knows nothing of the content. Promises built on it: R1 (success is reported after fsync), S2 (a full disk is a
temporary failure), S4 (a file is opened again after it was replaced).
"""

import errno
import os
import stat
from contextlib import suppress

from mailtools.core.errors import CannotWriteError, DiskFullError

STATE_FOLDER = ".mailtools"  # beside the mboxes: notes, indexes and the state of `fetch`
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_still(path: str, descriptor: int) -> bool:
    """Tell whether *descriptor* is still the file at *path*: other programs replace files by rename."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def sync_folder(path: str) -> None:
    """Sync a folder, so that new, renamed and removed names in it are durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: str) -> None:
    """Create *path* and the folders above it that are missing: mode 0700 whatever the umask, durably.

    Raises OSError; FileExistsError if something else has the name.
    """
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
            continue
        os.chmod(folder, 0o700)
        sync_folder(os.path.dirname(folder))


def make_state_folder(beside: str) -> str:
    """Return the folder of mailtools' own files beside the file *beside*; create it if it is missing.

    Raises OSError, also if it is a symbolic link: its maker wants us to write elsewhere.
    """
    folder = os.path.join(os.path.dirname(beside), STATE_FOLDER)
    try:
        mode = os.lstat(folder).st_mode
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        mode = os.lstat(folder).st_mode
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(
            errno.ENOTDIR, "a link or file where a folder of mailtools should be", folder
        )
    return folder


def is_elsewhere(descriptor: int, path: str) -> bool:
    """Tell whether an open file is not at *path* but where a symbolic link in it leads.

    Asked where we run as root: a user could lead us to a file of another. False without /proc.
    """
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") != os.path.abspath(path)
    except OSError:
        return False


def write_error(path: str, error: OSError, consequence: str = "") -> CannotWriteError:
    """The error to raise for a failed write: DiskFullError if room is missing, else CannotWriteError.

    *consequence* ends the sentence that a user reads, as in "nothing was removed".
    """
    kind = DiskFullError if error.errno in NO_ROOM else CannotWriteError
    return kind(f"{path}: {error.strerror}{': ' if consequence else ''}{consequence}")
