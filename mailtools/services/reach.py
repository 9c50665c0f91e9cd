"""How the queue reaches a recipient: our mailboxes, a route for its domain, or the hosts of its MX records.

Threads of a run share one `Router`; what it holds does not change.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mailtools.core.errors import MailError, TemporaryError
from mailtools.core.smtp.route import Route
from mailtools.services.link import Link
from mailtools.services.local import LocalMail
from mailtools.services.outgoing import Outgoing
from mailtools.services.sites import Target
from mailtools.services.transfer import Outcome
from mailtools.system.resolver import Resolver

Dial = Callable[[Route, str, tuple[str, ...]], Link]  # a route, the host's name, its addresses if known


class Router(NamedTuple):
    """Where mail for which domain goes."""

    default: Route
    routes: Mapping[str, Route]  # by domain, in lower case; ".example" for all below it
    dial: Dial
    resolver: Resolver
    mailboxes: LocalMail | None = None

    def target(self, address: str) -> Target | None:
        """The site of a recipient; None: our own mailboxes."""
        if self.mailboxes is not None and self.mailboxes.is_local(address):
            return None
        domain = address.rpartition("@")[2].lower().removesuffix(".")
        route = self._route(domain)
        return Target(route, domain if route.scheme == "mx" else "")

    def _route(self, domain: str) -> Route:
        if not self.routes:
            return self.default
        names = [domain]
        rest = domain
        while "." in rest:
            rest = rest.partition(".")[2]
            names.append(f".{rest}")
        return next((self.routes[name] for name in names if name in self.routes), self.default)

    def link(self, target: Target) -> Link:
        """A connection to the first host that lets us in. Raises MailError."""
        if target.route.scheme != "mx":
            return self.dial(target.route, "", ())
        problem: MailError | None = None
        for host in self.resolver.hosts(target.domain):
            try:
                return self.dial(target.route, host.name, host.addresses)
            except MailError as error:
                problem = error
        raise problem or TemporaryError(f"{target.domain}: no host answered")

    def local(self, message: Outgoing) -> list[Outcome]:
        """Deliver into our own mailboxes."""
        assert self.mailboxes is not None
        return self.mailboxes.deliver(message)
