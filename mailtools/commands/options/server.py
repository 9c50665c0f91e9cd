"""Options of all servers, and how their sockets and certificates are opened."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.options.common import DURATION, root_option
from mailtools.commands.options.local import users_option
from mailtools.core.errors import CannotWriteError, ConfigurationError

if TYPE_CHECKING:
    from mailtools.services.users.login import LoginRules
    from mailtools.system.net.server import ServerSettings
    from mailtools.system.tls.certificates import Certificates
    from mailtools.system.users.users_file import Users

F = TypeVar("F", bound=Callable[..., Any])


def server_options(port: int, timeout: str = "5m") -> Callable[[F], F]:
    """Add the options that all servers share. *port* and *timeout*: their defaults."""
    options = [
        click.option(
            "--host", metavar="ADDR", default="127.0.0.1", show_default=True, help="Listen on this address."
        ),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Listen on this port; 0 chooses a free one.",
        ),
        click.option(
            "--listen",
            metavar="WHERE",
            multiple=True,
            help="Listen on HOST:PORT, unix:PATH or fd:N instead of --host and --port; repeatable.",
        ),
        click.option("--port-file", metavar="FILE", help="Write the port to FILE when the server listens."),
        root_option,
        users_option,
        click.option(
            "--auth-username-format",
            type=click.Choice(["%u", "%n"]),
            default="%u",
            show_default=True,
            help="With %n, bob@example.org logs in as the user bob.",
        ),
        click.option("--dev", is_flag=True, help="Accept any recipient and any login; loopback only."),
        click.option(
            "--transcript",
            metavar="DIR|-",
            default="",
            help="Write each session as C: and S: lines to a file in DIR, or to stdout.",
        ),
    ]

    def decorate(function: F) -> F:
        return _all(options, limit_options(tls_options(function), timeout))

    return decorate


workers_option = click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Serve with N processes; each has the limits of connections for itself.",
)


def run_workers(
    count: int,
    serve: Callable[[Callable[[Callable[[], object]], None]], int],
    ready: Callable[[Callable[[], object]], None],
) -> int:
    """Serve with *count* processes; return the exit code. *ready* is called once they are started."""
    if count == 1:
        return serve(ready)
    from mailtools.system.process import workers

    return workers.run(count, serve, ready)


def limit_options(function: F, timeout: str) -> F:
    """Add the options that limit clients."""
    options = [
        click.option(
            "--max-connections",
            metavar="N",
            type=click.IntRange(1),
            default=10_000,
            show_default=True,
            help="Accept at most N connections at a time.",
        ),
        click.option(
            "--max-connections-per-ip",
            metavar="N",
            type=click.IntRange(0),
            help="At most N connections from one address.  [default: 50; loopback: any number]",
        ),
        click.option(
            "--timeout",
            metavar="DUR",
            type=DURATION,
            default=timeout,
            show_default=True,
            help="Close a connection that makes no progress for DUR.",
        ),
    ]
    return _all(options, function)


def tls_options(function: F) -> F:
    """Add the options of TLS and of logins without TLS."""
    options = [
        click.option("--tls-cert", metavar="FILE", help="Offer TLS with this certificate, in PEM."),
        click.option(
            "--tls-key",
            metavar="FILE",
            help="The key of the certificate.  [default: in the certificate's file]",
        ),
        click.option(
            "--tls-self-signed",
            is_flag=True,
            help="Offer TLS with a self-signed certificate, kept in DIR/.tls.",
        ),
        click.option("--implicit-tls", is_flag=True, help="Speak TLS from the first octet."),
        click.option(
            "--allow-plaintext-auth", is_flag=True, help="Let clients beyond loopback log in without TLS."
        ),
    ]
    return _all(options, function)


def _all(options: Sequence[Callable[[F], F]], function: F) -> F:
    """Add *options* to *function*; the help shows them in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def open_sockets(host: str, port: int, listen: Sequence[str]) -> list[socket.socket]:
    """Return the listening sockets. Raises ConfigurationError."""
    from mailtools.system.net.listeners import open_listener

    shown = f"[{host}]" if ":" in host else host
    return [open_listener(address) for address in listen or [f"{shown}:{port}"]]


def open_certificates(
    options: Mapping[str, Any], protocols: tuple[str, ...], host: str
) -> "Certificates | None":
    """Return the certificates, None without TLS. *protocols*: ALPN names. Raises ConfigurationError."""
    certificate, key = options["tls_cert"], options["tls_key"]
    if not (certificate or options["tls_self_signed"]):
        if options["implicit_tls"] or key:
            raise ConfigurationError(
                "TLS needs a certificate: --tls-cert FILE --tls-key FILE, or --tls-self-signed"
            )
        return None
    from mailtools.system.mbox.mailroot import MailRoot
    from mailtools.system.tls import certificates

    if not certificate:
        root = MailRoot(options["root"])
        root.make()
        certificate, key = certificates.self_signed(root.path, host)
    found = certificates.Certificates(certificate, key or "", protocols)
    if options["tls_self_signed"]:
        click.echo(f"certificate SHA256:{found.fingerprint}", err=True)
    return found


def settings_of(options: Mapping[str, Any], certificates: "Certificates | None") -> "ServerSettings":
    """Return the settings that all servers have. Raises CannotWriteError."""
    from mailtools.system.net.server import Limits, ServerSettings

    per_address = options["max_connections_per_ip"]
    limits = Limits(
        connections=options["max_connections"],
        connections_per_address=50 if per_address is None else per_address,
        count_loopback=per_address is not None,
        timeout=options["timeout"],
    )
    transcript = options["transcript"]
    if transcript not in ("", "-"):
        try:
            os.makedirs(transcript, exist_ok=True)
        except OSError as error:
            raise CannotWriteError(f"{transcript}: {error.strerror}: no folder for transcripts") from error
    return ServerSettings(limits, transcript, certificates=certificates, implicit_tls=options["implicit_tls"])


def login_rules(options: Mapping[str, Any], users: "Users | None") -> "LoginRules":
    """Return the rules for logins of *users*."""
    from mailtools.services.users.login import LoginRules

    without_domain = options["auth_username_format"] == "%n"
    return LoginRules(users, options["dev"], options["allow_plaintext_auth"], without_domain)


def announce(name: str, sockets: Sequence[socket.socket], port_file: str | None) -> None:
    """Print a line for each listener on stderr, and write the port file whole or not at all."""
    from mailtools.system.files import atomic
    from mailtools.system.net.listeners import shown_address

    if port_file:
        ports = [str(s.getsockname()[1]) for s in sockets if s.family != socket.AF_UNIX]
        atomic.replace(port_file, "".join(f"{port}\n" for port in ports).encode(), 0o644)
    for sock in sockets:
        click.echo(f"listening {name} {shown_address(sock)}", err=True)
