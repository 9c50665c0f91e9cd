"""Completes a message that a local program submits (cron, php, a shell script), so that it can be sent.

`split` divides the octets (LF; the header may be missing or incomplete) into header and body; `complete` adds
the missing fields and removes those that must not be sent. Knows no recipient, no clock and no host: all are
arguments. Owns the behaviour of sendmail(8) that no RFC describes: a text without a header is a body, the
header ends at the first line that is no field, names without a domain get ours. RFC 6409 §8 allows a
submission server to do all of it.

Invariants: no octet of a body is changed. Nothing raises on any octets; time is linear. The last field ends
with a line end. A header holds no CR: a bare CR becomes a space, so that it cannot start another field.
"""

from collections.abc import Sequence

from mailtools.core.lean import NamedTuple
from mailtools.core.patterns import lazy

MAX_HOPS = 100  # Received fields; RFC 5321 §6.3
_IN_NAME = bytes([*range(0x21, 0x3A), *range(0x3B, 0x7F)])
_IN_ADDRESS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~.-"
_FIELD = lazy(rb"[!-9;-~]{1,200}[ \t]*+:|>?From ")
_MAX_LINE = 998  # octets (RFC 5322 §2.1.1)
_LINE = 78  # octets of a line that is folded
_NAME_ROOM = 20  # octets for the name of a field
_NOT_TO_GO = ("Bcc", "Resent-Bcc", "Return-Path")
_OF_ADDRESSES = (
    b"from", b"sender", b"reply-to", b"to", b"cc",
    b"resent-from", b"resent-sender", b"resent-to", b"resent-cc",
)  # fmt: skip
_UNPRINTED = lazy(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_TOKEN = lazy(
    rb'(?s)(?P<quoted>"(?:[^"\\]++|\\.)*+")|(?P<comment>\((?:[^()\\]++|\\.)*+\))|(?P<angle><[^<>]*+>)'
    rb"|(?P<comma>,)|(?P<space>[ \t\r\n]++)|(?P<word>[^ \t\r\n\"(),:;<>]++)|(?P<odd>.)"
)
_NAME = lazy(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++")


class SubmissionStamps(NamedTuple):
    """Values for the fields that `complete` adds."""

    sender: str  # local@domain
    full_name: str
    origin: str  # the domain of names that have none
    date: str
    message_id: str


def split(octets: bytes) -> tuple[bytes, int]:
    """(header, offset of the body in *octets*). *octets*: the start of a message, LF.

    A postmark before the header belongs to neither. If the offset is ``len(octets)``, the header may continue
    in octets not yet read.
    """
    start = _behind_postmarks(octets)
    end = _fields_end(octets, start)
    fields = octets[start:end]
    if b"\r" in fields:
        fields = fields.replace(b"\r", b" ")
    if fields and not fields.endswith(b"\n"):
        fields += b"\n"
    return fields, end + octets.startswith(b"\n", end)


def _fields_end(octets: bytes, start: int) -> int:
    """The offset behind the last field or folded line; a few steps per line of the header."""
    at, end = start, len(octets)
    while at < end:
        after = octets.find(b"\n", at) + 1 or end
        if octets[at] not in b" \t":
            colon = octets.find(b":", at, after)
            name = octets[at : max(at, colon)].rstrip(b" \t")
            if not name or name.translate(None, _IN_NAME):
                break
        elif at == start:
            break
        at = after
    return at


def _behind_postmarks(octets: bytes) -> int:
    """The offset of the message behind any postmarks. A text like "From here on ..." has no postmark."""
    start = 0
    while octets.startswith((b"From ", b">From "), start):
        after = octets.find(b"\n", start) + 1
        if not after or not (_FIELD.match(octets, after) or _is_dated(octets, start)):
            break
        start = after
    return start


def _is_dated(octets: bytes, start: int) -> bool:
    # core/mbox knows postmarks, but this room does not import it: a time and a year at the end are enough.
    line = octets[start : octets.find(b"\n", start)].split()
    return len(line) >= 7 and line[-1].isdigit() and len(line[-1]) == 4 and line[-2].count(b":") == 2


def complete(fields: bytes, stamps: SubmissionStamps) -> bytes:
    """*fields* with From, Date and Message-ID, without Bcc, and with a domain in every address."""
    lower = b"\n" + fields.lower()
    gone = [name for name in _NOT_TO_GO if has(lower, name)]
    if gone:
        from mailtools.core.message import header

        fields = header.remove(fields, *gone)
    fields = qualify(fields, stamps.origin)
    if not has(lower, "From") and not has(lower, "Resent-From"):
        fields += _from_field(stamps)
    if not has(lower, "Date"):
        fields += f"Date: {stamps.date}\n".encode()
    if not has(lower, "Message-ID"):
        fields += f"Message-ID: {stamps.message_id}\n".encode()
    return fields


def has(lower: bytes, name: str) -> bool:
    """Tell whether a header has the field *name*. *lower*: a line end and the header in lower case."""
    start = b"\n" + name.lower().encode()
    return start + b":" in lower or start + b" " in lower or start + b"\t" in lower


def hops(fields: bytes) -> int:
    """The number of Received fields, for loop detection (RFC 5321 §6.3); 0 if clearly below `MAX_HOPS`."""
    if fields.count(b"\n") <= MAX_HOPS:
        return 0
    return (b"\n" + fields.lower()).count(b"\nreceived:")


def readable(text: str) -> str:
    """*text* as one line for a field: control characters and surrogates become spaces."""
    return (text if text.isascii() and text.isprintable() else _UNPRINTED.sub(" ", text)).strip()


def _from_field(stamps: SubmissionStamps) -> bytes:
    name = readable(stamps.full_name)
    if not name:
        return f"From: {stamps.sender}\n".encode()
    if name.replace(" ", "").isalnum() and name.isascii():
        return f"From: {name} <{stamps.sender}>\n".encode()
    from mailtools.core.message.address import Address
    from mailtools.core.message.encode import address_field

    return address_field("From", [Address(name, stamps.sender)]).replace(b"\r\n", b"\n")


# -- names without a domain -------------------------------------------------------------------------------


def qualify(fields: bytes, origin: str) -> bytes:
    """Add ``@origin`` to each address in *fields* that has no domain.

    All other octets stay: comments, names, folds. A list that contains a group is not changed.
    """
    kept = []
    at = 0
    for start, end in _address_values(fields):
        value = fields[start:end]
        if value.count(b"@") > value.count(b","):
            continue  # the usual case; at worst an @ in a quoted name leaves one address without a domain
        suffix = b"@" + origin.encode()
        kept += [fields[at:start], _simply(value, suffix) or _qualified(value, suffix)]
        at = end
    return b"".join(kept) + fields[at:] if kept else fields


def _address_values(fields: bytes) -> list[tuple[int, int]]:
    """(start, end) offsets of the values of all address fields, in order."""
    lower = b"\n" + fields.lower()
    found = []
    for name in _OF_ADDRESSES:
        at = lower.find(b"\n" + name)
        while at >= 0:
            start = lower.find(b":", at)  # of the colon; in *fields* it is that of the value
            if not lower[at + 1 + len(name) : start].strip(b" \t"):
                found.append((start, _value_end(fields, start)))
            at = lower.find(b"\n" + name, at + 1)
    return sorted(found)


def _value_end(fields: bytes, at: int) -> int:
    end = len(fields)
    while at < end:
        at = fields.find(b"\n", at) + 1 or end
        if fields[at : at + 1] not in (b" ", b"\t"):
            break
    return at


def _simply(value: bytes, suffix: bytes) -> bytes:
    """Qualify a list of one name, perhaps with a comment: the usual case. b"" for any other list."""
    name, space, comment = value.strip().partition(b" ")
    inner = comment[1:-1]
    if not name or name.translate(None, _IN_ADDRESS):
        return b""
    if space and (comment[:1] + comment[-1:] != b"()" or inner != inner.translate(None, b"()\\\n")):
        return b""
    return value.replace(name, name + suffix, 1)


def _qualified(value: bytes, suffix: bytes) -> bytes:
    out: list[bytes] = []
    words: list[int] = []  # indexes in *out* of the words of the current entry; *angle* likewise
    angle = -1
    for match in _TOKEN.finditer(value):
        kind, text = match.lastgroup, match[0]
        if kind == "odd":
            return value
        if kind == "comma":
            _add_domain(out, words, angle, suffix)
            words, angle = [], -1
        elif kind == "angle":
            angle = len(out)
        elif kind in ("word", "quoted"):
            words.append(len(out))
        out.append(text)
    _add_domain(out, words, angle, suffix)
    octets = b"".join(out)
    is_long = max(map(len, octets.split(b"\n"))) > _MAX_LINE - _NAME_ROOM
    return _folded(out) if is_long else octets


def _folded(tokens: Sequence[bytes]) -> bytes:
    """Fold a list of addresses between them: a line may have grown beyond 998 octets (RFC 5322 §2.1.1)."""
    lines: list[bytes] = []
    column, entry = _NAME_ROOM, b""
    for number, token in enumerate(tokens, 1):
        entry += token
        if token != b"," and number < len(tokens):
            continue
        if lines and entry.strip() and column + len(entry) > _LINE and not entry.startswith(b"\n"):
            entry, column = b"\n " + entry.lstrip(b" \t"), 0
        lines.append(entry)
        column = len(entry) - entry.rfind(b"\n") - 1 + (column if b"\n" not in entry else 0)
        entry = b""
    return b"".join(lines)


def _add_domain(out: list[bytes], words: list[int], angle: int, suffix: bytes) -> None:
    if angle >= 0:
        name = out[angle][1:-1].strip()
        if _NAME.fullmatch(name):
            out[angle] = b"<%s%s>" % (name, suffix)
    elif len(words) == 1 and _NAME.fullmatch(out[words[0]]):
        out[words[0]] += suffix
