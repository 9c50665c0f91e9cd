"""Helpers for durable writes: sync a folder, make folders, recognise a full disk.

Knows nothing of the content. Promises built on it: R1 (success is reported after fsync), S2 (a full disk is a
temporary failure).
"""

import errno
import os

from mailtools.core.errors import CannotWriteError, DiskFullError

STATE_FOLDER = ".mailtools"  # beside the mboxes: notes, indexes and the state of `fetch`
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def write_error(path: str, error: OSError, consequence: str = "") -> CannotWriteError:
    """The error to raise for a failed write: DiskFullError if room is missing, else CannotWriteError.

    *consequence* ends the sentence that a user reads, as in "nothing was removed".
    """
    kind = DiskFullError if error.errno in NO_ROOM else CannotWriteError
    return kind(f"{path}: {error.strerror}{': ' if consequence else ''}{consequence}")
