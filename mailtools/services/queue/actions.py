"""What an operator does to queued messages: hold, release, retry, bounce, delete.

Each is done under the message's lease, so never to one that is being delivered; whoever holds it is waited
for, for a while. An order of operations that a kill may end anywhere: the message is then as it was, or as
it was to be, or (bounce) given up with its sender still to be told: by the next run, or by the same command
again if it was on hold.
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

DONE, UNFIT, LATER = "done", "unfit", "later"  # what a change came to; LATER: the sender is told later
BUSY, GONE = "busy", "gone"  # why there was none: being delivered; no longer in the queue

_PATIENCE = 5.0  # seconds
_PAUSE = 0.05
_GIVEN_UP = "5.0.0"  # RFC 3463: nothing more is known of why; 5.7.x would blame the sender, 5.4.7 the time

Action = Callable[[SpoolLease], str]
Place = tuple[str, str]  # a queue id, and the state in which the message was found


class Change(NamedTuple):
    """What came of one message."""

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
    """*action* on each message *chosen* that is still *wanted* once it is ours; *tell* what came of it.

    Those being delivered are waited for, for *patience* seconds in all. Durable at the end. Raises
    CannotWriteError.
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
    """What came of it; "" where the message is not to be had."""
    lease = spool.claim(place[0], held=True)
    if lease is None:
        return ""
    try:
        # It may have changed since it was chosen. While it was being delivered it was in no other state.
        state = ACTIVE if place[1] == ACTIVE else lease.state
        return action(lease) if wanted(Listed(lease.entry, state)) else UNFIT
    finally:
        lease.close()


def hold(by: str) -> Action:
    """No attempts until it is released."""

    def change(lease: SpoolLease) -> str:
        if lease.state == HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "hold", by)])
        lease.move(HOLD)
        return DONE

    return change


def release(by: str) -> Action:
    """It goes on where it was."""

    def change(lease: SpoolLease) -> str:
        if lease.state != HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "release", by)])
        lease.note_due()
        lease.move(INCOMING if lease.entry.due <= clock.now() else DEFERRED)
        return DONE

    return change


def retry(by: str) -> Action:
    """It is due now. Among the new messages, where a run that is under way sees it at once."""

    def change(lease: SpoolLease) -> str:
        if lease.state == HOLD:
            return UNFIT
        lease.record([journal.event(clock.now(), "retry", by)])
        lease.note_due()
        lease.move(INCOMING)
        return DONE

    return change


def delete(lease: SpoolLease) -> str:
    """It is removed, and nobody told."""
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
    """Nobody waits any more; on hold or not, the sender is told."""
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
