"""Entries: the records of all sources with their header fields, decoded on demand.

Combines `core.mbox` (finds messages) with `core.message` (parses them). It selects nothing and prints
nothing: `query` and `listing` select, commands print.

Invariants: memory grows neither with the number of messages nor with their size; an unreadable source is
reported to the caller, and the next one is read.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import IO

from mailtools.core.errors import MailError
from mailtools.core.mbox import scan, status
from mailtools.core.mbox.stored import Record
from mailtools.core.message import date, words
from mailtools.core.message.header import Picker
from mailtools.system.files.sources import Source, spill

Complain = Callable[[str, MailError | OSError], None]  # gets the name of an unreadable source, and the error
Clock = tuple[int, int, int, int, int, int, int]  # `date.clock_fields`

TEXT_LIMIT = 1 << 25  # octets of a message that are read for its text


class MboxEntry:
    """One record, its number over all sources (from 1), and the fields requested from `entries`.

    *found*: the unfolded values of these fields, in the order requested; None if absent.
    """

    __slots__ = ("_file", "_names", "_record", "found", "number")

    def __init__(self, record: Record, number: int, found: list[bytes | None], names: dict[str, int]) -> None:
        self.number = number
        self._record = record
        self.found = found
        self._names = names
        self._file: IO[bytes] | None = None

    def value(self, name: str) -> bytes | None:
        """The unfolded value of the first field *name* (lower case), as octets."""
        return self.found[self._names[name]]

    def decoded(self, name: str) -> str:
        """The first field *name* (lower case) as decoded text; "" if absent."""
        value = self.found[self._names[name]]
        return words.decode(value) if value else ""

    @property
    def clock(self) -> Clock | None:
        """The writer's local time: of the Date field, else of the postmark; None if neither has a date."""
        return self.clock_of(self.found[self._names["date"]])

    def clock_of(self, value: bytes | None) -> Clock | None:
        """The writer's local time from the Date field *value*, else from the postmark."""
        return (value and date.clock_fields(value)) or date.clock_fields(_date_of(self._record.postmark))

    @property
    def flags(self) -> frozenset[str]:
        """The flags of the message that the mbox holds."""
        names = self._names
        found = self.found
        return status.flags(*[found[names[name]] for name in status.FIELDS])

    @property
    def size(self) -> int:
        """Octets of the message as stored in the mbox. For a large record this reads all its chunks."""
        return self.record.size()

    @property
    def record(self) -> Record:
        """The record; after `settled` it is read from its beginning each time."""
        if self._file is not None:
            self._file.seek(0)
            return next(scan.records(self._file.read))
        return self._record

    def settled(self) -> "MboxEntry":
        """Copy a large record to a temporary file, so that it can be read repeatedly. Returns this entry."""
        if not self._record.whole and self._file is None:
            self._file = spill(self._record.chunks())
        return self

    @property
    def is_cut(self) -> bool:
        """True if `message` leaves out the end of this message. A large record must be `settled`."""
        return not self._record.whole and self.size > TEXT_LIMIT

    def message(self, limit: int = TEXT_LIMIT) -> bytes:
        """The message, LF, unquoted. Of a large record at most about *limit* octets."""
        record = self.record
        if record.whole:
            return record.message()
        pieces = []
        for piece in record.message_chunks():
            pieces.append(piece)
            limit -= len(piece)
            if limit <= 0:
                break
        return b"".join(pieces)

    def text(self) -> str:
        """The readable text of the message, decoded, HTML as text."""
        from mailtools.services.filters.render import (
            text_of,
        )  # only where a text is asked for: it takes 15 ms to import

        return text_of(self.message())


def entries(
    sources: Sequence[str],
    names: Sequence[str],
    complain: Complain,
    progress: Callable[[int], None] | None = None,
) -> Iterator[MboxEntry]:
    """Every record of *sources*, with its fields *names* (lower case).

    *complain* gets each unreadable source; *progress* gets the number of octets of each read.
    """
    count = 0
    for source in sources:
        try:
            with Source(source, progress, may_be_cut=True) as opened:
                for entry in of_stream(opened.read, names, count):
                    count = entry.number
                    yield entry
        except (MailError, OSError) as error:
            complain(source, error)


def of_stream(read: scan.Read, names: Sequence[str], before: int = 0) -> Iterator[MboxEntry]:
    """Every record of one mbox, with its fields *names* (lower case), numbered from *before* + 1.

    Raises BadDataError if *read* returns no mbox.
    """
    names = list(dict.fromkeys(names))
    numbers = {name: number for number, name in enumerate(names)}
    pick = Picker(*names, written_so=status.FIELDS).pick
    for number, record in enumerate(scan.records(read), before + 1):
        found, _ = pick(record.buffer, record.line_end, record.end)
        yield MboxEntry(record, number, found, numbers)


_WEEKDAYS = (b" Mon", b" Tue", b" Wed", b" Thu", b" Fri", b" Sat", b" Sun")


def _date_of(postmark: bytes) -> bytes:
    """The date of a postmark: from its last weekday on, else the text behind the sender."""
    at = max(postmark.rfind(day) for day in _WEEKDAYS)
    return postmark[at + 1 :] if at > 0 else postmark.split(b" ", 2)[-1]
