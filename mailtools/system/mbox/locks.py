"""Locks on an mbox, in Debian's order: fcntl on the file, then the dotlock beside it.

Never waits: `MboxLock.acquire` takes both or neither, and the caller decides when to try again. So a lock
that another program holds keeps nobody but that mbox's mail waiting.

The fcntl lock is an open-file-description lock where there is one (Linux): it excludes POSIX lockers, but
is not dropped when some other descriptor of the same file is closed in this process.

A dotlock is stale when the process it names is dead; when it names none, or one on another host, and is old
(5 minutes, as liblockfile has it); or when it is very old (an hour: its process died, the number was taken).
While we judge it we hold the fcntl lock, so two of us never remove one together; and it is renamed before it
is removed, so that a fresh lock which took its place meanwhile is put back.
"""

import fcntl
import os
import sys
import time
from contextlib import suppress

STALE_AFTER = 300.0  # seconds, for a dotlock that names no process here
STALE_ANYHOW = 3600.0  # seconds
_SETLK = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_GETLK = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)
# struct flock: l_type (short), l_whence, l_start, l_len (0: to the end), l_pid (0, as OFD locks demand).
_REQUESTS = {
    kind: kind.to_bytes(2, sys.byteorder) + bytes(30)
    for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)
}


class MboxLock:
    """Both locks of one open mbox."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._dotlock = f"{path}.lock"

    def acquire(self) -> bool:
        """Take both locks, or neither. Raises OSError where the dotlock cannot be made."""
        if not take(self._descriptor):
            return False
        try:
            if make_dotlock(self._dotlock):
                return True
        except OSError:
            _set_fcntl(self._descriptor, fcntl.F_UNLCK)
            raise
        _set_fcntl(self._descriptor, fcntl.F_UNLCK)
        return False

    def release(self) -> None:
        """Give both back."""
        with suppress(FileNotFoundError):
            os.unlink(self._dotlock)
        _set_fcntl(self._descriptor, fcntl.F_UNLCK)


def take(descriptor: int) -> bool:
    """Lock an open file for us alone; False where another has it. It ends with the descriptor."""
    return _set_fcntl(descriptor, fcntl.F_WRLCK)


def share(descriptor: int) -> bool:
    """Lock an open file together with others who share it; `is_taken` tells. It ends with the descriptor."""
    return _set_fcntl(descriptor, fcntl.F_RDLCK)


def is_taken(descriptor: int) -> bool:
    """Tell whether another has locked the file; asking disturbs nobody."""
    answer = fcntl.fcntl(descriptor, _GETLK, _REQUESTS[fcntl.F_WRLCK])
    return int.from_bytes(answer[:2], sys.byteorder) != fcntl.F_UNLCK


def _set_fcntl(descriptor: int, kind: int) -> bool:
    try:
        fcntl.fcntl(descriptor, _SETLK, _REQUESTS[kind])
    except (BlockingIOError, PermissionError):
        return False
    return True


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
