"""A queue put together: its spool, how mail leaves it, what is local, who is told.

What `queue run`, `queue add`, `sendmail` and `serve-smtp --relay` share.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.client import SmtpClient
from mailtools.core.smtp.route import Route
from mailtools.services.addressing import Addressing, open_aliases
from mailtools.services.deliver import Orders, Runner
from mailtools.services.link import Link
from mailtools.services.local import LocalMail
from mailtools.services.notices import Notices
from mailtools.services.reach import Router
from mailtools.system import clock, pump
from mailtools.system.mailroot import MailRoot
from mailtools.system.resolver import Resolver, own_addresses
from mailtools.system.spool import Spool
from mailtools.system.users import Users

_FILES = 8192  # descriptors; each leased message has one


class Local(NamedTuple):
    """What is ours, as the options say it."""

    root: str
    users: str | None = None  # None: ROOT/users if there is one
    domains: Sequence[str] = ()  # none: this host's name, and localhost
    aliases: str = ""
    alias_commands: bool = False
    catch_all: str = ""
    plus_delimiter: str = ""


class Leaving(NamedTuple):
    """How mail leaves, as the options say it."""

    routes: Sequence[str] = ()  # URL, or DOMAIN=URL
    resolver: str = ""
    helo: str = ""
    timeout: float = 300.0
    orders: Orders = Orders()


def open_local(local: Local, warn: Callable[[str], None]) -> Addressing:
    """Whose mail is it. Raises ConfigurationError, CannotWriteError."""
    root = MailRoot(local.root)
    path = os.path.expanduser(local.users) if local.users else os.path.join(root.path, "users")
    users = Users(path, warn) if local.users or os.path.exists(path) else None
    domains = frozenset(domain.lower().removesuffix(".") for domain in local.domains)
    return Addressing(
        root,
        domains=domains or frozenset({clock.host_name().lower(), "localhost"}),
        users=users,
        aliases=open_aliases(local.aliases, warn) if local.aliases else None,
        commands=local.alias_commands,
        catch_all=local.catch_all,
        plus_delimiter=local.plus_delimiter,
        relays=True,
    )


def parse_routes(texts: Sequence[str]) -> tuple[Route, Mapping[str, Route]]:
    """``URL`` and ``DOMAIN=URL`` to the default route and those by domain. Raises ConfigurationError."""
    default = routes.parse("mx:")
    by_domain: dict[str, Route] = {}
    for text in texts:
        domain, equals, url = text.partition("=")
        if equals and ":" not in domain and "/" not in domain:
            by_domain[domain.lower().removesuffix(".").removeprefix("*")] = _usable(url)
        else:
            default = _usable(text)
    return default, by_domain


def _usable(text: str) -> Route:
    route = routes.parse(text)
    if route.scheme == "mbox":
        raise ConfigurationError(
            f"{text}: the queue delivers to servers; local mail finds its mbox by itself"
        )
    return route


def make_runner(
    spool: Spool,
    addressing: Addressing | None,
    leaving: Leaving,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> Runner:
    """A runner for *spool*. Raises ConfigurationError."""
    host = leaving.helo or clock.host_name()
    default, by_domain = parse_routes(leaving.routes)
    notices = Notices(spool.add, host, leaving.orders.schedule)

    def dial(route: Route, name: str, addresses: tuple[str, ...]) -> Link:
        engine = SmtpClient()
        if route.path:
            sock = pump.connect_unix(route.path, leaving.timeout)
        else:
            sock = pump.connect(addresses[0] if addresses else route.host, route.port, leaving.timeout)
        return Link(pump.Pump(engine, sock, leaving.timeout), engine, host, name or route.host or route.path)

    router = Router(
        default,
        by_domain,
        dial,
        Resolver(leaving.resolver, own_names=[host], own_addresses=own_addresses()),
        LocalMail(addressing, spool.add, warn) if addressing is not None else None,
    )
    _raise_file_limit()
    return Runner(spool, router, leaving.orders, notices.tell, log, warn)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard) if hard > 0 else _FILES, hard))
