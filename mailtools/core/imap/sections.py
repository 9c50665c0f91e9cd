"""Sections: the octets that BODY[...] and BINARY[...] ask for.

Owns RFC 9051 §6.4.5.1 (section-spec), and RFC 9051 §6.4.5 for BINARY. `tree` finds the parts. Knows no
message set and no response; the caller writes the octets.

Invariants: HEADER and TEXT of a message together are the message; nothing but `SectionError` and the
ValueError of `decoded` is raised; MIME is parsed only for a section that names a part.

Speed: HEADER.FIELDS finds its fields with one search; it takes a seventh of the time that `mime.parse` takes
for a message of 8 KiB, and half of that finds the end of the header.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from mailtools.core.errors import CommandError
from mailtools.core.imap import tree
from mailtools.core.message import header, mime, uuencode

_LONGEST = 8192  # octets of a section
_DEEPEST = 2 * mime.MAX_DEPTH
_NUMBER = rb"[1-9][0-9]{0,9}"
_SECTION = re.compile(
    rb"(?:(" + _NUMBER + rb"(?:\." + _NUMBER + rb")*)(?:\.(?=[A-Z])|\Z))?"
    rb"(?:(HEADER|TEXT|MIME)|(HEADER\.FIELDS(?:\.NOT)?) \(((?:[^()\"]|\"(?:[^\"\\]|\\.)*\")*)\))?",
    re.IGNORECASE | re.DOTALL,
).fullmatch
_NAMES = re.compile(rb"(?: |^)(?:\"((?:[^\"\\]|\\.)*)\"|([^\x00-\x20\x7f-\xff(){%*\"\\]+))", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_IS_NAME = re.compile(rb"[!-9;-~]+").fullmatch  # RFC 5322 §2.2
_ENCODINGS = ("", "7bit", "8bit", "binary", "base64", "quoted-printable", *uuencode.NAMES)


class SectionError(CommandError, ValueError):
    """A section that the grammar does not have; the text says what is wrong."""


class Section(NamedTuple):
    """A section-spec: which part, and what of it."""

    path: tuple[int, ...] = ()  # part number; () for the message itself
    kind: str = ""  # "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME
    fields: tuple[bytes, ...] = ()  # names of header fields, in any case


def parse_section(text: bytes) -> Section:
    """Parse what stands between ``BODY[`` and ``]``, without literals. Raises SectionError."""
    if len(text) > _LONGEST:
        raise SectionError("the section is too long")
    match = _SECTION(text)
    if match is None:
        raise SectionError("not a section")
    path = tuple(map(int, match[1].split(b"."))) if match[1] else ()
    if len(path) > _DEEPEST:
        raise SectionError("the part number is too long")
    kind = (match[2] or match[3] or b"").decode().upper()
    if kind == "MIME" and not path:
        raise SectionError("MIME needs a part number")
    return Section(path, kind, _names(match[4]) if match[4] is not None else ())


def _names(text: bytes) -> tuple[bytes, ...]:
    """Parse the astrings of a header-list. Raises SectionError."""
    found: list[bytes] = []
    at = 0
    while match := _NAMES.match(text, at):
        at = match.end()
        found.append(match[2] if match[1] is None else _QUOTED_PAIR.sub(rb"\1", match[1]))
    if not found or at != len(text):
        raise SectionError("not a list of field names")
    return tuple(found)


def extract(message: bytes, parts: list[mime.Part] | None, section: Section) -> bytes | None:
    """Return the octets of *section*; None if there is no such part, or it has none (NIL).

    *parts*: what `mime.parse` found in *message*, if known. HEADER and TEXT are those of a message: of a part
    that is no message/rfc822 they are None.
    """
    path, kind, names = section
    if not path:
        if not kind:
            return message
        return _cut(message, 0, mime.body_of(message), len(message), kind, names)
    part = tree.find((parts or mime.parse(message))[0], path)
    if part is None:
        return None
    if not kind:
        return message[part.body : part.end]
    if kind == "MIME":
        return message[part.start : part.body]
    if not tree.is_message(part):
        return None
    inner = tree.children(part)[0]
    return _cut(message, inner.start, inner.body, part.end, kind, names)


def _cut(message: bytes, start: int, body: int, end: int, kind: str, names: tuple[bytes, ...]) -> bytes:
    if kind == "TEXT":
        return message[body:end]
    head = message[start:body]
    return head if kind == "HEADER" else _chosen(head, names, kind == "HEADER.FIELDS")


def _chosen(head: bytes, names: tuple[bytes, ...], wanted: bool) -> bytes:
    """Return the fields *names* of a header, or all others, as they are written, and the empty line."""
    finder = _finder(tuple(name.lower() for name in names))
    text = b"\n" + head
    end = len(text)
    kept: list[bytes] = []
    at = behind = 1  # of the field found last
    while finder and (match := finder.search(text, behind - 1)):
        at = match.start() + 1
        if not wanted:
            kept.append(text[behind:at])
        behind = header.value_end(text, match.end(), end)
        if wanted:
            kept.append(text[at:behind])
    if not wanted:
        kept.append(text[behind:])
    found = b"".join(kept)
    if (not wanted and found.endswith((b"\n\r\n", b"\n\n"))) or found in (b"\r\n", b"\n"):
        return found
    if found and not found.endswith(b"\n"):
        found += b"\r\n"
    return found + b"\r\n"  # RFC 9051 §6.4.5.1: the subset always has the delimiting empty line


@lru_cache(maxsize=64)  # a client asks for the same names again and again
def _finder(names: tuple[bytes, ...]) -> re.Pattern[bytes] | None:
    found = [re.escape(name) for name in names if _IS_NAME(name)]
    return re.compile(rb"\n(?:" + b"|".join(found) + rb")[ \t]*:", re.IGNORECASE) if found else None


def partial(octets: bytes, start: int, count: int) -> bytes:
    """Return at most *count* octets from offset *start* on: ``BODY[]<start.count>``."""
    return octets[start : start + count]


def decoded(message: bytes, section: Section, parts: list[mime.Part] | None = None) -> bytes | None:
    """Return the part that BINARY[...] names, its transfer encoding undone; None if there is no such part.

    Damaged data is decoded as far as possible. Raises ValueError("unknown-cte") if the encoding is not known:
    the caller answers NO with UNKNOWN-CTE (RFC 9051 §7.1).
    """
    if section.kind:
        raise SectionError("BINARY takes a part number")
    if not section.path:
        return message
    part = tree.find((parts or mime.parse(message))[0], section.path)
    if part is None:
        return None
    octets = message[part.body : part.end]
    if tree.is_multipart(part):  # RFC 2045 §6.4: it has no encoding of its own
        return octets
    if part.encoding not in _ENCODINGS:
        raise ValueError("unknown-cte")
    return mime.decode_transfer(octets, part.encoding)
