"""Appends messages to an mbox on disk: locked, durable, all or nothing.

`append` writes a whole batch under one lock with one fdatasync (group commit). Knows nothing of users or
SMTP. Promises:

* When it returns True the batch and, for a new mbox, its folder are on the disk.
* When it raises, the mbox is as it was before.
* If the process is killed during a write, the next append truncates the torn tail, under the lock. To allow
  this, the length is noted before the write in ``.mailtools/NAME.append`` beside the mbox. A note is valid
  only until the machine restarts, and only if the tail begins with our postmark and contains no postmark of
  another program. A note is not synced, so after a power failure the tail is not truncated; it is ended with
  a blank line, so that the next record begins correctly.
* It never writes through a symbolic link, to anything but a regular file, or to a file that is no mbox.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from mailtools.core.errors import CannotWriteError, LockTimeoutError
from mailtools.core.lean import NamedTuple
from mailtools.core.mbox.record import SEPARATOR
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer, write_all
from mailtools.system.files.durable import write_error
from mailtools.system.mbox.dotlock import MboxLock
from mailtools.system.mbox.mboxfile import MboxFile

_JOIN_UP_TO = 4 << 20  # octets written with one call; more than a batch of usual mail
_SCAN_BLOCK = 1 << 20
_LOOK_AGAIN = 0.02  # seconds between attempts while another program holds the lock
_SCAN_OVERLAP = 512  # octets; longer than a postmark


class NewRecord(NamedTuple):
    """One message to append, LF, quoted. *head*: postmark and trace fields; *body*: the rest."""

    head: bytes
    body: Buffer

    @property
    def size(self) -> int:
        """Octets of the record in the mbox, with its blank line."""
        return len(self.head) + self.body.size + len(SEPARATOR)


def append(path: str, records: Sequence[NewRecord]) -> bool:
    """Append *records*; False if another program holds the lock: then nothing was written.

    Raises DiskFullError and CannotWriteError.
    """
    batch = Append(path, records)
    if not batch.begin():
        return False
    try:
        batch.write()
    finally:
        batch.end()
    return True


def append_waiting(path: str, records: Sequence[NewRecord], patience: float = 30.0) -> list[int]:
    """Append *records*, waiting up to *patience* seconds for the lock; return the offset of each.

    Raises LockTimeoutError too.
    """
    import time

    deadline = time.monotonic() + patience
    batch = Append(path, records)
    while not batch.begin():
        if time.monotonic() > deadline:
            raise LockTimeoutError(f"{path}: locked by another program")
        time.sleep(_LOOK_AGAIN)
    try:
        batch.write()
        return batch.offsets()
    finally:
        batch.end()


class Append:
    """Appends one batch to an mbox in three steps: `begin`, `write`, `end`. Only `write` waits for the disk.

    So `begin` and `end` can run in an event loop, and `write` in any thread. (Every system call in a second
    thread passes the interpreter's lock back and forth: with all three steps in a thread the server accepted
    half as many messages a second.)
    """

    def __init__(self, path: str, records: Sequence[NewRecord]) -> None:
        self.path = path
        self.records = records
        self._mbox: MboxFile | None = None
        self._note: _Note | None = None
        self.descriptor = -1
        self._lock: MboxLock | None = None
        self._is_new = False
        self._is_clean = True  # the mbox holds no part of an unfinished batch
        self._gap = b""
        self._length = 0

    def begin(self) -> bool:
        """Lock and repair the mbox, write the note. False if another program holds the lock.

        Raises as `append`.
        """
        try:
            if self._begin():
                return True
        except OSError as error:
            self.end()
            raise write_error(self.path, error, "nothing was written") from error
        except CannotWriteError:
            self.end()
            raise
        self.end()
        return False

    def _begin(self) -> bool:
        self._mbox = mbox = MboxFile(self.path, make=True)  # a user's folder may be removed at any time
        self.descriptor, self._is_new = _open(mbox)
        lock = MboxLock(self.descriptor, mbox)
        if not lock.acquire():
            return False
        self._lock = lock
        if not mbox.is_still(self.descriptor):
            return False  # replaced while we took the lock: the next try opens the new one
        self._note = _Note(mbox)
        self._note.repair(self.descriptor)
        mbox.close_state()  # a server appends to hundreds of mboxes at a time
        self._length = os.fstat(self.descriptor).st_size
        # An empty mbox counts as new: an earlier attempt may have created it without syncing the folder.
        self._is_new = self._is_new or self._length == 0
        self._gap = _gap_before(self.path, self.descriptor, self._length)
        self._note.open_at(self.descriptor, self._length, self._gap, self.records)
        return True

    def offsets(self) -> list[int]:
        """Where in the mbox each record begins, after `begin`."""
        found, at = [], self._length + len(self._gap)
        for record in self.records:
            found.append(at)
            at += record.size
        return found

    @property
    def is_quick(self) -> bool:
        """Tell whether `put` takes only microseconds: everything is in memory and the mbox is not new."""
        return not self._is_new and all(r.body.is_in_memory for r in self.records)

    def write(self) -> None:
        """Write and sync the batch, or leave the mbox as it was. Raises as `append`."""
        self.put()
        try:
            os.fdatasync(self.descriptor)
            if self._is_new and self._mbox is not None:
                self._mbox.folder.sync()
        except OSError as error:
            raise self.undo(error) from error

    def put(self) -> None:
        """Write the batch without a sync, or leave the mbox as it was. Raises as `append`."""
        self._is_clean = False
        try:
            _write(self.descriptor, self._gap, self.records)
        except OSError as error:
            raise self.undo(error) from error
        self._is_clean = True

    def undo(self, error: OSError) -> CannotWriteError:
        """Restore the mbox to its state before `put`. Returns the error to raise for *error*."""
        self._is_clean = False
        with suppress(OSError):
            os.ftruncate(self.descriptor, self._length)
            os.fdatasync(self.descriptor)
            self._is_clean = True
        return write_error(self.path, error)

    def end(self) -> None:
        """Close the note, release the lock and close the descriptors. Never raises: a client waits for us.

        A note that cannot be closed is repaired by the next append: it finds the whole batch.
        """
        if self._note is not None:
            with suppress(OSError):
                self._note.end(self._is_clean)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self.descriptor >= 0:
            with suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = -1
        if self._mbox is not None:
            self._mbox.close()
            self._mbox = None


def _open(mbox: MboxFile) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_APPEND
    is_new = False
    try:
        descriptor = mbox.open(flags)
    except FileNotFoundError:
        descriptor = mbox.open(flags | os.O_CREAT)
        is_new = True
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CannotWriteError(f"{mbox.path}: not a regular file; nothing was written")
    return descriptor, is_new


def _gap_before(path: str, descriptor: int, length: int) -> bytes:
    """The line end and blank line missing at the end of an mbox that another program wrote.

    Raises CannotWriteError if the file does not begin with a postmark.
    """
    if length == 0:
        return b""
    if os.pread(descriptor, 5, 0) != b"From ":
        raise CannotWriteError(f"{path}: not an mbox: it does not begin with a postmark; nothing was written")
    tail = os.pread(descriptor, 3, max(0, length - 3))
    if tail.endswith((b"\n\n", b"\n\r\n")):
        return b""
    return b"\n" if tail.endswith(b"\n") else b"\n\n"


def _write(descriptor: int, gap: bytes, records: Sequence[NewRecord]) -> None:
    """Write *gap* and *records*, joined into writes of about `_JOIN_UP_TO` octets."""
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


def repair(mbox: MboxFile, descriptor: int) -> None:
    """Truncate the torn tail of a killed append; the caller holds the lock. Raises OSError."""
    note = _Note(mbox)
    try:
        note.repair(descriptor)
    finally:
        note.forget()


class _Note:
    """The note beside an mbox: "+ boot inode length gap sizes postmark" during a write, "-" after it."""

    def __init__(self, mbox: MboxFile) -> None:
        self._mbox = mbox
        self._descriptor = -1

    def _open(self) -> int:
        with suppress(PermissionError):
            return self._mbox.state().open(f"{self._mbox.name}.append", os.O_RDWR | os.O_CREAT)
        return -1  # no permission for the folder: append without a note

    def end(self, is_clean: bool) -> None:
        """Close the note; *is_clean*: the batch is complete, or nothing of it is left. Raises OSError."""
        try:
            if is_clean:
                self.close()
        finally:
            self.forget()

    def forget(self) -> None:
        """Close the descriptor of the note."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open_at(self, mbox: int, length: int, gap: bytes, records: Sequence[NewRecord]) -> None:
        """Note that a batch is being written from offset *length* on. Raises OSError."""
        if self._descriptor < 0:
            return
        sizes = ",".join(str(record.size) for record in records)
        postmark = (gap + records[0].head)[:64].hex()
        line = f"+ {clock.boot()} {os.fstat(mbox).st_ino} {length} {len(gap)} {sizes} {postmark}\n"
        if os.pwrite(self._descriptor, line.encode(), 0) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # half a note repairs nothing

    def close(self) -> None:
        """Note that the batch is complete."""
        if self._descriptor >= 0:
            try:
                os.pwrite(self._descriptor, b"-", 0)
            except OSError:  # no room even for one octet: an empty note means the same
                os.ftruncate(self._descriptor, 0)

    def repair(self, mbox: int) -> None:
        """Truncate the tail that a killed process left, if the note fits the mbox."""
        self._descriptor = self._open()
        if self._descriptor < 0 or os.pread(self._descriptor, 1, 0) != b"+":
            return
        note = os.pread(self._descriptor, 1 << 20, 0).split(b"\n", 1)[0].decode("ascii", "replace").split(" ")
        length = _torn_at(mbox, note)
        if length is not None:
            os.ftruncate(mbox, length)
            os.fdatasync(mbox)
        self.close()


def _torn_at(mbox: int, note: list[str]) -> int | None:
    """The length to truncate to; None if the note does not fit the mbox."""
    try:
        _, boot, inode, length_text, gap, sizes_text, postmark = note
        length, sizes = int(length_text), [int(size) for size in sizes_text.split(",")]
        begin = bytes.fromhex(postmark)
        status = os.fstat(mbox)
        if boot != clock.boot() or int(inode) != status.st_ino or min(length, int(gap), *sizes) < 0:
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
    """Offsets of possible postmarks in a part of an mbox: "From " after a line end, or anywhere with a date.

    Anywhere, because another program may append behind our unfinished line without checking for its end.
    """
    import re

    from mailtools.core.mbox.postmark import USUAL_DATE

    candidates = re.compile(rb"(?<=\n)From |(?<!>)From (?=[^\n]{0,400} " + USUAL_DATE + b")")
    found: set[int] = set()
    position = max(0, start - 1)
    while position < end:
        block = os.pread(mbox, _SCAN_BLOCK, position)
        found.update(position + hit.start() for hit in candidates.finditer(block))
        if len(block) <= _SCAN_OVERLAP:
            break
        position += len(block) - _SCAN_OVERLAP
    return found
