"""The sites of a queue run: where recipients are, and the mail that waits for each site.

A site is what one kind of connection reaches: a domain, a smarthost, a socket. Everything here belongs to
the runner's thread.

No site keeps the others waiting:
* A site has few tasks in memory at a time; the rest of its mail waits in the spool by its ids.
* A site that cannot be reached rests for a while, and its mail is put off untried.
* A connection ends after some messages if others wait for a place.
* A connection that is still being made takes no place from those that deliver. One that waits for a silent
  server, before it delivers or later, is slow: it gives its place to another one.
* Half of the places are only for sites whose last connection did not fail.
* The more connections are in the making, the shorter the new ones may take.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.smtp.route import Route
from mailtools.services.queue.job import Job

_TASKS = 20  # tasks of one site in memory at a time, for each of its connections
_BACKLOG = 20_000  # ids for all sites, so that memory does not grow with the queue
_EACH = 3  # tasks that wait for each connection before one more is made
_TURN = 100  # messages over one connection while other sites wait
_OPENING = 5  # connections that may be in the making for each that may deliver, without the slow ones
_MOST = 20  # with the slow ones; each has a thread while it is made
_STALLED = 50  # connections that deliver, but slowly, for each that may deliver
_LONGEST = 300.0  # seconds that connecting may take when many connections are in the making ...
_SHORTEST = 15.0  # ... and when there are as many as may be: postscreen(8) answers after 6 seconds
_IN_MEMORY = ((500, 1000), (1500, 3))  # tasks in memory; up to which a site not reached yet may have so many
_LONGEST_REST = 900.0  # seconds that a dead site rests
_SITES = 10_000  # sites that are remembered


class SiteTarget(NamedTuple):
    """How a site is reached. *domain*: the recipients' domain if MX records say where it is, else ""."""

    route: Route
    domain: str = ""
    tls: str = ""  # the TLS mode asked for; "": the usual one of the route
    account: str = ""  # the account of the configuration, which has all other settings

    def __str__(self) -> str:
        return self.domain or self.account or str(self.route)


class Task(NamedTuple):
    """The recipients of one message at one site, by their numbers."""

    job: Job
    numbers: Sequence[int]


class Site:
    """The state of one site. `Sites` changes it."""

    def __init__(self, target: SiteTarget) -> None:
        self.target = target
        self.tasks: deque[Task] = deque()
        self.backlog: deque[str] = deque()
        # for each connection that waits for a task: the function that wakes it
        self.idle: list[Callable[[], None]] = []
        self.is_listed = False  # it is among the sites that may have one more connection
        self.couriers = 0  # connections, with those in the making
        self.links = 0  # connections that deliver
        self.stalled = 0  # those of them that wait for a silent server
        self.allowed = 1  # connections that may be made; more once one succeeded
        self.turn = 0  # messages since the last check for others that wait
        self.failures = 0
        self.dead_until = 0.0  # monotonic seconds
        self.problem: MailError | None = None

    @property
    def has_work(self) -> bool:
        """True if any mail waits."""
        return bool(self.tasks or self.backlog)


class Sites:
    """All sites that are known now."""

    def __init__(
        self,
        concurrency: int,
        per_site: int,
        rest: Callable[[int], float],  # returns the seconds that a site rests after so many failures
        monotonic: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._concurrency = concurrency
        self._per_site = per_site
        self._monotonic = monotonic
        self._sites: dict[SiteTarget, Site] = {}
        # sites that have work and may have one more courier: those whose last connection did not fail, others
        self._wanting: deque[Site] = deque()
        self._doubtful: deque[Site] = deque()
        self._waiting: deque[Callable[[], None]] = (
            deque()
        )  # connected couriers that wait for a place among those that deliver
        self._backlogged: set[str] = set()
        self.couriers = 0
        self.slow = 0  # couriers that wait for a silent server
        self.stalled = 0  # those of them that deliver
        self.links = 0  # connections that deliver, without the slow ones
        self.stopped = False

    # -- work comes ----------------------------------------------------------------------------------------

    def dead(self, target: SiteTarget) -> MailError | None:
        """Return why mail for *target* need not be tried now, or None."""
        site = self._sites.get(target)
        return site.problem if site is not None and site.dead_until > self._monotonic() else None

    def is_full(self, target: SiteTarget, in_memory: int = 0) -> bool:
        """Return True if *target* has enough tasks; *in_memory*: the tasks of all sites.

        Sites that do not answer must not fill the memory.
        """
        site = self._sites.get(target)
        if site is None:
            return False
        most = _TASKS * self._per_site
        if site.links <= site.stalled:
            most = min(most, next((its for limit, its in _IN_MEMORY if in_memory < limit), 1))
        return len(site.tasks) >= most

    def is_put_off(self, identity: str) -> bool:
        """Return True if *identity* is put off until there is room."""
        return identity in self._backlogged

    @property
    def has_room(self) -> bool:
        """True if more ids can be put off."""
        return len(self._backlogged) < _BACKLOG

    def put_off(self, target: SiteTarget, identity: str) -> None:
        """Keep *identity* until *target* has fewer tasks."""
        self._backlogged.add(identity)
        self._site(target).backlog.append(identity)

    def push(self, target: SiteTarget, task: Task) -> None:
        """Add a task for *target*."""
        site = self._site(target)
        site.tasks.append(task)
        if site.idle:
            site.idle.pop()()
        else:
            self._list(site)

    def _site(self, target: SiteTarget) -> Site:
        site = self._sites.get(target)
        if site is None:
            if len(self._sites) >= _SITES:
                self._forget_some()
            site = self._sites[target] = Site(target)
        return site

    def _forget_some(self) -> None:
        now = self._monotonic()
        for target, site in list(self._sites.items()):
            if not (site.has_work or site.couriers or site.dead_until > now):
                del self._sites[target]

    # -- couriers ------------------------------------------------------------------------------------------

    def _list(self, site: Site) -> None:
        if not site.is_listed and self._may_hire(site):
            site.is_listed = True
            (self._doubtful if site.failures else self._wanting).append(site)

    def _may_hire(self, site: Site) -> bool:
        if site.couriers and self.couriers - self.slow >= self._concurrency:
            # a second connection to the same site would wait for a place for which others make room
            return False
        waiting = len(site.tasks) + len(site.backlog)
        return site.couriers < site.allowed and waiting > _EACH * site.couriers

    def hire(self) -> Site | None:
        """Return a site that shall have one more courier, and count the courier; None if no site shall."""
        while (wanting := self._next_listed()) and not self.stopped:
            site = wanting.popleft()
            site.is_listed = False
            if self._may_hire(site):
                site.couriers += 1
                self.couriers += 1
                self._list(site)
                return site
        return None

    def _next_listed(self) -> deque[Site] | None:
        """Return the list of the site that is next, None if no site waits for a courier, or none is free."""
        if self._wanting and self._has_places(1.0):
            return self._wanting
        return self._doubtful if self._doubtful and self._has_places(0.5) else None

    def _has_places(self, share: float) -> bool:
        """Return True if less than *share* of the places for connections in the making are taken."""
        quick = self.couriers - self.slow
        in_threads = self.couriers - min(self.stalled, _STALLED * self._concurrency)
        most = share * self._concurrency
        return quick < _OPENING * most and in_threads < _MOST * most

    @property
    def patience(self) -> float:
        """Seconds that a connection may take that is begun now; infinite while there are few."""
        few, most = _OPENING * self._concurrency, _MOST * self._concurrency
        crowd = (self.couriers - self.stalled - few) / (most - few)
        if crowd <= 0:
            return math.inf
        return float(_LONGEST * (_SHORTEST / _LONGEST) ** min(1.0, crowd))

    def leave(self, site: Site) -> None:
        """Note that a courier has ended."""
        site.couriers -= 1
        self.couriers -= 1
        self._list(site)

    def next_task(self, site: Site) -> Task | str | None:
        """Return a task, or the id of a message to lease; None if there is neither."""
        site.turn += 1
        if site.tasks:
            return site.tasks.popleft()
        if site.backlog:
            identity = site.backlog.popleft()
            self._backlogged.discard(identity)
            return identity
        return None

    def rest(self, site: Site, wake: Callable[[], None]) -> None:
        """Note a connection that waits for a task; *wake* is called when there is one."""
        site.idle.append(wake)

    def has_rested(self, site: Site, wake: Callable[[], None]) -> bool:
        """End the wait of a connection; return False if it was woken before."""
        if wake not in site.idle:
            return False
        site.idle.remove(wake)
        return True

    def shall_end(self, site: Site) -> bool:
        """Return True if a courier of *site* must end: to make room, or because the run ends."""
        if self.stopped:
            return True
        if site.turn > _TURN and self.others_wait:
            site.turn = 0
            return True
        return False

    @property
    def others_wait(self) -> bool:
        """True if another site waits for a place."""
        return bool(self._waiting) or (bool(self._wanting) and not self._has_places(1.0))

    # -- connections ---------------------------------------------------------------------------------------

    def connected(self, site: Site, go_on: Callable[[], None]) -> None:
        """Note that a courier has connected; *go_on* is called when it may deliver."""
        site.failures = 0
        site.dead_until = 0.0
        site.allowed = self._per_site
        self._list(site)
        self._waiting.append(lambda: self._let_go(site, go_on))
        self._admit()

    def _let_go(self, site: Site, go_on: Callable[[], None]) -> None:
        site.links += 1
        self.links += 1
        go_on()

    def _admit(self) -> None:
        while self._waiting and self.links < self._concurrency:
            self._waiting.popleft()()

    def disconnected(self, site: Site) -> None:
        """Note that a connection that delivered is closed."""
        site.links -= 1
        self.links -= 1
        self._admit()

    def slow_down(self, site: Site, is_delivering: bool) -> None:
        """Note that a courier waits for a silent server: another one gets its place."""
        self.slow += 1
        if is_delivering:
            self.stalled += 1
            site.stalled += 1
            self.links -= 1
            self._admit()

    def speed_up(self, site: Site, is_delivering: bool) -> None:
        """Note that the server of a slow courier went on, or that it was given up."""
        self.slow -= 1
        if is_delivering:
            self.stalled -= 1
            site.stalled -= 1
            self.links += 1  # perhaps one more than usual, for a while

    def failed(self, site: Site, problem: MailError) -> bool:
        """Note that no connection could be made.

        Returns True if the site is dead for now, False if it only refuses one more connection.
        """
        if site.links:
            site.allowed = max(1, site.links)
            return False
        site.failures += 1
        rest = min(_LONGEST_REST, self._rest(site.failures))
        site.allowed = 1
        site.dead_until = self._monotonic() + rest
        site.problem = problem
        return True

    def take_all(self, site: Site) -> tuple[list[Task], list[str]]:
        """Return everything that waits for *site*, and remove it."""
        tasks, names = list(site.tasks), list(site.backlog)
        site.tasks.clear()
        site.backlog.clear()
        self._backlogged.difference_update(names)
        return tasks, names

    def stop(self) -> list[Task]:
        """Give out no more work; return the tasks that were not begun."""
        self.stopped = True
        tasks = [task for site in self._sites.values() for task in self.take_all(site)[0]]
        self.wake_all()
        return tasks

    def wake_all(self) -> None:
        """Wake all idle connections."""
        for site in self._sites.values():
            while site.idle:
                site.idle.pop()()
