"""SORT: in which order messages come, and the keys that say so.

Owns RFC 5256 §2.1 (base subject), §2.2 and §3 (SORT), and the keys of RFC 5957. Messages are compared by
their `Facts`. Texts are compared as i;unicode-casemap (RFC 5051) does it, except for its title case.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.facts import Facts

_MOST_KEYS = 20
_LONGEST = 1000  # characters of a subject that count: taking prefixes away one by one is not linear
_BLANKS = re.compile(r"\s+")
_TRAILER = "(fwd)"
_BLOBS = re.compile(r"(?:\[[^\[\]]*\] *)+")
_LEADER = re.compile(r"(?:\[[^\[\]]*\] *)*(?:re|fwd?) *(?:\[[^\[\]]*\] *)?: *", re.IGNORECASE)
_FORWARDED = "[fwd:"


class SortKey(NamedTuple):
    """A key by which messages are sorted; REVERSE before it turns its order round."""

    name: str
    is_reverse: bool = False


class Sortable(NamedTuple):
    """A message that is sorted."""

    number: int  # sequence number or UID
    arrived: int  # seconds since 1970
    size: int  # octets
    facts: Facts


def parse_keys(cursor: Cursor) -> tuple[SortKey, ...]:
    """The keys of SORT in their parentheses. Raises ImapCommandError."""
    found: list[SortKey] = []
    is_reverse = False
    for word in cursor.listed():
        name = word.decode("ascii", "replace").upper()
        if name == "REVERSE" and not is_reverse:
            is_reverse = True
        elif name in _VALUES and len(found) < _MOST_KEYS:
            found.append(SortKey(name, is_reverse))
            is_reverse = False
        else:
            raise ImapCommandError("keys of SORT expected")
    if not found or is_reverse:
        raise ImapCommandError("keys of SORT expected")
    return tuple(found)


def in_order(messages: Sequence[Sortable], keys: Sequence[SortKey]) -> list[int]:
    """The numbers of *messages*, sorted by *keys*; equal ones stay in their order."""
    found = list(messages)
    for key in reversed(keys):  # a stable sort by each, the most important last
        found.sort(key=_VALUES[key.name], reverse=key.is_reverse)
    return [message.number for message in found]


def folded(text: str) -> str:
    """*text* in the form in which texts are compared."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKD", text.casefold())


def base_subject(text: str) -> str:
    """The subject without what replies and forwarding add to it (RFC 5256 §2.1), as it is compared."""
    base, _ = base_and_reply(text)
    return base


def base_and_reply(text: str) -> tuple[str, bool]:
    """The base subject, and whether something of a reply or forwarding was taken away."""
    text = _BLANKS.sub(" ", text[:_LONGEST])
    is_reply = False
    while True:
        cut = _without_trailers(text).lstrip()
        is_reply = is_reply or cut != text.strip()
        text, has_leader = _without_leaders(cut)
        is_reply = is_reply or has_leader
        if not (text.lower().startswith(_FORWARDED) and text.endswith("]")):
            return folded(text), is_reply
        text, is_reply = text[len(_FORWARDED) : -1], True


def _without_trailers(text: str) -> str:
    text = text.rstrip()
    while text[-len(_TRAILER) :].lower() == _TRAILER:
        text = text[: -len(_TRAILER)].rstrip()
    return text


def _without_leaders(text: str) -> tuple[str, bool]:
    has_leader = False
    while leader := _LEADER.match(text):
        text, has_leader = text[leader.end() :], True
    if blobs := _BLOBS.match(text):  # no leader follows them: all go at once, or all but the last
        text = text[text.rfind("[") if blobs.end() == len(text) else blobs.end() :]
    return text, has_leader


def sent(message: Sortable) -> int:
    """When the message was sent; when it arrived, if that is not known (RFC 5256 §2.2)."""
    return message.arrived if message.facts.sent is None else message.facts.sent


_VALUES: dict[str, Callable[[Sortable], Any]] = {
    "ARRIVAL": lambda message: message.arrived,
    "CC": lambda message: folded(message.facts.cc_mailbox),
    "DATE": sent,
    "FROM": lambda message: folded(message.facts.from_mailbox),
    "SIZE": lambda message: message.size,
    "SUBJECT": lambda message: base_subject(message.facts.subject),
    "TO": lambda message: folded(message.facts.to_mailbox),
    "DISPLAYFROM": lambda message: folded(message.facts.from_shown),
    "DISPLAYTO": lambda message: folded(message.facts.to_shown),
}
