"""Where a message goes next: what the options say, else an account of the configuration, else its MX records.

Knows no connection. Every choice can say why it was made (``send --explain``).
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.route import Route

OPPORTUNISTIC, STARTTLS, IMPLICIT = "opportunistic", "starttls", "implicit"


class Connection(NamedTuple):
    """How to reach a server and log in: an account's keys, or the options of the same names."""

    host: str = ""
    port: int = 0  # 0: the route's usual one
    route: str = ""
    tls: str = ""
    cafile: str = ""
    fingerprint: str = ""
    user: str = ""
    auth: str = ""
    password_command: str = ""
    password_file: str = ""
    token_command: str = ""
    timeout: float = 300.0


class Account(NamedTuple):
    """A table ``[account.NAME]``."""

    name: str
    senders: tuple[str, ...]  # addresses and patterns that are sent by it
    connection: Connection

    @property
    def address(self) -> str:
        """The address that it writes as, where it names one."""
        return next((s for s in self.senders if "@" in s and not any(c in s for c in "*?[")), "")


class Hop(NamedTuple):
    """A next hop, and why it is that one."""

    route: Route
    connection: Connection
    account: str  # its name; "" where options or MX records decide
    why: str

    @property
    def tls(self) -> str:
        """The way to use TLS: required where it shall be verified, or a password goes beyond this machine."""
        if self.connection.tls:
            return self.connection.tls
        if self.route.scheme == "smtps":
            return IMPLICIT
        is_exposed = bool(self.connection.user) and not is_loopback(self.route)
        if is_exposed or self.connection.cafile or self.connection.fingerprint:
            return STARTTLS
        return OPPORTUNISTIC


def is_loopback(route: Route) -> bool:
    """Tell whether *route* stays on this machine, as far as its name tells."""
    return bool(route.path) or route.host in ("localhost", "::1") or route.host.startswith("127.")


def choose(options: Connection, name: str, accounts: Mapping[str, Account], sender: str) -> Hop:
    """The next hop of a message from *sender*. *name*: of ``-A``, or "". Raises ConfigurationError."""
    if options.route or options.host:
        flag = "--route" if options.route else "--host"
        return Hop(_route(options), options, "", f"{flag} says so")
    if name:
        if name not in accounts:
            near = get_close_matches(name, accounts, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigurationError(f"no account '{name}' in the configuration{hint}")
        return _by(accounts[name], options, f"-A {name} says so")
    found = _matching(accounts.values(), sender)
    if found is not None:
        account, pattern = found
        return _by(account, options, f"<{sender}> is from '{pattern}'")
    if len(accounts) == 1:
        (account,) = accounts.values()
        return _by(account, options, "it is the only account")
    why = f"no account is for <{sender}>" if accounts else "no --host, no --route, and no account"
    return Hop(routes.parse("mx:"), options, "", f"{why}: straight to the recipients' servers")


def _by(account: Account, options: Connection, why: str) -> Hop:
    """By *account*; single options on the command line go before its keys."""
    unset = Connection()
    given = {key: value for key, value in options._asdict().items() if value != getattr(unset, key) and value}
    connection = account.connection._replace(**given)
    return Hop(_route(connection), connection, account.name, f"account '{account.name}': {why}")


def _route(connection: Connection) -> Route:
    if connection.route:
        return routes.parse(connection.route)
    if not connection.host:
        return routes.parse("mx:")
    scheme = "smtps" if connection.tls == IMPLICIT else "smtp"
    default = 465 if scheme == "smtps" else 587 if connection.user else 25
    return Route(scheme, connection.host, connection.port or default)


def _matching(accounts: Iterable[Account], sender: str) -> tuple[Account, str] | None:
    """The account whose ``from`` fits best: exactly, else by the longest pattern."""
    local, _, domain = sender.rpartition("@")
    address = f"{local}@{domain.lower()}"
    best: tuple[bool, int] = (False, -1)
    found = None
    for account in accounts:
        for pattern in account.senders:
            its_local, at, its_domain = pattern.rpartition("@")
            written = f"{its_local}{at}{its_domain.lower()}"
            is_exact = written == address
            fit = (is_exact, len(written))
            if (is_exact or fnmatchcase(address, written)) and fit > best:
                best, found = fit, (account, pattern)
    return found
