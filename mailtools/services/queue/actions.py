"""What an operator does to queued messages: hold, release, retry, bounce, delete.

Each action needs the message's lease, so no message is changed while it is delivered; a lease that another
process holds is waited for. A kill may come at any moment. The message is then as before or as intended, or
(bounce) given up while its sender is still to be told: the next run tells the sender, or the same command
again if the message was on hold.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailtools.core.queue import journal
from mailtools.core.queue.journal import FAILED, Result
from mailtools.core.queue.schedule import Schedule
from mailtools.core.queue.store import ACTIVE, DEFERRED, HOLD, INCOMING, Listed
from mailtools.services.queue.dsn import Notices
from mailtools.services.queue.job import Settlement, settle
from mailtools.system import clock
from mailtools.system.spool.spool import Spool, SpoolLease

DONE, UNFIT, LATER = "done", "unfit", "later"  # the results of an action; LATER: the sender is told later
# why nothing was done: the message is being delivered; it is no longer in the queue
BUSY, GONE = "busy", "gone"

_PATIENCE = 5.0  # seconds
_PAUSE = 0.05
_GIVEN_UP = "5.0.0"  # RFC 3463: no more is known of the reason; 5.7.x would blame the sender, 5.4.7 the time

Action = Callable[[SpoolLease], str]
Place = tuple[str, str]  # a queue id, and the state in which the message was found


class Change(NamedTuple):
    """The result for one message."""

    identity: str
    outcome: str


def apply(
    spool: Spool,
    chosen: Iterable[Place],
    action: Action,
    wanted: Callable[[Listed], bool],
    tell: Callable[[Change], None],
    patience: float = _PATIENCE,
) -> None:
    """Do *action* to each message of *chosen* that is still *wanted* under its lease; *tell* each result.

    Messages that are being delivered are waited for, *patience* seconds in all. The changes are durable at
    the end. Raises CannotWriteError.
    """
    busy: list[Place] = []
    for place in chosen:
        if outcome := _attempt(spool, place, action, wanted):
            tell(Change(place[0], outcome))
        else:
            busy.append(place)
    deadline = clock.monotonic() + patience
    while busy:
        left = []
        for place in busy:
            if outcome := _attempt(spool, place, action, wanted):
                tell(Change(place[0], outcome))
            elif not any(spool.query([place[0]])):
                tell(Change(place[0], GONE))
            else:
                left.append(place)
        if left and clock.monotonic() >= deadline:
            for identity, _ in left:
                tell(Change(identity, BUSY))
            break
        busy = left
        if busy:
            time.sleep(_PAUSE)
    if spool.exists():
        spool.sync()


def _attempt(spool: Spool, place: Place, action: Action, wanted: Callable[[Listed], bool]) -> str:
    """Return the result; "" if the message cannot be leased now."""
    lease = spool.claim(place[0], held=True)
    if lease is None:
        return ""
    try:
        # The message may have changed since it was chosen. While it is delivered it has no other state.
        state = ACTIVE if place[1] == ACTIVE else lease.state
        return action(lease) if wanted(Listed(lease.entry, state)) else UNFIT
    finally:
        lease.close()


def hold(by: str) -> Action:
    """Put messages on hold: no attempts until they are released."""

    def change(lease: SpoolLease) -> str:
        if lease.state == HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "hold", by)])
        lease.move(HOLD)
        return DONE

    return change


def release(by: str) -> Action:
    """Take messages off hold."""

    def change(lease: SpoolLease) -> str:
        if lease.state != HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "release", by)])
        lease.note_due()
        lease.move(INCOMING if lease.entry.due <= clock.now() else DEFERRED)
        return DONE

    return change


def retry(by: str) -> Action:
    """Make messages due now. They become new messages, because a queue run sees those at once."""

    def change(lease: SpoolLease) -> str:
        if lease.state == HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "retry", by)])
        lease.note_due()
        lease.move(INCOMING)
        return DONE

    return change


def delete(lease: SpoolLease) -> str:
    """Remove a message and tell nobody."""
    lease.finish()
    return DONE


def bounce(spool: Spool, warn: Callable[[str], None]) -> Action:
    """Give up the recipients that wait, and tell the sender: through the queue, never to <>."""
    notices = Notices(spool.add, clock.host_name(), Schedule())
    settlement = Settlement(Schedule(), notices.tell, lambda _: None, warn)

    def change(lease: SpoolLease) -> str:
        _give_up(lease)
        settle(lease, settlement)
        return DONE if lease.is_finished else LATER

    return change


def _give_up(lease: SpoolLease) -> None:
    """Give up the recipients that wait, also on hold; the sender will be told."""
    entry = lease.entry
    groups: dict[str, list[int]] = {}
    for number in entry.pending:
        last = entry.recipients[number].last
        said = f"; the last attempt ended with: {last.reply}" if last and last.reply else ""
        groups.setdefault(f"given up by the operator of this server{said}", []).append(number)
    now = clock.now()
    results: Sequence[Result] = [
        Result(tuple(numbers), FAILED, reply, _GIVEN_UP) for reply, numbers in groups.items()
    ]
    lease.record([journal.attempt(now, result) for result in results])
    if lease.state == HOLD:
        lease.move(DEFERRED)
