"""One record of an mbox: its octets, and the message in it as it was before it was stored.

Owns mboxrd on reading, and the fields in which an mbox keeps its state. Does not know how records are found
(`scan`) nor what the message says.

Terms, with offsets into one buffer:

    start        body of record                                     stop  end
    | From bob@example.org Thu Aug 22 12:00:00 2002\\n | message ... | \\n |
"""

from collections.abc import Callable, Iterator

from mailtools.core.mbox import quoting

HEAD = 1 << 20  # octets of a record held at once; up to twice as many if one read completes it
_LONG_LINE = 1 << 16  # octets; a longer line is returned in pieces


class Record:
    """One record: octets ``buffer[start:end]``; `chunks` reads the rest of a large one.

    The chunks of a large record can be read once, and only before the next record is read; unread chunks are
    skipped.
    """

    __slots__ = ("_more", "buffer", "end", "is_verbatim", "line_end", "number", "start")

    def __init__(
        self,
        buffer: bytes,
        start: int,
        end: int,
        number: int,
        more: "Callable[[Record], bytes] | None" = None,
        is_verbatim: bool = False,
    ) -> None:
        self.buffer = buffer
        self.start = start  # offset of the postmark
        self.end = end  # offset behind the octets held
        stop = buffer.find(b"\n", start, end)
        self.line_end = end if stop < 0 else stop  # offset of the LF that ends the postmark
        self.number = number  # from 1, in its stream
        self.is_verbatim = is_verbatim  # its From lines are not quoted: Content-Length says where it ends
        self._more = more

    @property
    def whole(self) -> bool:
        """Whether ``buffer[start:end]`` is all there is."""
        return self._more is None

    @property
    def head(self) -> bytes:
        """The octets in memory: the whole record unless it is large."""
        return self.buffer[self.start : self.end]

    @property
    def postmark(self) -> bytes:
        """The "From " line, without its line end."""
        return self.buffer[self.start : self.line_end].removesuffix(b"\r")

    @property
    def crlf(self) -> bool:
        """Whether the record has CRLF line ends, judged by its postmark."""
        return self.buffer[self.line_end - 1 : self.line_end] == b"\r"

    @property
    def stop(self) -> int:
        """The offset behind the message of a whole record, before the empty line that the mbox added."""
        return _message_stop(self.buffer, min(self.line_end + 1, self.end), self.end)

    def chunks(self) -> Iterator[bytes]:
        """The octets of the record, unchanged, in blocks."""
        yield self.head
        if self._more is not None:
            while piece := self._more(self):
                yield piece

    def size(self) -> int:
        """Octets of the message as the mbox holds them: without postmark and last empty line.

        For a large record this reads all its chunks.
        """
        first = min(self.line_end + 1, self.end)
        if self._more is None:
            if self.buffer.endswith(b"\n\n", first, self.end):
                return self.end - 1 - first  # nearly always, and quicker to tell
            return self.stop - first
        size = self.end - first
        tail = self.buffer[self.end - 4 : self.end]
        while piece := self._more(self):
            size += len(piece)
            tail = (tail + piece)[-4:]
        return size - (len(tail) - _message_stop(tail, 0, len(tail)))

    def message(self, make: "Make | None" = None) -> bytes:
        """The message with LF, unquoted; of a large record only the part in memory.

        *make*: the conversion from the stored message, `unquoted` (default) or `shown`.
        """
        first = min(self.line_end + 1, self.end)
        octets = self.buffer[first : self.stop if self._more is None else self.end]
        if self.crlf:
            octets = octets.replace(b"\r\n", b"\n")
        if self.is_verbatim:
            return _stripped(octets) if make is shown else octets
        return (make or unquoted)(octets)

    def message_chunks(self, make: "Make | None" = None) -> Iterator[bytes]:
        """The message with LF, unquoted, in one chunk, or many for a large record; *make* as in `message`."""
        if self._more is None:
            yield self.message(make)
        else:
            yield from _message_chunks(self, make or unquoted)


def _message_stop(octets: bytes, start: int, end: int) -> int:
    """The offset where the message from *start* ends: before the empty line that the mbox added."""
    tail = octets[max(end - 4, start) : end]
    if tail.endswith(b"\n\n") or tail == b"\n":
        return end - 1
    if tail.endswith(b"\n\r\n") or tail == b"\r\n":
        return end - 2
    return end


Make = Callable[[bytes], bytes]


def shown(message: bytes) -> bytes:
    """A stored message (LF) as the wire and readers get it: unquoted, without the mbox's state fields."""
    return unquoted(_stripped(message))


def header_end(message: bytes) -> int:
    """The offset behind the header of a message (LF): before its first empty line."""
    return 0 if message.startswith(b"\n") else message.find(b"\n\n") + 1 or len(message)


def wire_of(octets: bytes) -> bytes | None:
    """The message on the wire (CRLF) of the record that is all of *octets*, found in few passes.

    None if it needs more than the state fields cut out and From lines unquoted. 3 times as fast as the pieces
    of `Record.message_chunks` for a message of 8 KiB.
    """
    found = _usual(octets)
    if found is None:
        return None
    head, body = found
    body = quoting.unquote(body)[1:]
    return (quoting.unquote_state(quoting.unquote(head)) + body).replace(b"\n", b"\r\n")


def kept_of(octets: bytes) -> bytes | None:
    """The message (LF, quoted) in the record that is all of *octets*, without its state: for another mbox.

    None if the record is not in the form that we write.
    """
    found = _usual(octets)
    return found[0] + found[1][1:] if found else None


def _usual(octets: bytes) -> tuple[bytes, bytes] | None:
    """(header without state fields, its line end and the body) of a record in the form that we write."""
    first = octets.find(b"\n") + 1
    stop = octets.find(b"\n\n", first) + 1
    if not first or not stop or b"\r" in octets or not octets.endswith(b"\n\n", first) or octets[first] == 10:
        return None
    head = octets[first:stop]
    if b"\nContent-Length:" in head or stop + 1 >= len(octets):  # the body may be verbatim
        return None
    return quoting.strip_state(head), octets[stop - 1 : -1]


def header_of(octets: bytes, size: int) -> bytes | None:
    """The header, with its empty line (CRLF), of the record of *size* octets that begins with *octets*.

    None if that cannot be told from them alone. It is that of the message which `shown` gives.
    """
    first = octets.find(b"\n") + 1
    crlf = octets.endswith(b"\r\n", 0, first)
    blank = b"\n\r\n" if crlf else b"\n\n"
    end = octets.find(blank, first)
    if not first or end < 0 or end + len(blank) >= size or octets.startswith((b"\n", b"\r\n"), first):
        return None
    head = octets[first : end + 1]
    if b"\nContent-Length:" in head:  # whether From lines are quoted depends on the body
        return None
    if b"\r\n" in head:
        head = head.replace(b"\r\n", b"\n")
    head = quoting.unquote_state(quoting.unquote(quoting.strip_state(head)))
    return head.replace(b"\n", b"\r\n") + b"\r\n"


def _stripped(message: bytes) -> bytes:
    """A stored message (LF) without the mbox's state fields."""
    stop = header_end(message)
    head = message[:stop]
    stripped = quoting.strip_state(head)
    return message if stripped is head else stripped + message[stop:]


def unquoted(message: bytes) -> bytes:
    """A stored message (LF) as it was before it was quoted: From lines, and state fields in its header."""
    message = quoting.unquote(message)
    stop = header_end(message)
    head = message[:stop]
    plain = quoting.unquote_state(head)
    return message if plain is head else plain + message[stop:]


def _message_chunks(record: Record, make: Make) -> Iterator[bytes]:
    """Cut at line ends, so that no quoting or CRLF is split; hold back a possible last empty line.

    A line of more than `_LONG_LINE` octets is returned in pieces, which bounds memory for a gigabyte without
    a line end; such a line is not unquoted if its first 64 KiB are only ">".
    """
    crlf = record.crlf
    pieces = record.chunks()
    head = next(pieces)
    held = head[min(record.line_end + 1, record.end) - record.start :]
    first = True
    inside = False  # whether *held* begins within a line
    while True:
        piece = next(pieces, b"")
        if not piece:
            break
        held += piece
        cut = held.rfind(b"\n", 0, max(len(held) - 4, 0)) + 1
        long_line = cut == 0 and len(held) > _LONG_LINE
        if long_line:
            cut = len(held) - 4
            cut -= held[cut - 1] == 13  # the CR of a CRLF stays with its LF
        if cut:
            yield _unquoted_lines(held[:cut], crlf, inside, make if first else quoting.unquote)
            held = held[cut:]
            inside = long_line
            first = False
    held = held[: _message_stop(held, 0, len(held))]
    if held:
        yield _unquoted_lines(held, crlf, inside, make if first else quoting.unquote)


def _unquoted_lines(octets: bytes, crlf: bool, inside: bool, make: Make) -> bytes:
    rest = octets.find(b"\n") + 1 or len(octets) if inside else 0
    begun = octets[:rest]
    lines = octets[rest:]
    if crlf:
        begun = begun.replace(b"\r\n", b"\n")
        lines = lines.replace(b"\r\n", b"\n")
    return begun + make(lines)
