"""One queue run: due messages out of the spool, to their sites, by a few threads.

The runner looks through the spool, leases what is due and sorts its recipients by site; a worker has one
connection and sends over it what waits for its site (services/transfer). Its memory does not depend on the
size of the queue, and delivery begins with the first message found.

Threads, not a loop: `send` and the queue share one client this way, and the work is the system's (sockets,
unlinking), during which the interpreter's lock is free.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mailtools.core.errors import BadDataError, CannotWriteError, MailError
from mailtools.core.queue.journal import Result
from mailtools.core.queue.schedule import Schedule
from mailtools.services.link import Link
from mailtools.services.outgoing import Outgoing
from mailtools.services.queued import as_outgoing, envelope_only
from mailtools.services.settle import Desk, Job, results
from mailtools.services.sites import LOCAL, Site, Sites, Target, Task
from mailtools.services.transfer import Outcome, failed_outcomes, transfer
from mailtools.system import clock
from mailtools.system.spool import Spool, SpoolLease

_WINDOW = 2000  # messages leased at a time
_LOOK = 0.2  # seconds between looks for new mail
_LOOK_AT_DEFERRED = 20.0  # seconds
_PARTING = 30.0  # seconds that messages under way have at the end


class Reach(Protocol):
    """How sites are found and connected to."""

    def target(self, address: str) -> Target:
        """The site of a recipient."""

    def link(self, target: Target) -> Link:
        """A connection. Raises MailError."""

    def local(self, messages: Sequence[Outgoing]) -> list[list[Outcome]]:
        """Deliver into our own mailboxes."""


class Orders(NamedTuple):
    """What a run is told."""

    schedule: Schedule = Schedule()
    concurrency: int = 20  # connections
    per_site: int = 5
    site: str = ""  # only mail for this one


class Runner:
    """A run. `run` is its thread; `stop` and `wake` are for any other."""

    def __init__(
        self,
        spool: Spool,
        reach: Reach,
        orders: Orders,
        tell: Callable[[SpoolLease, str, Sequence[int]], str],
        log: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._reach = reach
        self._orders = orders
        self._desk = Desk(orders.schedule, tell, log, warn)
        self._sites = Sites(orders.concurrency, orders.per_site, clock.monotonic)
        self._changed = threading.Condition()
        self._jobs = 0
        self._woken = False
        self._stopped = False
        self._skipped = False  # mail was passed over for want of room

    # -- life ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End soon: nothing new is begun."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wake(self) -> None:
        """New mail is there."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def run(self, once: bool = False) -> bool:
        """Deliver what is due; without *once* go on until stopped. True where mail stays behind."""
        self._spool.sweep()
        arrivals = -1.0
        looked = -_LOOK_AT_DEFERRED
        while not self._stopped:
            found, now = self._spool.arrivals(), clock.monotonic()
            if found != arrivals or self._skipped or once or now - looked >= _LOOK_AT_DEFERRED:
                arrivals, looked = found, now
                self._look()
            if once and not self._skipped and self._drained():
                break
            self._rest(_LOOK)
        self._end()
        return self._spool.has_deferred()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not (self._woken or self._stopped):
                self._changed.wait(seconds)
            self._woken = False

    def _drained(self) -> bool:
        """Wait until all that was found is settled. False where that brought no new look's end."""
        with self._changed:
            while self._jobs and not self._stopped:
                self._changed.wait(_LOOK)
        return True

    def _end(self) -> None:
        for task in self._sites.stop():
            task.job.release()
        deadline = clock.monotonic() + _PARTING
        with self._changed:
            while self._sites.workers and clock.monotonic() < deadline:
                self._changed.wait(_LOOK)

    # -- finding work --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Go once through what is due."""
        self._skipped = False
        for identity in self._spool.ready(clock.now()):
            if not self._make_room():
                return
            if not self._sites.is_put_off(identity):
                self._take(identity)

    def _make_room(self) -> bool:
        """Wait until another message may be leased; False where the end came."""
        with self._changed:
            while self._jobs >= _WINDOW and not self._stopped:
                self._changed.wait(_LOOK)
            return not self._stopped

    def _take(self, identity: str, to: Target | None = None) -> None:
        """Lease *identity* and hand out its parts. *to*: the site that asked for it."""
        lease = self._spool.claim(identity)
        if lease is None:
            return
        try:
            parts = self._parts(lease)
            if parts is None:
                lease.close()
                return
        except MailError as error:
            lease.set_aside(str(error))
            lease.close()
            return
        full = next((target for target in parts if target != to and self._sites.is_full(target)), None)
        if full is not None:
            self._skipped |= not self._sites.put_off(full, identity)
            lease.close()
            return
        with self._changed:
            self._jobs += 1
        job = Job(lease, self._desk, self._job_done)
        for target, numbers in parts.items():
            job.begin()
            self._hand_out(target, Task(job, numbers))
        job.part()
        self._hire()

    def _parts(self, lease: SpoolLease) -> dict[Target, list[int]] | None:
        """The pending recipients by site; None where it is not its time, or it is for others than `site`."""
        entry = lease.entry
        if not self._orders.schedule.is_due(entry.due, clock.now()):
            lease.note_due()
            return None
        parts: dict[Target, list[int]] = {}
        for number in entry.pending:
            address = entry.envelope.recipients[number].address
            if self._orders.site and address.rpartition("@")[2].lower() != self._orders.site:
                return None
            target = self._reach.target(address)
            parts.setdefault(target, []).append(number)
        return parts

    def _hand_out(self, target: Target, task: Task) -> None:
        problem = self._sites.dead(target)
        if problem is None:
            self._sites.push(target, task)
        else:
            task.job.part(_all(task, problem))

    def _job_done(self, _: Job) -> None:
        with self._changed:
            self._jobs -= 1
            self._changed.notify_all()

    # -- workers -------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        while (site := self._sites.hire()) is not None:
            threading.Thread(target=self._work, args=(site,), name=str(site.target), daemon=True).start()

    def _work(self, site: Site) -> None:
        try:
            if site.target == LOCAL:
                self._deliver(site)
            else:
                self._send(site)
        except Exception as error:
            self._desk.warn(f"a bug at {site.target}: {type(error).__name__}: {error}")
            self._fail(site, MailError(str(error)))
        finally:
            self._sites.leave(site)
            self._hire()
            with self._changed:
                self._changed.notify_all()

    def _send(self, site: Site) -> None:
        try:
            first = self._reach.link(site.target)
        except MailError as error:
            if self._sites.failed(site, error):
                self._fail(site, error)
            return
        self._sites.connected(site)
        try:
            links = _Links(first, lambda: self._reach.link(site.target))
            under_way: dict[str, Task] = {}
            for outcomes in transfer(self._messages(site, under_way), links.open, partial=True):
                task = under_way.pop(outcomes[0].message.name)
                outcomes[0].message.body.close()
                task.job.part(results(outcomes, task.numbers))
            links.close()
        finally:
            self._sites.disconnected(site)

    def _messages(self, site: Site, under_way: dict[str, Task]) -> Iterator[Outgoing]:
        """What waits for *site*, made ready one by one."""
        while (task := self._next(site)) is not None:
            try:
                message = as_outgoing(task.job.lease, task.numbers)
            except BadDataError as error:
                self._unusable(task, error)
                continue
            under_way[message.name] = task
            yield message

    def _next(self, site: Site) -> Task | None:
        while isinstance(task := self._sites.next_task(site), str):
            self._take(task, site.target)
        return task

    def _unusable(self, task: Task, error: BadDataError) -> None:
        task.job.lease.set_aside(str(error))
        task.job.release()

    def _deliver(self, site: Site) -> None:
        while (task := self._next(site)) is not None:
            try:
                message = as_outgoing(task.job.lease, task.numbers)
            except BadDataError as error:
                self._unusable(task, error)
                continue
            (outcomes,) = self._reach.local([message])
            message.body.close()
            task.job.part(results(outcomes, task.numbers))

    def _fail(self, site: Site, problem: Exception) -> None:
        """All that waits for a dead site is put off."""
        tasks, names = self._sites.take_all(site)
        for task in tasks:
            task.job.part(_all(task, problem))
        for identity in names:
            self._take(identity)


class _Links:
    """The first connection, then others where it ends."""

    def __init__(self, first: Link, again: Callable[[], Link]) -> None:
        self._first: Link | None = first
        self._again = again

    def open(self) -> Link:
        """A connection. Raises MailError."""
        first, self._first = self._first, None
        return first or self._again()

    def close(self) -> None:
        """End the first one where nobody took it."""
        if self._first is not None:
            self._first.quit()


def _all(task: Task, problem: Exception) -> list[Result]:
    error = problem if isinstance(problem, MailError) else CannotWriteError(str(problem))
    message = envelope_only(task.job.lease, task.numbers)
    return results(failed_outcomes(message, error), task.numbers)
