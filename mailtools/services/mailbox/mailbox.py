"""One mailbox as IMAP's users see it: messages with UIDs, flags and keywords, in one mbox.

Many processes have the same mailbox open, each with a `Mailbox` of its own; what one changes is on the disk
when the call returns, and the others find it with `refresh`. Threads may share one: methods that read
or write the disk hold `lock`, and so does who reads `states`. The mbox itself gets UIDs and flags later, with
`settle`, so that a change of a flag does not write the mbox anew. Knows no protocol.

Every method that reads or writes the disk raises LockTimeoutError if another program holds the lock longer
than *patience* (seconds), BadDataError if the file is no mbox, CannotWriteError and OSError.
"""

import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from mailtools.core.errors import LockTimeoutError, MailError
from mailtools.core.mbox import state
from mailtools.core.mbox.catalog import Catalog
from mailtools.core.mbox.state import StoredState
from mailtools.core.mbox.states import States
from mailtools.services.mailbox.snapshot import Snapshot
from mailtools.system import clock
from mailtools.system.mbox import appending, index, rewrite, settle
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.dotlock import MboxLock
from mailtools.system.mbox.index import Box
from mailtools.system.mbox.mboxfile import MboxFile
from mailtools.system.mbox.state_file import StateFile

_LOOK_AGAIN = 0.02  # seconds, while another program holds the lock
PATIENCE = 10.0

_MUCH = 1 << 20  # octets that are read while the lock is held
_COMPARED = 2048  # octets by which an appended record is found again

Change = Callable[[int, int, int], tuple[int, int]]  # (UID, flags, mask) of a message -> those that it gets


class NewMessage(NamedTuple):
    """A message to append: its record, flags (bits of core/mbox/state) and keywords."""

    record: NewRecord
    flags: int = 0
    keywords: tuple[bytes, ...] = ()


def _seconds() -> int:
    return int(clock.now())


class Mailbox:
    """The mailbox in the mbox at *path*. Close it after use.

    *make*: the file is made if it is missing; else FileNotFoundError is raised, also later. *new_validity*: a
    UIDVALIDITY for a mailbox that needs one.
    """

    def __init__(
        self,
        path: str,
        patience: float = PATIENCE,
        make: bool = True,
        new_validity: Callable[[], int] = _seconds,
    ) -> None:
        self.path = path
        self._make = make
        self._new_validity = new_validity
        self.lock = threading.RLock()
        self.states = States()
        self._uids = array("I")
        self._file = StateFile()
        self._stamp: object = None
        self._catalog = Catalog()
        self._known: index.Known | None = None
        self._saved = -1  # octets of the mbox that the index on the disk covers
        self._snapshot: Snapshot | None = None
        self.refresh(patience)

    def close(self) -> None:
        """Close the files."""
        if self._known is not None and self._saved != self._catalog.end:
            with suppress(OSError, MailError), MboxFile(self.path) as mbox:
                index.save(mbox, self._known)
        self._known = None
        self._forget_snapshot()

    def _forget_snapshot(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    # -- looking -------------------------------------------------------------------------------------------

    def refresh(self, patience: float = PATIENCE) -> bool:
        """Find out what others changed; False if nothing. Costs three calls of stat then."""
        with self.lock, MboxFile(self.path, self._make) as mbox:
            if self._stamp is not None and self._stamp == self._stamp_of(mbox):
                return False
            self._read_ahead(mbox, patience)
            with self._locked(mbox, patience):
                pass
            if len(self.states) and self.states.might_repeat(self._catalog):
                try:
                    self._settle(0.0, only_base=True)
                except LockTimeoutError:
                    pass
                except (MailError, OSError):  # a full disk does not keep anybody from reading
                    with self._locked(mbox, patience):
                        pass
        return True

    def _read_ahead(self, mbox: MboxFile, patience: float) -> None:
        """Let the index learn of much that is new without the lock: reading a gigabyte takes seconds."""
        with suppress(FileNotFoundError):
            if abs(mbox.folder.status(mbox.name).st_size - self._catalog.end) > _MUCH:
                index.open_box(self.path, patience).close()

    def message(self, row: int) -> bytes | Iterator[bytes] | None:
        """The message in *row* (CRLF), in blocks if it is large; None if it is gone."""
        return None if self._snapshot is None else self._snapshot.message(row)

    def header(self, row: int) -> bytes | None:
        """The header of the message in *row* (CRLF) with its empty line; None if only `message` has it."""
        return None if self._snapshot is None else self._snapshot.header(row)

    def kept(self, row: int) -> bytes | None:
        """The message in *row* in the form of an mbox, without its state; None: take the `message`."""
        return None if self._snapshot is None else self._snapshot.kept(row)

    def size(self, row: int) -> int:
        """The size of the message in *row*, in octets as `message` gives it."""
        return self._catalog.sizes[row]

    @property
    def uids(self) -> "array[int]":
        """The UIDs of all messages: one array for all who ask, as long as they are the same."""
        with self.lock:
            if self._uids != self.states.uids:
                self._uids = array("I", self.states.uids)
            return self._uids

    @property
    def octets(self) -> int:
        """The octets of the mbox."""
        return self._catalog.end

    def postmark(self, row: int) -> bytes:
        """The postmark of the record in *row*, which has the time of its arrival."""
        return self._octets(self._catalog.starts[row], 1024).partition(b"\n")[0]

    @property
    def _descriptor(self) -> int:
        assert self._snapshot is not None
        return self._snapshot.descriptor

    def _octets(self, start: int, size: int) -> bytes:
        return b"" if self._snapshot is None else os.pread(self._descriptor, size, start)

    # -- changing ------------------------------------------------------------------------------------------

    def store(self, uids: Collection[int], change: Change, patience: float = PATIENCE) -> list[int]:
        """Change the flags of *uids*, durably; return those that are there.

        *change* is called under the lock: only there `states.mask` gives the bits that others know too.
        """
        with self.lock, MboxFile(self.path, self._make) as mbox, self._locked(mbox, patience):
            states = self.states
            there = [(uid, row) for uid in uids if (row := states.row_of(uid)) >= 0]
            before = states.modseq
            changed = [
                row
                for uid, row in there
                if states.change(row, *change(uid, states.flags[row], states.masks[row]))
            ]
            if states.modseq != before:
                self._file.note(mbox, states, len(states), changed)
                self._stamp = self._stamp_of(mbox)
        return [uid for uid, _ in there]

    def expunge(self, uids: Collection[int], patience: float = PATIENCE) -> None:
        """Remove the messages *uids* from the mbox, durably; those that are gone already are passed over."""
        with self.lock:
            self.refresh(patience)
            rows = [row for uid in uids if (row := self.states.row_of(uid)) >= 0]
            if rows:
                rewrite.remove(self.path, self._catalog, rows, patience)
                self.refresh(patience)

    def append(self, messages: Sequence[NewMessage], patience: float = PATIENCE) -> list[int]:
        """Append *messages* durably, with their flags; return their UIDs, 0 where that is not known.

        If LockTimeoutError is raised nothing was written.
        """
        if not messages:
            return []
        records = [_with_state(message) for message in messages]
        offsets = appending.append_waiting(self.path, records, patience)
        with self.lock:
            try:
                self.refresh(patience)
            except LockTimeoutError:
                return [0] * len(messages)
            return [self._uid_at(offset, record) for offset, record in zip(offsets, records, strict=True)]

    def _uid_at(self, offset: int, record: NewRecord) -> int:
        """The UID of a record that was just appended; 0 if another program has moved it already."""
        row = bisect_left(self._catalog.starts, offset)
        begin = (record.head + next(record.body.blocks(), b""))[:_COMPARED]
        is_there = row < len(self._catalog) and self._octets(offset, len(begin)) == begin
        return self.states.uids[row] if is_there else 0

    def settle(self, patience: float = PATIENCE) -> None:
        """Write UIDs and flags that the mbox does not have yet into it, durably."""
        with self.lock:
            self._settle(patience)

    def _settle(self, patience: float, only_base: bool = False) -> None:
        anew = -1
        try:
            with MboxFile(self.path, self._make) as mbox, self._locked(mbox, patience) as descriptor:
                due = self.states.due(self._catalog)
                if only_base:
                    due = {0: self.states.stored(0)} if due else {}
                if not due:
                    return
                written = settle.write(mbox, descriptor, self._catalog, due)
                anew = written if written != descriptor else -1
                self.states.was_stored(due)
                self._file.save(mbox, self.states)
                self._take(mbox.open(os.O_RDWR), self._catalog)
                self._known, self._saved = index.known(self._descriptor, self._catalog), self._catalog.end
                self._stamp = self._stamp_of(mbox)
        finally:
            if anew >= 0:  # it was locked while our dotlock was there
                os.close(anew)

    # -- the lock ------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, mbox: MboxFile, patience: float) -> Iterator[int]:
        """Hold the lock of the mbox, whose descriptor it gives; first take over what others changed."""
        deadline = time.monotonic() + patience
        while True:
            descriptor = mbox.open(os.O_RDWR | (os.O_CREAT if self._make else 0))
            lock = MboxLock(descriptor, mbox)
            if lock.acquire():
                if mbox.is_still(descriptor):
                    break
                lock.release()
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise LockTimeoutError(f"{self.path}: locked by another program")
            time.sleep(_LOOK_AGAIN)
        try:
            self._look(mbox, descriptor)
            yield descriptor
        except BaseException:
            # What is in memory may not be on the disk: the next look reads it from there.
            self.states, self._file, self._stamp, self._known = States(), StateFile(), None, None
            raise
        finally:
            lock.release()
            os.close(descriptor)

    def _look(self, mbox: MboxFile, descriptor: int) -> None:
        if self._stamp is not None and self._stamp == self._stamp_of(mbox):
            return
        appending.repair(mbox, descriptor)
        catalog = index.current(mbox, descriptor, self._known)
        self._known = index.known(descriptor, catalog)
        if abs(catalog.end - self._saved) > _MUCH:  # so who opens it next reads little
            index.save(mbox, self._known)
            self._saved = catalog.end
        self.states = states = self._file.load(mbox, self.states)
        merged = states.merge(catalog, self._new_validity, int(clock.now() * 1_000_000))
        if merged.is_rebuilt:
            self._file.save(mbox, states)
        elif merged.added or merged.changed:
            self._file.note(mbox, states, len(states) - merged.added, list(merged.changed))
        self._take(mbox.open(os.O_RDWR), catalog)
        self._stamp = self._stamp_of(mbox)

    def _take(self, descriptor: int, catalog: Catalog) -> None:
        self._forget_snapshot()
        self._catalog = catalog
        self._snapshot = Snapshot(self.path, Box(descriptor, catalog))

    def _stamp_of(self, mbox: MboxFile) -> object:
        try:
            status = mbox.folder.status(mbox.name)
        except FileNotFoundError:
            return None
        there = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return there, self._file.stamp(mbox)


def _with_state(message: NewMessage) -> NewRecord:
    """The record of *message* with its flags in front of its header, and room for its UID."""
    block = state.render(StoredState(0, message.flags, message.keywords))
    return message.record._replace(head=message.record.head + block)
