"""Passwords checked off the event loop, by a few threads.

At most as many threads as cores: 16 of them stall the loop for 100 ms. The queue has an end: when guesses
come faster than they can be checked, the answer is "not now", never a wait without end. A password that was
right is remembered for a while as a keyed digest, so that a client which logs in for each message costs one
hash.
"""

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from typing import Any, TypeVar

from mailtools.core.auth.passwd import Entry
from mailtools.core.errors import MailError
from mailtools.system.users import passwords

log = logging.getLogger("mailtools")

_THREADS = min(4, os.cpu_count() or 1)
_WAITING = 200  # checks; at 22 ms and 2 cores, 2 seconds
_REMEMBERED = 300.0  # seconds
_MOST_REMEMBERED = 10_000

T = TypeVar("T")


class Checker:
    """Checks passwords; *post* runs a callback in the loop's thread."""

    def __init__(self, post: Callable[[Callable[[], None]], Any]) -> None:
        self._post = post
        self._work: Queue[Callable[[], None] | None] = Queue(_WAITING)
        self._threads: list[threading.Thread] = []
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._key = os.urandom(32)

    def check(self, entry: Entry, password: str, done: Callable[[bool | None], None]) -> None:
        """Call *done*, now or later, in the loop's thread: is it right? None: it cannot be told now."""
        digest = self._digest(entry, password)
        if self._right.get(digest, 0.0) > time.monotonic():
            done(True)
            return

        def checked(is_right: bool | None) -> None:
            if is_right:
                self._remember(digest)
            done(is_right)

        self.run(lambda: passwords.check(entry, password), checked)

    def run(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Do *task* in a thread and call *done* with its outcome in the loop's; None where it has none."""
        if not self._threads:
            self._start()
        try:
            self._work.put_nowait(lambda: self._do(task, done))
        except Full:
            log.warning("too many logins at a time: a client was told to try again")
            done(None)

    def stop(self) -> None:
        """End the threads; what waits is not checked any more."""
        with suppress(Full):  # they are daemons
            for _ in self._threads:
                self._work.put_nowait(None)

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._serve, name=f"password-{n}", daemon=True) for n in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _do(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        outcome: T | None = None
        try:
            outcome = task()
        except MailError as error:
            log.error("%s", error)
        except Exception:
            log.exception("a bug in checking a password")
        self._post(lambda: done(outcome))

    def _remember(self, digest: bytes) -> None:
        self._right[digest] = time.monotonic() + _REMEMBERED
        if len(self._right) > _MOST_REMEMBERED:
            self._right.popitem(last=False)

    def _digest(self, entry: Entry, password: str) -> bytes:
        """Of all that made it right: another password or hash in the file is another digest."""
        whole = "\0".join((entry.name, entry.scheme, entry.secret, password))
        return hashlib.blake2b(whole.encode(errors="surrogateescape"), key=self._key).digest()
