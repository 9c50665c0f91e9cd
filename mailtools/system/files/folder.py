"""An open folder: the names in it are used by its descriptor (openat and its kin).

Between two uses of a path its owner can replace a folder in it by a symbolic link, and lead a server that
runs as root to the file of another. A folder that is open stays the same folder. Knows nothing of mailboxes.
"""

import errno
import os
import stat
from contextlib import suppress
from itertools import count
from types import TracebackType

from mailtools.system.files.buffer import write_all

_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_numbers = count()
_MOST_LINKS = 40  # as in path_resolution(7)
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """The folder at *path*, opened. Use it in a ``with`` statement, or close it.

    For root no part of *path* may be a symbolic link that another user made. Every method raises OSError.
    """

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self.path = path
        if descriptor is None:
            descriptor = _walk(path) if os.geteuid() == 0 else os.open(path or ".", _FLAGS)
        self.descriptor = descriptor

    def __enter__(self) -> "Folder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; may be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:  # whoever forgot to close it must not use up descriptors
            with suppress(OSError):
                os.close(self.descriptor)

    def inner(self, name: str, make: bool = False) -> "Folder":
        """Open the folder *name* in this one, never through a link. *make*: durably create it if missing.

        A new folder has mode 0700 whatever the umask. NotADirectoryError: something else has the name.
        """
        path = os.path.join(self.path, name)
        try:
            return Folder(path, _enter(name, self.descriptor, path))
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.descriptor)
        folder = Folder(path, _enter(name, self.descriptor, path))
        with suppress(FileNotFoundError):  # a system without /proc: the umask may have taken some rights away
            os.chmod(f"/proc/self/fd/{folder.descriptor}", 0o700)
        self.sync()
        return folder

    def open(self, name: str, flags: int) -> int:
        """Open the file *name* and return its descriptor; a new one has mode 0600.

        Never follows a link, and never waits for the other end of a pipe. Root writes to no file that has a
        second name: a user may have given it to the file of another.
        """
        descriptor = os.open(name, flags | _PLAIN, 0o600, dir_fd=self.descriptor)
        if flags & os.O_ACCMODE and os.geteuid() == 0 and os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise OSError(errno.EMLINK, "it has a second name (hard link)", os.path.join(self.path, name))
        return descriptor

    def create(self, name: str) -> int:
        """Create the file *name*, in place of one that a killed process left; return its descriptor."""
        with suppress(FileNotFoundError):
            self.unlink(name)
        return self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def status(self, name: str) -> os.stat_result:
        """Return the status of *name* itself, be it a link."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def holds(self, name: str, descriptor: int) -> bool:
        """Tell whether the open file *descriptor* still has *name*: other programs replace files."""
        try:
            there = self.status(name)
        except FileNotFoundError:
            return False
        here = os.fstat(descriptor)
        return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)

    def rename(self, old: str, new: str, to: "Folder | None" = None) -> None:
        """Give the file *old* the name *new* in the folder *to* (this one if None); replaces a file there."""
        os.rename(old, new, src_dir_fd=self.descriptor, dst_dir_fd=(to or self).descriptor)

    def unlink(self, name: str) -> None:
        """Remove the name of a file."""
        os.unlink(name, dir_fd=self.descriptor)

    def replace(self, name: str, octets: bytes, durable: bool = True) -> None:
        """Replace the content of the file *name*: after a kill the old or the new one is there.

        *durable*: also after a power failure, which can tear the file otherwise.
        """
        temporary = f"{name}.{os.getpid()}-{next(_numbers)}"
        descriptor = self.create(temporary)
        try:
            try:
                write_all(descriptor, octets)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.rename(temporary, name)
        except OSError:
            with suppress(OSError):
                self.unlink(temporary)
            raise
        if durable:
            self.sync()

    def sync(self) -> None:
        """Make new, renamed and removed names durable."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _walk(path: str) -> int:
    """Open the folder *path* part by part. A link is followed only if root made it."""
    done, names, links = "/", os.path.abspath(path).split("/"), 0
    descriptor = os.open("/", _FLAGS)
    while names:
        name = names.pop(0) or "."
        outer = descriptor
        try:
            descriptor = _enter(name, outer, path)
            done = os.path.join(done, name)
        except _LinkError as link:
            links += 1
            if link.owner != 0 or links > _MOST_LINKS:
                raise
            # *done* has no links, so ".." in the target means the folder above.
            names[:0] = os.path.normpath(os.path.join(done, link.target)).split("/")
            done, descriptor = "/", os.open("/", _FLAGS)
        finally:
            os.close(outer)
    return descriptor


class _LinkError(NotADirectoryError):
    """A symbolic link stands where a folder should be."""

    owner = -1
    target = ""


def _enter(name: str, outer: int, path: str) -> int:
    """Open the folder *name* in *outer*. Raises OSError with *path*."""
    try:
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=outer)
    except NotADirectoryError:
        status = os.stat(name, dir_fd=outer, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file where a folder should be", path) from None
        link = _LinkError(errno.ENOTDIR, "a symbolic link leads elsewhere", path)
        link.owner, link.target = status.st_uid, os.readlink(name, dir_fd=outer)
        raise link from None
