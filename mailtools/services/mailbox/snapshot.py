"""A snapshot of one mbox, and its messages as the protocols send them: CRLF, unquoted, no mbox fields.

The snapshot is an open file and its catalog: it does not show mail that arrives later, and stays the same
if another program puts another file in its place. If another program rewrites the file itself, its mtime
shows this: from then on a message is given out only if its digest is right, and a message that is not at
its place is looked for in the mbox as it is now. So no message is shown in place of another one.

Speed: a PLAIN message is a slice and a `replace`; messages that are read in order are read together.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from mailtools.core.errors import LockTimeoutError, MailError
from mailtools.core.mbox import catalog, scan, stored
from mailtools.core.mbox.catalog import PLAIN, Catalog, CatalogRow
from mailtools.system.mbox import index, rewrite
from mailtools.system.mbox.index import Box

_HEADER = 8 << 10  # octets in which nearly all headers end
_AHEAD = 256 << 10  # octets read at once if messages are read in order


class MailboxChangedError(MailError):
    """Another program changed the mbox while a message was read: what was read may not be the message."""


def open_at_once(path: str, is_last: bool = False) -> Box:
    """Open the mbox at *path* and its index without waiting. Raises LockTimeoutError if the mbox is locked.

    Raises also what `index.open_box` raises. *is_last*: what the index knew before is enough.
    """
    try:
        there = os.stat(path).st_size
    except OSError:  # the mbox is empty, or `open_box` raises the error
        there = 0
    box = index.open_box(path, 0.0)
    if box.catalog.end < there and not is_last:
        box.close()
        raise LockTimeoutError(f"{path}: locked by another program")
    return box


class MailboxSize(NamedTuple):
    """The number of messages, and their octets."""

    messages: int
    octets: int


class Rows(Protocol):
    """Where each message is in the file."""

    def __getitem__(self, number: int, /) -> CatalogRow | None: ...


class Snapshot:
    """A snapshot of one mbox. Messages are numbered from 0."""

    def __init__(self, path: str, box: Box) -> None:
        self.path = path
        self._box = box
        self._seen = box.catalog  # the catalog at the beginning: numbers, sizes and names are taken from it
        self._rows: Rows = box.catalog  # where the messages are now
        self._changed = _changed(box.descriptor)
        self._names: list[str] | None = None
        self._ahead = b""
        self._at = 0  # the offset of `_ahead` in the file
        self._next = -1  # the number after the message that was read last

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def descriptor(self) -> int:
        """The descriptor of the mbox; -1 if there is none."""
        return self._box.descriptor

    def close(self) -> None:
        """Close the file."""
        self._box.close()
        self._box = Box(-1, Catalog())

    def size(self, without: Iterable[int] = ()) -> MailboxSize:
        """Return the size, not counting the messages of the set *without*."""
        sizes = self._seen.sizes
        gone = [sizes[number] for number in without]
        return MailboxSize(len(sizes) - len(gone), sum(sizes) - sum(gone))

    def octets(self, number: int) -> int:
        """Return the size of message *number*."""
        return self._seen.sizes[number]

    def is_dotless(self, number: int) -> bool:
        """Return True if the index knows that no line of message *number* begins with a dot."""
        return self._seen.kinds[number] == PLAIN  # true of any place that has the same digest

    @property
    def sizes(self) -> Iterable[int]:
        """The sizes of all messages, in octets."""
        return self._seen.sizes

    @property
    def names(self) -> list[str]:
        """The unique identifiers of all messages."""
        if self._names is None:
            self._names = self._seen.names()
        return self._names

    def remove(self, numbers: set[int], patience: float = 30.0) -> None:
        """Remove the messages *numbers* from the mbox, durably. Raises MailError.

        *patience*: seconds to wait for another program's lock.
        """
        if numbers:
            rewrite.remove(self.path, self._seen, numbers, patience)

    # -- messages --------------------------------------------------------------------------------------------

    def message(self, number: int, is_last: bool = False) -> bytes | Iterator[bytes] | None:
        """Return message *number*, in blocks if it is large; None if it is gone.

        Takes as long as reading the whole mbox if another program rewrote it. Raises OSError, and
        LockTimeoutError if the mbox is locked; the blocks raise OSError and MailboxChangedError.
        """
        found = self._read(number)
        if found is None and self._look_again(is_last):
            found = self._read(number)
        return found

    def message_at_once(self, number: int) -> bytes | Iterator[bytes] | None:
        """Return the same as `message`, or None if that would take long. Raises OSError."""
        row = self._rows[number]
        is_long = row is not None and row.end - row.start > index.IN_MEMORY
        if is_long and _changed(self._box.descriptor) != self._changed:
            return None
        return self._read(number)

    def header(self, number: int) -> bytes | None:
        """Return the header of message *number* (CRLF) with its empty line, if it can be read alone.

        None: read the `message`. Raises OSError.
        """
        row = self._rows[number]
        if row is None or _changed(self._box.descriptor) != self._changed:
            return None
        octets = os.pread(self._box.descriptor, min(row.end - row.start, _HEADER), row.start)
        return stored.header_of(octets, row.end - row.start)

    def kept(self, number: int) -> bytes | None:
        """Return message *number* in the form of an mbox, without its state; None: take the `message`."""
        row = self._rows[number]
        if row is None or row.end - row.start > index.IN_MEMORY:
            return None
        octets = self._octets(number, row)
        return stored.kept_of(octets) if _changed(self._box.descriptor) == self._changed else None

    def _read(self, number: int) -> bytes | Iterator[bytes] | None:
        row = self._rows[number]
        if row is None:
            return None
        is_as_it_was = _changed(self._box.descriptor) == self._changed
        if row.end - row.start > index.IN_MEMORY:
            record = index.record_at(self._box.descriptor, row)
            if record is None or not (is_as_it_was or index.stands(self._box.descriptor, row)):
                return None
            return _complete(catalog.wire(record), row.size)
        octets = self._octets(number, row)
        if is_as_it_was and row.kind == PLAIN:
            message = catalog.plain_wire(octets)
            return message if len(message) == row.size else None
        at_once = stored.wire_of(octets) if is_as_it_was else None
        if at_once is not None and len(at_once) == row.size:
            return at_once
        found = scan.whole_record(octets)
        if found is None or not (is_as_it_was or catalog.measured(found)[2] == row.digest):
            return None
        message = b"".join(catalog.wire(found))
        return message if len(message) == row.size else None

    def _octets(self, number: int, row: CatalogRow) -> bytes:
        """Read the octets of one record; if messages are read in order, read those that follow too."""
        size, at = row.end - row.start, row.start - self._at
        if 0 <= at <= len(self._ahead) - size:
            self._next = number + 1
            return self._ahead[at : at + size]
        many = number == self._next
        self._next = number + 1
        octets = os.pread(self._box.descriptor, max(size, _AHEAD if many else 0), row.start)
        self._ahead, self._at = (octets, row.start) if many else (b"", 0)
        return octets[:size]

    def _look_again(self, is_last: bool) -> bool:
        """Another program rewrote the file: find the place of each message in it. Raises LockTimeoutError."""
        names = self.names
        try:
            box = open_at_once(self.path, is_last)
        except LockTimeoutError:
            raise
        except MailError:
            return False
        there = {name: number for number, name in enumerate(box.catalog.names())}
        self._rows = [box.catalog[there[name]] if name in there else None for name in names]
        self._box.close()
        self._box, self._changed = box, _changed(box.descriptor)
        self._ahead, self._next = b"", -1
        return True


def _changed(descriptor: int) -> int:
    """Return when the file was written last, in nanoseconds."""
    return os.fstat(descriptor).st_mtime_ns if descriptor >= 0 else 0


def _complete(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Pass on *blocks*. Raises MailboxChangedError if they are not *size* octets in all."""
    came = 0
    for block in blocks:
        came += len(block)
        yield block
    if came != size:
        raise MailboxChangedError("the mbox was changed while a message was sent")
