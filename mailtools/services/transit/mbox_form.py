"""A message that was fetched, on its way into an mbox: LF, From lines and the mbox's own fields quoted.

Whole where it is small, in pieces where it is not: then it lies in a nameless file beside the mbox. Knows no
server. Nothing is added to a message and nothing is refused: a bare CR stays, a bare LF is a line end.
"""

import re
from collections.abc import Iterator

from mailtools.core.mbox import quoting, scan
from mailtools.core.mbox.record import make_postmark
from mailtools.core.message import address, header
from mailtools.core.smtp import grammar
from mailtools.core.wire import eol
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.appending import NewRecord

_RETURN_PATH = re.compile(rb"Return-Path: <([a-zA-Z0-9.=_+-]{1,64}@[a-zA-Z0-9.-]{1,255})>\r?\n")
_LONG_LINE = 64 << 10  # octets; a longer line goes on before its end is there
_MAX_HEADER = 1 << 20  # octets; behind them a header is taken for body


def stored(octets: bytes) -> bytes:
    """A whole message (CRLF) as an mbox holds it, ending with a line end."""
    lines = _to_lf(octets)
    if not lines.endswith(b"\n"):
        lines += b"\n"
    stop = _header_end(lines)
    head = lines[:stop]
    own = quoting.quote_state(head)
    return quoting.quote(lines if own is head else own + lines[stop:])


class Arriving:
    """A large message, in pieces cut anywhere. *beside*: the mbox it is for."""

    def __init__(self, beside: str) -> None:
        self.body = Buffer(beside)
        self._in_header = True
        self._held = b""  # octets that are no whole line yet, or no whole header
        self._inside = False  # the line that is held was begun in the body already

    def take(self, piece: bytes) -> None:
        """Add octets (CRLF). Raises OSError where the disk is full."""
        held = self._held + piece
        stop = held.rfind(b"\n") + 1
        if not stop and len(held) > _LONG_LINE:
            stop = len(held) - held.endswith(b"\r")  # its LF may come with the next piece
        self._held = held[stop:]
        if stop:
            self._append(held[:stop])

    def end(self) -> Buffer:
        """The message is whole."""
        if self._held or self._in_header:
            self._append(self._held, is_last=True)
        if self._inside:
            self.body.append(b"\n")
        return self.body

    def _append(self, octets: bytes, is_last: bool = False) -> None:
        lines = octets.replace(b"\r\n", b"\n")
        if self._in_header:
            ends = is_last or b"\n\n" in lines or lines.startswith(b"\n") or len(octets) > _MAX_HEADER
            if not ends:
                self._held = octets + self._held
                return
            self._in_header = False
            stop = _header_end(lines)
            lines = quoting.quote_state(lines[:stop]) + lines[stop:]
        if not lines:
            return
        start = lines.find(b"\n") + 1 or len(lines) if self._inside else 0
        self.body.append(lines[:start] + quoting.quote(lines[start:]))
        self._inside = not lines.endswith(b"\n")


def record(body: Buffer, seconds: float) -> NewRecord:
    """The record for an mbox. *seconds*: when the message arrived, since the epoch."""
    head = next(body.blocks(), b"")[: 64 << 10]
    return NewRecord(make_postmark(_sender(head), clock.asctime(int(seconds))), body)


def message_blocks(body: Buffer) -> Iterator[bytes]:
    """The message alone, LF, as it was before it was quoted."""
    blocks = iter([b"From - Thu Jan  1 00:00:00 1970\n"])

    def joined() -> Iterator[bytes]:
        yield from blocks
        yield from body.blocks()
        yield b"\n"

    pieces = joined()
    return next(scan.records(lambda _: next(pieces, b""))).message_chunks()


def summary(body: Buffer) -> dict[str, str]:
    """From and Subject, for a person."""
    from mailtools.core.message import words

    head = next(body.blocks(), b"")
    head = head[: header.body_offset(head)]
    found = ((name, header.value(head, name)) for name in ("From", "Subject"))
    return {name.lower(): words.decode(value or b"") for name, value in found}


def _to_lf(octets: bytes) -> bytes:
    lines = eol.to_lf(octets)
    return lines if eol.to_crlf(lines) == octets else octets.replace(b"\r\n", b"\n")


def _header_end(lines: bytes) -> int:
    """Where the header ends, its last line end counted; it ends at its first empty line."""
    return 0 if lines.startswith(b"\n") else lines.find(b"\n\n") + 1 or len(lines)


def _sender(head: bytes) -> str:
    """The reverse-path where the message tells it, else who wrote it."""
    usual = _RETURN_PATH.match(head)  # at the top, as who delivered it wrote it: 2 us instead of 20
    if usual:
        return usual[1].decode()
    head = head[: header.body_offset(head)]
    for name in ("Return-Path", "From"):
        for spec in address.addr_specs((header.value(head, name) or b"")[:1000]):
            if grammar.is_mailbox(spec) and spec.isascii():
                return spec
    return ""
