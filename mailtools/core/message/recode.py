"""Re-encodes the 8-bit parts of a message for a server that takes 7 bits only; all else stays unchanged.

Owns RFC 6152 §3 (what a client may do if 8BITMIME is not offered), RFC 2045 §6 (which encoding is allowed
where) and RFC 1428 §3 (a text without a charset). `mime` finds the parts, `encode` writes the encodings. This
module knows no server.

Invariants: the result is 7-bit; each leaf decodes to the same octets as before; only these octets change: the
re-encoded contents, the Content-Transfer-Encoding fields of their parts, the Content-Type of a text that had
none, and the MIME-Version of a message that had none. No line of a re-encoded content is longer than 76
octets, and none becomes a multipart delimiter. Time and memory are linear. Line ends are LF.

BadDataError (5.6.3) is raised for a message that cannot be re-encoded: its header is not ASCII (it needs
SMTPUTF8), or 8-bit octets stand under a signature, in a multipart or message that must not be encoded, or
outside of all parts. A DKIM-Signature in the header counts as a signature whatever domain made it:
re-encoding breaks it (RFC 6376 §5.3). A message that looks forged to later servers is worse than a refusal,
which tells the sender what to change.

A line over 998 octets is re-encoded if its content may be; otherwise it stays. A long line breaks a rule that
few servers enforce; changing it would certainly break something.
"""

from collections.abc import Iterator

from mailtools.core.errors import BadDataError
from mailtools.core.message import encode, header, mime
from mailtools.core.message.mime import Part
from mailtools.core.wire import eol

_CTE = "Content-Transfer-Encoding"
_SEALED = ("multipart/signed", "multipart/encrypted")
_OPAQUE = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_COMPOSITE = ("message/rfc822", "message/partial", "message/external-body")  # RFC 2045 §6.4: never encoded

_Edit = tuple[int, int, bytes]  # start and end offset of a range, and the octets that replace it


def to_7bit(message: bytes) -> bytes:
    """Re-encode *message* (LF) for a 7-bit server. Raises BadDataError with the enhanced status code 5.6.3.

    Returns the same octets if nothing needs to change. Text in base64 keeps LF as its line end.
    """
    is_ascii = message.isascii()
    if is_ascii and not _has_long_line(message):
        return message
    parts = mime.parse(message)
    is_dkim_signed = header.value(message[: parts[0].body], "DKIM-Signature") is not None
    if is_ascii and is_dkim_signed:
        return message
    if not is_ascii:
        _check(message, parts)
        if is_dkim_signed:
            raise _refusal("is 8-bit and signed (DKIM-Signature), cannot be re-encoded")
    sealed = 0  # octets before this offset are signed or encrypted
    roots = _roots(parts)
    holders: list[Part] = []  # the ancestors of the current part, outermost first
    touched: set[int] = set()  # ids of ancestors whose header is already edited
    edits: list[_Edit] = []
    for part in parts:
        while holders and part.start >= holders[-1].end:
            holders.pop()
        if _is_sealed(part):
            sealed = max(sealed, part.end)
        if part.children:
            holders.append(part)
        elif part.start >= sealed and _needs_encoding(message, part):
            for holder in holders:
                if id(holder) not in touched:
                    touched.add(id(holder))
                    edits += _header_edits(holder, "", id(holder) in roots)
            encoding, octets = _encoded(message, part)
            edits += _header_edits(part, encoding, id(part) in roots)
            edits.append((part.body, part.end, octets))
    return _result(message, edits)


def _result(message: bytes, edits: list[_Edit]) -> bytes:
    pieces = []
    at = 0
    for start, end, octets in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [message[at:start], octets]
        at = end
    result = b"".join([*pieces, message[at:]])
    if not result.isascii():
        raise _refusal("has 8-bit text before, between or behind its parts, where none can be encoded")
    return result


def _refusal(what: str) -> BadDataError:
    return BadDataError(
        f"the message {what}; send it by a server that offers 8BITMIME, or write it in 7 bits"
    ).coded("5.6.3")


# -- what there is ---------------------------------------------------------------------------------------


def _has_long_line(octets: bytes) -> bool:
    return eol.has_line_over(octets + b"\n", encode.MAX_LINE + 1)


def _needs_encoding(message: bytes, part: Part) -> bool:
    content = message[part.body : part.end]
    if content.isascii():
        return not _is_composite(part) and _has_long_line(content)
    if _is_composite(part):
        raise _refusal(f"holds 8-bit octets in a {part.type} that cannot be opened, nor re-encoded")
    if part.encoding.startswith("x-"):
        raise _refusal("holds 8-bit octets in an encoding of its own, cannot be re-encoded")
    return True


def _is_composite(part: Part) -> bool:
    return part.type.startswith("multipart/") or part.type in _COMPOSITE


def _is_sealed(part: Part) -> bool:
    if part.type in _OPAQUE:
        return part.params.get("smime-type", "").lower() == "signed-data"
    return part.type in _SEALED


def _roots(parts: list[Part]) -> set[int]:
    """The ids of the parts that begin a message: the whole message, and each message/rfc822 content."""
    inner = {id(child) for part in parts if part.type == "message/rfc822" for child in part.children}
    return {id(parts[0])} | inner


def _is_open(head: bytes) -> bool:
    return not head.endswith(b"\n\n") and head not in (b"", b"\n")


def _check(message: bytes, parts: list[Part]) -> None:
    """Raise BadDataError if octets that must not be changed are 8-bit."""
    for part in parts:
        if not message[part.start : part.body].isascii():
            what = "the message" if part.start == 0 else "a part"
            text = (
                f"the header of {what} is not ASCII; encode its words, or send it where SMTPUTF8 is offered"
            )
            raise BadDataError(text).coded("5.6.3")
    # A header that only a reader sees the end of would take in the fields of the parts within.
    if any(part.children and _is_open(message[part.start : part.body]) for part in parts):
        raise _refusal("has a header without an end, cannot be re-encoded")
    if len(parts) >= mime.MAX_PARTS:
        raise _refusal(f"has {mime.MAX_PARTS} parts or more, too many to be re-encoded")
    sealed = 0
    for part in parts:
        if part.start >= sealed and _is_sealed(part):
            sealed = part.end
            if not message[part.start : part.end].isascii():
                how = "encrypted" if part.type == "multipart/encrypted" else "signed"
                raise _refusal(f"holds 8-bit octets that are {how} ({part.type}), cannot be re-encoded")


# -- replacements -------------------------------------------------------------------------------------------


def _encoded(message: bytes, part: Part) -> encode.Content:
    """The content of a leaf, decoded and encoded again."""
    content = encode.encoded_content(part.content())
    if content.encoding == "base64" and message.endswith(b"\n", part.body, part.end):
        return content._replace(octets=content.octets + b"\n")
    return content


def _header_edits(part: Part, encoding: str, is_root: bool) -> Iterator[_Edit]:
    """The edits of *part*'s header for a content in *encoding*; "" for a part that holds parts (7bit)."""
    start, body = part.start, part.body
    head = part.octets[start:body]
    if not head and not encoding:  # no header: an empty line keeps the inner message's new fields out of it
        yield start, start, b"\n"
        return
    names = set()
    added = b""
    said = False
    for name, at, _, end in header.fields(head):
        names.add(name)
        if name == _CTE.lower().encode():
            field = b"" if said else f"{_CTE}: {encoding or '7bit'}\n".encode()
            said = True
            if encoding or part.encoding not in ("", "7bit"):
                yield start + at, start + end, field
    if is_root and b"mime-version" not in names:
        added += b"MIME-Version: 1.0\n"
    if encoding and b"content-type" not in names:
        added += _content_type(part.octets[body : part.end])
    if encoding and not said:
        added += f"{_CTE}: {encoding}\n".encode()
    last = head.rfind(b"\n", 0, -1) + 1
    if head[last:] in (b"\n", b"\r\n"):
        yield start + last, start + last, added
    elif added or encoding:  # no empty line: a line that begins like a delimiter ended the header
        yield body, body, (b"" if not head or head.endswith(b"\n") else b"\n") + added + b"\n"


def _content_type(content: bytes) -> bytes:
    """The Content-Type for an 8-bit text that has none: UTF-8 or unknown-8bit (RFC 1428 §3)."""
    if content.isascii():
        return b""
    try:
        content.decode()
    except UnicodeDecodeError:
        return b"Content-Type: text/plain; charset=unknown-8bit\n"
    return b"Content-Type: text/plain; charset=utf-8\n"
