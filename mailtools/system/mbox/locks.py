"""Locks on an mbox, in Debian's order: fcntl on the file, then the dotlock beside it.

Never waits: `MboxLock.acquire` takes both or neither, and the caller decides when to try again. So a lock
that another program holds keeps nobody but that mbox's mail waiting.

A dotlock is stale when the process it names is dead; when it names none, or one on another host, and is old
(5 minutes, as liblockfile has it); or when it is very old (an hour: its process died, the number was taken).
While we judge it we hold the fcntl lock, so two of us never remove one together; and it is renamed before it
is removed, so that a fresh lock which took its place meanwhile is put back.
"""

import os
import time
from contextlib import suppress

from mailtools.system.files import lock

STALE_AFTER = 300.0  # seconds, for a dotlock that names no process here
STALE_ANYHOW = 3600.0  # seconds


class MboxLock:
    """Both locks of one open mbox."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._dotlock = f"{path}.lock"

    def acquire(self) -> bool:
        """Take both locks, or neither. Raises OSError where the dotlock cannot be made."""
        if not lock.take(self._descriptor):
            return False
        try:
            if make_dotlock(self._dotlock):
                return True
        except OSError:
            lock.release(self._descriptor)
            raise
        lock.release(self._descriptor)
        return False

    def release(self) -> None:
        """Give both back."""
        with suppress(FileNotFoundError):
            os.unlink(self._dotlock)
        lock.release(self._descriptor)


def make_dotlock(path: str) -> bool:
    """Make the dotlock *path*; False where another holds it. A stale one is removed first."""
    for _ in range(2):
        try:
            _create(path, b"%d\n" % os.getpid())
        except FileExistsError:
            if not _remove_if_stale(path):
                return False
            continue
        except PermissionError:
            pass  # a folder we may not write in, as /var/mail: the fcntl lock has to do
        return True
    return False


def _create(path: str, content: bytes) -> None:
    """A new file that has its content with its name: one that a kill left empty would count for 5 minutes."""
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError):  # a filesystem or system that has no nameless files
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            os.write(descriptor, content)
        os.close(descriptor)
        return
    try:
        with suppress(OSError):  # on a full disk it stays empty, and is judged by its age
            os.write(descriptor, content)
        # Python asks for linkat(2), which follows the link, only where a folder's descriptor is given.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    finally:
        os.close(descriptor)


def _remove_if_stale(path: str) -> bool:
    """Remove *path* where it is a stale dotlock; True where it is gone."""
    try:
        status = os.lstat(path)
        with open(path, "rb", opener=_open_plain) as file:
            content = file.read(300)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not _is_stale(content, time.time() - status.st_mtime):
        return False
    aside = f"{path}.stale-{os.getpid()}"
    try:
        os.rename(path, aside)
        moved = os.lstat(aside)
        if (moved.st_ino, moved.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            os.link(aside, path)  # a fresh lock had taken its place: back with it
            os.unlink(aside)
            return False
        os.unlink(aside)
    except FileNotFoundError:
        pass
    return True


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _is_stale(content: bytes, age: float) -> bool:
    """*content*: a process number (liblockfile), ``number:host`` (Dovecot), ``0`` (procmail) or nothing."""
    number, _, host = content.split(b"\n", 1)[0].strip(b" \0").partition(b":")
    here = not host or host.split(b":")[0] == os.uname().nodename.encode()
    if not (number.isdigit() and 0 < int(number) < 1 << 22 and here):
        return age > STALE_AFTER
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return age > STALE_ANYHOW
