"""Chooses where a message goes next: by options, by an account of the configuration, or by MX records.

This module opens no connection. Each choice says why it was made (``send --explain``).
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.route import Route
from mailtools.services.access import IMPLICIT, OPPORTUNISTIC, STARTTLS

_LOOPBACK = re.compile(r"localhost\.?|::1|127(?:\.[0-9]{1,3}){3}", re.IGNORECASE)
_SECRETS = ("password_command", "password_file", "token_command")


class HopSettings(NamedTuple):
    """How to reach a server and log in: the keys of an account, or the options of the same names."""

    host: str = ""
    port: int = 0  # 0: the usual port of the route
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


NOTHING = HopSettings()  # no setting at all


class Fetching(NamedTuple):
    """What an account says about `fetch`."""

    url: str = ""  # the server from which its mail is fetched, as in imaps://HOST
    to: str = ""  # the mbox for fetched mail
    mailboxes: tuple[str, ...] = ()  # (): INBOX
    limit: int = 0  # messages; 0: all
    delete: bool = False
    delete_after: float | None = None  # seconds


class Account(NamedTuple):
    """A table ``[account.NAME]``."""

    name: str
    senders: tuple[str, ...]  # addresses and patterns: mail from these senders uses the account
    connection: HopSettings
    fetching: Fetching = Fetching()

    @property
    def address(self) -> str:
        """The account's address, if one of its senders is an address."""
        return next((s for s in self.senders if "@" in s and not any(c in s for c in "*?[")), "")


class Hop(NamedTuple):
    """A next hop, and why it was chosen."""

    route: Route
    connection: HopSettings
    account: str  # the name of its account; "" if options or MX records decide
    beside: HopSettings  # the settings given in addition to the account, which its name does not imply
    why: str

    @property
    def tls(self) -> str:
        """The TLS mode. Required if a certificate is named, or a password goes beyond this machine."""
        if self.connection.tls:
            return self.connection.tls
        if self.route.scheme == "smtps":
            return IMPLICIT
        is_exposed = bool(self.connection.user) and not is_loopback(self.route)
        if is_exposed or self.connection.cafile or self.connection.fingerprint:
            return STARTTLS
        return OPPORTUNISTIC


def is_loopback(route: Route) -> bool:
    """Return True if the name of *route* stays on this machine."""
    return bool(route.path) or bool(_LOOPBACK.fullmatch(route.host))


def choose(
    asked: HopSettings,
    name: str,
    accounts: Mapping[str, Account],
    sender: str,
    usual: HopSettings = NOTHING,
) -> Hop:
    """Return the next hop of a message from *sender*: the first of these that names one.

    *asked*: the command line. *name*: the argument of ``-A``, or "". The account whose senders match.
    *usual*: the configuration's settings for all mail. The only account. MX records. Raises
    ConfigurationError.
    """
    if asked.route or asked.host:
        flag = "--route" if asked.route else "--host"
        return _by_options(asked, usual, f"{flag} says so")
    if name:
        if name not in accounts:
            raise ConfigurationError(f"no account '{name}' in the configuration{_hint(name, accounts)}")
        return _by(accounts[name], asked, f"-A {name} says so")
    found = _matching(accounts.values(), sender)
    if found is not None:
        account, pattern = found
        return _by(account, asked, f"<{sender}> is from '{pattern}'")
    if usual.route or usual.host:
        return _by_options(asked, usual, "the configuration says so for all that no account sends")
    if len(accounts) == 1:
        (account,) = accounts.values()
        return _by(account, asked, "it is the only account")
    why = f"no account is for <{sender}>" if accounts else "no --host, no --route, and no account"
    return _by_options(asked, usual, f"{why}: straight to the recipients' servers")


def _hint(name: str, accounts: Mapping[str, Account]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, accounts, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _by_options(asked: HopSettings, usual: HopSettings, why: str) -> Hop:
    if asked.route or asked.host:  # the settings of the usual server do not apply to another one
        usual = usual._replace(route="", host="", port=0)
    connection = _over(usual, asked)
    return _checked(Hop(_route(connection), connection, "", connection, why))


def _by(account: Account, asked: HopSettings, why: str) -> Hop:
    connection = _over(account.connection, asked)
    return _checked(
        Hop(_route(connection), connection, account.name, asked, f"account '{account.name}': {why}")
    )


def _over(usual: HopSettings, asked: HopSettings) -> HopSettings:
    """Return *usual* with the settings of *asked* in its place; one secret replaces all usual ones."""
    given = {key: value for key, value in asked._asdict().items() if value != getattr(NOTHING, key)}
    if any(key in given for key in _SECRETS):
        given = dict.fromkeys(_SECRETS, "") | given
    return usual._replace(**given)


def _checked(hop: Hop) -> Hop:
    """Check that a login has a user, and that nobody logs in at MX hosts. Raises ConfigurationError."""
    its = hop.connection
    where = f"account '{hop.account}': " if hop.account else ""
    if its.route and its.host:
        raise ConfigurationError(f"{where}a route and a host exclude each other; give one of them")
    if its.port and not its.host:
        raise ConfigurationError(
            f"{where}port {its.port} of which server? give a host, or a route with its port"
        )
    if hop.route.scheme in ("mx", "mbox"):
        if its.user:
            raise ConfigurationError(f"{where}a login as {its.user} needs a server; give a host or a route")
        return hop
    secret = next((key for key in ("auth", *_SECRETS) if getattr(its, key)), "")
    if secret and not its.user:
        raise ConfigurationError(f"{where}{secret.replace('_', '-')} of which user? give a user too")
    return hop


def _route(connection: HopSettings) -> Route:
    if connection.route:
        return routes.parse(connection.route)
    if not connection.host:
        return routes.parse("mx:")
    scheme = "smtps" if connection.tls == IMPLICIT else "smtp"
    default = 465 if scheme == "smtps" else 587 if connection.user else 25
    host = connection.host
    if host.startswith("[") and host.endswith("]"):  # IPv6 addresses stand in brackets in URLs
        host = host[1:-1]
    return Route(scheme, host, connection.port or default)


def is_sender(account: Account, sender: str) -> bool:
    """Return True if *sender* is one of the account's."""
    return _matching([account], sender) is not None


def _matching(accounts: Iterable[Account], sender: str) -> tuple[Account, str] | None:
    """Return the account whose senders match best: exactly, else by the longest pattern."""
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
