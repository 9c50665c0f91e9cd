"""Replaces whole files atomically: after a crash the old or the new content is there, never a part.

Owner and mode stay. Writers of mailtools take turns by a lock on the folder; readers need no lock.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mailtools.core.errors import CannotWriteError, LockTimeoutError
from mailtools.system.files.durable import sync_folder

_PATIENCE = 30.0  # seconds
_LOOK_AGAIN = 0.05


def replace(path: str, octets: bytes, mode: int = 0o600) -> None:
    """Replace the content of *path*, durably; *mode* applies to a new file. Raises CannotWriteError."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            _take_over(descriptor, path, mode)
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise CannotWriteError(f"{path}: {error.strerror}: cannot be written") from error


def _take_over(descriptor: int, path: str, mode: int) -> None:
    """Copy owner and mode of the file at *path* to *descriptor*; *mode* if there is no such file."""
    with suppress(FileNotFoundError):
        old = os.stat(path)
        mode = old.st_mode & 0o777
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, mode)


@contextmanager
def lock(folder: str) -> Iterator[None]:
    """Lock *folder* against other writers of mailtools; waits for the lock, but not without end.

    Raises OSError, and LockTimeoutError if somebody does not let it go.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise LockTimeoutError(f"{folder}: another program keeps it locked; try again later")
            time.sleep(_LOOK_AGAIN)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def edit(path: str, change: Callable[[str], str]) -> None:
    """Change the text of *path* under a lock; a missing file counts as empty.

    Raises CannotWriteError, LockTimeoutError.

    Octets that are not UTF-8 are preserved.
    """
    try:
        with lock(os.path.dirname(os.path.realpath(path))):
            old = b""
            with suppress(FileNotFoundError), open(path, "rb") as file:
                old = file.read()
            new = change(old.decode(errors="surrogateescape")).encode(errors="surrogateescape")
            if new != old:
                replace(path, new)
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}") from error
