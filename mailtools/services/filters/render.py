"""Renders a message for a reader: headers, text, list of attachments; as text or as JSON.

Combines `core.message.mime` with `html` and `words`. It does not write to a terminal and does not escape
control characters.
"""

from collections.abc import Iterator
from typing import Any

from mailtools.core.errors import BadDataError
from mailtools.core.message import header, mime, words
from mailtools.core.message.html import to_text

_RULE = "-" * 8
_MAIN = ("Date", "From", "To", "Cc", "Subject")


def text_of(message: bytes) -> str:
    """The readable text of *message* (LF), with that of attached messages under their own headings."""
    return _body(mime.parse(message))


def part_text(part: mime.Part) -> str:
    """One text part as text; HTML converted for a terminal."""
    return to_text(part.text()) if part.type == "text/html" else part.text()


def _body(parts: list[mime.Part]) -> str:
    """The texts of *parts*.

    Where an attached message begins and ends is said, so that nobody mistakes its words for the outer
    writer's.
    """
    pieces: list[str] = []
    within: mime.Part | None = None
    for part in mime.readable(parts):
        if part.message is not within:
            within = part.message
            pieces.append(
                _heading(within) if within is not None else f"{_RULE} end of the attached message {_RULE}\n"
            )
        text = part_text(part)
        pieces.append(text if text.endswith("\n") else f"{text}\n")
    return "\n".join(pieces)


def _heading(part: mime.Part) -> str:
    """The heading of an attached message: which part it is, and its main header fields."""
    head = part.header()
    return f"{_RULE} attached message, part {part.number} {_RULE}\n{_main_fields(head, _charset([part]))}"


def _charset(parts: list[mime.Part]) -> str:
    """The charset of a body, which its writer's program used for raw 8-bit octets in the header too."""
    return next((charset for part in parts if (charset := part.params.get("charset", ""))), "")


def _main_fields(head: bytes, charset: str) -> str:
    lines = []
    for name in _MAIN:
        lines += [f"{name}: {words.decode(value, charset)}\n" for value in header.values(head, name)]
    return "".join(lines)


def all_headers(message: bytes) -> str:
    """Every field, decoded and unfolded, one per line. Lines that are no field are left out."""
    return "".join([f"{name}: {value}\n" for name, value in _fields(message, mime.parse(message))])


def _fields(message: bytes, parts: list[mime.Part]) -> Iterator[tuple[str, str]]:
    head, charset = mime.head_of(message), _charset(parts)
    for _, start, value, end in header.fields(head):
        name = head[start:value].decode("ascii").rstrip(" \t:")
        yield name, words.decode(header.unfold(head[value:end]), charset)


def rendered(message: bytes) -> str:
    """The main header fields, the text, and a list of everything else."""
    parts = mime.parse(message)
    pieces = [_main_fields(mime.head_of(message), _charset(parts)), "\n", _body(parts)]
    files = [f"[{part.number}] {_described(part)}\n" for part in mime.attachments(parts)]
    files += [f"[{part.number}] {_described(part)}, another form\n" for part in mime.alternatives(parts)]
    if files:
        pieces += ["\n", *files]
    return "".join(pieces)


def _described(part: mime.Part) -> str:
    name = f"{part.filename}, " if part.filename else ""
    return f"{name}{part.type}, {part.end - part.body} octets"


def html_of(message: bytes) -> bytes | None:
    """The HTML parts of *message* as UTF-8; None if it has none."""
    found = [part for part in mime.parse(message) if part.type == "text/html"]
    return "\n".join(part.text() for part in found).encode() if found else None


def part_content(message: bytes, number: str) -> bytes:
    """The content of part *number* ("1.2"), transfer encoding decoded. Raises BadDataError if missing."""
    parts = mime.parse(message)
    for part in parts:
        if part.number == number and not part.is_multipart:
            return part.content()
    known = [part.number for part in parts if part.number and not part.is_multipart][:20]
    raise BadDataError(
        f"there is no part {number}; there are {', '.join(known)}" if known else f"no part {number}"
    )


def as_json(message: bytes) -> dict[str, Any]:
    """The headers, text and attachments of *message* (LF) as one JSON object."""
    parts = mime.parse(message)
    return {
        "headers": [list(pair) for pair in _fields(message, parts)],
        "text": _body(parts),
        "attachments": [_listed(part) for part in mime.attachments(parts)],
        "alternatives": [_listed(part) for part in mime.alternatives(parts)],
    }


def _listed(part: mime.Part) -> dict[str, Any]:
    return {
        "part": part.number,
        "type": part.type,
        "filename": part.filename or None,
        "size": part.end - part.body,
    }
