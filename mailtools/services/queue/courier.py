"""A courier: one connection to a site, and one message after another over it.

A courier belongs to the runner's thread and drives a `Sender`. Only connecting, which waits for names,
handshakes and logins, has a thread of its own. A courier waits for one thing at a time; stale events are
ignored, such as those of a connection that was closed.
"""

import threading
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from mailtools.core.errors import MailError
from mailtools.services.queue.sites import Site, Sites, SiteTarget, Task
from mailtools.services.smtp_client.connection import Link, Patience
from mailtools.services.smtp_client.sender import Sender
from mailtools.services.smtp_client.transaction import Need
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system import clock
from mailtools.system.net.poller import Poller

_LINGER = 0.5  # seconds that an idle connection stays open: so fewer connections are made
_SLOW = 2.0  # seconds that a connection may take before it counts as slow
_STALLED = 5.0  # seconds without progress after which a connection that delivers counts as slow
_LATE = 20.0  # seconds for one message, after which it counts as slow too: some servers reply, but late


class Office(Protocol):
    """What a courier needs of the runner."""

    sites: Sites
    poller: Poller

    def open_link(self, target: SiteTarget, patience: float) -> Link:
        """Connect within *patience* seconds. Blocks; raises MailError."""

    def next_message(self, site: Site) -> tuple[Task, Outgoing] | None:
        """Return the message to send next, or None if there is none now."""

    def tried(self, task: Task, outcomes: list[Outcome]) -> None:
        """Take the outcomes of a task."""

    def untried(self, task: Task) -> None:
        """Take back a task that was not tried."""

    def site_failed(self, site: Site, problem: MailError) -> None:
        """Note that no connection could be made."""

    def courier_left(self, courier: "Courier") -> None:
        """Note that the connection is closed."""

    def warn(self, text: str) -> None:
        """Warn an operator."""


class _Wait(Enum):
    """What a courier waits for."""

    DIAL = 1  # a connection
    PLACE = 2  # to be one of the connections that deliver
    LINK = 3  # the connection becomes readable or writable
    TASK = 4  # mail for its site
    NOTHING = 5  # it has ended


class Courier:
    """One connection from its beginning to its end."""

    def __init__(self, site: Site, office: Office) -> None:
        self.site = site
        self._office = office
        self._sender = Sender(partial=True)
        self._under_way: dict[str, Task] = {}
        self._link: Link | None = None  # the link that is watched
        self._waits = _Wait.DIAL
        self._is_delivering = False  # counts as one of the connections that deliver
        self._is_slow = False  # waits for a silent server, and `sites` knows it
        self._dialled = 0.0  # monotonic seconds
        self._settled = 0.0  # monotonic seconds: the last message was, or the first one could begin
        self._patience = Patience()

    def start(self) -> None:
        """Connect; the rest follows."""
        self._connect(self._begin)

    # -- connecting ----------------------------------------------------------------------------------------

    def _connect(self, then: Callable[["Link | MailError"], None]) -> None:
        self._waits = _Wait.DIAL
        self._dialled = clock.monotonic()
        patience = self._office.sites.patience

        def work() -> None:
            try:
                found: Link | MailError = self._office.open_link(self.site.target, patience)
            except MailError as error:
                found = error
            except Exception as error:
                found = MailError(f"a bug: {type(error).__name__}: {error}")
            self._office.poller.post(lambda: then(found))

        threading.Thread(target=work, name=str(self.site.target), daemon=True).start()

    def _begin(self, found: "Link | MailError") -> None:
        self._speed_up()
        if isinstance(found, MailError):
            self._office.site_failed(self.site, found)
            self._leave()
            return
        self._waits = _Wait.PLACE
        self._office.sites.connected(self.site, lambda: self._deliver(found))

    def _deliver(self, link: Link) -> None:
        self._is_delivering = True
        self._settled = clock.monotonic()
        self._sender.use(link)
        if self.site.has_work:
            self._go_on()
        else:  # other couriers took the work while we connected
            self._say_goodbye()

    def _reconnected(self, found: "Link | MailError") -> None:
        self._speed_up()
        if isinstance(found, MailError):
            self._sender.fail(found)
        else:
            self._sender.use(found)
        self._go_on()

    # -- sending -------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Let the sender go on until it has to wait."""
        try:
            self._poll()
        except Exception as error:
            self._office.warn(f"a bug at {self.site.target}: {type(error).__name__}: {error}")
            self._leave()

    def _poll(self) -> None:
        sender = self._sender
        while True:
            step = sender.poll()
            if isinstance(step, list):
                self._settle(step)
            elif step is Need.MESSAGE:
                if not self._offer() and sender.is_idle:
                    self._rest()
                    return
            elif step is Need.TIME:
                assert sender.link is not None
                self._watch(sender.link)
                return
            elif step is Need.LINK:
                self._connect(self._reconnected)
                return
            else:
                self._leave()
                return

    def _offer(self) -> bool:
        """Offer the next message, or the end; return False if there is no message now."""
        if self._office.sites.shall_end(self.site):
            self._sender.end()
            return True
        found = self._office.next_message(self.site)
        if found is None:
            return False
        task, message = found
        self._under_way[message.name] = task
        self._sender.offer(message)
        return True

    def _settle(self, outcomes: list[Outcome]) -> None:
        message = outcomes[0].message
        self._settled = clock.monotonic()
        task = self._under_way.pop(message.name)
        message.body.close()
        self._office.tried(task, outcomes)

    def _watch(self, link: Link) -> None:
        self._waits = _Wait.LINK
        if link is not self._link:
            self._forget()
            self._link = link
            self._office.poller.watch(link.fileno(), self._ready)

    def _ready(self) -> None:
        if self._waits is _Wait.LINK:
            self._go_on()

    def look_at_clock(self) -> None:
        """Give up a server that makes no progress; before that, let others have our place."""
        if self._waits is _Wait.LINK and self._link is not None:
            try:
                silent = self._link.timeout - self._patience.left(self._link)
            except MailError as error:
                self._speed_up()
                self._sender.fail(error)
                self._go_on()
                return
            if silent < _STALLED and clock.monotonic() - self._settled < _LATE:
                self._speed_up()
            else:
                self._slow_down()
        elif self._waits is _Wait.DIAL and clock.monotonic() - self._dialled >= _SLOW:
            self._slow_down()

    def _slow_down(self) -> None:
        if not self._is_slow:
            self._is_slow = True
            self._office.sites.slow_down(self.site, self._is_delivering)

    def _speed_up(self) -> None:
        if self._is_slow:
            self._is_slow = False
            self._office.sites.speed_up(self.site, self._is_delivering)

    def _forget(self) -> None:
        if self._link is not None:
            self._office.poller.forget(self._link.fileno())
            self._link = None

    # -- nothing to do, and the end ------------------------------------------------------------------------

    def _rest(self) -> None:
        """Keep the connection open a little, unless others wait for a place."""
        if self._sender.link is None or self._office.sites.others_wait:
            self._say_goodbye()
            return
        self._waits = _Wait.TASK
        self._speed_up()
        self._office.sites.rest(self.site, self._wake)
        self._office.poller.later(_LINGER, self._rested)

    def _wake(self) -> None:
        self._office.poller.post(self._awake)

    def _awake(self) -> None:
        if self._waits is _Wait.TASK:
            self._settled = clock.monotonic()
            self._go_on()

    def _rested(self) -> None:
        if self._waits is _Wait.TASK and self._office.sites.has_rested(self.site, self._wake):
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._forget()
        if self._sender.link is not None:
            self._sender.link.leave()
        self._leave()

    def _leave(self) -> None:
        if self._waits is _Wait.NOTHING:
            return
        self._waits = _Wait.NOTHING
        self._speed_up()
        self._forget()
        self._sender.close()
        for task in self._under_way.values():  # only after a bug
            self._office.untried(task)
        if self._is_delivering:
            self._office.sites.disconnected(self.site)
        self._office.courier_left(self)
