"""Adds messages to the spool for an event loop: a few threads write, success is reported after the sync."""

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, NamedTuple

from mailtools.core.errors import CannotWriteError, MailError
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system.spool.spool import Spool

_THREADS = 4  # the kernel combines their syncs


class _Work(NamedTuple):
    envelope: QueueEnvelope
    blocks: Iterable[bytes]
    done: Callable[[MailError | None], None]


class Spooler:
    """Adds messages to *spool* in threads.

    *post* runs a callback in the loop's thread; *added* is called in a writer's thread after each message.
    """

    def __init__(
        self,
        spool: Spool,
        post: Callable[[Callable[[], None]], Any],
        added: Callable[[], None] = lambda: None,
    ) -> None:
        self._spool = spool
        self._post = post
        self._added = added
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"spool-{n}", daemon=True) for n in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, envelope: QueueEnvelope, blocks: Iterable[bytes], done: Callable[[MailError | None], None]
    ) -> None:
        """Queue a message; *done* is called once in the loop's thread, with the error or None."""
        self._work.put(_Work(envelope, blocks, done))

    def stop(self) -> None:
        """End the threads after the work they were given."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            error: MailError | None = None
            try:
                self._spool.add(work.envelope, work.blocks)
            except MailError as problem:
                error = problem
            except Exception as problem:
                error = CannotWriteError(f"{self._spool.path}: {type(problem).__name__}: {problem}")
            self._post(lambda w=work, e=error: w.done(e))  # type: ignore[misc]
            if error is None:
                self._added()
