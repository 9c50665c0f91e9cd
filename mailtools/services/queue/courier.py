"""A courier: one connection to a site, then message after message (services/smtp_client/transaction).

It belongs to the runner's thread; only connecting, which waits for names, handshakes and logins, has a thread
of its own. At any time it waits for one thing, and what comes of others finds it deaf: an event of a
connection that was closed, a clock that looks at one.
"""

import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol

from mailtools.core.errors import MailError
from mailtools.services.queue.job import results
from mailtools.services.queue.sites import Site, Sites, SiteTarget, Task
from mailtools.services.smtp_client.connection import Link, Patience
from mailtools.services.smtp_client.transaction import Need, session
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system.net.poller import Turns

_LINGER = 0.5  # seconds that a connection waits for more: fewer of them are made


class Office(Protocol):
    """What a courier needs of the runner."""

    sites: Sites
    turns: Turns

    def open_link(self, target: SiteTarget) -> Link:
        """A connection. Blocks; raises MailError."""

    def next_message(self, site: Site) -> tuple[Task, Outgoing] | None:
        """What is to be sent next; None where there is nothing now."""

    def site_failed(self, site: Site, problem: MailError) -> None:
        """No connection could be had."""

    def courier_left(self, courier: "Courier") -> None:
        """The connection is over."""

    def warn(self, text: str) -> None:
        """Tell an operator."""


class _Wait(Enum):
    """What a courier waits for."""

    DIAL = 1
    PLACE = 2  # among those that deliver
    LINK = 3  # octets
    TASK = 4
    NOTHING = 5  # it is over


class Courier:
    """One connection's life: opened, used, left."""

    def __init__(self, site: Site, office: Office) -> None:
        self.site = site
        self._office = office
        self._session = session(self._messages(), partial=True, eager=True)
        self._under_way: dict[str, Task] = {}
        self._link: Link | None = None  # the one that is watched
        self._waits = _Wait.DIAL
        self._is_delivering = False  # has a place among those that do
        self._patience = Patience()

    def start(self) -> None:
        """Connect; the rest follows."""
        self._connect(self._begin)

    # -- connecting ----------------------------------------------------------------------------------------

    def _connect(self, then: Callable[["Link | MailError"], None]) -> None:
        self._waits = _Wait.DIAL

        def work() -> None:
            try:
                found: Link | MailError = self._office.open_link(self.site.target)
            except MailError as error:
                found = error
            except Exception as error:
                found = MailError(f"a bug: {type(error).__name__}: {error}")
            self._office.turns.post(lambda: then(found))

        threading.Thread(target=work, name=str(self.site.target), daemon=True).start()

    def _begin(self, found: "Link | MailError") -> None:
        if isinstance(found, MailError):
            self._office.site_failed(self.site, found)
            self._leave()
            return
        self._waits = _Wait.PLACE
        self._office.sites.connected(self.site, lambda: self._deliver(found))

    def _deliver(self, link: Link) -> None:
        self._is_delivering = True
        if self.site.has_work:
            self._go_on(None, first=link)
        else:  # others were quicker while we connected
            link.leave()
            self._leave()

    # -- the session ---------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[Outgoing | None]:
        while not self._office.sites.shall_end(self.site):
            found = self._office.next_message(self.site)
            if found is None:
                yield None
            else:
                task, message = found
                self._under_way[message.name] = task
                yield message

    def _go_on(self, answer: "Link | MailError | None", first: Link | None = None) -> None:
        """Have the session go on until it has to wait."""
        try:
            self._talk(answer, first)
        except StopIteration:
            self._leave()
        except Exception as error:
            self._office.warn(f"a bug at {self.site.target}: {type(error).__name__}: {error}")
            self._leave()

    def _talk(self, answer: "Link | MailError | None", first: Link | None) -> None:
        talk = self._session
        while True:
            step = talk.throw(answer) if isinstance(answer, MailError) else talk.send(answer)
            answer = None
            if isinstance(step, list):
                self._settle(step)
            elif isinstance(step, Link):
                self._watch(step)
                return
            elif step is Need.MESSAGE:
                self._rest()
                return
            elif first is not None:
                answer, first = first, None
            else:
                self._connect(self._go_on)
                return

    def _settle(self, outcomes: list[Outcome]) -> None:
        message = outcomes[0].message
        task = self._under_way.pop(message.name)
        message.body.close()
        task.job.part(results(outcomes, task.numbers))

    def _watch(self, link: Link) -> None:
        self._waits = _Wait.LINK
        if link is not self._link:
            self._forget()
            self._link = link
            self._office.turns.watch(link.fileno(), self._ready)

    def _ready(self) -> None:
        if self._waits is _Wait.LINK:
            self._go_on(None)

    def look_at_clock(self) -> None:
        """A server that gets nowhere is given up."""
        if self._waits is _Wait.LINK and self._link is not None:
            try:
                self._patience.left(self._link)
            except MailError as error:
                self._go_on(error)

    def _forget(self) -> None:
        if self._link is not None:
            self._office.turns.forget(self._link.fileno())
            self._link = None

    # -- nothing to do, and the end ------------------------------------------------------------------------

    def _rest(self) -> None:
        """Wait a little for more; no longer than others can."""
        if self._link is None or self._office.sites.others_wait:
            self._say_goodbye()
            return
        self._waits = _Wait.TASK
        self.site.idle.append(self._wake)
        self._office.turns.later(_LINGER, self._rested)

    def _wake(self) -> None:
        self._office.turns.post(self._awake)

    def _awake(self) -> None:
        if self._waits is _Wait.TASK:
            self._go_on(None)

    def _rested(self) -> None:
        if self._waits is _Wait.TASK and self._wake in self.site.idle:
            self.site.idle.remove(self._wake)
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        link = self._link
        self._forget()
        if link is not None:
            link.leave()
        self._leave()

    def _leave(self) -> None:
        if self._waits is _Wait.NOTHING:
            return
        self._waits = _Wait.NOTHING
        self._forget()
        self._session.close()
        for task in self._under_way.values():  # none, but after a bug
            task.job.release()
        if self._is_delivering:
            self._office.sites.disconnected(self.site)
        self._office.courier_left(self)
