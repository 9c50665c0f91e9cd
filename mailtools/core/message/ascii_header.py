"""A header in ASCII, for servers without SMTPUTF8: its text as encoded words (RFC 2047).

Fields that are ASCII stay octet for octet. Addresses beyond ASCII cannot be encoded (RFC 6531 §3.2).
"""

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, encode, header, words

_ADDRESSES = {
    b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"resent-from", b"resent-sender", b"resent-to",
    b"resent-cc", b"resent-bcc", b"resent-reply-to",
}  # fmt: skip
_STATUS = "5.6.7"  # RFC 6531 §3.4: non-ASCII addresses are not permitted


def encoded(fields: bytes) -> bytes:
    """Return the header *fields* (LF) in ASCII. Raises BadDataError if that is not possible."""
    pieces: list[bytes] = []
    at = 0
    for name, start, value, end in header.fields(fields):
        pieces.append(fields[at:start])
        field = fields[start:end]
        pieces.append(field if field.isascii() else _field(name, fields[start:value], fields[value:end]))
        at = end
    pieces.append(fields[at:])
    found = b"".join(pieces)
    if not found.isascii():
        raise BadDataError("the header has a line beyond ASCII that is no field").coded(_STATUS)
    return found


def _field(name: bytes, spelled: bytes, value: bytes) -> bytes:
    label = spelled.rstrip(b" \t:").decode("ascii")
    unfolded = header.unfold(value).strip()
    try:
        if name in _ADDRESSES:
            return _address_field(label, unfolded)
        if name.startswith(b"content-"):
            raise BadDataError(f"{label}: has a parameter beyond ASCII")
        return encode.text_field(label, words.decode(unfolded))
    except BadDataError as error:
        raise BadDataError(f"{error}; and the server offers no SMTPUTF8").coded(_STATUS) from None


def _address_field(label: str, value: bytes) -> bytes:
    found = [one for one in address.addresses(value) if one.spec]
    odd = next((one.spec for one in found if not one.spec.isascii()), "")
    if odd or address.faults(value) or not found:
        raise BadDataError(f"{label}: {odd or 'the list'!r} is not ASCII")
    return encode.address_field(label, found)
