"""FETCH: what is asked about messages, read from the mailbox and written as responses.

Owns RFC 9051 §6.4.5 and §7.5.2. A message is read once, and only if an item needs it. Knows no session: it
gets a view, and yields one response after the other, so that memory holds one message at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from mailtools.core.imap import bodystructure, envelope, sections, strings
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.message import date, header, mime
from mailtools.services.imap_server.view import View

FLAGS = FetchItem(b"FLAGS", "FLAGS")
_INDEX, _HEADER, _MESSAGE = range(3)
_FROM_INDEX = frozenset(("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "MODSEQ"))


def responses(
    view: View, chosen: Iterable[tuple[int, int]], items: Sequence[FetchItem], with_uid: bool
) -> Iterator[bytes]:
    """A FETCH response for each message of *chosen* (sequence number, UID) that is still there.

    Raises OSError and MailError if a message cannot be read.
    """
    kinds = {item.kind for item in items}
    needs = max((_needs(item) for item in items), default=_INDEX)
    for number, uid in chosen:
        row = view.row(uid)
        if row < 0:
            continue
        source = _Source(view, row, needs)
        if source.is_gone:
            continue
        values = [b"UID %d" % uid] if with_uid and "UID" not in kinds else []
        values += [b"%b %b" % (item.name, _value(item, view, uid, row, source)) for item in items]
        yield b"* %d FETCH (%b)\r\n" % (number, b" ".join(values))


def _needs(item: FetchItem) -> int:
    """What has to be read for *item*: nothing, the header, or the message."""
    if item.kind in _FROM_INDEX:
        return _INDEX
    is_of_header = item.kind == "CONTENT" and not item.section.path and item.section.kind.startswith("HEADER")
    return _HEADER if item.kind == "ENVELOPE" or is_of_header else _MESSAGE


def header_alone(view: View, row: int) -> bytes | None:
    """The header of a message, read without its body; None if the body may tell where it ends."""
    head = view.box.header(row)
    return head if head is not None and mime.body_of(head) == len(head) else None


class _Source:
    """One message, and its parts once they are needed."""

    def __init__(self, view: View, row: int, needs: int) -> None:
        head = b"" if needs == _INDEX else header_alone(view, row) if needs == _HEADER else None
        found = view.box.message(row) if head is None else head
        self.is_gone = found is None
        self.message = found if isinstance(found, bytes) else b"".join(found or ())
        self._parts: list[mime.Part] | None = None

    @property
    def parts(self) -> list[mime.Part]:
        if self._parts is None:
            self._parts = mime.parse(self.message)
        return self._parts


def _value(item: FetchItem, view: View, uid: int, row: int, source: _Source) -> bytes:
    kind = item.kind
    if kind == "UID":
        return b"%d" % uid
    if kind == "FLAGS":
        return b"(%b)" % view.flags(uid, row)
    if kind == "INTERNALDATE":
        return internal_date(view.box.postmark(row))
    if kind == "RFC822.SIZE":
        return b"%d" % view.box.size(row)
    if kind == "MODSEQ":
        return b"(%d)" % view.box.states.modseqs[row]
    if kind == "ENVELOPE":
        return envelope.envelope(source.message[: header.body_offset(source.message)])
    if kind == "BODYSTRUCTURE":
        return bodystructure.bodystructure(source.message, source.parts)
    if kind == "BODY":
        return bodystructure.body(source.message, source.parts)
    return _content(item, source)


def internal_date(postmark: bytes) -> bytes:
    """When a message arrived, by its postmark, as in INTERNALDATE."""
    moment = date.parse(postmark.split(b" ", 2)[-1])
    return strings.internal_date(moment[0] if moment else 0.0)


def _content(item: FetchItem, source: _Source) -> bytes:
    """The value of BODY[...], RFC822 and BINARY."""
    section = item.section
    parts = source.parts if section.path else None  # the others need no MIME
    octets: bytes | None = None
    if item.kind == "CONTENT":
        octets = sections.extract(source.message, parts, section)
    else:
        with suppress(ValueError):  # an encoding that nobody knows: NIL
            octets = sections.decoded(source.message, section, parts)
    if item.kind == "BINARY.SIZE":
        return b"%d" % len(octets or b"")
    if octets is not None and item.partial is not None:
        octets = sections.partial(octets, *item.partial)
    # Always a literal, though the grammar permits more: clients expect it.
    return b"NIL" if octets is None else strings.literal(octets, binary=item.kind == "BINARY")
