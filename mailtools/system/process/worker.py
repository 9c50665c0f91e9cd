"""One thread that does one piece of work after another, such as writing to a disk, off an event loop."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

log = logging.getLogger("mailtools")


class Worker:
    """The thread starts with the first work. It survives any exception."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], Any]) -> None:
        """Do *work* after the work given before. To be called by one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("a bug in the thread %s", self._name)

    def stop(self) -> None:
        """End after the work given before."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
