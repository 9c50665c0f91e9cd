"""GETMETADATA and SETMETADATA, parsed (RFC 5464 §4)."""

from typing import NamedTuple

from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.lists import entries, entry, mailbox

_DEPTHS = {"0": 0, "1": 1, "INFINITY": -1}


class GetMetadata(NamedTuple):
    """GETMETADATA. *depth*: levels of entries below the named ones, -1 for all; *max_size* in octets."""

    mailbox: str  # "" for the server
    entries: tuple[str, ...]
    depth: int = 0
    max_size: int | None = None


class SetMetadata(NamedTuple):
    """SETMETADATA: entries and their values; None removes one."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


def get(cursor: Cursor) -> GetMetadata:
    """The arguments of GETMETADATA."""
    depth, max_size = 0, None
    if cursor.takes(b"("):
        is_first = True
        while is_first or not cursor.takes(b")"):
            if not is_first:
                cursor.space()
            is_first = False
            option = cursor.word()
            cursor.space()
            if option == "MAXSIZE":
                max_size = cursor.number()
            elif option == "DEPTH" and (word := cursor.word()) in _DEPTHS:
                depth = _DEPTHS[word]
            else:
                raise ImapCommandError("no option of GETMETADATA")
        cursor.space()
    name = mailbox(cursor)
    cursor.space()
    wanted = entries(cursor) if cursor.is_at(b"(") else (entry(cursor),)
    return GetMetadata(name, wanted, depth, max_size)


def change(cursor: Cursor) -> SetMetadata:
    """The arguments of SETMETADATA."""
    name = mailbox(cursor)
    cursor.space()
    cursor.needs(b"(")
    found: dict[str, bytes | None] = {}
    while not found or not cursor.takes(b")"):
        if found:
            cursor.space()
        key = entry(cursor)
        cursor.space()
        cursor.takes(b"~")  # of a literal8
        found[key] = cursor.nstring()
    return SetMetadata(name, tuple(found.items()))
