"""Decodes header text: RFC 2047 encoded words, raw 8-bit octets; base64 as mail has it.

Owns RFC 2047 §2 (syntax), §4 (B and Q) and §6.2 (white space between neighbours), and the text of headers
that hold octets over 127. It does not know which field a value came from: an address list must be split
*before* its names are decoded, or an encoded comma would make a recipient.

Invariants: nothing raises on any octets; time is linear; a text is one line, without control characters and
without a lone surrogate: an encoded line end cannot pass for a field or a From line.

Adjacent words of one charset are joined as octets before they are decoded: many programs cut a character in
two.
"""

from binascii import Error, a2b_base64

from mailtools.core.message import charsets
from mailtools.core.message.charsets import decode_raw
from mailtools.core.patterns import lazy
from mailtools.core.wire.visible import visible

# No possessive group here: that of Python before 3.11.5 fails behind a lookahead or a part that backtracks.
# =?charset[*language]?encoding?text?= (RFC 2047 §2, RFC 2231 §5). A space or "?" in it is wrong but common.
_WORD = lazy(rb"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,60})?\?([BbQq])\?((?:[^?=]++|\?(?!=)|=(?!\?(?!=)))*)\?=")
_HEX = lazy(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = lazy(rb"[^A-Za-z0-9+/=]+")
_BASE64 = lazy(rb"[A-Za-z0-9+/]*+")
_PADDING = lazy(rb"=+")


def decode(value: bytes, charset: str = "") -> str:
    """Return the text of an unfolded field value as one line, its encoded words decoded (RFC 2047 §6.2).

    *charset*: of raw 8-bit octets that are not UTF-8.
    """
    if b"=?" in value:
        text = "".join(_decoded(value, charset))
    else:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = decode_raw(value, charset)
    return text if text.isprintable() else one_line(text)


def one_line(text: str) -> str:
    """Return *text* with control characters made visible, and tabs as spaces."""
    return visible(text.replace("\t", " "))


def _decoded(value: bytes, raw: str) -> list[str]:
    """Return the pieces of *value*, decoded."""
    parts: list[str] = []
    run: list[bytes] = []  # the octets of neighbouring words of one charset
    charset = b""
    at = 0
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        alone = bool(between.strip()) or at == 0
        if run and (alone or match[1].lower() != charset):
            parts.append(charsets.decode(b"".join(run), charset.decode("latin-1")))
            run = []
        if alone and between:
            parts.append(decode_raw(between, raw))
        charset = match[1].lower()
        run.append(_octets(match[2], match[3]))
        at = match.end()
    if run:
        parts.append(charsets.decode(b"".join(run), charset.decode("latin-1")))
    parts.append(decode_raw(value[at:], raw))
    return parts


def _octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"Qq":
        return unhex(text.replace(b"_", b" "))
    return base64(text)


def unhex(text: bytes) -> bytes:
    """Decode ``=XX``, as used by Q and quoted-printable; any other ``=`` stays."""
    if b"=" not in text:
        return text
    return _HEX.sub(lambda match: _OCTET[match[1]], text)


_OCTET = {
    (high + low).encode(): bytes([int(high + low, 16)])
    for high in "0123456789ABCDEFabcdef"
    for low in "0123456789ABCDEFabcdef"
}


def base64(text: bytes) -> bytes:
    """Decode base64 as far as possible: other octets are dropped, missing padding is added.

    What follows padding is decoded too, if it is base64: encoders join texts. Else it is returned as it is: a
    mailing list has added a line that nobody encoded.
    """
    end = text.find(b"=")
    rest = text[end:].lstrip(b"=") if end >= 0 else b""
    if not rest.strip():
        try:
            return a2b_base64(text)
        except Error:
            return _padded(text)
    found, at = [_padded(text[:end])], len(text) - len(rest)
    while at < len(text):  # `rest` is not cut again and again: that would take quadratic time
        end = text.find(b"=", at)
        is_last = end < 0
        piece = text[at:] if is_last else text[at:end]
        if not _is_base64(piece, is_last):
            found.append(text[at:])
            break
        found.append(_padded(piece))
        if is_last:
            break
        padding = _PADDING.match(text, end)
        at = padding.end() if padding else len(text)
    return b"".join(found)


def _is_base64(piece: bytes, is_last: bool) -> bool:
    """Tell whether what stands before padding, or at the end, is base64 and no words."""
    packed = b"".join(piece.split())
    if b" " in piece.strip() or (is_last and len(packed) % 4):
        return False
    return _BASE64.fullmatch(packed) is not None


def _padded(text: bytes) -> bytes:
    """Decode a text of base64 without padding."""
    text = _NOT_BASE64.sub(b"", text).rstrip(b"=")
    whole = text[: len(text) - (len(text) % 4 == 1)]
    return a2b_base64(whole + b"=" * (-len(whole) % 4))
