"""Which messages to ask an IMAP server for, until each of them came or the reason why it does not is known.

A server may answer a FETCH with fewer messages than were asked for: an error for one of them, a limit
(RFC 9738), an OK that means nothing. So what is missing is asked for again, in smaller sets, at last alone.
Knows no protocol.
"""

from collections import deque
from collections.abc import Iterable, Sequence

_SIZES = (25, 1)  # messages in one command, in the rounds after the first
_ENOUGH = 100  # sets in a row of which nothing came; then the server is not asked any more


class Rounds:
    """Asks for the messages *uids*, *together* at a time."""

    def __init__(self, uids: Sequence[int], together: int) -> None:
        self._sizes = deque(size for size in _SIZES if size < together)
        self._sets = deque(_cut(uids, together))
        self._missing: dict[int, str] = dict.fromkeys(uids, "the server did not give it")
        self._under_way: deque[list[int]] = deque()
        self._failed = 0  # sets in a row of which nothing came

    @property
    def is_done(self) -> bool:
        """True if there is nothing to ask for, and nothing to wait for."""
        return not self._sets and not self._under_way

    @property
    def under_way(self) -> int:
        """The number of sets that were asked for and are not answered yet."""
        return len(self._under_way)

    def next_set(self) -> list[int]:
        """Return the messages to ask for next; [] if there are none now."""
        if not self._sets:
            return []
        self._under_way.append(self._sets.popleft())
        return self._under_way[-1]

    def came(self, uid: int) -> bool:
        """Note that a message came; return False if it was not asked for, or came before."""
        return self._missing.pop(uid, None) is not None

    def failed(self, uid: int, why: str) -> None:
        """Note why a message does not come."""
        if uid in self._missing:
            self._missing[uid] = why

    def ended(self, why: str) -> None:
        """Note that the oldest set was answered. *why*: the server's refusal; "" if it refused nothing."""
        uids = self._under_way.popleft()
        left = [uid for uid in uids if uid in self._missing]
        for uid in left:
            self._missing[uid] = why or self._missing[uid]
        self._failed = self._failed + 1 if len(left) == len(uids) else 0
        if self._failed >= _ENOUGH:
            self._missing.update({uid: why for unasked in self._sets for uid in unasked if why})
            self._sets.clear()
            self._sizes.clear()
        if self.is_done and self._sizes:
            self._sets = deque(_cut(list(self._missing), self._sizes.popleft()))
            self._failed = 0

    @property
    def missing(self) -> dict[int, str]:
        """The messages that did not come, each with the reason."""
        return self._missing


def _cut(uids: Sequence[int], size: int) -> Iterable[list[int]]:
    return (list(uids[at : at + size]) for at in range(0, len(uids), size))
