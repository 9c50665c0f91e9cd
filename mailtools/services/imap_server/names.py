"""LIST: which mailboxes match, and what is said of them.

Owns the wildcards of RFC 9051 §6.3.9 and the attributes of §7.3.1. Time is linear in the length of a pattern
and of the names together.
"""

from collections.abc import Iterable, Iterator, Mapping

from mailtools.system.mbox.mailtree import DELIMITER

SPECIAL = {
    "drafts": "\\Drafts", "sent": "\\Sent", "sent messages": "\\Sent", "sent items": "\\Sent",
    "trash": "\\Trash", "deleted messages": "\\Trash", "junk": "\\Junk", "spam": "\\Junk",
    "archive": "\\Archive",
}  # fmt: skip


USES = frozenset(SPECIAL.values())


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


def attributes(name: str, mailboxes: Mapping[str, bool], parents: set[str]) -> list[str]:
    """The attributes of mailbox *name*. *parents*: names that have children."""
    found = [] if mailboxes.get(name) else ["\\Noselect" if name in mailboxes else "\\NonExistent"]
    found.append("\\HasChildren" if name in parents else "\\HasNoChildren")
    special = SPECIAL.get(name.casefold()) if mailboxes.get(name) else None
    return [*found, special] if special else found


def parents_of(names: Iterable[str]) -> set[str]:
    """All names that have children among *names*."""
    found: set[str] = set()
    for name in names:
        parts = name.split(DELIMITER)
        found.update(DELIMITER.join(parts[:count]) for count in range(1, len(parts)))
    return found
