"""One leased message of a queue run: the results of its parts are gathered, then it is settled.

A `Job` has a part for each site of its recipients. When the last part is back the message is settled:
recipients that waited too long are given up, DSNs are queued, and the next attempt is scheduled or the
message is finished (core/queue/decision). A DSN is in the spool before the journal says so: a kill between
the two may send it twice, never not at all.
"""

import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError, TemporaryError
from mailtools.core.queue import decision, journal
from mailtools.core.queue.decision import DueNotice
from mailtools.core.queue.journal import DEFERRED, FAILED, SENT, Result
from mailtools.core.queue.schedule import Schedule
from mailtools.services.transit.outcome import Outcome
from mailtools.system import clock
from mailtools.system.spool.spool import SpoolLease

_AGAIN = 60.0  # seconds, if a DSN could not be queued


class After(Enum):
    """What the runner does with a job after one of its parts."""

    WAIT = 1  # other parts are not back yet
    FINISHED = 2  # the message is removed: close its lease
    SETTLE = 3  # call `settle`
    LEAVE = 4  # a part was not tried: close the lease, the message stays as it is


class Job:
    """One leased message. *is_whole*: all its recipients that wait are tried."""

    def __init__(self, lease: SpoolLease, is_whole: bool = True) -> None:
        self.lease = lease
        self._parts = 1  # the runner's, until it has handed out the others
        self._is_whole = is_whole

    def begin(self) -> None:
        """Count one more part."""
        self._parts += 1

    def part(self, results: Sequence[Result] = ()) -> After:
        """Record the results of a part. Raises CannotWriteError; then `after_part` has the answer.

        If all recipients are sent and nobody has to be told, the message is removed instead.
        """
        self._parts -= 1
        if not self._parts and decision.finishes(self.lease.entry, results):
            try:
                self.lease.finish()
            except CannotWriteError:  # the journal stays: it must say that all is sent
                self._record(results)
                raise
            return After.FINISHED
        if results:
            self._record(results)
        return self.after_part()

    def _record(self, results: Sequence[Result]) -> None:
        now = clock.now()
        self.lease.record([journal.attempt(now, result) for result in results])

    def untried(self) -> After:
        """Take back a part that was not tried."""
        self._is_whole = False
        self._parts -= 1
        return self.after_part()

    def after_part(self) -> After:
        """Return what to do now."""
        if self._parts:
            return After.WAIT
        return After.SETTLE if self._is_whole or not self.lease.entry.pending else After.LEAVE


class Settlement(NamedTuple):
    """What `settle` needs."""

    schedule: Schedule
    tell: Callable[[SpoolLease, str, Sequence[int]], str]  # queues a DSN; returns its id, "" if none is sent
    log: Callable[[str], None]
    warn: Callable[[str], None]


def settle(lease: SpoolLease, by: Settlement) -> None:
    """Carry out the decision about a message whose parts are all back. Blocks.

    The caller closes the lease.
    """
    try:
        _settle(lease, by)
    except CannotWriteError as error:
        by.warn(str(error))


def _settle(lease: SpoolLease, by: Settlement) -> None:
    now = clock.now()
    for result in decision.expired(lease.entry, by.schedule, now):
        lease.record([journal.attempt(now, result)])
        days = lease.entry.age(now) / 86400
        log_result(lease, result._replace(reply=f"given up after {days:.1f} days: {result.reply}"), by.log)
    found = decision.decide(lease.entry, by.schedule, now, random.random())
    told = [_tell(lease, notice, by) for notice in found.notices]
    if found.wait is not None:
        lease.reschedule(now + found.wait)
    elif all(told):
        _warn_of_lost(lease, by.warn)
        lease.finish()
    else:
        lease.reschedule(now + _AGAIN)


def give_up(lease: SpoolLease, why: str, status: str) -> None:
    """Record that the recipients that wait have failed. *status*: the enhanced status code (RFC 3463).

    Raises CannotWriteError.
    """
    entry = lease.entry
    groups: dict[str, list[int]] = {}
    for number in entry.pending:
        last = entry.recipients[number].last
        said = f"; the last attempt ended with: {last.reply}" if last and last.reply else ""
        groups.setdefault(f"{why}{said}", []).append(number)
    now = clock.now()
    results = [Result(tuple(numbers), FAILED, reply, status) for reply, numbers in groups.items()]
    lease.record([journal.attempt(now, result) for result in results])


def _tell(lease: SpoolLease, notice: DueNotice, by: Settlement) -> bool:
    """Queue a DSN; return False if that is not possible now."""
    try:
        identity = by.tell(lease, notice.of, notice.recipients)
    except CannotWriteError as error:
        by.warn(f"{lease.entry.envelope.identity}: the sender could not be told: {error}")
        return False
    if identity:
        lease.record([journal.told(clock.now(), notice.of, notice.recipients, identity)])
    return bool(identity)


def _warn_of_lost(lease: SpoolLease, warn: Callable[[str], None]) -> None:
    envelope = lease.entry.envelope
    if not envelope.reverse_path and any(r.state == FAILED for r in lease.entry.recipients):
        warn(f"{envelope.identity}: undeliverable, and nobody to tell: its sender is <>")


def log_result(lease: SpoolLease, result: Result, log: Callable[[str], None]) -> None:
    """Log *result*, a line for each recipient."""
    envelope = lease.entry.envelope
    by = f" by {result.remote}" if result.remote else ""
    for number in result.recipients:
        address = envelope.recipients[number].address
        log(f"{envelope.identity}: <{address}> {result.result}{by}: {result.reply}")


def results(outcomes: Sequence[Outcome], numbers: Sequence[int]) -> list[Result]:
    """Return *outcomes*, in the order of *numbers*, as the journal keeps them: equal ones together."""
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
        permanent = outcome.reply.code >= 500 and not isinstance(outcome.error, TemporaryError)
        status = outcome.reply.enhanced or ("5.0.0" if permanent else "4.0.0")
        status = status if permanent else status.replace("5.", "4.", 1)
        return Result((), FAILED if permanent else DEFERRED, str(outcome.reply), status, outcome.remote)
    status = outcome.error.status if outcome.error else ""
    kind = FAILED if status.startswith("5") else DEFERRED
    return Result((), kind, str(outcome.error), status or "4.4.2", "")
