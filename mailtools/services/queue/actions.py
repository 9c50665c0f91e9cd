"""What an operator does to queued messages: hold, release, retry, bounce, delete.

Each action needs the message's lease, so no message is changed while it is delivered; a lease that another
process holds is waited for. A message that was set aside (BAD) can be deleted, bounced, and retried once its
files are in order. A kill may come at any moment. The message is then as before or as intended, or
(bounce) given up while its sender is still to be told: the next run tells the sender, or the same command
again if the message was on hold.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.queue import journal
from mailtools.core.queue.schedule import Schedule
from mailtools.core.queue.store import ACTIVE, BAD, DEFERRED, HOLD, INCOMING, Listed
from mailtools.services.queue import bad
from mailtools.services.queue.dsn import Notices
from mailtools.services.queue.job import Settlement, give_up, settle
from mailtools.system import clock
from mailtools.system.spool.spool import Spool, SpoolLease

DONE, UNFIT, LATER = "done", "unfit", "later"  # the results of an action; LATER: the sender is told later
DAMAGED = "damaged"  # nothing was done, because the files of the message are damaged
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
    why: str = ""  # of DAMAGED


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
    left = list(chosen)
    deadline = clock.monotonic() + patience
    is_again = False
    while left:
        busy = []
        for place in left:
            if change := _attempt(spool, place, action, wanted):
                tell(change)
            elif is_again and not any(spool.query([place[0]])):
                tell(Change(place[0], GONE))
            else:
                busy.append(place)
        if busy and is_again and clock.monotonic() >= deadline:
            for identity, _ in busy:
                tell(Change(identity, BUSY))
            break
        if busy and is_again:
            time.sleep(_PAUSE)  # other processes have the leases; a lease cannot be waited for
        left, is_again = busy, True
    if spool.exists():
        spool.sync()


def _attempt(spool: Spool, place: Place, action: Action, wanted: Callable[[Listed], bool]) -> Change | None:
    """Return the result; None if the message cannot be leased now."""
    lease = spool.claim(place[0], held=True)
    if lease is None:
        return None
    try:
        # The message may have changed since it was chosen. While it is delivered it has no other state.
        state = ACTIVE if place[1] == ACTIVE else lease.state
        return Change(place[0], action(lease) if wanted(Listed(lease.entry, state)) else UNFIT)
    except BadDataError as error:
        return Change(place[0], DAMAGED, str(error))
    finally:
        lease.close()


def hold(by: str) -> Action:
    """Put messages on hold: no attempts until they are released."""

    def change(lease: SpoolLease) -> str:
        if lease.state in (HOLD, BAD):
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
    """Make messages due now. They become new messages, because a queue run sees those at once.

    A message that was set aside is brought back if its files are in order.
    """

    def change(lease: SpoolLease) -> str:
        if lease.state == HOLD:
            return UNFIT
        if lease.state == BAD:
            lease.bring_back()
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
        if lease.state == BAD and not bad.can_be_told(lease.entry):
            raise BadDataError("its sender cannot be read, so nobody can be told; queue delete removes it")
        give_up(lease, "given up by the operator of this server", _GIVEN_UP)
        if lease.state == HOLD:
            lease.move(DEFERRED)
        settle(lease, settlement)
        return DONE if lease.is_finished else LATER

    return change
