"""Locks on an mbox, in Debian's order: fcntl on the file, then the dotlock beside it.

Never waits: `MboxLock.acquire` takes both or neither, and the caller decides when to try again. So a lock
held by another program delays only the mail for that mbox.

A dotlock is stale if the process it names is dead, or began after the dotlock was made (its number was used
again: the first process of a container is always 1); if it names no process, or one on another host, and is
5 minutes old (as in liblockfile); or if it is an hour old. The fcntl lock is held during this check, so two
processes of mailtools never remove the same dotlock, and one that names this process was left by an earlier
lock of ours. A stale dotlock is renamed before it is removed, so that a fresh one that replaced it
meanwhile can be put back.
"""

import math
import os
import time
from contextlib import suppress

from mailtools.system.files import lock

STALE_AFTER = 300.0  # seconds, for a dotlock that names no process of this host
STALE_ANYHOW = 3600.0  # seconds, for any dotlock
_SLACK = 2.0  # seconds by which the clocks of files and of processes may differ


class MboxLock:
    """The fcntl lock and the dotlock of one open mbox."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._dotlock = f"{path}.lock"

    def acquire(self) -> bool:
        """Take both locks, or neither and return False. Raises OSError if the dotlock cannot be created."""
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
        """Remove the dotlock, then release the fcntl lock. Never raises.

        A dotlock that stays (the filesystem has become read-only) names us: it is stale for our next lock.
        """
        with suppress(OSError):
            os.unlink(self._dotlock)
        with suppress(OSError):
            lock.release(self._descriptor)


def make_dotlock(path: str) -> bool:
    """Create the dotlock *path*; False if another process holds it. A stale one is removed first."""
    for _ in range(2):
        try:
            _create(path, b"%d\n" % os.getpid())
        except FileExistsError:
            if not _remove_if_stale(path):
                return False
            continue
        except PermissionError:
            pass  # no permission to write in the folder, such as /var/mail: the fcntl lock must suffice
        return True
    return False


def _create(path: str, content: bytes) -> None:
    """Create a file whose content is complete when its name appears.

    A dotlock left empty by a kill would block the mbox for 5 minutes.
    """
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError):  # the filesystem or system has no unnamed files
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            os.write(descriptor, content)
        os.close(descriptor)
        return
    try:
        with suppress(OSError):  # on a full disk it stays empty and becomes stale by its age
            os.write(descriptor, content)
        # Python calls linkat(2), which follows the link, only if a folder's descriptor is given.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    finally:
        os.close(descriptor)


def _remove_if_stale(path: str) -> bool:
    """Remove *path* if it is a stale dotlock; True if it is gone."""
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
            os.link(aside, path)  # a fresh lock had replaced the stale one: put it back
            os.unlink(aside)
            return False
        os.unlink(aside)
    except FileNotFoundError:
        pass
    return True


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _is_stale(content: bytes, age: float) -> bool:
    """Tell whether a dotlock *age* seconds old is stale.

    *content*: a process number (liblockfile), ``number:host`` (Dovecot), ``0`` (procmail) or nothing.
    """
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
    return int(number) == os.getpid() or age > STALE_ANYHOW or _running_for(int(number)) < age - _SLACK


def _running_for(number: int) -> float:
    """Return for how many seconds the process *number* has been running; infinite if that cannot be told."""
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            started = int(file.read().rpartition(b")")[2].split()[19])  # proc(5): ticks after the boot
        with open("/proc/uptime", "rb") as file:
            return float(file.read().split()[0]) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return math.inf
