"""Where `fetch` fetches from: makes targets of options, accounts and secrets."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from mailtools.commands.options import config
from mailtools.commands.options.access import login_options, trust_options
from mailtools.commands.options.common import DURATION
from mailtools.core.errors import ConfigurationError

if TYPE_CHECKING:
    from mailtools.services.fetch.remote import FetchTarget
    from mailtools.services.submission.next_hop import Account, Fetching, HopSettings

F = TypeVar("F", bound=Callable[..., Any])
_ASKING = threading.Lock()


class FetchSource(NamedTuple):
    """A target, with the name of its account ("" without one) and what the account says."""

    target: "FetchTarget"
    account: str = ""
    wishes: "Fetching | None" = None

    @property
    def to(self) -> str:
        """The mbox that the account names, or ""."""
        return self.wishes.to if self.wishes is not None else ""


def source_options(function: F) -> F:
    """Add the options of the server, TLS and login."""
    options = [
        click.option("--pop3", "protocol", flag_value="pop3", help="The server speaks POP3."),
        click.option("--imap", "protocol", flag_value="imap", help="The server speaks IMAP."),
        click.option(
            "-A", "--account", metavar="NAME", default="", help="Fetch with the settings of this account."
        ),
        click.option(
            "--all-accounts",
            is_flag=True,
            help="Fetch for all accounts that have a key fetch, at the same time.",
        ),
        click.option("--host", metavar="HOST", default="", help="The server."),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(1, 65535),
            help="The server's port.  [default: 110 or 143; 995 or 993 with --tls implicit]",
        ),
        click.option(
            "--user",
            metavar="NAME",
            default="",
            help="Log in with this name.  [default: your name on this machine]",
        ),
        click.option(
            "--tls",
            type=click.Choice(["implicit", "starttls", "off"]),
            help="How to use TLS.  [default: implicit; off on loopback]",
        ),
        *trust_options(),
        *login_options(),
        click.option(
            "--timeout",
            metavar="DUR",
            type=DURATION,
            default="1m",
            show_default=True,
            help="Close a connection that makes no progress for DUR.",
        ),
        click.option(
            "--transcript", metavar="FILE|-", default="", help="Write the session as S: and C: lines."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def sources(ctx: click.Context) -> list[FetchSource]:
    """Return the sources to fetch from. Raises ConfigurationError, UsageError."""
    options = ctx.params

    def is_given(name: str) -> bool:
        return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)

    accounts = {name: account for name, account in config.accounts(ctx).items() if account.fetching.url}
    if options["all_accounts"]:
        if options["account"] or options["host"]:
            raise click.UsageError("--all-accounts excludes --account and --host")
        if not accounts:
            raise ConfigurationError('no account has a key fetch; add one: fetch = "imaps://HOST"')
        return [_by_account(account, options, is_given) for account in accounts.values()]
    if options["host"] and not options["account"]:
        return [
            FetchSource(
                _target(options["protocol"] or "", options, options["host"], options["port"] or 0, "")
            )
        ]
    if name := options["account"]:
        if name not in accounts:
            raise ConfigurationError(f"no account '{name}' with a key fetch in the configuration")
        return [_by_account(accounts[name], options, is_given)]
    if len(accounts) == 1:
        return [_by_account(next(iter(accounts.values())), options, is_given)]
    if accounts:
        raise click.UsageError(f"which account? -A {', -A '.join(accounts)}, or --all-accounts")
    raise click.UsageError("fetch from where? give --pop3 or --imap with --host HOST")


def _by_account(
    account: "Account", options: Mapping[str, Any], is_given: Callable[[str], bool]
) -> FetchSource:
    """Return the source of *account*; an option that *is_given* goes before the account's key."""
    from urllib.parse import urlsplit

    from mailtools.services.submission.next_hop import HopSettings

    try:
        url = urlsplit(account.fetching.url)
        port, host, scheme = url.port or 0, url.hostname or "", url.scheme
    except ValueError:
        scheme, host, port = "", "", 0
    protocol = scheme.removesuffix("s")
    if protocol not in ("pop3", "imap") or not host or url.path.strip("/") or url.username or url.query:
        shown = config.without_login(account.fetching.url)
        raise ConfigurationError(
            f"account '{account.name}': fetch = {shown!r}: write pop3s://HOST, imaps://HOST:PORT,"
            " pop3://HOST or imap://HOST"
        )
    if options["protocol"] not in (None, protocol):
        raise ConfigurationError(
            f"account '{account.name}' is fetched by {protocol}, not {options['protocol']}"
        )
    usual = "implicit" if scheme.endswith("s") else "off" if _is_loopback(host) else "starttls"
    merged = dict(options) | {"tls": options["tls"] or usual}
    if protocol == "pop3" and account.fetching.mailboxes:
        raise ConfigurationError(f"account '{account.name}': mailbox is for IMAP only: POP3 has one")
    for key in ("user", "auth", "cafile", "fingerprint"):
        merged[key] = options[key] or getattr(account.connection, key)
    if not is_given("timeout") and account.connection.timeout != HopSettings().timeout:
        merged["timeout"] = account.connection.timeout
    if not any(options[key] for key in ("password_command", "password_file", "token_command")):
        for key in ("password_command", "password_file", "token_command"):
            merged[key] = getattr(account.connection, key)
    target = _target(protocol, merged, options["host"] or host, options["port"] or port, account.name)
    return FetchSource(target, account.name, account.fetching)


def _target(protocol: str, options: Mapping[str, Any], host: str, port: int, account: str) -> "FetchTarget":
    from mailtools.commands.options.secrets import asker
    from mailtools.services.access import IMPLICIT, OFF, Access
    from mailtools.services.fetch.remote import PORTS, FetchTarget
    from mailtools.services.submission.next_hop import HopSettings
    from mailtools.system.files.home import login_name

    if not protocol:
        raise click.UsageError("which protocol? give --pop3 or --imap")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    is_proven = bool(options["cafile"] or options["fingerprint"])
    tls = options["tls"] or (OFF if _is_loopback(host) and not is_proven else IMPLICIT)
    if tls == OFF and is_proven:
        raise ConfigurationError(
            "--tls off contradicts --cafile and --fingerprint, which need TLS; leave one out"
        )
    user = options["user"] or login_name()
    its: HopSettings = HopSettings(
        host=host,
        user=user,
        password_command=options["password_command"] or "",
        password_file=options["password_file"] or "",
        token_command=options["token_command"] or "",
    )
    access = Access(
        tls=tls,
        cafile=options["cafile"],
        fingerprint=options["fingerprint"],
        user=user,
        secret=asker(its, lambda: _ask(host, its)),
        auth=options["auth"] or "",
        is_token=bool(its.token_command),
        timeout=options["timeout"],
    )
    return FetchTarget(
        protocol, host, port or PORTS[protocol, tls == IMPLICIT], access, options["transcript"]
    )


def _ask(host: str, its: "HopSettings") -> str:
    """Return a secret. One account asks at a time, because two prompts on one terminal would be mixed up."""
    from mailtools.commands.options.secrets import secret

    with _ASKING:
        return secret(host, its, "MAILTOOLS_FETCH_PASSWORD")


def _is_loopback(host: str) -> bool:
    from mailtools.core.smtp.route import Route
    from mailtools.services.submission.next_hop import is_loopback

    return is_loopback(Route("smtp", host))
