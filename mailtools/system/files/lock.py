"""The fcntl lock of an open file: taken alone, shared, or asked about; it never waits.

It is an open-file-description lock where the system has one (Linux): it excludes POSIX lockers, but is not
dropped when another descriptor of the same file is closed in this process.
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
    """Lock an open file for us alone; False where another has it. It ends with the descriptor."""
    return _set(descriptor, fcntl.F_WRLCK)


def share(descriptor: int) -> bool:
    """Lock an open file together with others who share it; `is_taken` tells. It ends with the descriptor."""
    return _set(descriptor, fcntl.F_RDLCK)


def is_taken(descriptor: int) -> bool:
    """Tell whether another has locked the file; asking disturbs nobody."""
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
