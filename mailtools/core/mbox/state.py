"""The state of a message in an mbox: UID, flags and keywords, in the fields that other programs use.

Owns the unwritten standard of X-UID, Status, X-Status, X-Keywords and X-IMAPbase (UW-IMAP, Dovecot, mutt,
Alpine), read and written. The fields stand as one block at the end of the header, and trailing spaces of
X-Keywords give it room to grow, as Dovecot does it: so most changes are a write of a few octets in place.

Flags are bits, in the memory of `Catalog` and `States` as in these functions. Nothing raises on any octets.
"""

import re
from typing import NamedTuple

SEEN, ANSWERED, FLAGGED, DELETED, DRAFT, OLD = (1 << bit for bit in range(6))  # OLD: seen in a list once
MOST_KEYWORDS = 60  # different ones in an mbox; each is a bit of a column
LARGEST_UID = 0xFFFF_FF00  # a larger UID or last UID in a file is not believed: UIDs would run out
_ROOM = 60  # spaces, as Dovecot leaves

_STATUS = ((SEEN, b"R"), (OLD, b"O"))
_X_STATUS = ((ANSWERED, b"A"), (FLAGGED, b"F"), (DRAFT, b"T"), (DELETED, b"D"))
_OCTET = {octet[0]: bit for bit, octet in (*_STATUS, *_X_STATUS)}

_FIELD = re.compile(rb"(?i)\n(X-UID|Status|X-Status|X-Keywords|X-IMAPbase):[ \t]*([^\n]*)")
_BASE = re.compile(rb"([0-9]{1,10}) +([0-9]{1,10})((?: +[^ ]+)*) *\r?\Z")
# A run of whole lines of these fields; their continuation lines belong to it.
_BLOCK = re.compile(
    rb"(?i)(?<=\n)(?:(?:X-UID|Status|X-Status|X-Keywords|X-IMAPbase):[^\n]*\n(?:[ \t][^\n]*\n)*)+"
)
_KEYWORD = re.compile(rb"[!#$&'+-\[^-z|}~]{1,100}").fullmatch  # an atom of IMAP, without "\\"


class StoredState(NamedTuple):
    """What the header of one message says."""

    uid: int = 0  # 0: nothing
    flags: int = 0
    keywords: tuple[bytes, ...] = ()
    base: "StoredBase | None" = None


class StoredBase(NamedTuple):
    """What X-IMAPbase in the first message says of the mailbox."""

    validity: int
    last: int  # the last UID that was given
    keywords: tuple[bytes, ...] = ()


NOTHING = StoredState()


def parse(header: bytes) -> StoredState:
    """The state in *header* (whole lines, LF or CRLF, behind the postmark)."""
    uid = flags = 0
    keywords: tuple[bytes, ...] = ()
    base = None
    for name, text in _FIELD.findall(b"\n" + header):
        kind, value = name.lower(), text.strip()
        if kind == b"x-uid":
            uid = int(value) if value.isdigit() and len(value) <= 10 else 0
        elif kind == b"x-keywords":
            keywords = tuple(dict.fromkeys(word for word in value.split() if _KEYWORD(word)))[:MOST_KEYWORDS]
        elif kind == b"x-imapbase":
            base = _parse_base(value) or base
        else:
            for octet in value[:32]:
                flags |= _OCTET.get(octet, 0)
    return StoredState(uid if uid <= LARGEST_UID else 0, flags, keywords, base)


def _parse_base(value: bytes) -> StoredBase | None:
    match = _BASE.match(value)
    if not match or not 0 < int(match[1]) < 1 << 32 or int(match[2]) > LARGEST_UID:
        return None
    keywords = tuple(dict.fromkeys(word for word in match[3].split() if _KEYWORD(word)))[:MOST_KEYWORDS]
    return StoredBase(int(match[1]), int(match[2]), keywords)


def render(state: StoredState, length: int = 0) -> bytes:
    """The fields of *state* as whole lines (LF), padded to *length* octets if that is possible."""
    lines = []
    if state.base:
        words = (b"%d %010d" % state.base[:2], *state.base.keywords)
        lines.append(b"X-IMAPbase: " + b" ".join(words))
    if state.uid:  # else there is room for it
        lines.append(b"X-UID: %d" % state.uid)
    lines += [
        b"Status: " + b"".join(octet for bit, octet in _STATUS if state.flags & bit),
        b"X-Status: " + b"".join(octet for bit, octet in _X_STATUS if state.flags & bit),
        b"X-Keywords: " + b" ".join(state.keywords),
    ]
    block = b"\n".join(lines)
    room = max(length - len(block) - 1, 0) if length else _ROOM
    return block + b" " * room + b"\n"


def rewritten(header: bytes, state: StoredState) -> bytes:
    """*header* (LF, whole lines) with the fields of *state*, all on one block at its end."""
    stripped = _BLOCK.sub(b"", b"\n" + header)[1:]
    return stripped + render(state)


def in_place(header: bytes, state: StoredState) -> tuple[int, bytes] | None:
    """(offset, octets) that write *state* over the block in *header* without a change of its length.

    None if the header has no block of these fields, or more than one, or the block has no room.
    """
    found = list(_BLOCK.finditer(b"\n" + header))
    if len(found) != 1 or b"\r" in found[0][0]:
        return None
    block = render(state, len(found[0][0]))
    return (found[0].start() - 1, block) if len(block) == len(found[0][0]) else None


def is_keyword(word: bytes) -> bool:
    """Tell whether *word* can be a keyword of a message."""
    return bool(_KEYWORD(word))
