"""A maildrop: a snapshot of one mbox, and its messages as they go over the wire.

The snapshot is an open file and its catalog: mail that comes is not seen, and a program that puts another
file in its place changes nothing. Where a program rewrote the file itself, its mtime tells: from then on a
message has to have its digest to be given out, and one that is not where it was is looked for in the mbox as
it is now. So nobody is shown one message under another one's name.

Speed: a PLAIN message is a slice and a `replace`; messages asked for one after another are read together.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import LockTimeoutError, MailError
from mailtools.core.mbox import catalog
from mailtools.core.mbox.catalog import PLAIN, Catalog, CatalogRow
from mailtools.core.pop3.events import MaildropSize
from mailtools.core.wire import dots
from mailtools.system.mbox import index, rewrite
from mailtools.system.mbox.index import Box

_AHEAD = 256 << 10  # octets read at once where a client asks for one message after another


def open_at_once(path: str, is_last: bool = False) -> Box:
    """The mbox at *path*, whole as it is now. Never waits: raises LockTimeoutError where it is locked.

    Otherwise as `index.open_box`. *is_last*: what was known of it before will do.
    """
    try:
        there = os.stat(path).st_size
    except OSError:  # it is empty, or told below
        there = 0
    box = index.open_box(path, 0.0)
    if box.catalog.end < there and not is_last:
        box.close()
        raise LockTimeoutError(f"{path}: locked by another program")
    return box


class Rows(Protocol):
    """What tells where a message stands."""

    def __getitem__(self, number: int, /) -> CatalogRow | None: ...


class Maildrop:
    """A snapshot of one mbox."""

    def __init__(self, path: str, box: Box) -> None:
        self.path = path
        self.marked: set[int] = set()
        self._box = box
        self._seen = box.catalog  # as it was at the beginning: numbers, sizes and names are of this
        self._rows: Rows = box.catalog  # where they stand now
        self._changed = _changed(box.descriptor)
        self._names: list[str] | None = None
        self._ahead = b""
        self._at = 0  # where what was read ahead begins
        self._next = -1  # the record that follows the last one asked for

    def __len__(self) -> int:
        return len(self._seen)

    def close(self) -> None:
        """Let the file go."""
        self._box.close()
        self._box = Box(-1, Catalog())

    def size(self) -> MaildropSize:
        """What is not marked."""
        sizes = self._seen.sizes
        gone = sum(sizes[number] for number in self.marked)
        return MaildropSize(len(sizes) - len(self.marked), sum(sizes) - gone)

    def octets(self, number: int) -> int:
        """The size of message *number* (from 0) as RETR gives it."""
        return self._seen.sizes[number]

    @property
    def names(self) -> list[str]:
        """The unique-ids."""
        if self._names is None:
            self._names = self._seen.names()
        return self._names

    def listing(self, names: bool) -> bytes:
        """A line for each message that is not marked: its number, and its name or size."""
        values: Iterable[object] = self.names if names else self._seen.sizes
        pairs: Iterable[tuple[int, object]] = enumerate(values, 1)
        if self.marked:
            pairs = [pair for pair in pairs if pair[0] - 1 not in self.marked]
        words = tuple(chain.from_iterable(pairs))
        # One format of all the lines: two thirds of the time of a string for each.
        return ("%d %s\r\n" * (len(words) // 2) % words).encode()

    def remove(self, patience: float = 30.0) -> None:
        """Take out of the mbox what is marked, durably. Raises MailError.

        *patience*: seconds to wait for another program's lock.
        """
        if self.marked:
            rewrite.remove(self.path, self._seen, self.marked, patience)

    # -- messages --------------------------------------------------------------------------------------------

    def message(self, number: int, is_last: bool = False) -> Iterable[bytes] | None:
        """Message *number* as it goes over the wire, dots stuffed; None where it is gone.

        Where another program rewrote the mbox this takes as long as reading it. Raises OSError, and
        LockTimeoutError where it is locked.
        """
        found = self._read(number)
        if found is None and self._look_again(is_last):
            found = self._read(number)
        return found

    def message_at_once(self, number: int) -> Iterable[bytes] | None:
        """The same, or None where it would take long. Raises OSError."""
        row = self._rows[number]
        is_long = row is not None and row.end - row.start > index.IN_MEMORY
        if is_long and _changed(self._box.descriptor) != self._changed:
            return None
        return self._read(number)

    def _read(self, number: int) -> Iterable[bytes] | None:
        row = self._rows[number]
        if row is None:
            return None
        is_as_it_was = _changed(self._box.descriptor) == self._changed
        if row.end - row.start > index.IN_MEMORY:
            record = index.record_at(self._box.descriptor, row)
            if record is None or not (is_as_it_was or index.stands(self._box.descriptor, row)):
                return None
            return _stuffed(_complete(catalog.wire(record), row.size))
        octets = self._octets(number, row)
        if is_as_it_was and row.kind == PLAIN:
            message = catalog.plain_wire(octets)
            return (message,) if len(message) == row.size else None
        found = index.record_of(octets)
        if found is None or not (is_as_it_was or catalog.measured(found)[2] == row.digest):
            return None
        message = b"".join(catalog.wire(found))
        return (dots.stuff(message),) if len(message) == row.size else None

    def _octets(self, number: int, row: CatalogRow) -> bytes:
        """The octets of one record, read together with those behind it where that will pay."""
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
        """Another program rewrote the file: find each message where it is now."""
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
    """When the file was last written."""
    return os.fstat(descriptor).st_mtime_ns if descriptor >= 0 else 0


def _complete(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same; where another program changed the file meanwhile the client is cut, and not told a lie."""
    came = 0
    for block in blocks:
        came += len(block)
        yield block
    if came != size:
        raise RemoteProtocolError("the mbox was changed while a message was sent")


def _stuffed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Dots stuffed; a block need not begin a line."""
    begins_line = True
    for block in blocks:
        stuffed = block.replace(b"\n.", b"\n..")
        yield b"." + stuffed if begins_line and block.startswith(b".") else stuffed
        begins_line = block.endswith(b"\n")


def top(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The header, the empty line, and *lines* lines of the body (RFC 1939, TOP)."""
    in_header = True
    tail = b"\r\n"
    for block in blocks:
        if in_header:
            found = (tail + block).find(b"\r\n\r\n")
            if found < 0:
                yield block
                tail = (tail + block)[-3:]
                continue
            stop = found + 4 - len(tail)
            yield block[:stop]
            in_header = False
        else:
            stop = 0
        body = block[stop:]
        there = body.count(b"\n")
        if there >= lines:
            yield body[: len(body) - len(body.split(b"\n", lines)[-1])]
            return
        yield body
        lines -= there
