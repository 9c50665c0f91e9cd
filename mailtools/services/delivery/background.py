"""Delivers to our own mailboxes for an event loop: for queue runs.

No mailbox keeps the others waiting: what waits for a locked mbox, or for a program, waits by itself
(services/delivery/dispatch). A mailbox that stays locked gets no more mail for a minute: its mail is put off
at once, so that it does not fill the memory.

All methods belong to the loop's thread. A thread reads the messages and the users' files.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError, LockTimeoutError, MailError
from mailtools.services.delivery import local
from mailtools.services.delivery.addressing import Addressing, Place
from mailtools.services.delivery.blocking import Add
from mailtools.services.delivery.dispatch import (
    Carriers,
    Failures,
    Goal,
    Handover,
    Load,
    Queued,
    make_loads,
)
from mailtools.services.delivery.failures import not_stored, not_taken, worst
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.services.transit.received import Received
from mailtools.system import clock
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.group_commit import Committer, Delivery
from mailtools.system.process.loop import Loop
from mailtools.system.process.programs import Programs
from mailtools.system.process.worker import Worker

_AT_ONCE = 400  # messages; those of more than 256 KiB are in files
_WAITING = 20  # messages that may wait for one mbox that is locked
_LOCKED = 1.0  # seconds of the oldest wait, after which an mbox counts as locked
_REST = 60.0  # seconds without deliveries to an mbox that stayed locked

Done = Callable[[list[Outcome] | MailError], None]  # the error: the message cannot be read


class _Order(NamedTuple):
    """A message to deliver. *read* returns it; it may wait for the disk, and raise BadDataError."""

    read: Callable[[], Outgoing]
    done: Done


class _Prepared(NamedTuple):
    """What the thread found."""

    message: Outgoing
    goals: list[Goal]
    failures: dict[str, MailError]  # by address
    received: Received | None


class BackgroundMail:
    """Delivers to the users of *addressing*. *add* takes mail that their aliases send to other servers."""

    def __init__(self, addressing: Addressing, loop: Loop, add: Add, warn: Callable[[str], None]) -> None:
        self._addressing = addressing
        self._loop = loop
        self._add = add
        self._warn = warn
        self._waiting: deque[_Order] = deque()
        self._under_way = 0
        self._preparer, self._adder = Worker("local mail"), Worker("local queue")
        self._boxes: _Boxes | None = None
        self._programs: Programs | None = None

    def is_local(self, address: str) -> bool:
        """Return True if the domain of *address* is named as ours, or missing."""
        return local.is_local(self._addressing, address)

    def deliver(self, read: Callable[[], Outgoing], done: Done) -> None:
        """Store the message of *read* in all its places, then call *done* with an outcome for each recipient.

        *read* is called in a thread; *done* is called once, with an error if the message cannot be read:
        the BadDataError that *read* raised, or another.
        """
        self._waiting.append(_Order(read, done))
        self._next()

    def stop(self) -> None:
        """End the threads; what still waits for a mailbox is given up."""
        self._preparer.stop()
        self._adder.stop()
        if self._boxes is not None:
            self._boxes.stop()
        if self._programs is not None:
            self._programs.stop()

    def _next(self) -> None:
        while self._waiting and self._under_way < _AT_ONCE:
            self._under_way += 1
            self._preparer.do(partial(self._prepare, self._waiting.popleft()))

    def _finish(self, order: _Order, result: list[Outcome] | MailError) -> None:
        self._under_way -= 1
        order.done(result)
        self._next()

    # -- in the thread -------------------------------------------------------------------------------------

    def _prepare(self, order: _Order) -> None:
        try:
            message = order.read()
        except Exception as error:  # the loop waits for an answer, also after a bug
            problem = error if isinstance(error, MailError) else self._bug(error)
            self._loop.post(lambda: self._finish(order, problem))
            return
        prepared = self._prepared(message)
        message.body.close()
        self._loop.post(lambda: self._hand_over(order, prepared))

    def _prepared(self, message: Outgoing) -> _Prepared:
        goals: list[Goal] = []
        failures: dict[str, MailError] = {}
        try:
            goals, failures = local.goals_of(self._addressing, message)
            received = local.received_of(self._addressing, message, goals) if goals else None
            return _Prepared(message, goals, failures, received)
        except (MailError, OSError) as error:
            problem = not_taken(error)
        except Exception as error:
            problem = not_stored(self._bug(error))
        every = dict.fromkeys([recipient.address for recipient in message.recipients], problem)
        return _Prepared(message, [], every | failures, None)

    def _bug(self, error: Exception) -> MailError:
        found = CannotWriteError(f"a bug: {type(error).__name__}: {error}")
        self._warn(str(found))
        return found

    # -- in the loop ---------------------------------------------------------------------------------------

    def _hand_over(self, order: _Order, its: _Prepared) -> None:
        if its.received is None:
            self._finish(order, local.outcomes_of(its.message, its.failures))
            return
        loads = make_loads(its.received, clock.identity(), "", its.goals, "")
        Handover(self._carriers(loads), partial(self._handed_over, order, its)).start(loads)

    def _handed_over(self, order: _Order, its: _Prepared, failed: Failures) -> None:
        stored = {
            recipient.address: worst(failed[place] for place in places if place in failed)
            for recipient, places in its.goals
        }
        self._finish(order, local.outcomes_of(its.message, its.failures | stored))

    def _carriers(self, loads: Mapping[tuple[Place, ...], Load]) -> Carriers:
        """Return the carriers; what *loads* needs is started."""
        if self._boxes is None and any(isinstance(load, NewRecord) for load in loads.values()):
            self._boxes = _Boxes(self._loop)
        if self._programs is None:
            self._programs = Programs(self._loop.post)
        deliver = self._boxes.deliver if self._boxes is not None else _no_box
        return Carriers(deliver, self._programs.run, self._warn, self._queue)

    def _queue(self, queued: Queued, done: Callable[[MailError | None], None]) -> None:
        def work() -> None:
            error: MailError | None = None
            try:
                self._add(queued.envelope, queued.blocks)
            except MailError as problem:
                error = problem
            except Exception as problem:
                error = CannotWriteError(f"{type(problem).__name__}: {problem}")
            self._loop.post(lambda: done(error))

        self._adder.do(work)


def _no_box(delivery: Delivery) -> None:
    raise AssertionError(delivery.path)


class _Boxes:
    """Appends to mboxes; those that stay locked are left alone for a while."""

    def __init__(self, loop: Loop) -> None:
        self._committer = Committer(loop)
        self._waits: dict[str, deque[float]] = {}  # by path: the monotonic times of what waits, oldest first
        self._rests: dict[str, float] = {}  # by path: until when
        self.stop = self._committer.stop

    def deliver(self, delivery: Delivery) -> None:
        """Append *delivery*, or refuse it at once."""
        path, now = delivery.path, clock.monotonic()
        if self._is_locked(path, now):
            delivery.done(LockTimeoutError(f"{path}: locked by another program"))
            return
        self._waits.setdefault(path, deque()).append(now)
        self._committer.submit(Delivery(path, delivery.record, partial(self._done, path, delivery.done)))

    def _is_locked(self, path: str, now: float) -> bool:
        if path in self._rests:
            if now < self._rests[path]:
                return True
            del self._rests[path]
        waits = self._waits.get(path)
        return waits is not None and len(waits) >= _WAITING and now - waits[0] > _LOCKED

    def _done(self, path: str, done: Callable[[MailError | None], None], error: MailError | None) -> None:
        waits = self._waits[path]
        waits.popleft()
        if not waits:
            del self._waits[path]
        if isinstance(error, LockTimeoutError):
            self._rests[path] = clock.monotonic() + _REST
        done(error)
