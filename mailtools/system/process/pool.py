"""A few threads for work that would stall an event loop: password hashes, opening maildrops.

At most as many threads as cores: 16 of them stall the loop for 100 ms. Each task belongs to somebody (a
client's address, a user). Those with waiting tasks take turns, so that nobody has to wait for all tasks of
somebody else; and the number of tasks that wait is limited for each of them, so that only those are refused
who have too many. A task whose client is gone is cancelled.
"""

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from mailtools.core.errors import MailError

log = logging.getLogger("mailtools")

POOL_THREADS = min(4, os.cpu_count() or 1)
_WAITING = 200  # tasks of one owner; password hashes of 22 ms on 2 cores take 2 seconds

T = TypeVar("T")
Cancel = Callable[[], bool]  # returns True if the task had not begun: then `done` is never called


class Run(Protocol):
    """Gives a task to a worker; calls *done* in the loop with its result, or None if it could not be done.

    *owner*: whose task it is; owners take turns.
    """

    def __call__(self, task: Callable[[], T], done: Callable[[T | None], None], owner: str) -> object: ...


class WorkerPool:
    """Threads that run tasks; they start with the first task. *of_one*: threads for one owner's tasks."""

    def __init__(
        self, name: str, post: Callable[[Callable[[], None]], Any], of_one: int = POOL_THREADS
    ) -> None:
        """*name* stands in thread names and log lines; *post* runs a callback in the loop's thread."""
        self._name = name
        self._post = post
        self._of_one = max(1, of_one)
        self._change = threading.Condition()
        self._waiting: dict[str, deque[Callable[[], None]]] = {}  # by owner; the next one is first
        self._busy: Counter[str] = Counter()  # threads by owner
        self._is_stopped = False
        self._threads: list[threading.Thread] = []

    def run(self, task: Callable[[], T], done: Callable[[T | None], None], owner: str = "") -> Cancel:
        """Run *task* in a thread, then call *done* with its result in the loop's thread.

        *done* gets None if *owner* has too many tasks, or if *task* raises; errors are logged. Returns a
        function that cancels the task.
        """

        def work() -> None:
            self._do(task, done)

        if not self._threads:
            self._start()
        with self._change:
            waiting = self._waiting.get(owner)
            if waiting is None:
                waiting = self._waiting[owner] = deque()
            is_refused = len(waiting) >= _WAITING
            if not is_refused:
                waiting.append(work)
                self._change.notify()
        if is_refused:
            log.warning("too much work for the %s threads: a client was told to try again", self._name)
            done(None)
        return lambda: self._cancel(owner, work)

    def _cancel(self, owner: str, work: Callable[[], None]) -> bool:
        with self._change:
            waiting = self._waiting.get(owner)
            if waiting is None or work not in waiting:
                return False
            waiting.remove(work)
            if not waiting:
                del self._waiting[owner]
            return True

    def stop(self) -> None:
        """Tell the threads to end once the waiting tasks are done; does not wait for them."""
        with self._change:
            self._is_stopped = bool(self._threads)
            self._change.notify_all()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._serve, name=f"{self._name}-{n}", daemon=True)
            for n in range(POOL_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while (found := self._next()) is not None:
            owner, work = found
            work()
            with self._change:
                self._busy[owner] -= 1
                if not self._busy[owner]:
                    del self._busy[owner]
                if self._is_stopped:
                    self._change.notify_all()
                elif owner in self._waiting:
                    self._change.notify()  # its next task may have waited for this thread

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        """Wait for a task that may run; None at the end."""
        with self._change:
            while True:
                owner = next((who for who in self._waiting if self._busy[who] < self._of_one), None)
                if owner is not None:
                    waiting = self._waiting.pop(owner)
                    work = waiting.popleft()
                    if waiting:
                        self._waiting[owner] = waiting  # last: others are next
                    self._busy[owner] += 1
                    return owner, work
                if self._is_stopped and not self._waiting:
                    return None
                self._change.wait()

    def _do(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        outcome: T | None = None
        try:
            outcome = task()
        except MailError as error:
            log.error("%s", error)
        except Exception:
            log.exception("a bug in a %s thread", self._name)
        self._post(lambda: done(outcome))
