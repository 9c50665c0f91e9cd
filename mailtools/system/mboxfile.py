"""Appending to an mbox on disk: locked, durable, all or nothing.

`append` writes a whole batch under one lock with one fdatasync (group commit). Knows nothing of users or
SMTP. What it promises:

* When it returns True the batch and, for a new mbox, its folder are on the disk.
* When it raises, the mbox is as it was before.
* When the process is killed inside it, the next append cuts the torn tail back, under the lock. For that it
  notes the length before it writes, in ``.mailtools/NAME.append`` beside the mbox. A note counts only in the
  same run of the machine and while the tail is recognisably its own: after it lie our postmark and no
  postmark of somebody else. A note is not synced, so after a power failure the tail is not cut; it is closed
  with a blank line, so that what follows stands on its own.
* It never writes through a symbolic link, into something that is no regular file, or behind something that
  is no mbox.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError, DiskFullError
from mailtools.core.mbox.record import SEPARATOR
from mailtools.system.buffer import Buffer, write_all
from mailtools.system.locks import MboxLock

STATE_FOLDER = ".mailtools"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_JOIN_UP_TO = 4 << 20  # octets written with one call; more than a batch of usual mail
_SCAN_BLOCK = 1 << 20


class Record(NamedTuple):
    """One message to append, LF, quoted: the postmark and trace fields, then the rest."""

    head: bytes
    body: Buffer

    @property
    def size(self) -> int:
        """Octets it takes in the mbox, with its blank line."""
        return len(self.head) + self.body.size + len(SEPARATOR)


def append(path: str, records: Sequence[Record]) -> bool:
    """Append *records*; False where another program holds the lock: then nothing was done.

    Raises DiskFullError and CannotWriteError.
    """
    try:
        return _append(path, records)
    except OSError as error:
        kind = DiskFullError if error.errno in NO_ROOM else CannotWriteError
        raise kind(f"{path}: {error.strerror}") from error


def _append(path: str, records: Sequence[Record]) -> bool:
    descriptor, is_new = _open(path)
    try:
        lock = MboxLock(descriptor, path)
        if not lock.acquire():
            return False
        try:
            if not _is_still(path, descriptor):
                return False  # replaced while we took the lock: the next try opens the new one
            _append_locked(path, descriptor, records)
            if is_new:
                sync_folder(os.path.dirname(path) or ".")
        finally:
            lock.release()
    finally:
        os.close(descriptor)
    return True


def _open(path: str) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    is_new = False
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        is_new = True
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CannotWriteError(f"{path}: not a regular file")
    return descriptor, is_new


def _is_still(path: str, descriptor: int) -> bool:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def _append_locked(path: str, descriptor: int, records: Sequence[Record]) -> None:
    with _Note(path) as note:
        note.repair(descriptor)
        length = os.fstat(descriptor).st_size
        gap = _gap_before(path, descriptor, length)
        note.open_at(descriptor, length, gap, records)
        try:
            _write(descriptor, gap, records)
            os.fdatasync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, length)
                os.fdatasync(descriptor)
                note.close()
            raise
        note.close()


def _gap_before(path: str, descriptor: int, length: int) -> bytes:
    """What is missing at the end of what others wrote: its line end, its blank line."""
    if length == 0:
        return b""
    if os.pread(descriptor, 5, 0) != b"From ":
        raise CannotWriteError(f"{path}: not an mbox: it does not begin with a postmark; nothing was written")
    tail = os.pread(descriptor, 3, max(0, length - 3))
    if tail.endswith((b"\n\n", b"\n\r\n")):
        return b""
    return b"\n" if tail.endswith(b"\n") else b"\n\n"


def _write(descriptor: int, gap: bytes, records: Sequence[Record]) -> None:
    """Everything, joined to as few writes as memory allows."""
    waiting = [gap]
    size = 0
    for record in records:
        waiting.append(record.head)
        for block in record.body.blocks():
            waiting.append(block)
            size += len(block)
            if size > _JOIN_UP_TO or not record.body.is_in_memory:
                write_all(descriptor, b"".join(waiting))
                waiting, size = [], 0
        waiting.append(SEPARATOR)
    write_all(descriptor, b"".join(waiting))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Note:
    """The note beside an mbox: "+ boot inode length gap sizes postmark" during a write, "-" after it."""

    def __init__(self, path: str) -> None:
        folder = os.path.join(os.path.dirname(path), STATE_FOLDER)
        self._path = os.path.join(folder, f"{os.path.basename(path)}.append")
        self._descriptor = -1

    def __enter__(self) -> "_Note":
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            with suppress(PermissionError):
                os.mkdir(os.path.dirname(self._path), 0o700)
                self._descriptor = os.open(self._path, flags, 0o600)
        except PermissionError:
            pass  # a folder that is not ours: we append without a note
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def open_at(self, mbox: int, length: int, gap: bytes, records: Sequence[Record]) -> None:
        """Note that from *length* on a batch is being written."""
        if self._descriptor < 0:
            return
        sizes = ",".join(str(record.size) for record in records)
        postmark = (gap + records[0].head)[:64].hex()
        line = f"+ {_boot_identity()} {os.fstat(mbox).st_ino} {length} {len(gap)} {sizes} {postmark}\n"
        os.pwrite(self._descriptor, line.encode(), 0)

    def close(self) -> None:
        """Note that the batch stands."""
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, b"-", 0)

    def repair(self, mbox: int) -> None:
        """Cut back what a killed process left behind."""
        if self._descriptor < 0 or os.pread(self._descriptor, 1, 0) != b"+":
            return
        note = os.pread(self._descriptor, 1 << 20, 0).split(b"\n", 1)[0].decode("ascii", "replace").split(" ")
        length = _torn_at(mbox, note)
        if length is not None:
            os.ftruncate(mbox, length)
            os.fdatasync(mbox)
        self.close()


def _torn_at(mbox: int, note: list[str]) -> int | None:
    """The length to cut back to; None where the note does not fit the mbox."""
    try:
        _, boot, inode, length_text, gap, sizes_text, postmark = note
        length, sizes = int(length_text), [int(size) for size in sizes_text.split(",")]
        begin = bytes.fromhex(postmark)
        status = os.fstat(mbox)
        if boot != _boot_identity() or int(inode) != status.st_ino:
            return None
        start = length + int(gap)
    except ValueError:
        return None
    tail = status.st_size - length
    if not 0 < tail <= int(gap) + sum(sizes):
        return None
    found = os.pread(mbox, len(begin), length)
    if found != begin[: min(len(begin), tail)]:
        return None
    ours = {start}
    for size in sizes:
        ours.add(start := start + size)
    return length if _postmarks_within(mbox, length, status.st_size) <= ours else None


def _postmarks_within(mbox: int, start: int, end: int) -> set[int]:
    """Where postmarks stand in a part of an mbox (candidates: "From " after a line end)."""
    found = set()
    position = max(0, start - 1)
    while position < end:
        block = os.pread(mbox, _SCAN_BLOCK, position)
        hit = block.find(b"\nFrom ")
        while hit >= 0:
            found.add(position + hit + 1)
            hit = block.find(b"\nFrom ", hit + 1)
        if len(block) <= 6:
            break
        position += len(block) - 5
    return found


@cache
def _boot_identity() -> str:
    """This run of the machine, so that a note of before a crash is not believed."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
