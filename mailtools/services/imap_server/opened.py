"""The mailboxes that are open, each of them once for all sessions of the process.

A hundred clients in one mailbox share its states, its catalog and what is kept of its messages; a session
adds its view (services/imap_server/view). A few mailboxes stay open when nobody has them any more: a program
that polls finds them as they were.
"""

import threading
from collections.abc import Callable

from mailtools.services.imap_server.rendered import Rendered
from mailtools.services.mailbox.mailbox import Mailbox

_KEPT = 4  # mailboxes that nobody has open


class SharedMailbox(Mailbox):
    """A mailbox with what FETCH shows of its messages. Hold its `lock` while reading `states`."""

    def __init__(self, path: str, patience: float, make: bool, new_validity: Callable[[], int]) -> None:
        self.rendered = Rendered(self, path)
        super().__init__(path, patience, make, new_validity)

    def close(self) -> None:
        """Close the files."""
        with self.lock:
            self.rendered.close()
            super().close()


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.box: SharedMailbox | None = None
        self.users = 0


class OpenMailboxes:
    """Gives out the mailboxes by path. Called by workers of several sessions at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # those without users in the order in which they were left

    def open(self, path: str, patience: float, make: bool, new_validity: Callable[[], int]) -> SharedMailbox:
        """The mailbox at *path* as it is now; `leave` it after use. Raises what `Mailbox` raises."""
        with self._lock:
            entry = self._entries.setdefault(path, _Entry())
            entry.users += 1
        try:
            with entry.lock:  # who opens it too waits for the first, who may have to read all of it
                if entry.box is None:
                    entry.box = SharedMailbox(path, patience, make, new_validity)
                else:
                    entry.box.refresh(patience)
                return entry.box
        except BaseException:
            self._left(path, entry)
            raise

    def leave(self, box: SharedMailbox) -> None:
        """Give *box* back."""
        self._left(box.path, self._entries[box.path])

    def _left(self, path: str, entry: _Entry) -> None:
        unused = []
        with self._lock:
            entry.users -= 1
            if not entry.users:
                self._entries[path] = self._entries.pop(path)
                without = [path for path, other in self._entries.items() if not other.users]
                is_open = entry.box is not None
                for gone in without[: max(len(without) - _KEPT, 0)] if is_open else [path]:
                    unused.append(self._entries.pop(gone))
        for one in unused:
            if one.box is not None:
                one.box.close()
