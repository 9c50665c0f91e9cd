"""How `send` connects: makes a next hop and its target of options, accounts and secrets."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mailtools.commands.options.access import MECHANISMS, login_options, trust_options
from mailtools.commands.options.common import DURATION
from mailtools.commands.options.hosts import host_options, resolver_of
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.route import Route

if TYPE_CHECKING:
    from mailtools.services.smtp_client.connection import SmtpTarget
    from mailtools.services.submission.next_hop import Account, Hop, HopSettings
    from mailtools.services.submission.send import Carrier

F = TypeVar("F", bound=Callable[..., Any])
WAYS = ("off", "opportunistic", "starttls", "implicit")  # TLS modes
_ASKED = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def dial_options(function: F) -> F:
    """Add the options of the server, TLS and login."""
    options = [
        click.option("--host", metavar="HOST", default="", help="The server."),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(1, 65535),
            help="The server's port.  [default: 25; 587 with --user; 465 with --tls implicit]",
        ),
        click.option(
            "--route",
            metavar="URL",
            default="",
            help="In place of host and port: smtp://HOST:PORT, smtps:, lmtp:, unix:PATH, mx: or mbox:PATH.",
        ),
        click.option(
            "-A", "--account", metavar="NAME", default="", help="Send with the settings of this account."
        ),
        click.option(
            "--tls",
            type=click.Choice(WAYS),
            help="TLS.  [default: opportunistic; starttls with --user, except on loopback]",
        ),
        *trust_options(),
        click.option("--user", metavar="NAME", default="", help="Log in with this name."),
        *login_options(),
        *host_options(),
        click.option(
            "--timeout",
            metavar="DUR",
            type=DURATION,
            help="Close a connection that makes no progress for DUR.  [default: 5m]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class RouteText(click.ParamType[str]):
    """Checks a route and leaves it as written."""

    name = "route"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        routes.parse(str(value))
        return str(value)


def account_keys() -> dict[str, click.ParamType[Any]]:
    """Return the keys of ``[account.NAME]`` that say how to connect, with their types."""
    text = click.STRING
    return {
        "host": text, "port": click.IntRange(1, 65535), "route": RouteText(), "tls": click.Choice(WAYS),
        "cafile": text, "fingerprint": text, "user": text, "auth": click.Choice(MECHANISMS),
        "password-command": text, "password-file": text, "token-command": text, "timeout": DURATION,
    }  # fmt: skip


def connection(options: Mapping[str, Any]) -> "HopSettings":
    """Return the settings in *options*, some of which may be missing."""
    from mailtools.services.submission.next_hop import HopSettings

    values = {key: options[key] for key in HopSettings._fields if options.get(key)}
    return HopSettings(**values)


def chooser(ctx: click.Context, accounts: "Mapping[str, Account]") -> "Callable[[str], Hop]":
    """Return a function that chooses the next hop for a sender. Raises UsageError, ConfigurationError."""
    from mailtools.services.submission import next_hop

    options = ctx.params
    is_asked = {key: ctx.get_parameter_source(key) in _ASKED for key in options}
    if all(options[key] and is_asked[key] for key in ("route", "host")):
        raise click.UsageError("--route and --host exclude each other")
    asked = connection({key: value for key, value in options.items() if is_asked[key]})
    usual = connection({key: value for key, value in options.items() if not is_asked[key]})
    return lambda sender: next_hop.choose(asked, options["account"], accounts, sender, usual)


def why_not_queued(hop: "Hop") -> str:
    """Return why the queue could not send to *hop*, or ""."""
    if hop.route.scheme == "mbox":
        return "an mbox is no server"
    its = hop.beside
    unkept = ["user", "auth", "cafile", "fingerprint", "password_command", "password_file", "token_command"]
    if hop.account or (hop.route.scheme == "mx" and its.tls != "opportunistic"):
        unkept += ["port", "tls"]
    given = [f"--{name.replace('_', '-')}" for name in unkept if getattr(its, name)]
    return (
        f"{given[0]} is known to this command only; make it an account in the configuration" if given else ""
    )


def target_of(hop: "Hop", transcript: str) -> "SmtpTarget":
    """Return how to connect to *hop*."""
    from mailtools.commands.options.secrets import asker, secret
    from mailtools.services.access import Access
    from mailtools.services.smtp_client.connection import SmtpTarget

    its = hop.connection
    access = Access(
        tls=hop.tls,
        cafile=its.cafile,
        fingerprint=_digits(its.fingerprint),
        user=its.user,
        secret=asker(its, lambda: secret(hop.route.host, its)) if its.user else None,
        auth=its.auth,
        is_token=bool(its.token_command),
        timeout=its.timeout,
    )
    return SmtpTarget(hop.route, access, transcript)


def by_account(accounts: "Mapping[str, Account]") -> "dict[str, Callable[[], SmtpTarget]]":
    """Return for each account a function that returns its target, made when it is called."""
    from mailtools.commands.options.secrets import once
    from mailtools.services.submission import next_hop

    def maker(name: str) -> "Callable[[], SmtpTarget]":
        return once(lambda: target_of(next_hop.choose(next_hop.NOTHING, name, accounts, ""), ""))

    return {name: maker(name) for name in accounts}


def _digits(fingerprint: str) -> str:
    if not fingerprint:
        return ""
    from mailtools.system.tls.client import fingerprint_digits

    return fingerprint_digits(fingerprint)


def carrier(hop: "Hop", options: Mapping[str, Any]) -> "Carrier":
    """Return the function that transfers messages to *hop*. Raises ConfigurationError."""
    from mailtools.services.smtp_client import connect
    from mailtools.services.submission import send

    if hop.route.scheme == "mbox":
        return send.into_mbox(hop.route.path)
    target = target_of(hop, options["transcript"])
    host = hop.route.host
    if hop.route.scheme != "mx":
        if not options["resolver"]:
            return send.over_links(lambda: connect.open_link(target), options["partial"])
        named = resolver_of(options)
        return send.over_links(
            lambda: connect.open_link(target, host, named.addresses(host)), options["partial"]
        )
    from mailtools.services.queue.router import first_host

    hosts = resolver_of(options)
    return send.by_domain(
        lambda domain: first_host(
            hosts.hosts(domain, hop.route.port), lambda host, until: connect.open_link(target, *host, until)
        ),
        options["partial"],
    )


def explanation(hop: "Hop", recipients: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `--explain` shows: how the message would be sent, and why."""
    its = hop.connection
    found: dict[str, Any] = {
        "route": str(hop.route),
        "why": hop.why,
        "account": hop.account or None,
        "tls": None if hop.route.path else hop.tls,
        "verified": None if hop.route.path else _verified(hop),
        "login": its.user or None,
        "secret": _secret_from(its) if its.user else None,
    }
    if hop.route.scheme == "mx":
        found["hosts"] = _hosts(hop.route.port, recipients, options)
    return found


def _verified(hop: "Hop") -> str:
    if hop.connection.fingerprint:
        return "by the certificate's fingerprint"
    if hop.tls in ("starttls", "implicit"):
        return f"by {hop.connection.cafile or 'the authorities of this system'}"
    return "not"


def _secret_from(its: "HopSettings") -> str:
    if its.token_command:
        return "a token of --token-command"
    if its.password_command:
        return "the password command"
    return its.password_file or "~/.netrc, or asked for"


def _hosts(port: int, recipients: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    from mailtools.core.errors import MailError

    hosts = resolver_of(options)
    found: dict[str, Any] = {}
    for domain in dict.fromkeys(recipient.rpartition("@")[2].lower() for recipient in recipients):
        try:
            found[domain] = [
                f"{host.name} ({', '.join(host.addresses)})" for host in hosts.hosts(domain, port)
            ]
        except MailError as error:
            found[domain] = str(error)
    return found


def shown_route(route: Route) -> str:
    """Return the route as the queue keeps it: "" for MX records on the usual port."""
    return "" if str(route) == "mx:" else str(route)
