"""The items of FETCH (RFC 9051 §6.4.5, RFC 3501 §6.4.5, RFC 3516)."""

import re
from typing import NamedTuple

from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.sections import Section, parse_section

_PLAIN = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "MODSEQ")
_MOST_ITEMS = 250  # of a command: each may be as long as the message
_MOST_FIELDS = 250  # names in a section: each line of a header may be compared with all of them
_MACROS = {
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_WHOLE, _HEADER, _TEXT = Section((), "", ()), Section((), "HEADER", ()), Section((), "TEXT", ())
_RFC822 = {
    "RFC822": (_WHOLE, False),
    "RFC822.PEEK": (_WHOLE, True),  # RFC 1730 §6.4.5, which Outlook still sends; the response has RFC822
    "RFC822.HEADER": (_HEADER, True),
    "RFC822.TEXT": (_TEXT, False),
}
_NAME = re.compile(rb"[A-Za-z0-9.]+")
_SECTION = re.compile(rb"\[([0-9A-Za-z.]{0,1000})")
_PARTIAL = re.compile(rb"<([0-9]{1,10})\.([0-9]{1,10})>")


class FetchItem(NamedTuple):
    """One item. *name*: as it stands in the response."""

    name: bytes
    kind: str  # a plain name, or CONTENT, BINARY, BINARY.SIZE
    section: Section = _WHOLE
    is_peek: bool = True  # False: \\Seen is set
    partial: tuple[int, int] | None = None  # (first octet, most octets)


MODSEQ = FetchItem(b"MODSEQ", "MODSEQ")


def parse(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A macro, one item, or items in parentheses. Raises ImapCommandError."""
    if not cursor.takes(b"("):
        at = cursor.at
        name = _NAME.match(cursor.line, at)
        if name and name[0].upper().decode() in _MACROS:
            cursor.at = name.end()
            return tuple(_plain(item) for item in _MACROS[name[0].upper().decode()])
        return (_item(cursor),)
    found = [_item(cursor)]
    while not cursor.takes(b")"):
        cursor.space()
        found.append(_item(cursor))
        if len(found) > _MOST_ITEMS:
            raise ImapCommandError("too many items", "LIMIT")
    return tuple(dict.fromkeys(found))


def _plain(name: str) -> FetchItem:
    return FetchItem(name.encode(), name)


def _item(cursor: Cursor) -> FetchItem:
    match = _NAME.match(cursor.line, cursor.at)
    name = match[0].upper().decode() if match else ""
    if match is None:
        raise ImapCommandError("an item of FETCH expected")
    cursor.at = match.end()
    if cursor.is_at(b"[") and name in ("BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE"):
        return _content(cursor, name)
    if name in _PLAIN:
        return _plain(name)
    if name == "PREVIEW":
        cursor.takes(b" (LAZY)")  # RFC 8970 §4.1: then it may be NIL; we have it anyway
        return _plain(name)
    if name in _RFC822:
        section, is_peek = _RFC822[name]
        return FetchItem(name.removesuffix(".PEEK").encode(), "CONTENT", section, is_peek)
    raise ImapCommandError(f"no item of FETCH: {name[:50]}")


def _content(cursor: Cursor, name: str) -> FetchItem:
    match = _SECTION.match(cursor.line, cursor.at)
    if match is None:
        raise ImapCommandError("a section expected")
    cursor.at = match.end()
    text = match[1].upper()
    fields: tuple[bytes, ...] = ()
    if text.endswith((b"HEADER.FIELDS", b"HEADER.FIELDS.NOT")):
        cursor.space()
        fields = tuple(cursor.listed())
        if not fields:
            raise ImapCommandError("names of header fields expected")
        if len(fields) > _MOST_FIELDS:
            raise ImapCommandError("too many header fields", "LIMIT")
    cursor.needs(b"]")
    try:
        section = _with_fields(text, fields) if fields else parse_section(text)
    except ValueError as error:
        raise ImapCommandError(str(error) or "no such section") from None
    kind, _, peek = name.partition(".")
    echoed = text + (b" (%b)" % b" ".join(_shown(field) for field in fields) if fields else b"")
    if kind == "BINARY" and (section.kind or not (section.path or name != "BINARY.SIZE")):
        raise ImapCommandError("BINARY takes part numbers alone")
    partial = None
    if (part := _PARTIAL.match(cursor.line, cursor.at)) and peek != "SIZE":
        cursor.at = part.end()
        partial = (int(part[1]), int(part[2]))
        if not partial[1]:
            raise ImapCommandError("a partial of no octets")
    origin = b"<%d>" % partial[0] if partial else b""
    shown = b"BINARY.SIZE" if peek == "SIZE" else kind.encode()
    return FetchItem(
        b"%b[%b]%b" % (shown, echoed, origin),
        "CONTENT" if kind == "BODY" else shown.decode(),
        section,
        bool(peek),
        partial,
    )


def _with_fields(text: bytes, fields: tuple[bytes, ...]) -> Section:
    prefix, _, kind = text.rpartition(b"HEADER.FIELDS")
    path = parse_section(prefix.rstrip(b".")).path if prefix else ()
    return Section(path, f"HEADER.FIELDS{kind.decode()}", tuple(field.upper() for field in fields))


def _shown(field: bytes) -> bytes:
    """A name of a field as it was given, quoted if it must be."""
    if re.fullmatch(rb"[!#$&'+-Z^-z|}~]+", field):
        return field
    return b'"%b"' % re.sub(rb'[^ -~]|["\\]', b"", field)
