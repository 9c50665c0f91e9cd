"""One queue run: takes due messages from the spool to their sites.

The runner looks through the spool, leases due messages and sorts their recipients by site. A courier has
one connection and sends what waits for its site. One thread does everything (system/net/poller), except
what waits for disks and names: connecting, reading mail for our own mailboxes, DSNs. The memory needed does
not depend on the size of the queue, and delivery begins with the first message found.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mailtools.core.errors import BadDataError, CannotWriteError, MailError
from mailtools.core.queue import decision
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import Result
from mailtools.core.queue.schedule import Schedule
from mailtools.services.delivery.background import Done
from mailtools.services.queue import bad
from mailtools.services.queue.courier import Courier
from mailtools.services.queue.job import After, Job, Settlement, log_result, results, settle
from mailtools.services.queue.sites import Site, Sites, SiteTarget, Task
from mailtools.services.queue.spooled import as_outgoing, envelope_only
from mailtools.services.smtp_client.connection import Link
from mailtools.services.smtp_client.transaction import failed_outcomes
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system import clock
from mailtools.system.net.poller import Poller
from mailtools.system.process.worker import Worker
from mailtools.system.spool.spool import Spool, SpoolLease

_WINDOW = 2000  # messages leased at a time
_AT_ONCE = 20  # messages leased, then the connections run
_LOOK = 0.2  # seconds between looks for new mail
_LOOK_AT_DEFERRED = 20.0  # seconds
_LOOK_AT_BAD = 3600.0  # seconds
_LOOK_AGAIN = 2.0  # seconds between looks while another process has some of the messages
_LOOK_AT_CLOCK = 0.5  # seconds between checks for servers that make no progress
_STUCK = 5.0  # seconds that a look waits for sites with too much mail; then it passes their mail over
_PARTING = 30.0  # seconds that messages in progress have at the end


class Reach(Protocol):
    """Finds sites and connects to them."""

    def target(self, envelope: QueueEnvelope, address: str) -> SiteTarget | None:
        """Return the site of a recipient; None for our own mailboxes."""

    def link(self, target: SiteTarget, patience: float) -> Link:
        """Connect within *patience* seconds. Blocks; raises MailError."""

    def local(self, read: Callable[[], Outgoing], done: Done) -> None:
        """Deliver the message of *read* to our own mailboxes, then call *done*."""

    def close(self) -> None:
        """End the deliveries to our own mailboxes."""


class Orders(NamedTuple):
    """The options of a run."""

    schedule: Schedule = Schedule()
    concurrency: int = 20  # connections
    per_site: int = 5
    site: str = ""  # deliver only mail for this domain


class Runner:
    """A run. `run` is its thread; any other thread and signal handlers may call `stop` and `wake`."""

    def __init__(
        self,
        spool: Spool,
        reach: Reach,
        orders: Orders,
        tell: Callable[[SpoolLease, str, Sequence[int]], str],
        log: Callable[[str], None],
        warn: Callable[[str], None],
        poller: Poller,
    ) -> None:
        self.poller = poller
        self.sites = Sites(
            orders.concurrency, orders.per_site, lambda n: orders.schedule.wait(n, 0.5), clock.monotonic
        )
        self._spool = spool
        self._reach = reach
        self._orders = orders
        self._settler, self._closer = Worker("queue settler"), Worker("queue closer")
        self._settlement = Settlement(orders.schedule, tell, log, warn)
        self._couriers: set[Courier] = set()
        self._jobs = 0
        self._stopped = False
        self._woken = False
        self._look: Iterator[str] | None = None
        self._stuck_since = 0.0
        self._skipped = False  # mail was passed over because there was no room for its id
        # monotonic seconds; the earliest due time of messages that this run put off
        self._next_due = math.inf
        self._contended = False  # another process has some of the messages; it may die

    # -- life ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End soon; nothing new is begun."""
        self._stopped = True
        self.poller.post(lambda: None)

    def wake(self) -> None:
        """Note that new mail is in the spool."""
        self._woken = True
        self.poller.post(lambda: None)

    def run(self, once: bool = False) -> bool:
        """Deliver what is due; unless *once*, go on until `stop`. Returns True if mail stays in the queue."""
        announced = -1 if once else self._spool.announce_runner()
        self._spool.sweep()
        self._look_at_bad()
        self._look_at_clock()
        arrivals, looked, takes = -1.0, clock.monotonic() - _LOOK_AT_DEFERRED, 0.0
        while not self._stopped:
            if self._look is None:
                now, found = clock.monotonic(), self._spool.arrivals()
                # A look at a large queue takes time: it may take at most a fifth of ours.
                is_time = self._woken or now - looked >= max(_LOOK, 5 * takes) or (once and not self._jobs)
                rest = _LOOK_AGAIN if self._contended and not once else _LOOK_AT_DEFERRED
                is_due = now >= self._next_due or now - looked >= rest
                if is_time and (found != arrivals or self._skipped or is_due):
                    arrivals, looked = found, now
                    self._begin_look()
                elif once and not self._jobs:
                    break
            if self._look is not None and self._look_on():
                takes = clock.monotonic() - looked
            is_hurried = self._may_lease if self._look is not None else once and not self._jobs
            self.poller.poll(0.0 if is_hurried else _LOOK)
        self._end()
        if announced >= 0:
            os.close(announced)
        return self._spool.has_deferred()

    def _end(self) -> None:
        for task in self.sites.stop():
            self.untried(task)
        deadline = clock.monotonic() + _PARTING
        while (self.sites.links or self._jobs) and clock.monotonic() < deadline:
            self.poller.poll(_LOOK)
        self._reach.close()
        self._settler.stop()
        self._closer.stop()
        self.poller.close()

    # -- finding work --------------------------------------------------------------------------------------

    def _begin_look(self) -> None:
        self._woken = self._skipped = self._contended = False
        self._next_due = math.inf
        self._stuck_since = 0.0
        self._look = self._spool.ready(clock.now())

    @property
    def _may_lease(self) -> bool:
        return self._jobs < _WINDOW and not self._is_stuck

    @property
    def _is_stuck(self) -> bool:
        """True while sites that deliver have more mail than can be remembered.

        The look waits for them, but not for long.
        """
        if self.sites.has_room:
            return False
        now = clock.monotonic()
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since < _STUCK

    def _look_on(self) -> bool:
        """Lease some due messages; return True at the end of the look."""
        assert self._look is not None
        for _ in range(_AT_ONCE):
            if not self._may_lease:
                return False
            identity = next(self._look, None)
            if identity is None:
                self._look = None
                return True
            if not self.sites.is_put_off(identity):
                self._take(identity)
        return False

    def _take(self, identity: str, to: Site | None = None) -> None:
        """Lease *identity* and hand out its parts. *to*: the site that asked for the message."""
        lease = self._spool.claim(identity)
        if lease is None:
            self._contended = True
            return
        try:
            parts = self._parts(lease)
        except MailError as error:
            lease.set_aside(str(error))
            parts = None
        if parts is None:
            lease.close()
            return
        full = [target for target in parts if target is not None and self.sites.is_full(target, self._jobs)]
        if full and (to is None or to.target not in full):
            self._pass_over(full[0], identity)
            lease.close()
            return
        self._jobs += 1
        job = Job(lease, is_whole=not self._orders.site)
        for target, numbers in parts.items():
            job.begin()
            self._hand_out(target, Task(job, numbers))
        self._part(job, ())
        self._hire()

    def _pass_over(self, target: SiteTarget, identity: str) -> None:
        if self.sites.has_room:
            self.sites.put_off(target, identity)
        else:
            self._skipped = True

    def _parts(self, lease: SpoolLease) -> dict[SiteTarget | None, list[int]] | None:
        """Return the pending recipients by site;

        None if the message is not due, or has none at `Orders.site`.
        """
        entry = lease.entry
        if not self._orders.schedule.is_due(entry.due, clock.now()):
            lease.note_due()
            return None
        parts: dict[SiteTarget | None, list[int]] = {}
        for number in entry.pending:
            address = entry.envelope.recipients[number].address
            if not self._orders.site or address.rpartition("@")[2].lower() == self._orders.site:
                parts.setdefault(self._reach.target(entry.envelope, address), []).append(number)
        return None if self._orders.site and not parts else parts

    def _hand_out(self, target: SiteTarget | None, task: Task) -> None:
        if target is None:
            self._deliver(task)
        elif (problem := self.sites.dead(target)) and not task.job.lease.entry.is_hurried:
            self._part(task.job, _all(task, problem))
        else:
            self.sites.push(target, task)

    def _deliver(self, task: Task) -> None:
        """Deliver a message to our own mailboxes."""

        def done(result: list[Outcome] | MailError) -> None:
            if isinstance(result, list):
                self.tried(task, result)
            elif isinstance(result, BadDataError):
                self._unusable(task, result)
            else:
                self.untried(task)

        self._reach.local(lambda: as_outgoing(task.job.lease, task.numbers), done)

    def _unusable(self, task: Task, error: BadDataError) -> None:
        task.job.lease.set_aside(str(error))
        self.untried(task)

    # -- the results ---------------------------------------------------------------------------------------

    def tried(self, task: Task, outcomes: list[Outcome]) -> None:
        """Take the outcomes of a task."""
        self._part(task.job, results(outcomes, task.numbers))

    def untried(self, task: Task) -> None:
        """Take back a task that was not tried."""
        self._go_on_with(task.job, task.job.untried())

    def _part(self, job: Job, its: Sequence[Result]) -> None:
        for result in its:
            log_result(job.lease, result, self._settlement.log)
        try:
            after = job.part(its)
        except CannotWriteError as error:
            self.warn(str(error))
            after = job.after_part()
        self._go_on_with(job, after)

    def _go_on_with(self, job: Job, after: After) -> None:
        if after is After.FINISHED:
            self._closer.do(job.lease.close)
            self._job_done(job)
        elif after is After.LEAVE:
            self._close(job)
        elif after is After.SETTLE:
            schedule = self._settlement.schedule
            if decision.takes_time(job.lease.entry, schedule, clock.now()):
                self._settler.do(lambda: self._settle_elsewhere(job))
            else:
                settle(job.lease, self._settlement)
                self._close(job)

    def _settle_elsewhere(self, job: Job) -> None:
        """Settle a message; in the settler's thread."""
        try:
            settle(job.lease, self._settlement)
        finally:
            self.poller.post(lambda: self._close(job))

    def _close(self, job: Job) -> None:
        job.lease.close()
        self._job_done(job)

    def _job_done(self, job: Job) -> None:
        self._jobs -= 1
        if job.lease.entry.due:
            wait = job.lease.entry.due - clock.now()
            self._next_due = min(self._next_due, clock.monotonic() + wait)

    # -- couriers ------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        while (site := self.sites.hire()) is not None:
            courier = Courier(site, self)
            self._couriers.add(courier)
            courier.start()

    def open_link(self, target: SiteTarget, patience: float) -> Link:
        """Connect; in the courier's thread."""
        return self._reach.link(target, patience)

    def next_message(self, site: Site) -> tuple[Task, Outgoing] | None:
        """Return the message to send next, and its task."""
        while (task := self.sites.next_task(site)) is not None:
            if isinstance(task, str):
                self._take(task, site)
                continue
            try:
                return task, as_outgoing(task.job.lease, task.numbers)
            except BadDataError as error:
                self._unusable(task, error)
        return None

    def site_failed(self, site: Site, problem: MailError) -> None:
        """Put off all mail that waits for a site that cannot be reached."""
        if not self.sites.failed(site, problem):
            return
        tasks, names = self.sites.take_all(site)
        for task in tasks:
            self._part(task.job, _all(task, problem))
        for identity in names:
            self._take(identity)

    def courier_left(self, courier: Courier) -> None:
        """Note that a courier has ended; another one may begin."""
        self._couriers.discard(courier)
        self.sites.leave(courier.site)
        self._hire()

    def warn(self, text: str) -> None:
        """Warn an operator."""
        self._settlement.warn(text)

    def _look_at_bad(self) -> None:
        """Give up messages set aside long ago; look again in an hour."""
        bad.expire(self._spool, self._settlement)
        self.poller.later(_LOOK_AT_BAD, self._look_at_bad)

    def _look_at_clock(self) -> None:
        """Check all connections with one timer. A timer for each would keep closed connections in memory."""
        for courier in list(self._couriers):
            courier.look_at_clock()
        self._hire()
        self.poller.later(_LOOK_AT_CLOCK, self._look_at_clock)


def _all(task: Task, problem: MailError) -> list[Result]:
    message = envelope_only(task.job.lease, task.numbers)
    return results(failed_outcomes(message, problem), task.numbers)
