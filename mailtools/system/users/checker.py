"""Checks passwords in a pool of threads, off the event loop.

A correct password is remembered for 5 minutes as a keyed digest, so that a client which logs in for each
message costs one hash.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mailtools.core.auth.passwd import UserEntry
from mailtools.system.process.pool import Cancel, WorkerPool
from mailtools.system.users import passwords

_REMEMBERED = 300.0  # seconds
_MOST_REMEMBERED = 10_000


class Checker(WorkerPool):
    """A pool of threads that check passwords. *post* runs a callback in the loop's thread."""

    def __init__(self, post: Callable[[Callable[[], None]], Any]) -> None:
        super().__init__("password", post)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._key = os.urandom(32)

    def check(
        self, entry: UserEntry, password: str, done: Callable[[bool | None], None], owner: str = ""
    ) -> Cancel:
        """Check *password* and call *done* in the loop's thread, at once or later.

        *done* gets whether the password is right, or None if it cannot be checked now. *owner*: whose work
        it is. Returns a function that cancels the check.
        """
        digest = self._digest(entry, password)
        if self._right.get(digest, 0.0) > time.monotonic():
            done(True)
            return _is_done

        def checked(is_right: bool | None) -> None:
            if is_right:
                self._remember(digest)
            done(is_right)

        return self.run(lambda: passwords.check(entry, password), checked, owner)

    def _remember(self, digest: bytes) -> None:
        self._right[digest] = time.monotonic() + _REMEMBERED
        if len(self._right) > _MOST_REMEMBERED:
            self._right.popitem(last=False)

    def _digest(self, entry: UserEntry, password: str) -> bytes:
        """A digest of the password and the user's entry: a change of either gives another digest."""
        whole = "\0".join((entry.name, entry.scheme, entry.secret, password))
        return hashlib.blake2b(whole.encode(errors="surrogateescape"), key=self._key).digest()


def _is_done() -> bool:
    """Cancel nothing: the check is done."""
    return False
