"""Renders a message for a reader: headers, text, list of attachments; as text or as JSON.

Combines `core.message.mime` with `html` and `words`. It does not write to a terminal and does not escape
control characters.
"""

from typing import Any

from mailtools.core.errors import BadDataError
from mailtools.core.message import header, mime, words
from mailtools.core.message.html import to_text

_MAIN = ("Date", "From", "To", "Cc", "Subject")


def text_of(message: bytes) -> str:
    """The readable text parts of *message* (LF), joined."""
    return "\n".join([part_text(part) for part in mime.readable(mime.parse(message))])


def part_text(part: mime.Part) -> str:
    """One text part as text; HTML converted for a terminal."""
    return to_text(part.text()) if part.type == "text/html" else part.text()


def main_headers(message: bytes) -> str:
    """Date, From, To, Cc and Subject, decoded, one per line."""
    head = message[: header.body_offset(message)]
    lines = []
    for name in _MAIN:
        lines += [f"{name}: {words.decode(value)}" for value in header.values(head, name)]
    return "".join(f"{line}\n" for line in lines)


def all_headers(message: bytes) -> str:
    """Every field, decoded and unfolded, one per line. Lines that are no field are left out."""
    head = message[: header.body_offset(message)]
    lines = []
    for _, start, value, end in header.fields(head):
        name = head[start:value].decode("ascii").rstrip(" \t:")
        lines.append(f"{name}: {words.decode(header.unfold(head[value:end]))}\n")
    return "".join(lines)


def rendered(message: bytes) -> str:
    """The main header fields, the text, and a list of the attachments."""
    parts = mime.parse(message)
    pieces = [main_headers(message), "\n"]
    pieces += [
        "".join((text, "" if text.endswith("\n") else "\n")) for text in map(part_text, mime.readable(parts))
    ]
    files = mime.attachments(parts)
    if files:
        pieces.append("\n")
        pieces += [f"[{part.number}] {_described(part)}\n" for part in files]
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
    head = message[: header.body_offset(message)]
    parts = mime.parse(message)
    return {
        "headers": [
            [head[start:value].decode("ascii").rstrip(" \t:"), words.decode(header.unfold(head[value:end]))]
            for _, start, value, end in header.fields(head)
        ],
        "text": "\n".join(map(part_text, mime.readable(parts))),
        "attachments": [
            {
                "part": part.number,
                "type": part.type,
                "filename": part.filename or None,
                "size": part.end - part.body,
            }
            for part in mime.attachments(parts)
        ],
    }
