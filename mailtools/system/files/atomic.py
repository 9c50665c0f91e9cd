"""Files that are changed whole: the old content or the new one after a crash, never less.

Owner and mode stay. Writers of ours take turns by a lock on the folder; a reader needs none.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mailtools.core.errors import CannotWriteError
from mailtools.system.files.durable import sync_folder


def replace(path: str, octets: bytes, mode: int = 0o600) -> None:
    """Put *octets* in the place of *path*, durably; *mode* is for a new file. Raises CannotWriteError."""
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
    """Owner and mode of the file that is replaced."""
    with suppress(FileNotFoundError):
        old = os.stat(path)
        mode = old.st_mode & 0o777
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, mode)


@contextmanager
def lock(folder: str) -> Iterator[None]:
    """Nobody else of ours changes files in *folder* meanwhile. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def edit(path: str, change: Callable[[str], str]) -> None:
    """Change the text of *path*, which need not exist, one editor at a time. Raises CannotWriteError.

    Octets that are no UTF-8 stay as they are.
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
