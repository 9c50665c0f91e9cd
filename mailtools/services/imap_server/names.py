"""LIST: which mailboxes match, and what is said of them.

Owns the wildcards of RFC 9051 §6.3.9, the attributes of §7.3.1 and special uses (RFC 6154). Time is linear
in the length of a pattern and of the names together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mailtools.system.mbox.annotations import Annotations
from mailtools.system.mbox.mailtree import DELIMITER

# Names that mail programs give to mailboxes of a special use, the usual one first.
_USUAL = {
    "drafts": "\\Drafts", "sent": "\\Sent", "sent items": "\\Sent", "sent messages": "\\Sent",
    "trash": "\\Trash", "deleted messages": "\\Trash", "junk": "\\Junk", "spam": "\\Junk",
    "archive": "\\Archive",
}  # fmt: skip
USES = {use.lower(): use for use in _USUAL.values()}
USE_ENTRY = "/private/specialuse"  # the annotation that has the uses of a mailbox (RFC 6154 §4)
Uses = Mapping[str, Sequence[str]]  # mailbox -> its special uses


def uses_of(mailboxes: Mapping[str, bool], annotations: Annotations) -> Uses:
    """The special uses of *mailboxes*: those given; a use that was not given goes by the name."""
    found: dict[str, Sequence[str]] = {
        name: entries[USE_ENTRY].decode("utf-8", "replace").split()
        for name, entries in annotations.items()
        if USE_ENTRY in entries and mailboxes.get(name)
    }
    taken = {use for uses in found.values() for use in uses}
    by_name = {name.casefold(): name for name in sorted(mailboxes) if mailboxes[name]}
    for usual, use in _USUAL.items():
        name = by_name.get(usual)
        if name is not None and use not in taken and name not in found:
            found[name] = (use,)
            taken.add(use)
    return found


class Pattern:
    """A mailbox pattern: ``*`` stands for anything, ``%`` for anything without a delimiter."""

    def __init__(self, text: str) -> None:
        self._stars = self._percents = 0
        self._letters: dict[str, int] = {}
        bit = 1  # bit n of a set of states: n letters of the pattern are matched
        for letter in text:
            if letter == "*":
                self._stars |= bit
            elif letter == "%":
                self._percents |= bit
            else:
                self._letters[letter] = self._letters.get(letter, 0) | bit
                bit <<= 1
        self._end = bit

    def matches(self, name: str) -> bool:
        """Tell whether *name* matches, with one step of a few operations for each letter of it."""
        states = 1
        for letter in name:
            staying = self._stars if letter == DELIMITER else self._stars | self._percents
            states = states & staying | (states & self._letters.get(letter, 0)) << 1
            if not states:
                return False
        return bool(states & self._end)


def matching(names: Iterable[str], reference: str, patterns: Iterable[str]) -> Iterator[str]:
    """The *names* that match one of *patterns* below *reference*, in order. INBOX is INBOX in any case."""
    compiled = []
    for text in patterns:
        whole = reference + text
        head, delimiter, rest = whole.partition(DELIMITER)
        compiled.append(Pattern("INBOX" + delimiter + rest if head.upper() == "INBOX" else whole))
    return (name for name in sorted(names) if any(pattern.matches(name) for pattern in compiled))


def attributes(name: str, mailboxes: Mapping[str, bool], parents: set[str], uses: Uses) -> list[str]:
    """The attributes of mailbox *name*. *parents*: names that have children."""
    found = [] if mailboxes.get(name) else ["\\Noselect" if name in mailboxes else "\\NonExistent"]
    found.append("\\HasChildren" if name in parents else "\\HasNoChildren")
    return [*found, *uses.get(name, ())]


def parents_of(names: Iterable[str]) -> set[str]:
    """All names that have children among *names*."""
    found: set[str] = set()
    for name in names:
        at = name.rfind(DELIMITER)
        while at > 0 and name[:at] not in found:
            found.add(name[:at])
            at = name.rfind(DELIMITER, 0, at)
    return found
