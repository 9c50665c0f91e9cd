"""How the queue reaches a recipient: our mailboxes, a route for its domain, or its MX hosts.

The threads of a run share one `Router`, which does not change. `local` and `close` belong to the loop's
thread.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mailtools.core.errors import MailError, TemporaryError
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.smtp import route
from mailtools.core.smtp.route import Route
from mailtools.services.access import IMPLICIT, OPPORTUNISTIC, Access
from mailtools.services.delivery.background import BackgroundMail, Done
from mailtools.services.queue.sites import SiteTarget
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import Link, SmtpTarget
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system import clock
from mailtools.system.dns.resolver import MxHost, Resolver


def first_host(
    hosts: Iterable[MxHost], dial: Callable[[MxHost, float], Link], patience: float = math.inf
) -> Link:
    """Return a link to the first of *hosts* that accepts one. Raises MailError.

    *dial* gets the monotonic time when it has to give up: if *patience* (seconds) is finite, each host gets
    half of the time that is left, and the last host all of it.
    """
    problem: MailError = TemporaryError("no host answered")
    until = clock.monotonic() + patience
    walk = iter(hosts)
    host = next(walk, None)
    while host is not None and clock.monotonic() < until:
        following = next(walk, None) if patience < math.inf else None
        now = clock.monotonic()
        try:
            return dial(host, now + (until - now) / 2 if following is not None else until)
        except MailError as error:
            problem = error
        host = following if patience < math.inf else next(walk, None)
    raise problem


def is_own_network(way: Route) -> bool:
    """Return True if an operator chose a port for MX hosts: they are of their own network, as in a test."""
    return way.port != route.parse("mx:").port


class Router(NamedTuple):
    """Where mail for each domain goes."""

    default: SiteTarget
    routes: Mapping[str, SiteTarget]  # by domain in lower case; ".example" for all domains below it
    accounts: Mapping[str, Callable[[], SmtpTarget]]
    resolver: Resolver
    timeout: float
    helo: str
    mailboxes: BackgroundMail | None = None

    def target(self, envelope: QueueEnvelope, address: str) -> SiteTarget | None:
        """Return the site of a recipient; None for our own mailboxes.

        A next hop that the sender asked for goes before everything else.
        """
        is_asked = bool(envelope.account or envelope.route)
        if not is_asked and self.mailboxes is not None and self.mailboxes.is_local(address):
            return None
        domain = address.rpartition("@")[2].lower().removesuffix(".")
        if is_asked:
            target = SiteTarget(route.parse(envelope.route or "mx:"), "", envelope.tls, envelope.account)
        else:
            target = self._route(domain)
        return (
            target._replace(domain=domain) if target.route.scheme == "mx" and not target.account else target
        )

    def _route(self, domain: str) -> SiteTarget:
        if not self.routes:
            return self.default
        names = [domain]
        rest = domain
        while "." in rest:
            rest = rest.partition(".")[2]
            names.append(f".{rest}")
        return next((self.routes[name] for name in names if name in self.routes), self.default)

    def link(self, target: SiteTarget, patience: float = math.inf) -> Link:
        """Return a link to the first host of the site that accepts one within *patience* seconds.

        Raises MailError.
        """
        server = self._server(target)
        if server.route.scheme != "mx":
            until = clock.monotonic() + patience
            host = server.route.host
            return open_link(server, host, self.resolver.addresses(host), until)
        hosts = self.resolver.hosts(target.domain, server.route.port)
        return first_host(hosts, lambda host, until: open_link(server, *host, until), patience)

    def _server(self, target: SiteTarget) -> SmtpTarget:
        """Return how the servers of a site are reached. Raises TemporaryError."""
        if not target.account:
            tls = target.tls or (IMPLICIT if target.route.scheme == "smtps" else OPPORTUNISTIC)
            return SmtpTarget(target.route, Access(tls, timeout=self.timeout), helo=self.helo)
        if target.account not in self.accounts:
            raise TemporaryError(f"no account '{target.account}' in the configuration of this queue run")
        server = self.accounts[target.account]()
        if server.route.scheme in ("mx", "mbox"):
            raise TemporaryError(f"account '{target.account}' names no server; give it a host or a route")
        return server._replace(helo=self.helo)

    def local(self, read: Callable[[], Outgoing], done: Done) -> None:
        """Deliver the message of *read* to our own mailboxes, then call *done*."""
        assert self.mailboxes is not None
        self.mailboxes.deliver(read, done)

    def close(self) -> None:
        """End the deliveries to our own mailboxes."""
        if self.mailboxes is not None:
            self.mailboxes.stop()
