"""What follows an attempt at all recipients of a queued message: another attempt, DSNs, or its end."""

from collections.abc import Sequence
from typing import NamedTuple

from mailtools.core.queue.journal import DELAYED, FAILED, SENT, QueueEntry, Result
from mailtools.core.queue.schedule import Schedule

_GIVEN_UP = "4.4.7"  # RFC 3463 §3.5: message expired


class DueNotice(NamedTuple):
    """A DSN that the sender is to be sent: about which state, for which recipients."""

    of: str  # FAILED, SENT or DELAYED
    recipients: Sequence[int]


class Decision(NamedTuple):
    """What follows. Without another attempt the message is finished once all notices are sent."""

    notices: tuple[DueNotice, ...]
    wait: float | None  # seconds until the next attempt; None: no recipient waits any more


def expired(entry: QueueEntry, schedule: Schedule, now: float) -> list[Result]:
    """Return the failures of recipients that are given up: nobody accepted them for `schedule.expire`."""
    if not entry.pending or entry.age(now) < schedule.expire:
        return []
    groups: dict[str, list[int]] = {}
    for number in entry.pending:
        last = entry.recipients[number].last
        groups.setdefault(last.reply if last else "no attempt succeeded", []).append(number)
    found = []
    for reply, numbers in groups.items():
        last = entry.recipients[numbers[0]].last
        found.append(Result(tuple(numbers), FAILED, reply, _GIVEN_UP, last.remote if last else ""))
    return found


def decide(entry: QueueEntry, schedule: Schedule, now: float, jitter: float) -> Decision:
    """Return what follows from the state of *entry*. *jitter*: from 0 to 1, see `Schedule.wait`."""
    notices = [
        DueNotice(FAILED, entry.untold(FAILED, "FAILURE")),
        DueNotice(SENT, entry.untold(SENT, "SUCCESS")),
    ]
    wait = None
    if entry.pending:
        if entry.age(now) >= schedule.warn:
            notices.append(DueNotice(DELAYED, _undelayed(entry)))
        wait = schedule.wait(entry.attempts + 1, jitter)
    if not entry.envelope.reverse_path:  # RFC 5321 §4.5.5: no notice to the null reverse-path
        notices = []
    return Decision(tuple(notice for notice in notices if notice.recipients), wait)


def takes_time(entry: QueueEntry, schedule: Schedule, now: float) -> bool:
    """Return True if there may be something to tell the sender, which waits for the disk."""
    is_old = entry.age(now) >= min(schedule.warn, schedule.expire)
    return is_old or len(entry.pending) < len(entry.recipients)


def finishes(entry: QueueEntry, results: Sequence[Result]) -> bool:
    """Return True if nothing is left to do after *results*, and nothing to tell the sender."""
    if not results or any(result.result != SENT for result in results):
        return False
    numbers = {number for result in results for number in result.recipients}
    if any(entry.envelope.wants(number, "SUCCESS") for number in numbers):
        return False
    return all(r.state == SENT or number in numbers for number, r in enumerate(entry.recipients))


def _undelayed(entry: QueueEntry) -> tuple[int, ...]:
    """The recipients whose delay the sender wants to know of, and was not told yet."""
    return tuple(
        number
        for number in entry.pending
        if DELAYED not in entry.recipients[number].told and entry.envelope.wants(number, "DELAY")
    )
