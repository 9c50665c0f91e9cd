"""ENVELOPE: the fields of a header as IMAP tells them.

Owns RFC 9051 §7.5.2 (ENVELOPE) and §2.3.5. Values are unfolded octets, never decoded; `message.address`
splits the lists, `strings` writes the values. Knows no part of a message but its header.

Invariants: any octets give one well-formed envelope; time is linear in the header. Of each address field at
most `MOST_ADDRESSES` members and `_MOST_OCTETS` octets are told. If a field occurs twice, the first counts.

Lists that break the grammar are told as Dovecot tells them: a host that is missing is MISSING_DOMAIN, because
NIL would mean a group; a local part that is missing is MISSING_MAILBOX.
"""

import re
from functools import lru_cache

from mailtools.core.imap.strings import nstring, string
from mailtools.core.message import address
from mailtools.core.message.header import Picker

MOST_ADDRESSES = 10_000
_MOST_OCTETS = 1 << 19
_SHORT = 200  # octets of a field

_FIELDS = Picker(
    "Date", "Subject", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "In-Reply-To", "Message-ID"
)
_BOM = b"\xef\xbb\xbf"
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_END = b"(NIL NIL NIL NIL)"


def envelope(header: bytes) -> bytes:
    """Return the ENVELOPE of the message with *header*: ``("date" "subject" ((...)) ...)``."""
    found, _ = _FIELDS.pick(b"\n" + header.removeprefix(_BOM), 0, len(header) + 1)
    date, subject, author, sender, reply_to, to, cc, bcc, in_reply_to, message_id = found
    authors = _list(author)
    senders, replies = _list(sender), _list(reply_to)
    return b"(%b)" % b" ".join(
        (
            nstring(date),
            nstring(subject),
            authors,
            # RFC 9051 §7.5.2: absent or empty, both are the same as from.
            authors if senders == b"NIL" else senders,
            authors if replies == b"NIL" else replies,
            _list(to),
            _list(cc),
            _list(bcc),
            nstring(in_reply_to),
            nstring(message_id),
        )
    )


def _list(value: bytes | None) -> bytes:
    """Return the address structures of a field, or NIL if there is none."""
    if not value:
        return b"NIL"
    # The same few addresses stand in many messages: remembered, an envelope takes half the time.
    return _remembered(value) if len(value) < _SHORT else _addresses(value)


def _addresses(value: bytes) -> bytes:
    if len(value) > _MOST_OCTETS:  # the address that is cut there is left out
        value = value[: value.rfind(b",", 0, _MOST_OCTETS) + 1 or _MOST_OCTETS]
    members = address.members(value, MOST_ADDRESSES)
    return b"(%b)" % b"".join(map(_structure, members)) if members else b"NIL"


_remembered = lru_cache(1000)(_addresses)


def _structure(member: address.Member) -> bytes:
    """Return ``(name adl mailbox host)``; RFC 9051 §7.5.2: a NIL host is the start or end of a group."""
    if member.kind == address.END:
        return _END
    if member.kind == address.GROUP:
        return b"(NIL NIL %b NIL)" % string(member.name)
    local, host = _split(member.spec)
    return b"(%b %b %b %b)" % (
        nstring(member.name or None),
        nstring(member.route or None),
        string(local),
        string(host),
    )


def _split(spec: bytes) -> tuple[bytes, bytes]:
    """Return the local part, without quotes as addr-mailbox asks for it, and the domain."""
    at = spec.rfind(b"@[") if spec.endswith(b"]") else spec.rfind(b"@")
    local, host = (spec, b"") if at < 0 else (spec[:at], spec[at + 1 :])
    local, host = local or b"MISSING_MAILBOX", host or b"MISSING_DOMAIN"
    if b'"' in local:
        local = _QUOTED.sub(lambda match: _QUOTED_PAIR.sub(rb"\1", match[1]), local)
    return local, host
