"""How `send` connects: the options, the accounts, the secrets; out of them a next hop and how to dial it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mailtools.commands.options.common import DURATION
from mailtools.core.smtp import route as routes
from mailtools.core.smtp.route import Route

if TYPE_CHECKING:
    from mailtools.services.smtp_client.connection import SmtpTarget
    from mailtools.services.submission.next_hop import Account, Hop, HopSettings
    from mailtools.services.submission.send import Carrier

F = TypeVar("F", bound=Callable[..., Any])
MECHANISMS = ("plain", "login", "scram-sha-256", "xoauth2", "oauthbearer")
WAYS = ("off", "opportunistic", "starttls", "implicit")  # to use TLS
_ASKED = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def dial_options(function: F) -> F:
    """The server, TLS, who logs in."""
    options = [
        click.option("--host", metavar="HOST", default="", help="The server."),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(1, 65535),
            help="Its port.  [default: 25; 587 with --user; 465 with --tls implicit]",
        ),
        click.option(
            "--route",
            metavar="URL",
            default="",
            help="Instead of both: smtp://HOST:PORT, smtps:, lmtp:, unix:PATH, mx: or mbox:PATH.",
        ),
        click.option("-A", "--account", metavar="NAME", default="", help="By this account."),
        click.option(
            "--tls",
            type=click.Choice(WAYS),
            help="TLS.  [default: opportunistic; starttls with --user, but on loopback]",
        ),
        click.option(
            "--cafile", metavar="FILE", default="", help="Trust these authorities, not the system's."
        ),
        click.option(
            "--fingerprint",
            metavar="SHA256:HEX",
            default="",
            help="Trust the server with this certificate, and no other.",
        ),
        click.option("--user", metavar="NAME", default="", help="Log in."),
        click.option("--auth", type=click.Choice(MECHANISMS), help="By this mechanism and no other."),
        click.option("--password-command", metavar="CMD", help="The password is what CMD prints first."),
        click.option("--password-file", metavar="FILE", help="The password is the first line of FILE."),
        click.option("--token-command", metavar="CMD", help="CMD prints an OAuth token."),
        click.option(
            "--resolver",
            metavar="ADDR[:PORT]",
            default="",
            help="Ask this nameserver for MX records.  [default: the system's]",
        ),
        click.option(
            "--timeout",
            metavar="DUR",
            type=DURATION,
            help="Give up after DUR without an answer.  [default: 5m]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class RouteText(click.ParamType[str]):
    """A route, checked and left as it is written."""

    name = "route"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        routes.parse(str(value))
        return str(value)


def account_keys() -> dict[str, click.ParamType[Any]]:
    """The keys of ``[account.NAME]`` beside ``from``, and what each holds."""
    text = click.STRING
    return {
        "host": text, "port": click.IntRange(1, 65535), "route": RouteText(), "tls": click.Choice(WAYS),
        "cafile": text, "fingerprint": text, "user": text, "auth": click.Choice(MECHANISMS),
        "password-command": text, "password-file": text, "token-command": text, "timeout": DURATION,
        "fetch": text, "fetch-to": text,
    }  # fmt: skip


def connection(options: Mapping[str, Any]) -> "HopSettings":
    """What *options* say, of which any may be missing."""
    from mailtools.services.submission.next_hop import HopSettings

    values = {key: options[key] for key in HopSettings._fields if options.get(key)}
    return HopSettings(**values)


def chooser(ctx: click.Context, accounts: "Mapping[str, Account]") -> "Callable[[str], Hop]":
    """What chooses the next hop of a message by its sender. Raises UsageError, ConfigurationError."""
    from mailtools.services.submission import next_hop

    options = ctx.params
    is_asked = {key: ctx.get_parameter_source(key) in _ASKED for key in options}
    if all(options[key] and is_asked[key] for key in ("route", "host")):
        raise click.UsageError("--route and --host exclude each other")
    asked = connection({key: value for key, value in options.items() if is_asked[key]})
    usual = connection({key: value for key, value in options.items() if not is_asked[key]})
    return lambda sender: next_hop.choose(asked, options["account"], accounts, sender, usual)


def why_not_queued(hop: "Hop") -> str:
    """Why the queue could not send on what was meant for *hop*; "" where it can."""
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
    from mailtools.commands.options.secrets import once, secret
    from mailtools.services.access import Access
    from mailtools.services.smtp_client.connection import SmtpTarget

    its = hop.connection
    access = Access(
        tls=hop.tls,
        cafile=its.cafile,
        fingerprint=_digits(its.fingerprint),
        user=its.user,
        secret=once(lambda: secret(hop.route.host, its)) if its.user else None,
        auth=its.auth,
        is_token=bool(its.token_command),
        timeout=its.timeout,
    )
    return SmtpTarget(hop.route, access, transcript)


def by_account(accounts: "Mapping[str, Account]") -> "dict[str, Callable[[], SmtpTarget]]":
    """How each account is dialled, found out when it is needed."""
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
    """Return what takes messages to *hop*. Raises ConfigurationError."""
    from mailtools.services.smtp_client import connect
    from mailtools.services.submission import send

    if hop.route.scheme == "mbox":
        return send.into_mbox(hop.route.path)
    target = target_of(hop, options["transcript"])
    if hop.route.scheme != "mx":
        return send.over_links(lambda: connect.open_link(target), options["partial"])
    from mailtools.services.queue.router import first_host
    from mailtools.system import clock
    from mailtools.system.dns import resolver

    hosts = resolver.Resolver(
        options["resolver"], own_names=[clock.host_name()], own_addresses=resolver.own_addresses()
    )
    return send.by_domain(
        lambda domain: first_host(
            hosts.hosts(domain), lambda name, addresses: connect.open_link(target, name, addresses)
        ),
        options["partial"],
    )


def explanation(hop: "Hop", recipients: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """What would be done, and why."""
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
        found["hosts"] = _hosts(recipients, options)
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


def _hosts(recipients: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    from mailtools.core.errors import MailError
    from mailtools.system.dns.resolver import Resolver

    hosts = Resolver(options["resolver"])
    found: dict[str, Any] = {}
    for domain in dict.fromkeys(recipient.rpartition("@")[2].lower() for recipient in recipients):
        try:
            found[domain] = [f"{host.name} ({', '.join(host.addresses)})" for host in hosts.hosts(domain)]
        except MailError as error:
            found[domain] = str(error)
    return found


def shown_route(route: Route) -> str:
    """As the queue keeps it: "" where it goes by MX records on the usual port."""
    return "" if str(route) == "mx:" else str(route)
