"""Group commit: whatever waits for the same mbox is appended together, under one lock, with one fdatasync.

No timer is needed: while one batch syncs, the next gathers (9 to 34 messages a batch at 10 to 100 sessions).
The threads never wait for another program's lock: its mbox is put aside and tried again a little later, so
that one locked mbox delays nobody else's mail. Knows nothing of SMTP; records come in, outcomes go out.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from mailtools.core.errors import CannotWriteError, LockTimeoutError, MailError
from mailtools.system import mboxfile
from mailtools.system.mboxfile import Record

Post = Callable[[Callable[[], None]], object]
_THREADS = 4  # mboxes synced at the same time
_RETRY = 0.02  # seconds until a locked mbox is tried again


class Delivery:
    """One message on its way into one or more mboxes; `done` is called once, with the first error or None."""

    __slots__ = ("deadline", "done", "error", "left", "records")

    def __init__(
        self, records: Sequence[tuple[str, Record]], done: Callable[[MailError | None], None]
    ) -> None:
        self.records = records
        self.done = done
        self.left = len(records)
        self.error: MailError | None = None
        self.deadline = 0.0


class Committer:
    """Threads that append deliveries. *post* runs a callable in the thread that owns the sessions."""

    def __init__(self, post: Post, lock_timeout: float = 30.0) -> None:
        self._post = post
        self._lock_timeout = lock_timeout
        self._wake = threading.Condition()
        self._waiting: dict[str, list[tuple[Delivery, Record]]] = {}
        self._ready: deque[str] = deque()
        self._locked: dict[str, float] = {}  # path -> when to try again
        self._busy: set[str] = set()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"commit-{n}", daemon=True) for n in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, delivery: Delivery) -> None:
        """Take *delivery*; its `done` is posted when all of its mboxes are durable, or one failed."""
        delivery.deadline = time.monotonic() + self._lock_timeout
        with self._wake:
            for path, record in delivery.records:
                batch = self._waiting.get(path)
                if batch is None:
                    self._waiting[path] = [(delivery, record)]
                    if path not in self._busy:
                        self._ready.append(path)
                        self._wake.notify()
                else:
                    batch.append((delivery, record))

    def stop(self) -> None:
        """Finish what waits, then end the threads."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (path := self._next()) is not None:
            with self._wake:
                batch = self._waiting.pop(path)
            left = self._commit(path, batch)
            with self._wake:
                self._busy.discard(path)
                if left:
                    self._waiting[path] = left + self._waiting.get(path, [])
                    self._locked[path] = time.monotonic() + _RETRY
                    self._busy.add(path)
                elif path in self._waiting:
                    self._ready.append(path)
                    self._wake.notify()

    def _next(self) -> str | None:
        """The next mbox to work on, marked busy; None to end."""
        with self._wake:
            while True:
                now = time.monotonic()
                for path in [path for path, due in self._locked.items() if due <= now]:
                    del self._locked[path]
                    self._ready.append(path)
                if self._ready:
                    path = self._ready.popleft()
                    self._busy.add(path)
                    return path
                if self._stopping and not self._waiting and not self._busy:
                    self._wake.notify_all()
                    return None
                pause = min(self._locked.values()) - now if self._locked else None
                self._wake.wait(pause if pause is None or pause > 0 else 0)

    def _commit(self, path: str, batch: list[tuple[Delivery, Record]]) -> list[tuple[Delivery, Record]]:
        """Append *batch*; return what must wait because the mbox is locked."""
        try:
            done = mboxfile.append(path, [record for _, record in batch])
        except MailError as error:
            if len(batch) == 1:
                self._finish(batch, error)
                return []
            # A batch shares no fate: one large message that finds no room must not fail the small ones.
            return [left for one in batch for left in self._commit(path, [one])]
        except Exception as error:
            self._finish(batch, CannotWriteError(f"{path}: {type(error).__name__}: {error}"))
            return []
        if done:
            self._finish(batch, None)
            return []
        now = time.monotonic()
        late = [one for one in batch if one[0].deadline <= now]
        if late:
            self._finish(late, LockTimeoutError(f"{path}: locked by another program"))
        return [one for one in batch if one[0].deadline > now]

    def _finish(self, batch: list[tuple[Delivery, Record]], error: MailError | None) -> None:
        """One message to the sessions' thread for the whole batch."""
        self._post(lambda: _settle(batch, error))


def _settle(batch: list[tuple[Delivery, Record]], error: MailError | None) -> None:
    for delivery, _ in batch:
        delivery.left -= 1
        delivery.error = delivery.error or error
        if delivery.left == 0:
            delivery.done(delivery.error)
