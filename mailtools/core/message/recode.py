"""A message made fit for a server that takes 7 bits only: its 8-bit parts re-encoded, all else as it was.

Owns RFC 6152 §3 (what a client may do where 8BITMIME is not offered), RFC 2045 §6 (which encoding may stand
where) and RFC 1428 §3 (a text that does not tell its charset). The part tree is `mime`'s, the writers of the
encodings are `encode`'s. It knows no server.

Invariants: a result is 7-bit; each leaf holds the octets that it held; no octet changes outside the contents
that are re-encoded, the fields Content-Transfer-Encoding around them, the Content-Type of a text that had
none, and what their message lacked to be one of MIME; no line of a content that was re-encoded is longer than
76 octets. No content makes a delimiter of a multipart that was none. Time and memory are linear. Line ends
are LF.

What cannot be, raises BadDataError (5.6.3): a header that is not ASCII (that is SMTPUTF8's affair), 8-bit
octets under a signature, in a multipart or message that may have no encoding, or where no part is. A
DKIM-Signature at the head is such a signature whoever made it: re-encoding breaks it (RFC 6376 §5.3), and a
message that looks forged to those behind is worse than a refusal, which tells the sender what to change.

A line over 998 octets is re-encoded where a content may be; elsewhere it stays: it breaks a rule that few
servers hold to, where a change would break something for certain.
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

_Edit = tuple[int, int, bytes]  # a range of the message, and what stands there instead


def to_7bit(message: bytes) -> bytes:
    """*message* (LF) as a 7-bit server can carry it. Raises BadDataError with a status.

    The same octets where there is nothing to do. Text in base64 keeps LF as its line end.
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
    sealed = 0  # up to this offset a signature counts
    roots = _roots(parts)
    holders: list[Part] = []  # what holds the part looked at, from the message inwards
    touched: set[int] = set()  # those of them whose header was seen to
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
    """Where messages begin: the whole, and those within it."""
    inner = {id(child) for part in parts if part.type == "message/rfc822" for child in part.children}
    return {id(parts[0])} | inner


def _check(message: bytes, parts: list[Part]) -> None:
    """Raises BadDataError where 8-bit octets stand that must not be touched."""
    for part in parts:
        if not message[part.start : part.body].isascii():
            what = "the message" if part.start == 0 else "a part"
            text = (
                f"the header of {what} is not ASCII; encode its words, or send it where SMTPUTF8 is offered"
            )
            raise BadDataError(text).coded("5.6.3")
    if len(parts) >= mime.MAX_PARTS:
        raise _refusal(f"has {mime.MAX_PARTS} parts or more, too many to be re-encoded")
    sealed = 0
    for part in parts:
        if part.start >= sealed and _is_sealed(part):
            sealed = part.end
            if not message[part.start : part.end].isascii():
                how = "encrypted" if part.type == "multipart/encrypted" else "signed"
                raise _refusal(f"holds 8-bit octets that are {how} ({part.type}), cannot be re-encoded")


# -- what comes instead -------------------------------------------------------------------------------------


def _encoded(message: bytes, part: Part) -> encode.Content:
    """The content of a leaf, encoded anew where it already was."""
    content = encode.encoded_content(part.content())
    if content.encoding == "base64" and message.endswith(b"\n", part.body, part.end):
        return content._replace(octets=content.octets + b"\n")
    return content


def _header_edits(part: Part, encoding: str, is_root: bool) -> Iterator[_Edit]:
    """The header's fields for a content in *encoding*; "": it holds parts, and an encoding said is 7bit."""
    start, body = part.start, part.body
    head = part.octets[start:body]
    if not head and not encoding:  # nothing before the message within: what it gets must not be taken for it
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
    elif added or encoding:  # no empty line ends it: it did where a line begins as delimiters do
        yield body, body, (b"" if not head or head.endswith(b"\n") else b"\n") + added + b"\n"


def _content_type(content: bytes) -> bytes:
    """A text without Content-Type: what its charset is, or that nobody knows (RFC 1428 §3)."""
    if content.isascii():
        return b""
    try:
        content.decode()
    except UnicodeDecodeError:
        return b"Content-Type: text/plain; charset=unknown-8bit\n"
    return b"Content-Type: text/plain; charset=utf-8\n"
