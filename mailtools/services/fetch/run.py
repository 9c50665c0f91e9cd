"""Fetch from one server: connect, log in, fetch one mailbox after another, then wait with IDLE if asked.

Does not know the command's options. services/fetch/collect fetches a single mailbox.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import (
    CannotWriteError,
    ConfigurationError,
    MailError,
    TemporaryError,
    UnknownHostError,
)
from mailtools.services.fetch.collect import Course, Errand, Watch, collect
from mailtools.services.fetch.remote import (
    POP3,
    FetchTarget,
    FetchWishes,
    RefusedInMailboxError,
    RefusedMailboxError,
    Remote,
)
from mailtools.services.fetch.sinks import Sink
from mailtools.system import clock
from mailtools.system.mbox.fetch_state import Seen
from mailtools.system.net.client_connection import LostConnectionError

_FIRST_PAUSE = 5.0  # seconds
_LONGEST_PAUSE = 300.0
_FRUITLESS = 3  # sessions in a row that break without a message, then the run ends; a time-out counts twice
_LOOK_AGAIN = 0.2  # seconds between two looks at is_stopping during a pause


class Order(NamedTuple):
    """What to fetch from one server, and where to put it."""

    target: FetchTarget
    beside: str  # the mbox or folder beside which the fetch state is stored
    wishes: FetchWishes
    sink: Callable[[str], Sink]  # makes the sink of a mailbox, given its name
    patterns: Sequence[str] = ("INBOX",)
    is_stopping: Callable[[], bool] | None = None  # None: fetch once; else until it is True
    is_dry: bool = False


def fetch(order: Order, watch: Watch) -> None:
    """Fetch as *order* says and report progress to *watch*. Raises MailError, OSError."""
    seen = Seen(order.beside, order.target.name)
    try:
        if order.is_stopping is None:
            _visits(order, watch, seen)
        else:
            _stay(order, order.is_stopping, watch, seen)
    finally:
        seen.close()


def _visits(order: Order, watch: Watch, seen: Seen) -> None:
    """Fetch once. When the session breaks at a message, go on with the others in a new session.

    The messages at which it broke, now or in an earlier run, are asked for in sessions of their own, last.
    """
    course = Course()
    fruitless = 0
    while True:
        stored, course.is_broken = course.stored.total(), False
        try:
            _visit(order, watch, seen, course)
        except (TemporaryError, RemoteProtocolError) as error:
            is_time_out = not isinstance(error, LostConnectionError | RemoteProtocolError)
            fruitless = 0 if course.stored.total() > stored else fruitless + 1 + is_time_out
            if not course.is_broken or fruitless >= _FRUITLESS:
                raise
        else:
            if course.is_last_round:
                return
            course.is_last_round, fruitless = True, 0
        if course.is_last_round and not any(course.put_off.values()):
            return


def _stay(order: Order, is_stopping: Callable[[], bool], watch: Watch, seen: Seen) -> None:
    """Fetch until *is_stopping*; reconnect after a failure, first after 5 seconds, at most after 300."""
    pause, course = _FIRST_PAUSE, Course()
    while not is_stopping():
        began = clock.monotonic()
        try:
            course.is_broken = False
            _visit(order, watch, seen, course)
        except (TemporaryError, UnknownHostError, RemoteProtocolError) as error:
            if isinstance(error, RemoteProtocolError) and not course.is_broken:
                raise
            if clock.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            watch.warn(f"{error}; once more in {pause:g} seconds")
            end = clock.monotonic() + pause
            while clock.monotonic() < end and not is_stopping():
                time.sleep(_LOOK_AGAIN)  # not the whole pause: a signal handler only sets is_stopping
            pause = min(2 * pause, _LONGEST_PAUSE)


def _visit(order: Order, watch: Watch, seen: Seen, course: Course) -> None:
    remote = open_remote(order.target)
    try:
        _fetch(Errand(remote, seen, order.wishes, watch, order.is_dry, course), order, course)
        remote.leave()
    finally:
        remote.close()


def _fetch(errand: Errand, order: Order, course: Course) -> None:
    mailboxes = errand.remote.mailboxes(order.patterns)
    for problem in errand.remote.problems():
        errand.watch.failed(problem)
    if course.is_last_round:
        mailboxes = [mailbox for mailbox in mailboxes if course.put_off.get(mailbox)]
    for mailbox in mailboxes:
        refusal = _fetch_one(errand, order, mailbox)
        if refusal is not None:
            if order.is_stopping is not None and mailbox == mailboxes[-1]:
                raise refusal  # nobody can wait for mail there
            errand.watch.failed(refusal)  # the others are fetched
    if not mailboxes:
        return
    if order.is_stopping is not None:
        _fetch_late(errand, order, mailboxes[-1], course)
    while order.is_stopping is not None:
        errand.remote.wait_for_mail(order.is_stopping)
        if order.is_stopping():
            return
        if refusal := _fetch_one(errand, order, mailboxes[-1]):
            raise refusal


def _fetch_late(errand: Errand, order: Order, mailbox: str, course: Course) -> None:
    """Ask once more for what was put off, in a run that waits for mail. Raises MailError, OSError."""
    course.put_off[mailbox] = course.put_off.get(mailbox, set()) - course.retried
    if not course.put_off[mailbox]:
        return
    course.retried |= course.put_off[mailbox]
    course.is_last_round = True
    try:
        _fetch_one(errand, order, mailbox)
    finally:
        course.is_last_round = False


def _fetch_one(errand: Errand, order: Order, mailbox: str) -> MailError | None:
    """Fetch one mailbox; return why it cannot be fetched, if the session can go on.

    Raises MailError, OSError.
    """
    try:
        sink = order.sink(mailbox)
    except (CannotWriteError, ConfigurationError) as error:
        return error
    try:
        collect(errand, mailbox, sink)
    except RefusedMailboxError as refusal:
        return refusal.problem
    except RefusedInMailboxError as error:
        return error
    return None


def open_remote(target: FetchTarget) -> Remote:
    """Connect to *target* and log in; return the POP3 or IMAP client. Raises MailError."""
    if target.protocol == POP3:
        from mailtools.services.fetch.pop3 import Pop3Remote

        return Pop3Remote(target)
    from mailtools.services.fetch.imap import ImapRemote

    return ImapRemote(target)
