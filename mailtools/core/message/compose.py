"""Composes the octets of a message from a draft.

Owns the writing of RFC 5322 §3.6 (fields), RFC 2045 §4 (MIME-Version), RFC 2046 §5.1 (multipart/mixed and
multipart/alternative) and RFC 2183 (attachments). `encode` encodes the fields and contents. This module knows
no clock, no files and no randomness: date, message id and boundary are arguments. It sends nothing: Bcc is
written as a field; the code that sends the message reads its recipients and removes it.

Structure: text alone is text/plain; text and HTML are a multipart/alternative; attachments follow in a
multipart/mixed. An attached message is a message/rfc822, unchanged.

Invariants: the octets have LF line ends and end with one; every field keeps the promises of `encode`; no
content can end the part that holds it, because the boundary occurs in none of the parts.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, encode
from mailtools.core.message.address import Address

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")
_LINE_ENDS = re.compile(r"\r\n?")

# Fields that a draft has members for, or that describe the encoding: not allowed in `Draft.headers`.
OWN_FIELDS = frozenset({"from", "to", "cc", "bcc", "reply-to", "subject", "mime-version"})
_ADDRESS_FIELDS = frozenset({
    "sender", "resent-from", "resent-to", "resent-cc", "resent-sender", "disposition-notification-to",
    "return-receipt-to", "errors-to", "mail-followup-to", "mail-reply-to",
})  # fmt: skip
_ID_FIELDS = frozenset({"message-id", "in-reply-to", "references"})
_ONCE = frozenset({"date", "sender", *_ID_FIELDS})  # RFC 5322 §3.6


class Attachment(NamedTuple):
    """A file, or a message (type message/rfc822), that goes with a draft."""

    name: str  # the file name shown to the reader
    type: str  # "image/png"
    octets: bytes
    charset: str = ""  # of text
    source: str = ""  # path of the file it was read from, for code that saves the draft


class Draft(NamedTuple):
    """A message before it is encoded: addresses, subject, text, HTML and attachments as Unicode text."""

    from_: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # other fields, in order; Date and Message-ID replace ours
    text: str = ""
    html: str = ""
    attachments: tuple[Attachment, ...] = ()

    @property
    def has_recipients(self) -> bool:
        """Whether To, Cc or Bcc names anybody."""
        return bool(self.to or self.cc or self.bcc)

    def plus(self, place: str, people: Sequence[Address]) -> "Draft":
        """A copy with *people* added to the field *place* ("to", "cc" ...), duplicates removed."""
        changed: dict[str, Any] = {place: tuple(dict.fromkeys((*getattr(self, place), *people)))}
        return self._replace(**changed)


def mailboxes(what: str, text: str) -> tuple[Address, ...]:
    """Parse the mailboxes that a person typed, for use in `Draft`.

    *what* names the field or option in errors. Raises BadDataError for an entry that is no address.
    """
    found = address.addresses(encode.plain(what, text))
    for entry in found:
        if not encode.is_spec(entry.spec):
            wrong = entry.spec or entry.name or text
            raise BadDataError(f"{what}: not an address: {wrong[:200]!r}; write local@domain")
        encode.plain(what, entry.name)
    if not found and text.strip(" \t,;"):
        raise BadDataError(f"{what}: no address in {text[:200]!r}; write local@domain")
    return tuple(found)


def check_header(name: str, value: str) -> None:
    """Check one field of `Draft.headers`. Raises BadDataError if it is not allowed or cannot be encoded."""
    lower = encode.field_name(name).lower()
    if lower in OWN_FIELDS or lower.startswith("content-"):
        raise BadDataError(f"{name}: this field is made from the draft; leave it out")
    _field(name, value)


def compose(draft: Draft, date: str, message_id: str, boundary: str) -> bytes:
    """Compose the message that *draft* describes; LF line ends.

    *boundary*: letters and digits that cannot be guessed. Raises BadDataError if a field cannot be written.
    """
    fields = [_checked_date(draft, date)]
    if len(draft.from_) != 1:
        raise BadDataError("From: a message has one writer; write one address")
    for name, people in (("From", draft.from_), ("To", draft.to), ("Cc", draft.cc), ("Bcc", draft.bcc)):
        if people:
            fields.append(encode.address_field(name, people))
    if draft.reply_to:
        fields.append(encode.address_field("Reply-To", draft.reply_to))
    if draft.subject:
        fields.append(encode.text_field("Subject", draft.subject))
    names = [name.lower() for name, _ in draft.headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise BadDataError(f"{name}: stands twice, and a message has it once; leave one out")
    if "message-id" not in names:
        fields.append(encode.id_field("Message-ID", message_id))
    for name, value in draft.headers:
        check_header(name, value)
        if name.lower() != "date" and value.strip(" \t"):
            fields.append(_field(name, value))
    return b"".join([*fields, b"MIME-Version: 1.0\n", _content(draft, boundary)])


def _checked_date(draft: Draft, date: str) -> bytes:
    return encode.text_field("Date", next((v for n, v in draft.headers if n.lower() == "date"), date))


def _field(name: str, value: str) -> bytes:
    lower = name.lower()
    if lower in _ID_FIELDS:
        return encode.id_field(name, value)
    if lower in _ADDRESS_FIELDS:
        return encode.address_field(name, mailboxes(name, value))
    return encode.text_field(name, value)


# -- parts: a header of Content fields, an empty line, a content ---------------------------------------------


def _content(draft: Draft, boundary: str) -> bytes:
    body = _text_part("text/plain", draft.text)
    if draft.html:
        body = _multipart("alternative", [body, _text_part("text/html", draft.html)], f"{boundary}-2")
    if draft.attachments:
        body = _multipart("mixed", [body, *map(_attached, draft.attachments)], f"{boundary}-1")
    return body if body.endswith(b"\n") else body + b"\n"


def _text_part(kind: str, text: str) -> bytes:
    text = _LINE_ENDS.sub("\n", text)
    octets = text.encode("utf-8", "replace")
    if octets and not octets.endswith(b"\n"):
        octets += b"\n"
    charset = "us-ascii" if octets.isascii() else "utf-8"
    return _part(
        encode.parametrised("Content-Type", kind, [("charset", charset)]), b"", encode.text_content(octets)
    )


def _part(kind: bytes, disposition: bytes, content: encode.Content) -> bytes:
    encoding = f"Content-Transfer-Encoding: {content.encoding}\n".encode()
    return b"".join((kind, disposition, encoding, b"\n", content.octets))


def _attached(attachment: Attachment) -> bytes:
    kind = attachment.type.lower()
    if not _TYPE.fullmatch(kind) or kind.startswith("multipart/"):
        raise BadDataError(f"{attachment.name}: not the type of a file: {kind[:80]!r}; write it as image/png")
    if kind.startswith("message/"):
        content = encode.message_content(attachment.octets)
        if content is None:
            kind, content = "application/octet-stream", encode.binary_content(attachment.octets)
    elif kind.startswith("text/"):
        content = encode.text_content(attachment.octets)
    else:
        content = encode.binary_content(attachment.octets)
    charset = [("charset", attachment.charset)] if attachment.charset and kind.startswith("text/") else []
    name = [("filename", attachment.name)] if attachment.name else []
    return _part(
        encode.parametrised("Content-Type", kind, charset),
        encode.parametrised("Content-Disposition", "attachment", name),
        content,
    )


def _multipart(kind: str, parts: Sequence[bytes], boundary: str) -> bytes:
    # "=_" occurs in no base64 and no quoted-printable (RFC 2045 §6.7). Other parts are searched for it.
    boundary = f"=_{boundary}"
    while any(boundary.encode() in part for part in parts):
        boundary += "x"
    line = f"--{boundary}".encode()
    head = encode.parametrised("Content-Type", f"multipart/{kind}", [("boundary", boundary)])
    pieces = [piece for part in parts for piece in (b"\n", line, b"\n", part)]
    return b"".join((head, *pieces, b"\n", line, b"--\n"))
