"""BODY and BODYSTRUCTURE: the parts of a message as IMAP tells them.

Owns RFC 9051 §7.5.2 (BODYSTRUCTURE, with its extension data, and BODY, without). `mime.parse` finds the
parts, `tree` says which of them IMAP counts. Values are the octets of the header, unfolded: encoded words and
parameters of RFC 2231 are left to the client. Types, and the names of parameters, are in lower case.

Invariants: any octets give one well-formed structure, consistent with `sections`; sizes are those of the
octets given, so a message must be in its wire form; time is linear; a stack stands in for recursion. The
limits are those of `mime` (depth, number of parts) and `parameters` (length of one field).

Speed: structure and envelope of a message of 8 KiB in five parts take as long as `email.message_from_bytes`
takes for it, 3,700 messages a second; half of that is `mime.parse`.

message/global (RFC 6532) is told like any other type, as IMAP4rev1 has it.
"""

from mailtools.core.imap import tree
from mailtools.core.imap.envelope import envelope
from mailtools.core.imap.strings import nstring, string
from mailtools.core.message import parameters
from mailtools.core.message.header import Picker
from mailtools.core.message.mime import Part, parse

_MOST_LANGUAGES = 100  # told of one part
_FIELDS = Picker(
    "Content-Type",
    "Content-ID",
    "Content-Description",
    "Content-Transfer-Encoding",
    "Content-MD5",
    "Content-Disposition",
    "Content-Language",
    "Content-Location",
)
_BOM = b"\xef\xbb\xbf"
_ASCII = (b"charset", b"us-ascii")  # RFC 2046 §4.1.2: the charset of a text that names none


def bodystructure(message: bytes, parts: list[Part] | None = None) -> bytes:
    """Return the BODYSTRUCTURE of *message* (CRLF). *parts*: what `mime.parse` found in it, if known."""
    return _structure((parts or parse(message))[0], True)


def body(message: bytes, parts: list[Part] | None = None) -> bytes:
    """Return the BODY of *message*: `bodystructure` without extension data."""
    return _structure((parts or parse(message))[0], False)


def _structure(root: Part, extended: bool) -> bytes:
    pieces: list[bytes] = []
    todo: list[Part | bytes] = [root]  # a stack: parts to tell, and octets that stand behind them
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            pieces.append(item)
            continue
        before, behind = _told(item, extended)
        pieces.append(before)
        todo.append(behind)
        todo += reversed(tree.children(item))
    return b"".join(pieces)


def _told(part: Part, extended: bool) -> tuple[bytes, bytes]:
    """Return what stands before and behind the children of a part."""
    octets = part.octets
    head = b"\n" + octets[part.start : part.body].removeprefix(_BOM)
    values, _ = _FIELDS.pick(head, 0, len(head))
    kind, ident, description, encoding, md5, disposition, language, location = values
    major, _, minor = part.type.encode("utf-8", "replace").partition(b"/")
    named = parameters.written(kind)[1] if kind else []
    if major == b"text" and not any(name.startswith(b"charset") for name, _ in named):
        named.append(_ASCII)
    extension = b""
    if extended:
        extension = b" %b %b %b" % (_disposition(disposition), _languages(language), nstring(location))
    if tree.is_multipart(part):
        told = _parameters(named) if extended else b""
        return b"(", b" %b%b%b)" % (string(minor), b" " * extended + told, extension)
    size = part.end - part.body
    begun = b"(%b %b %b %b %b %b %d" % (
        *(string(major), string(minor), _parameters(named)),
        *(nstring(ident), nstring(description), _encoding(part, encoding), size),
    )
    if extended:
        extension = b" " + nstring(md5) + extension
    if tree.is_message(part):
        child = tree.children(part)[0]
        told = envelope(octets[child.start : child.body])
        return b"%b %b " % (begun, told), b" %d%b)" % (_lines(part), extension)
    if major == b"text":
        return b"%b %d" % (begun, _lines(part)), extension + b")"
    return begun, extension + b")"


def _lines(part: Part) -> int:
    return part.octets.count(b"\n", part.body, part.end)


def _encoding(part: Part, value: bytes | None) -> bytes:
    """Return the Content-Transfer-Encoding: a string, never NIL. RFC 2045 §6.1: without one, 7bit."""
    return string((value and part.encoding.encode("utf-8", "replace")) or b"7bit")


def _parameters(named: list[tuple[bytes, bytes]]) -> bytes:
    told = b" ".join(b"%b %b" % (string(name), string(value)) for name, value in named)
    return b"(%b)" % told if told else b"NIL"


def _disposition(value: bytes | None) -> bytes:
    if not value:
        return b"NIL"
    kind, named = parameters.written(value)
    return b"(%b %b)" % (string(parameters.token(kind).encode("utf-8", "replace")), _parameters(named))


def _languages(value: bytes | None) -> bytes:
    """Return the list of language tags (RFC 3282), or NIL."""
    tags = [tag.strip() for tag in parameters.uncommented(value or b"").split(b",", _MOST_LANGUAGES)]
    told = b" ".join(string(tag) for tag in tags[:_MOST_LANGUAGES] if tag)
    return b"(%b)" % told if told else b"NIL"
