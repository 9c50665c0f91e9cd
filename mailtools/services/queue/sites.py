"""Sites: where the recipients of a queue are, and what waits for each of them.

A site is a domain, a smarthost, a socket: whatever one kind of connection reaches. All of it belongs to the
thread of the runner.

Nobody keeps anybody out: a site has few tasks here at a time, the rest of its mail waits in the spool by name
only; one that cannot be reached is left alone for a while, its mail put off without being tried; a connection
that others wait for is given up after some messages; and one that is not there yet takes no place from those
that deliver.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.smtp.route import Route
from mailtools.services.queue.job import Job

_TASKS = 20  # of one site here at a time, for each of its connections
_BACKLOG = 20_000  # ids of all sites: memory does not grow with the queue
_EACH = 3  # tasks that wait for each connection before there is another
_TURN = 100  # messages over one connection while other sites wait
_OPENING = 5  # connections that may be on their way for each that may deliver
_LONGEST_REST = 900.0  # seconds that a dead site is left alone
_SITES = 10_000  # that are remembered


class SiteTarget(NamedTuple):
    """How a site is reached. *domain*: of the recipients, where MX records tell; else ""."""

    route: Route
    domain: str = ""
    tls: str = ""  # what was asked for; "": the route's usual
    account: str = ""  # of the configuration; it says all else

    def __str__(self) -> str:
        return self.domain or self.account or str(self.route)


class Task(NamedTuple):
    """One message's recipients at one site, by their numbers."""

    job: Job
    numbers: Sequence[int]


class Site:
    """One site's state; `Sites` changes it."""

    def __init__(self, target: SiteTarget) -> None:
        self.target = target
        self.tasks: deque[Task] = deque()
        self.backlog: deque[str] = deque()
        self.idle: list[Callable[[], None]] = []  # connections that wait for a task: how to wake them
        self.is_listed = False  # among those that may have another connection
        self.couriers = 0  # connections, and those on their way
        self.links = 0  # connections that deliver
        self.allowed = 1  # couriers; more once one got through
        self.turn = 0  # messages since it was looked whether others wait
        self.failures = 0
        self.dead_until = 0.0  # monotonic seconds
        self.problem: MailError | None = None

    @property
    def has_work(self) -> bool:
        """Tell whether anything waits."""
        return bool(self.tasks or self.backlog)


class Sites:
    """All sites that are known now."""

    def __init__(
        self,
        concurrency: int,
        per_site: int,
        rest: Callable[[int], float],  # seconds to leave a site alone that failed so many times
        monotonic: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._concurrency = concurrency
        self._per_site = per_site
        self._monotonic = monotonic
        self._sites: dict[SiteTarget, Site] = {}
        self._wanting: deque[Site] = deque()  # have work, and may have another courier
        self._waiting: deque[Callable[[], None]] = (
            deque()
        )  # connected, with no place among those that deliver
        self._backlogged: set[str] = set()
        self.couriers = 0
        self.links = 0
        self.stopped = False

    # -- work comes ----------------------------------------------------------------------------------------

    def dead(self, target: SiteTarget) -> MailError | None:
        """Why mail for *target* need not be tried now; None where it may be."""
        site = self._sites.get(target)
        return site.problem if site is not None and site.dead_until > self._monotonic() else None

    def is_full(self, target: SiteTarget) -> bool:
        """Tell whether *target* has enough to do."""
        site = self._sites.get(target)
        return site is not None and len(site.tasks) >= _TASKS * self._per_site

    def is_put_off(self, identity: str) -> bool:
        """Tell whether *identity* is remembered until there is room."""
        return identity in self._backlogged

    @property
    def has_room(self) -> bool:
        """Tell whether more ids can be remembered."""
        return len(self._backlogged) < _BACKLOG

    def put_off(self, target: SiteTarget, identity: str) -> None:
        """Remember *identity* until *target* has less to do."""
        self._backlogged.add(identity)
        self._site(target).backlog.append(identity)

    def push(self, target: SiteTarget, task: Task) -> None:
        """A task for *target*."""
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
            self._wanting.append(site)

    def _may_hire(self, site: Site) -> bool:
        if site.couriers and self.couriers >= self._concurrency:
            return False  # a second one to the same site would wait for a place, and others make room for it
        waiting = len(site.tasks) + len(site.backlog)
        return site.couriers < site.allowed and waiting > _EACH * site.couriers

    def hire(self) -> Site | None:
        """A site that shall have one more courier now, counted as there; None where none shall."""
        while self._wanting and self.couriers < _OPENING * self._concurrency and not self.stopped:
            site = self._wanting.popleft()
            site.is_listed = False
            if self._may_hire(site):
                site.couriers += 1
                self.couriers += 1
                self._list(site)
                return site
        return None

    def leave(self, site: Site) -> None:
        """A courier ends."""
        site.couriers -= 1
        self.couriers -= 1
        self._list(site)

    def next_task(self, site: Site) -> Task | str | None:
        """A task, or the id of a message to be leased; None where there is none now."""
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
        """Tell whether a courier of *site* has to make room, or it is the end."""
        if self.stopped:
            return True
        if site.turn > _TURN and self.others_wait:
            site.turn = 0
            return True
        return False

    @property
    def others_wait(self) -> bool:
        """Tell whether somebody waits for a place."""
        return bool(self._waiting) or (bool(self._wanting) and self.couriers >= _OPENING * self._concurrency)

    # -- connections ---------------------------------------------------------------------------------------

    def connected(self, site: Site, go_on: Callable[[], None]) -> None:
        """A courier got through; *go_on* is called when it may deliver."""
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
        """A connection that delivered is closed."""
        site.links -= 1
        self.links -= 1
        self._admit()

    def failed(self, site: Site, problem: MailError) -> bool:
        """No connection could be had. True: the site is dead for now. False: it lets no more of us in."""
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
        """Everything that waits for *site*, which has none then."""
        tasks, names = list(site.tasks), list(site.backlog)
        site.tasks.clear()
        site.backlog.clear()
        self._backlogged.difference_update(names)
        return tasks, names

    def stop(self) -> list[Task]:
        """No more work is given out; what was not begun comes back."""
        self.stopped = True
        tasks = [task for site in self._sites.values() for task in self.take_all(site)[0]]
        self.wake_all()
        return tasks

    def wake_all(self) -> None:
        """Idle connections look up."""
        for site in self._sites.values():
            while site.idle:
                site.idle.pop()()
