"""A courier: one connection to a site, and over it one message after the other (services/transfer).

It belongs to the runner's thread; only connecting, which waits for names, handshakes and logins, has a thread
of its own.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from mailtools.core.errors import MailError
from mailtools.services.link import Link
from mailtools.services.outgoing import Outgoing
from mailtools.services.settle import results
from mailtools.services.sites import Site, Sites, Target, Task
from mailtools.services.transfer import Need, Outcome, session
from mailtools.system import clock
from mailtools.system.pump import silence
from mailtools.system.turns import Turns

_LINGER = 0.5  # seconds that a connection waits for more: fewer of them are made


class Office(Protocol):
    """What a courier needs of the runner."""

    sites: Sites
    turns: Turns

    def open_link(self, target: Target) -> Link:
        """A connection. Blocks; raises MailError."""

    def next_message(self, site: Site) -> tuple[Task, Outgoing] | None:
        """What is to be sent next; None where there is nothing now."""

    def site_failed(self, site: Site, problem: MailError) -> None:
        """No connection could be had."""

    def courier_left(self, site: Site) -> None:
        """The connection is over."""


class Courier:
    """One connection's life: opened, used, left."""

    def __init__(self, site: Site, office: Office) -> None:
        self._site = site
        self._office = office
        self._session = session(self._messages(), partial=True, eager=True)
        self._under_way: dict[str, Task] = {}
        self._link: Link | None = None  # the one that is watched
        self._is_delivering = False  # has a place among those that do
        self._is_idle = False
        self._spoke = 0.0  # monotonic seconds
        self._ended = False

    def start(self) -> None:
        """Connect; the rest follows."""
        self._connect(self._begin)

    # -- connecting ----------------------------------------------------------------------------------------

    def _connect(self, then: Callable[["Link | MailError"], None]) -> None:
        def work() -> None:
            try:
                found: Link | MailError = self._office.open_link(self._site.target)
            except MailError as error:
                found = error
            except Exception as error:
                found = MailError(f"a bug: {type(error).__name__}: {error}")
            self._office.turns.post(lambda: then(found))

        threading.Thread(target=work, name=str(self._site.target), daemon=True).start()

    def _begin(self, found: "Link | MailError") -> None:
        if isinstance(found, MailError):
            self._office.site_failed(self._site, found)
            self._leave()
            return
        self._office.sites.connected(self._site, lambda: self._deliver(found))

    def _deliver(self, link: Link) -> None:
        self._is_delivering = True
        if not self._site.has_work:  # others were quicker while we connected
            link.quit()
            self._leave()
            return
        self._go_on(None, first=link)

    # -- the session ---------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[Outgoing | None]:
        while not self._office.sites.shall_end(self._site):
            found = self._office.next_message(self._site)
            if found is None:
                yield None
            else:
                task, message = found
                self._under_way[message.name] = task
                yield message

    def _go_on(self, answer: "Link | MailError | None", first: Link | None = None) -> None:
        """Have the session go on until it has to wait."""
        while not self._ended:
            try:
                step = (
                    self._session.throw(answer)
                    if isinstance(answer, MailError)
                    else self._session.send(answer)
                )
            except StopIteration:
                self._leave()
                return
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
        self._spoke = clock.monotonic()
        if link is not self._link:
            self._forget()
            self._link = link
            self._office.turns.watch(link.fileno(), self._ready)
            self._look_at_clock()

    def _ready(self) -> None:
        if not self._is_idle:
            self._go_on(None)

    def _look_at_clock(self) -> None:
        """A server that says nothing for too long is given up."""
        if self._ended or self._link is None:
            return
        left = self._spoke + self._link.timeout - clock.monotonic()
        if left <= 0 and not self._is_idle:
            self._go_on(silence(self._link.timeout))
        else:
            self._office.turns.later(max(left, 1.0), self._look_at_clock)

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
        self._is_idle = True
        self._site.idle.append(self._wake)
        self._office.turns.later(_LINGER, self._rested)

    def _wake(self) -> None:
        self._office.turns.post(self._awake)

    def _awake(self) -> None:
        self._is_idle = False
        self._go_on(None)

    def _rested(self) -> None:
        if self._is_idle and self._wake in self._site.idle:
            self._site.idle.remove(self._wake)
            self._is_idle = False
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        link = self._link
        if link is not None:
            link.say("QUIT")
            link.push()
        self._session.close()
        self._leave()

    def _leave(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._forget()
        if self._is_delivering:
            self._office.sites.disconnected(self._site)
        self._office.courier_left(self._site)
