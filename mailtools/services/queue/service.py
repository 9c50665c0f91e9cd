"""Build a queue runner from options: its spool, its routes, local delivery, and DSNs.

`queue run`, `queue add`, `sendmail` and `serve-smtp --relay` share it.
"""

import resource
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.mx import Network
from mailtools.services.delivery.addressing import Addressing
from mailtools.services.delivery.background import BackgroundMail
from mailtools.services.queue.dsn import Notices
from mailtools.services.queue.router import Router
from mailtools.services.queue.runner import Orders, Runner
from mailtools.services.queue.sites import SiteTarget
from mailtools.services.smtp_client.connection import SmtpTarget
from mailtools.system import clock
from mailtools.system.dns.resolver import Resolver, surroundings
from mailtools.system.net.poller import Poller
from mailtools.system.process.loop import Loop
from mailtools.system.spool.spool import Spool

_FILES = 8192  # file descriptors; each leased message holds one open


class Leaving(NamedTuple):
    """The options that describe how mail leaves the queue."""

    routes: Sequence[str] = ()  # URL, or DOMAIN=URL
    resolver: str = ""
    helo: str = ""
    timeout: float = 300.0  # seconds
    orders: Orders = Orders()
    accounts: Mapping[str, Callable[[], SmtpTarget]] = {}
    networks: Sequence[Network] = ()  # not public, but MX records may lead there
    listeners: Sequence[tuple[str, int]] = ()  # addresses and ports of our own server


def parse_routes(
    texts: Sequence[str], accounts: Collection[str]
) -> tuple[SiteTarget, Mapping[str, SiteTarget]]:
    """Parse ``URL`` and ``DOMAIN=URL``; return the default target and the targets by domain.

    Raises ConfigurationError.
    """
    default = SiteTarget(routes.parse("mx:"))
    by_domain: dict[str, SiteTarget] = {}
    for text in texts:
        domain, equals, url = text.partition("=")
        if equals and ":" not in domain and "/" not in domain:
            by_domain[domain.lower().removesuffix(".").removeprefix("*")] = _target(url, accounts)
        else:
            default = _target(text, accounts)
    return default, by_domain


def _target(text: str, accounts: Collection[str]) -> SiteTarget:
    """Parse a route's URL or ``account:NAME``. Raises ConfigurationError."""
    if text.startswith("account:"):
        name = text.removeprefix("account:")
        if name not in accounts:
            raise ConfigurationError(f"{text}: no such account in the configuration")
        return SiteTarget(routes.parse("mx:"), account=name)
    route = routes.parse(text)
    if route.scheme == "mbox":
        raise ConfigurationError(
            f"{text}: the queue delivers to servers; local mail finds its mbox by itself"
        )
    return SiteTarget(route)


def make_runner(
    spool: Spool,
    addressing: Addressing | None,
    leaving: Leaving,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> Runner:
    """Make a runner that delivers the mail in *spool*; without *addressing* nothing is delivered locally.

    Raises ConfigurationError.
    """
    host = leaving.helo or clock.host_name()
    default, by_domain = parse_routes(leaving.routes, leaving.accounts)
    poller = Poller()
    loop = Loop(poller.post, poller.later, poller.watch)
    notices = Notices(spool.add, host, leaving.orders.schedule)
    router = Router(
        default,
        by_domain,
        leaving.accounts,
        Resolver(leaving.resolver, surroundings=surroundings(host, leaving.networks, leaving.listeners)),
        leaving.timeout,
        host,
        BackgroundMail(addressing, loop, spool.add, warn) if addressing is not None else None,
    )
    _raise_file_limit()
    return Runner(spool, router, leaving.orders, notices.tell, log, warn, poller)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard) if hard > 0 else _FILES, hard))
