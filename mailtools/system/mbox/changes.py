"""Tells an event loop when files change: by inotify, else by a look once a second.

Folders are watched, not files: an mbox is replaced, and need not exist. One watch of the kernel serves all
who ask for files of a folder. What inotify does not tell (changes on another host, a folder above that is
renamed) is found by a look every 30 seconds. All is done in the loop's thread.
"""

import ctypes
import os
import struct
from collections.abc import Callable
from contextlib import suppress

from mailtools.system.process.loop import Loop

_MOST = 4096  # folders that one process watches; the kernel has 8192 or more for all processes of a user
_LOOK = 1.0  # seconds between two looks where inotify cannot help
_SWEEP = 30.0  # seconds between two looks at what inotify watches
_GATHERED = 0.01  # seconds in which changes are told together: an append is several writes
_READ = 64 << 10
_EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len; then the name
# IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF, IN_ONLYDIR
_MASK = 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x0100_0000
_OVERFLOW, _IGNORED, _SELF = 0x4000, 0x8000, 0x400 | 0x800 | 0x2000  # _SELF: of the folder, or its unmount

Identity = tuple[int, ...]


class FileWatch:
    """One who is told when the file at *path* changes; of a folder, with "/" at its end, any file in it."""

    __slots__ = ("_changes", "call", "folder", "identity", "name", "path")

    def __init__(self, changes: "Changes", path: str, call: Callable[[], None]) -> None:
        self._changes = changes
        self.path = path
        self.folder, self.name = os.path.split(path)
        self.call = call
        self.identity = _identity(path)

    def close(self) -> None:
        """Tell no more."""
        self._changes._forget(self)


class Changes:
    """The files that one loop watches. *uses_inotify*: False to look at them only."""

    def __init__(self, loop: Loop, uses_inotify: bool = True) -> None:
        self._loop = loop
        self._folders: dict[str, set[FileWatch]] = {}
        self._numbers: dict[str, int] = {}  # folder -> the kernel's number of its watch
        self._names: dict[int, str] = {}  # the same, the other way
        self._due: set[FileWatch] = set()
        self._planned: set[float] = set()  # the looks to come: _LOOK, _SWEEP
        self._libc, self._descriptor = _inotify() if uses_inotify else (None, -1)
        if self._descriptor >= 0:
            loop.watch(self._descriptor, self._read)

    def watch(self, path: str, call: Callable[[], None]) -> FileWatch:
        """Call *call* in the loop after each change of the file at *path*, until the watch is closed.

        Changes that come together are told once, and a change may be told that is none.
        """
        found = FileWatch(self, path, call)
        there = self._folders.setdefault(found.folder, set())
        there.add(found)
        if found.folder not in self._numbers:
            self._add(found.folder)
        self._plan()
        return found

    def close(self) -> None:
        """Close what the kernel gave; nothing is told any more."""
        self._folders.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _forget(self, watch: FileWatch) -> None:
        self._due.discard(watch)
        there = self._folders.get(watch.folder, set())
        there.discard(watch)
        if not there:
            self._folders.pop(watch.folder, None)
            self._lose(watch.folder)

    def _add(self, folder: str) -> None:
        """Let the kernel watch *folder*, if it can."""
        if self._libc is None or len(self._numbers) >= _MOST:
            return
        number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _MASK)
        if number >= 0 and number not in self._names:  # a second path to a folder is looked at
            self._numbers[folder] = number
            self._names[number] = folder

    def _lose(self, folder: str) -> None:
        number = self._numbers.pop(folder, None)
        if number is not None and self._libc is not None and self._descriptor >= 0:
            del self._names[number]
            self._libc.inotify_rm_watch(self._descriptor, number)

    # -- what the kernel tells -----------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            octets = os.read(self._descriptor, _READ)
        except OSError:
            return
        at = 0
        while at < len(octets):
            number, mask, _, size = _EVENT.unpack_from(octets, at)
            at += _EVENT.size
            name = os.fsdecode(octets[at : at + size].rstrip(b"\0"))
            at += size
            self._heard(number, mask, name)

    def _heard(self, number: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._tell([watch for there in self._folders.values() for watch in there])
            return
        folder = self._names.get(number)
        if folder is None:
            return
        is_own = bool(mask & (_SELF | _IGNORED))
        if is_own:  # the folder is gone: another may come in its place
            self._lose(folder)
            self._plan()
        self._tell([one for one in self._folders.get(folder, ()) if is_own or one.name in ("", name)])

    def _tell(self, changed: list[FileWatch]) -> None:
        if changed and not self._due:
            self._loop.later(_GATHERED, self._call)
        self._due.update(changed)

    def _call(self) -> None:
        due, self._due = self._due, set()
        for watch in due:
            watch.identity = _identity(watch.path)
            watch.call()

    # -- looks ---------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Plan the next looks, if there is anything to look at."""
        if self._folders:
            self._look_after(_SWEEP)
        if len(self._numbers) < len(self._folders):
            self._look_after(_LOOK)

    def _look_after(self, seconds: float) -> None:
        if seconds not in self._planned:
            self._planned.add(seconds)
            self._loop.later(seconds, lambda: self._look(seconds))

    def _look(self, seconds: float) -> None:
        self._planned.discard(seconds)
        for folder, there in list(self._folders.items()):
            if folder not in self._numbers:
                self._add(folder)
            elif seconds != _SWEEP:
                continue
            self._tell([one for one in there if _identity(one.path) != one.identity])
        self._plan()


def _identity(path: str) -> Identity:
    """What changes with the file."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _inotify() -> tuple[ctypes.CDLL | None, int]:
    """The C library and an inotify instance; (None, -1) where the kernel has none for us."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor >= 0:
            return libc, descriptor
    return None, -1
