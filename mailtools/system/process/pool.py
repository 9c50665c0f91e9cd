"""A few threads for work that would stall an event loop: password hashes, opening maildrops.

At most as many threads as cores: 16 of them stall the loop for 100 ms. The queue is bounded: if tasks arrive
faster than they are done, new ones are refused instead of waiting without limit.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from typing import Any, TypeVar

from mailtools.core.errors import MailError

log = logging.getLogger("mailtools")

_THREADS = min(4, os.cpu_count() or 1)
_WAITING = 200  # tasks; password hashes of 22 ms on 2 cores take 2 seconds

T = TypeVar("T")


class WorkerPool:
    """Threads that run tasks; they start with the first task."""

    def __init__(self, name: str, post: Callable[[Callable[[], None]], Any]) -> None:
        """*name* stands in thread names and log lines; *post* runs a callback in the loop's thread."""
        self._name = name
        self._post = post
        self._work: Queue[Callable[[], None] | None] = Queue(_WAITING)
        self._threads: list[threading.Thread] = []

    def run(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Run *task* in a thread, then call *done* with its result in the loop's thread.

        *done* gets None if the queue is full or *task* raises; errors are logged.
        """
        if not self._threads:
            self._start()
        try:
            self._work.put_nowait(lambda: self._do(task, done))
        except Full:
            log.warning("too much work for the %s threads: a client was told to try again", self._name)
            done(None)

    def stop(self) -> None:
        """Tell the threads to end once the queued tasks are done; does not wait for them."""
        with suppress(Full):  # they are daemon threads: the process can end without them
            for _ in self._threads:
                self._work.put_nowait(None)

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._serve, name=f"{self._name}-{n}", daemon=True)
            for n in range(_THREADS)
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
            log.exception("a bug in a %s thread", self._name)
        self._post(lambda: done(outcome))
