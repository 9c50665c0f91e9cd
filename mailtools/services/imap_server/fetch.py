"""FETCH: what is asked about messages, read from the mailbox and written as responses.

Owns RFC 9051 §6.4.5 and §7.5.2. Responses are made in groups, item by item: a column of flags, one of
envelopes. What is known or kept (services/imap_server/rendered) costs no read; a message is read once, and
only if an item needs it. Knows no session: it gets a view, and yields some responses after the others, so
that memory holds one group at a time.

Speed: in groups FETCH FLAGS of all is 5 times as fast as one response after the other.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.imap import bodystructure, sections, strings
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.message import mime
from mailtools.services.imap_server.rendered import RENDERED
from mailtools.services.imap_server.view import View
from mailtools.system.mbox.mailtree import MailboxError

FLAGS = FetchItem(b"FLAGS", "FLAGS")
UNKNOWN_CTE = "UNKNOWN-CTE"  # RFC 3516 §4.3
_MANY = 500  # messages of a group whose messages are not read
_FEW = 50  # of others
_MUCH = 256 << 10  # octets of messages that are read for a group

Chosen = list[tuple[int, int]]  # sequence numbers and UIDs


def responses(
    view: View, chosen: Iterable[tuple[int, int]], items: Sequence[FetchItem], with_uid: bool
) -> Iterator[bytes]:
    """FETCH responses, some at a time, for those of *chosen* (sequence number, UID) that are still there.

    Pieces of one response if its message is large. Raises OSError and MailError if a message cannot be read.
    """
    chosen = list(chosen)
    if with_uid and not any(item.kind == "UID" for item in items):
        items = (FetchItem(b"UID", "UID"), *items)
    layout = b" ".join(_layout(item) for item in items)
    layout = b"* %d FETCH (" + layout + b")\r\n"
    at = 0
    while at < len(chosen):
        with view.box.lock:
            group = _Group(view, chosen[at : at + _MANY], items)
            at += group.asked
            known = [_column(group, item) for item in items if not group.is_large or item.kind in _COLUMNS]
        if group.is_large:
            yield from _item_by_item(group, items, iter(known))
        else:
            yield b"".join([layout % values for values in zip(group.numbers, *known, strict=True)])


def _column(group: "_Group", item: FetchItem) -> Sequence[Any]:
    """The values of *item*, one for each message of *group*."""
    return _COLUMNS.get(item.kind, _content)(group, item)


def _item_by_item(
    group: "_Group", items: Sequence[FetchItem], known: Iterator[Sequence[Any]]
) -> Iterator[bytes]:
    """The response about one large message in pieces: many items of it would not fit into memory together.

    *known*: the columns of those items that are no content.
    """
    begun = b"* %d FETCH (" % group.numbers[0]
    for item in items:
        try:
            (value,) = next(known) if item.kind in _COLUMNS else _content(group, item)
        except MailboxError as error:
            raise MailError(str(error)) from None  # the response has begun: there is no way back
        yield begun + _layout(item) % value
        begun = b" "
    yield b")\r\n"


def _layout(item: FetchItem) -> bytes:
    return item.name.replace(b"%", b"%%") + b" " + _LAYOUTS.get(item.kind, b"%b")


class _Group:
    """Some messages, and what was read of them; of *chosen* those that are read at once."""

    def __init__(self, view: View, chosen: Chosen, items: Sequence[FetchItem]) -> None:
        self.view = view
        needs_header = any(_is_of_header(item) for item in items)
        needs_message = any(_is_of_message(item) for item in items)
        self.sources: list[_Source] = []
        self.is_large = False  # one message, which is sent in pieces
        if needs_message or needs_header:
            self._read(chosen[:_FEW], needs_message)
        else:
            self.asked = len(chosen)
            self.numbers, self.uids, self.rows = view.located(chosen)

    def _read(self, chosen: Chosen, whole: bool) -> None:
        numbers, uids, rows, octets = list[int](), array("I"), list[int](), 0
        self.asked = 0
        for (number, uid), row in zip(chosen, self.view.rows(chosen), strict=True):
            size = self.view.box.size(row) if whole and row >= 0 else 0
            if self.asked and octets + size > _MUCH:
                break
            self.asked += 1
            source = _Source(self.view, row, whole) if row >= 0 else None
            if source is not None and not source.is_gone:
                octets += len(source.message)
                numbers.append(number)
                uids.append(uid)
                rows.append(row)
                self.sources.append(source)
        self.numbers, self.uids, self.rows = numbers, uids, rows
        self.is_large = len(self.sources) == 1 and octets > _MUCH


def _is_of_header(item: FetchItem) -> bool:
    """Tell whether *item* needs the header and no more."""
    return item.kind == "CONTENT" and not item.section.path and item.section.kind.startswith("HEADER")


def _is_of_message(item: FetchItem) -> bool:
    """Tell whether *item* needs the message itself."""
    return item.kind not in _LAYOUTS and item.kind not in RENDERED and not _is_of_header(item)


def header_alone(view: View, row: int) -> bytes | None:
    """The header of a message, read without its body; None if the body may tell where it ends."""
    head = view.box.header(row)
    return head if head is not None and mime.body_of(head) == len(head) else None


class _Source:
    """One message, or its header, and its parts once they are needed."""

    def __init__(self, view: View, row: int, whole: bool) -> None:
        head = None if whole else header_alone(view, row)
        found = view.box.message(row) if head is None else head
        self.is_gone = found is None
        self.message = found if isinstance(found, bytes) else b"".join(found or ())
        self._parts: list[mime.Part] | None = None

    @property
    def parts(self) -> list[mime.Part]:
        if self._parts is None:
            self._parts = mime.parse(self.message)
        return self._parts


# -- columns: the values of an item, one for each message of a group -----------------------------------------


def _uids(group: _Group, item: FetchItem) -> Sequence[int]:
    return group.uids


def _flags(group: _Group, item: FetchItem) -> Sequence[bytes]:
    return group.view.flag_column(group.uids, group.rows)


def _sizes(group: _Group, item: FetchItem) -> Sequence[int]:
    return [group.view.box.size(row) for row in group.rows]


def _modseqs(group: _Group, item: FetchItem) -> Sequence[int]:
    modseqs = group.view.box.states.modseqs
    return [modseqs[row] for row in group.rows]


def _rendered(group: _Group, item: FetchItem) -> Sequence[bytes]:
    return group.view.box.rendered.column(item.kind, group.uids, group.rows)


def _body(group: _Group, item: FetchItem) -> Sequence[bytes]:
    return [bodystructure.body(source.message, source.parts) for source in group.sources]


def _content(group: _Group, item: FetchItem) -> Sequence[bytes]:
    """The values of BODY[...], RFC822, BINARY and BINARY.SIZE."""
    return [_octets(item, source) for source in group.sources]


def _octets(item: FetchItem, source: _Source) -> bytes:
    section = item.section
    parts = source.parts if section.path else None  # the others need no MIME
    octets: bytes | None = None
    if item.kind == "CONTENT":
        octets = sections.extract(source.message, parts, section)
    else:
        try:
            octets = sections.decoded(source.message, section, parts)
        except ValueError:
            raise MailboxError("nobody knows that transfer encoding", UNKNOWN_CTE) from None
    if item.kind == "BINARY.SIZE":
        return b"%d" % len(octets or b"")
    if octets is not None and item.partial is not None:
        octets = sections.partial(octets, *item.partial)
    # Always a literal, though the grammar permits more: clients expect it.
    return b"NIL" if octets is None else strings.literal(octets, binary=item.kind == "BINARY")


_LAYOUTS = {"UID": b"%d", "FLAGS": b"(%b)", "RFC822.SIZE": b"%d", "MODSEQ": b"(%d)"}
_COLUMNS: dict[str, Callable[[_Group, FetchItem], Sequence[Any]]] = {
    "UID": _uids, "FLAGS": _flags, "RFC822.SIZE": _sizes, "MODSEQ": _modseqs, "BODY": _body,
    **dict.fromkeys(RENDERED, _rendered),
}  # fmt: skip
