"""Sites: where the recipients of a queue are, and what waits for each of them.

A site is a domain, a smarthost, a socket, or our own mailboxes: whatever one kind of connection reaches. All
methods of `Sites` are for any thread.

Nobody keeps anybody out: a site has few tasks here at a time, the rest of its mail waits in the spool by name
only; one that cannot be reached is left alone for a while, its mail put off without being tried; a connection
that others wait for is given up after some messages; and one that is not there yet takes no place from those
that deliver.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.smtp.route import Route
from mailtools.services.settle import Job

_TASKS = 20  # of one site here at a time, for each of its connections
_BACKLOG = 20_000  # ids of all sites: memory does not grow with the queue
_TURN = 100  # messages over one connection while other sites wait
_FIRST_REST, _LONGEST_REST = 60.0, 900.0  # seconds that a dead site is left alone


class Target(NamedTuple):
    """How a site is reached. *domain*: of the recipients, where MX records tell; else ""."""

    route: Route
    domain: str = ""

    def __str__(self) -> str:
        return self.domain or str(self.route)


LOCAL = Target(Route("mbox"))  # our own mailboxes


class Task(NamedTuple):
    """One message's recipients at one site, by their numbers."""

    job: Job
    numbers: Sequence[int]


class Site:
    """One site's state; only `Sites` changes it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tasks: deque[Task] = deque()
        self.backlog: deque[str] = deque()
        self.is_listed = False  # among those that may have another worker
        self.workers = 0
        self.links = 0  # workers that are connected
        self.allowed = 1  # workers; more once one got through
        self.turn = 0  # messages since a worker looked whether others wait
        self.failures = 0
        self.dead_until = 0.0  # monotonic seconds
        self.problem: Exception | None = None


class Sites:
    """All sites that are known now."""

    def __init__(self, concurrency: int, per_site: int, monotonic: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._per_site = per_site
        self._monotonic = monotonic
        self._sites: dict[Target, Site] = {}
        self._lock = threading.Lock()
        self._connected = threading.Semaphore(concurrency)
        self._waiting_links = 0
        self._idle: deque[Site] = deque()  # have work, and may have another worker
        self._backlogged: set[str] = set()
        self.workers = 0
        self.stopped = False

    # -- work comes ----------------------------------------------------------------------------------------

    def dead(self, target: Target) -> Exception | None:
        """Why mail for *target* need not be tried now; None where it may be."""
        with self._lock:
            site = self._sites.get(target)
            if site is None or site.dead_until <= self._monotonic():
                return None
            return site.problem

    def is_full(self, target: Target) -> bool:
        """Tell whether *target* has enough to do."""
        with self._lock:
            site = self._sites.get(target)
            return site is not None and len(site.tasks) >= _TASKS * self._per_site

    def is_put_off(self, identity: str) -> bool:
        """Tell whether *identity* is remembered until there is room."""
        return identity in self._backlogged

    def put_off(self, target: Target, identity: str) -> bool:
        """Remember *identity* until there is room; False where there are too many to remember."""
        with self._lock:
            if len(self._backlogged) >= _BACKLOG:
                return False
            self._backlogged.add(identity)
            self._site(target).backlog.append(identity)
            return True

    def push(self, target: Target, task: Task) -> None:
        """A task for *target*."""
        with self._lock:
            site = self._site(target)
            site.tasks.append(task)
            self._list(site)

    def _site(self, target: Target) -> Site:
        site = self._sites.get(target)
        if site is None:
            self._drop_some()
            site = self._sites[target] = Site(target)
        return site

    def _drop_some(self) -> None:
        if len(self._sites) < 10_000:
            return
        now = self._monotonic()
        for target in [t for t, s in self._sites.items() if not (s.tasks or s.backlog or s.workers)]:
            if self._sites[target].dead_until <= now:
                del self._sites[target]

    # -- workers -------------------------------------------------------------------------------------------

    def hire(self) -> Site | None:
        """A site that shall have one more worker now, counted as there; None where none shall."""
        with self._lock:
            # Those that wait for an answer to their first word take no place of those that deliver.
            while self._idle and self.workers < 5 * self._concurrency and not self.stopped:
                site = self._idle.popleft()
                site.is_listed = False
                if self._may_hire(site):
                    site.workers += 1
                    self.workers += 1
                    self._list(site)
                    return site
            return None

    def _list(self, site: Site) -> None:
        if not site.is_listed and self._may_hire(site):
            site.is_listed = True
            self._idle.append(site)

    def _may_hire(self, site: Site) -> bool:
        return site.workers < site.allowed and len(site.tasks) + len(site.backlog) > site.workers

    def leave(self, site: Site) -> None:
        """A worker ends."""
        with self._lock:
            site.workers -= 1
            self.workers -= 1
            self._list(site)

    def next_task(self, site: Site) -> Task | str | None:
        """A task, or the id of a message to be claimed; None where the worker shall end."""
        with self._lock:
            site.turn += 1
            if self.stopped or (site.turn > _TURN and self._others_wait(site)):
                site.turn = 0
                return None
            if site.tasks:
                return site.tasks.popleft()
            if site.backlog:
                identity = site.backlog.popleft()
                self._backlogged.discard(identity)
                return identity
            return None

    def _others_wait(self, site: Site) -> bool:
        return self._waiting_links > 0 or any(other is not site for other in self._idle)

    # -- connections ---------------------------------------------------------------------------------------

    def connected(self, site: Site) -> None:
        """A worker got through: wait for a place among those that deliver."""
        if not self._connected.acquire(blocking=False):
            with self._lock:
                self._waiting_links += 1
            self._connected.acquire()
            with self._lock:
                self._waiting_links -= 1
        with self._lock:
            site.links += 1
            site.failures = 0
            site.dead_until = 0.0
            site.allowed = self._per_site
            self._list(site)

    def disconnected(self, site: Site) -> None:
        """Its connection is closed."""
        self._connected.release()
        with self._lock:
            site.links -= 1

    def failed(self, site: Site, problem: Exception) -> bool:
        """No connection could be had. True: the site is dead for now. False: it lets no more of us in."""
        with self._lock:
            if site.links:
                site.allowed = max(1, site.links)
                return False
            rest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(site.failures, 10))
            site.failures += 1
            site.allowed = 1
            site.dead_until = self._monotonic() + rest
            site.problem = problem
            return True

    def take_all(self, site: Site) -> tuple[list[Task], list[str]]:
        """Everything that waits for *site*, which has none then."""
        with self._lock:
            tasks, names = list(site.tasks), list(site.backlog)
            site.tasks.clear()
            site.backlog.clear()
            self._backlogged.difference_update(names)
            return tasks, names

    def stop(self) -> list[Task]:
        """No more work is given out; what was not begun comes back."""
        with self._lock:
            self.stopped = True
            tasks = [task for site in self._sites.values() for task in site.tasks]
            for site in self._sites.values():
                site.tasks.clear()
                site.backlog.clear()
            self._backlogged.clear()
            return tasks

    @property
    def is_idle(self) -> bool:
        """Tell whether no worker is there and nothing waits for one."""
        with self._lock:
            return not self.workers and not self._idle
