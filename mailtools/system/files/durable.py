"""Helpers for durable writes: sync a folder, recognise a full disk, notice a replaced file.

Knows nothing of the content. Promises built on it: R1 (success is reported after fsync), S2 (a full disk is a
temporary failure), S4 (a file is opened again after it was replaced).
"""

import errno
import os

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


def write_error(path: str, error: OSError, consequence: str = "") -> CannotWriteError:
    """The error to raise for a failed write: DiskFullError if room is missing, else CannotWriteError.

    *consequence* ends the sentence that a user reads, as in "nothing was removed".
    """
    kind = DiskFullError if error.errno in NO_ROOM else CannotWriteError
    return kind(f"{path}: {error.strerror}{': ' if consequence else ''}{consequence}")
