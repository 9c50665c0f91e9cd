"""Messages into the spool from an event loop: durable first, then told, a few threads at a time."""

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, NamedTuple

from mailtools.core.errors import CannotWriteError, MailError
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system.spool.spool import Spool

_THREADS = 4  # the kernel syncs what they wrote together


class _Work(NamedTuple):
    envelope: QueueEnvelope
    blocks: Iterable[bytes]
    done: Callable[[MailError | None], None]


class Spooler:
    """Adds to *spool*; `done` is called in the loop's thread by *post*. *added* is told of each in ours."""

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
        """Take a message; *done* is called once, with the error or None."""
        self._work.put(_Work(envelope, blocks, done))

    def stop(self) -> None:
        """End the threads, what they were given first."""
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
