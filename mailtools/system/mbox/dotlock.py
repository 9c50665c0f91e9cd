"""Locks on an mbox, in Debian's order: fcntl on the file, then the dotlock beside it.

Never waits: `MboxLock.acquire` takes both or neither, and the caller decides when to try again. So a lock
held by another program delays only the mail for that mbox.

A dotlock of mailtools names its process by number, boot of the machine and start time: the number alone can
be used again (the first process of a container is always 1). It is stale if that very process is gone. A
dotlock of another program is stale if the process it names is dead, or began after the dotlock was made; if
it names no process, or one on another host, and is 5 minutes old (as in liblockfile); or if it names neither
and is older than the boot. Any dotlock is stale
after an hour. The fcntl lock is held during this check, so two processes of mailtools never remove the same
dotlock, and one that names this process was left by an earlier lock of ours. A stale dotlock is renamed
before it is removed, so that a fresh one that replaced it meanwhile can be put back.
"""

import os
import time
from contextlib import suppress
from functools import cache

from mailtools.system import clock
from mailtools.system.files import lock
from mailtools.system.files.folder import Folder
from mailtools.system.mbox.mboxfile import MboxFile

STALE_AFTER = 300.0  # seconds, for a dotlock that names no process of this host
STALE_ANYHOW = 3600.0  # seconds, for any dotlock
_SLACK = 2.0  # seconds by which the clocks of files and of processes may differ


class MboxLock:
    """The fcntl lock and the dotlock of one open mbox."""

    def __init__(self, descriptor: int, mbox: MboxFile) -> None:
        self._descriptor = descriptor
        self._mbox = mbox

    def acquire(self) -> bool:
        """Take both locks, or neither and return False. Raises OSError if the dotlock cannot be created."""
        if not lock.take(self._descriptor):
            return False
        try:
            if make_dotlock(self._mbox.folder, self._mbox.dotlock):
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
            self._mbox.folder.unlink(self._mbox.dotlock)
        with suppress(OSError):
            lock.release(self._descriptor)


def make_dotlock(folder: Folder, name: str) -> bool:
    """Create the dotlock *name*; False if another process holds it. A stale one is removed first."""
    for _ in range(2):
        try:
            _create(folder, name, _signature(os.getpid()))
        except FileExistsError:
            if not _remove_if_stale(folder, name):
                return False
            continue
        except PermissionError:
            pass  # no permission to write in the folder, such as /var/mail: the fcntl lock must suffice
        return True
    return False


@cache
def _signature(number: int) -> bytes:
    """What the dotlock of the process *number*, which is this one, holds.

    Other programs read its first line only (liblockfile) or nothing.
    """
    return b"%d\n%b %d\n" % (number, clock.boot().encode(), _started(number))


def _create(folder: Folder, name: str, content: bytes) -> None:
    """Create a file whose content is complete when its name appears.

    A dotlock left empty by a kill would block the mbox for 5 minutes.
    """
    try:
        descriptor = folder.open(".", os.O_WRONLY | os.O_TMPFILE)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError):  # the filesystem or system has no unnamed files
        descriptor = folder.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with suppress(OSError):
            os.write(descriptor, content)
        os.close(descriptor)
        return
    try:
        with suppress(OSError):  # on a full disk it stays empty and becomes stale by its age
            os.write(descriptor, content)
        # Python calls linkat(2), which follows the link, only if a folder's descriptor is given.
        source = f"/proc/self/fd/{descriptor}"
        os.link(source, name, src_dir_fd=descriptor, dst_dir_fd=folder.descriptor, follow_symlinks=True)
    finally:
        os.close(descriptor)


def _remove_if_stale(folder: Folder, name: str) -> bool:
    """Remove *name* if it is a stale dotlock; True if it is gone."""
    try:
        status = folder.status(name)
        with os.fdopen(folder.open(name, os.O_RDONLY), "rb") as file:
            content = file.read(300)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not _is_stale(content, time.time() - status.st_mtime):
        return False
    aside = f"{name}.stale-{os.getpid()}"
    try:
        folder.rename(name, aside)
        moved = folder.status(aside)
        if (moved.st_ino, moved.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            # A fresh lock had replaced the stale one: put it back.
            os.link(aside, name, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)
            folder.unlink(aside)
            return False
        folder.unlink(aside)
    except FileNotFoundError:
        pass
    return True


def _is_stale(content: bytes, age: float) -> bool:
    """Tell whether a dotlock *age* seconds old is stale.

    *content*: our signature, a process number (liblockfile), ``number:host`` (Dovecot), ``0`` (procmail) or
    nothing.
    """
    first, _, second = content.partition(b"\n")
    number, _, host = first.strip(b" \0").partition(b":")
    here = not host or host.split(b":")[0] == os.uname().nodename.encode()
    if not (number.isdigit() and 0 < int(number) < 1 << 22 and here):
        # A dotlock is not synced: a power failure may leave its name without its content.
        return age > STALE_AFTER or (not host and age > clock.uptime() + _SLACK)
    process = int(number)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    if process == os.getpid() or age > STALE_ANYHOW:
        return True
    started = _started(process)
    if not started:
        return False
    boot, _, then = second.strip().partition(b" ")
    if then.isdigit() and int(then):
        return boot != clock.boot().encode() or int(then) != started
    return clock.uptime() - started / os.sysconf("SC_CLK_TCK") < age - _SLACK


def _started(number: int) -> int:
    """When the process *number* began, in clock ticks after the boot; 0 if that cannot be told."""
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])  # proc(5)
    except (OSError, ValueError, IndexError):
        return 0
