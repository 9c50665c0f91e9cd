"""fcntl locks on open files: exclusive, shared, or queried. No function waits.

On Linux they are open-file-description locks: they exclude POSIX lockers, and closing another descriptor of
the same file in this process does not release them.
"""

import fcntl
import sys

_SETLK = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_GETLK = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)
# struct flock: l_type (short), l_whence, l_start, l_len (0: to the end), l_pid (0, as OFD locks demand).
_REQUESTS = {
    kind: kind.to_bytes(2, sys.byteorder) + bytes(30)
    for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)
}


def take(descriptor: int) -> bool:
    """Lock an open file exclusively, until its descriptor is closed; False if another holds a lock."""
    return _set(descriptor, fcntl.F_WRLCK)


def share(descriptor: int) -> bool:
    """Take a shared lock, until the descriptor is closed; False if another process holds an exclusive one."""
    return _set(descriptor, fcntl.F_RDLCK)


def is_taken(descriptor: int) -> bool:
    """Tell whether another open file holds a lock, shared or exclusive. The query takes no lock."""
    answer = fcntl.fcntl(descriptor, _GETLK, _REQUESTS[fcntl.F_WRLCK])
    return int.from_bytes(answer[:2], sys.byteorder) != fcntl.F_UNLCK


def release(descriptor: int) -> None:
    """Unlock a file before its descriptor is closed."""
    _set(descriptor, fcntl.F_UNLCK)


def _set(descriptor: int, kind: int) -> bool:
    try:
        fcntl.fcntl(descriptor, _SETLK, _REQUESTS[kind])
    except (BlockingIOError, PermissionError):
        return False
    return True
