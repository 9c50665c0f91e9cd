r"""Facts: what SORT, THREAD and SEARCH compare of a message, read from its header once.

Owns the values of RFC 5256 §2.2 (sent date) and §3 (message IDs, references), the sort keys CC, FROM and TO
(§3) and those of RFC 5957. A mailbox can keep the octets of `to_octets` instead of reading headers again.

Invariants: any octets give facts; time is linear in the header; of a field at most `MOST_OCTETS` octets and
of the references at most `MOST_REFERENCES` count. If a field occurs twice, the first counts as in
ENVELOPE, but the texts are those of all.
`from_octets(to_octets(facts)) == facts`; the octets are one line with a line end, and hold no other.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from mailtools.core.message import address, date, words
from mailtools.core.message.header import Picker, unfold, value, values

MOST_OCTETS = 64 << 10
MOST_REFERENCES = 100  # RFC 5256 §3 uses all; the nearest decide where a message hangs
_MOST_OF_FIRST = 4 << 10  # octets in which the first mailbox of a list must be

_NAMES = ("Date", "Subject", "From", "To", "Cc", "Bcc", "Message-ID", "References", "In-Reply-To")
_FIELDS = Picker(*_NAMES, written_so=_NAMES)
_LOWERED = tuple(b"\n" + name.lower().encode() for name in _NAMES)
_STARTS = tuple(start + b":" for start in _LOWERED)
_BOM = b"\xef\xbb\xbf"
_ID = re.compile(rb"<[^<>\x00-\x20\x7f]{1,998}>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
SEPARATOR = b"\0"  # of the octets
_SEPARATOR = SEPARATOR.decode()


class Facts(NamedTuple):
    """The facts of one message. Texts are decoded and one line; "" stands for what is absent."""

    sent: int | None  # the Date field: seconds since 1970 UTC
    day: int | None  # the Date field: days since 1970 where it was written
    subject: str
    from_: str
    to: str
    cc: str
    bcc: str
    from_mailbox: str  # the local part of the first mailbox
    to_mailbox: str
    cc_mailbox: str
    from_shown: str  # RFC 5957: the display name of the first mailbox, else its address
    to_shown: str
    message_id: str  # with its angle brackets, quotes removed where they are not needed
    references: tuple[str, ...]  # message IDs, the parent last


def facts(header: bytes) -> Facts:
    """The facts of the message with *header*."""
    header = b"\n" + header.removeprefix(_BOM)
    found, _ = _FIELDS.pick(header, 0, len(header))
    lowered = header.lower()
    if None in found:
        found = _in_any_case(header, lowered, found)
    dated, _, author, to, cc, _, message_id, references, in_reply_to = found
    sent = day = None
    if dated and (clock := date.clock_fields(dated)):
        sent, day = date.seconds(clock, True), date.days_before(*clock[:3])
    from_mailbox, from_shown = _first(author)
    to_mailbox, to_shown = _first(to)
    texts = [
        _text(octets) if lowered.count(start) < 2 else _joined(header, name)
        for name, start, octets in zip(_NAMES[1:6], _STARTS[1:6], found[1:6], strict=True)
    ]
    named = (from_mailbox, to_mailbox, _first(cc)[0], from_shown, to_shown)
    ident = _ids(message_id, 1)[0] if message_id and _ID.search(message_id) else ""
    return Facts._make((sent, day, *texts, *named, ident, _references(references, in_reply_to)))


def _joined(header: bytes, name: str) -> str:
    """The text of a field that occurs more than once."""
    return _text(b", ".join(map(unfold, values(header[1:], name))))


def _in_any_case(header: bytes, lowered: bytes, found: list[bytes | None]) -> list[bytes | None]:
    """*found*, with the fields that are written in an unusual case: ``message-id``."""
    return [
        value(header[1:], name) if octets is None and start in lowered else octets
        for name, start, octets in zip(_NAMES, _LOWERED, found, strict=True)
    ]


def _text(octets: bytes | None) -> str:
    text = words.decode(octets[:MOST_OCTETS]) if octets else ""
    return text if text.isprintable() else text.replace(_SEPARATOR, " ").replace("\n", " ")


def _first(octets: bytes | None) -> tuple[str, str]:
    """(local part, what is displayed) of the first mailbox of a list, or of the group that begins it."""
    if not octets:
        return "", ""
    return _named(octets) if len(octets) < 200 else _named.__wrapped__(octets)


@lru_cache(maxsize=4096)  # the same people write again and again
def _named(octets: bytes) -> tuple[str, str]:
    if len(octets) > _MOST_OF_FIRST:
        octets = octets[: octets.rfind(b",", 0, _MOST_OF_FIRST) + 1 or _MOST_OF_FIRST]
    for member in address.members(octets, 1):
        name = words.decode(member.name)
        if member.kind == address.GROUP:  # its name is the addr-mailbox of its structure in ENVELOPE
            return name, name
        spec = words.one_line(member.spec.decode(errors="replace"))
        local = spec.rpartition("@")[0] or spec
        if '"' in local:
            local = _QUOTED.sub(lambda match: _QUOTED_PAIR.sub(r"\1", match[1]), local)
        return local, name or spec
    return "", ""


def _references(references: bytes | None, in_reply_to: bytes | None) -> tuple[str, ...]:
    """RFC 5256 §3: the IDs of References; if there are none, the first of In-Reply-To."""
    if references and (found := _ids(references, MOST_REFERENCES)):
        return found
    return _ids(in_reply_to, MOST_REFERENCES)[:1] if in_reply_to else ()


def _ids(octets: bytes, most: int) -> tuple[str, ...]:
    """The first, and the last *most* - 1, message IDs in a field, normalised."""
    found = _ID.findall(octets)
    if len(found) > most:
        found = found[:1] + (found[1 - most :] if most > 1 else [])
    text = b" ".join(found).decode("utf-8", "replace")
    if '"' in text:  # RFC 5256 §3: <"a"@b> and <a@b> are the same
        text = " ".join(map(_normal, text.split(" ")))
    return tuple(text.split(" ")) if text else ()


def _normal(message_id: str) -> str:
    local, at, domain = message_id[1:-1].rpartition("@")
    match = _QUOTED.fullmatch(local)
    return f"<{_QUOTED_PAIR.sub(chr(92) + '1', match[1])}{at}{domain}>" if match else message_id


def to_octets(facts: Facts) -> bytes:
    r"""*facts* as one line: fields separated by NUL, ended by ``\n``."""
    sent, day, *texts, references = facts
    numbers = ("" if sent is None else str(sent), "" if day is None else str(day))
    return (_SEPARATOR.join((*numbers, *texts, " ".join(references))) + "\n").encode()


def from_octets(octets: bytes) -> Facts:
    """The inverse of `to_octets`. Raises ValueError if *octets* are no such line."""
    sent, day, *texts, references = octets[:-1].decode().split(_SEPARATOR)
    if len(texts) != 11 or octets[-1:] != b"\n":
        raise ValueError("not the octets of facts")
    numbers = (int(sent) if sent else None, int(day) if day else None)
    return Facts._make((*numbers, *texts, tuple(references.split(" ")) if references else ()))
