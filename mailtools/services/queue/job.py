"""What became of a queued message: outcomes gathered, written down, told to the sender; then on or away.

A `Job` is one leased message whose parts, one for each site, are under way; when the last one is back it is
settled: expired recipients given up, DSNs queued, another attempt scheduled, or the message finished. A DSN
is in the spool before the journal says so: a kill between the two may tell a sender twice, never not at all.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError
from mailtools.core.queue import journal
from mailtools.core.queue.journal import DEFERRED, DELAYED, FAILED, SENT, Result
from mailtools.core.queue.schedule import Schedule
from mailtools.services.transit.outcome import Outcome
from mailtools.system import clock
from mailtools.system.spool.spool import SpoolLease

_AGAIN = 60.0  # seconds, when the sender could not be told now


class Desk(NamedTuple):
    """What settling needs of the runner."""

    schedule: Schedule
    tell: Callable[[SpoolLease, str, Sequence[int]], str]  # queue a DSN: its id, "" where none is sent
    log: Callable[[str], None]
    warn: Callable[[str], None]
    aside: Callable[[Callable[[], None]], None]  # do what waits for the disk, in another thread
    post: Callable[[Callable[[], None]], None]  # back from there
    sweep: Callable[[Callable[[], None]], None]  # do what nobody waits for


class Job:
    """One leased message. *is_whole*: all its recipients that wait are tried."""

    def __init__(
        self, lease: SpoolLease, desk: Desk, done: Callable[["Job"], None], is_whole: bool = True
    ) -> None:
        self.lease = lease
        self._desk = desk
        self._done = done
        self._parts = 1  # the one who hands out the others
        self._is_whole = is_whole

    def begin(self) -> None:
        """One more part is under way."""
        self._parts += 1

    def part(self, results: Sequence[Result] = ()) -> None:
        """A part is back. Recorded at once, but where it is the last and all went well: then all is gone."""
        self._parts -= 1
        for result in results:
            self._log(result)
        try:
            if not self._parts and self._finishes(results):
                self.lease.finish()
                self._desk.sweep(self.lease.close)
                self._done(self)
                return
            if results:
                now = clock.now()
                self.lease.record([journal.attempt(now, result) for result in results])
        except CannotWriteError as error:
            self._desk.warn(str(error))
        if self._parts:
            return
        if self._is_whole or not self.lease.entry.pending:
            self._settle()
        else:
            self._end()

    def release(self) -> None:
        """A part comes back untried: the message stays as it is."""
        self._is_whole = False
        self.part()

    def _end(self) -> None:
        self.lease.close()
        self._done(self)

    def _log(self, result: Result) -> None:
        envelope = self.lease.entry.envelope
        for number in result.recipients:
            by = f" by {result.remote}" if result.remote else ""
            address = envelope.recipients[number].address
            self._desk.log(f"{envelope.identity}: <{address}> {result.result}{by}: {result.reply}")

    def _finishes(self, results: Sequence[Result]) -> bool:
        """Nothing is left to do after *results*, and nobody to be told."""
        entry = self.lease.entry
        if not results:
            return False
        if any(result.result != SENT for result in results):
            return False
        if any(entry.envelope.wants(n, "SUCCESS") for result in results for n in result.recipients):
            return False
        now_sent = {n for result in results for n in result.recipients}
        return all(r.state == SENT or n in now_sent for n, r in enumerate(entry.recipients))

    def _settle(self) -> None:
        """All parts are back: here, or where time may be taken, if the sender is to be told something."""
        entry, now = self.lease.entry, clock.now()
        if entry.age(now) >= min(self._desk.schedule.warn, self._desk.schedule.expire) or len(
            entry.pending
        ) < len(entry.recipients):
            self._desk.aside(lambda: self._close_up(self._desk.post))
        else:
            self._close_up(lambda call: call())

    def _close_up(self, then: Callable[[Callable[[], None]], None]) -> None:
        try:
            self._decide(clock.now())
        except CannotWriteError as error:
            self._desk.warn(str(error))
        then(self._end)

    def _decide(self, now: float) -> None:
        lease = self.lease
        self._expire(now)
        is_told = self._tell(FAILED, "FAILURE") & self._tell(SENT, "SUCCESS")
        if lease.entry.pending:
            if lease.entry.age(now) >= self._desk.schedule.warn:
                self._tell(DELAYED, "DELAY")
            attempts = lease.entry.attempts + 1
            lease.reschedule(now + self._desk.schedule.wait(attempts, random.random()))
        elif is_told:
            self._mourn()
            lease.finish()
        else:
            lease.reschedule(now + _AGAIN)

    def _mourn(self) -> None:
        envelope = self.lease.entry.envelope
        if not envelope.reverse_path and any(r.state == FAILED for r in self.lease.entry.recipients):
            self._desk.warn(f"{envelope.identity}: undeliverable, and nobody to tell: its sender is <>")

    def _expire(self, now: float) -> None:
        """Give up recipients whom nobody took for too long."""
        entry = self.lease.entry
        if not entry.pending or entry.age(now) < self._desk.schedule.expire:
            return
        groups: dict[str, list[int]] = {}
        for number in entry.pending:
            last = entry.recipients[number].last
            groups.setdefault(last.reply if last else "no attempt succeeded", []).append(number)
        for reply, numbers in groups.items():
            last = entry.recipients[numbers[0]].last
            given_up = Result(tuple(numbers), FAILED, reply, "4.4.7", last.remote if last else "")
            self.lease.record([journal.attempt(now, given_up)])
            self._log(given_up._replace(reply=f"given up after {entry.age(now) / 86400:.1f} days: {reply}"))

    def _tell(self, of: str, event: str) -> bool:
        """Queue a DSN for whoever was not told yet; False where that cannot be done now."""
        entry = self.lease.entry
        numbers = _undelayed(self.lease) if of == DELAYED else entry.untold(of, event)
        if not numbers or not entry.envelope.reverse_path:
            return True
        try:
            identity = self._desk.tell(self.lease, of, numbers)
        except CannotWriteError as error:
            self._desk.warn(f"{entry.envelope.identity}: the sender could not be told: {error}")
            return False
        if identity:
            self.lease.record([journal.told(clock.now(), of, numbers, identity)])
        return bool(identity)


def _undelayed(lease: SpoolLease) -> tuple[int, ...]:
    entry = lease.entry
    return tuple(
        n
        for n in entry.pending
        if DELAYED not in entry.recipients[n].told and entry.envelope.wants(n, "DELAY")
    )


def results(outcomes: Sequence[Outcome], numbers: Sequence[int]) -> list[Result]:
    """Outcomes, in the order of *numbers*, as what the journal keeps: alike ones together."""
    groups: dict[Result, list[int]] = {}
    for outcome, number in zip(outcomes, numbers, strict=True):
        groups.setdefault(_result(outcome), []).append(number)
    return [result._replace(recipients=tuple(its)) for result, its in groups.items()]


def _result(outcome: Outcome) -> Result:
    if outcome.error is None and outcome.reply is not None:
        return Result(
            (), SENT, str(outcome.reply), outcome.reply.enhanced, outcome.remote, not outcome.took_dsn
        )
    if outcome.reply is not None:
        permanent = outcome.reply.code >= 500
        status = outcome.reply.enhanced or ("5.0.0" if permanent else "4.0.0")
        return Result((), FAILED if permanent else DEFERRED, str(outcome.reply), status, outcome.remote)
    status = outcome.error.status if outcome.error else ""
    kind = FAILED if status.startswith("5") else DEFERRED
    return Result((), kind, str(outcome.error), status or "4.4.2", "")
