"""What opens links: a connection to a next hop, TLS as the policy says, a login.

Blocks, and may be called by many threads. Knows no message and no option; a secret is asked for when it is
needed, not before.

TLS that is not required is taken where it is offered, whoever answers; where it fails the server is called
once more without. STARTTLS, implicit TLS (a smtps route is that too) and a fingerprint require it, and never
fall back. To a unix socket goes TLS only where it is required: nobody can listen there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp.client import SmtpClient
from mailtools.core.smtp.route import Route
from mailtools.services.smtp_client.connection import Link, Login, Opening, OpportunityLostError, Tls
from mailtools.system import clock
from mailtools.system.net import client_connection

if TYPE_CHECKING:
    from mailtools.system.net.transcript import Transcript
    from mailtools.system.tls.client import ClientTls

OFF, OPPORTUNISTIC, STARTTLS, IMPLICIT = "off", "opportunistic", "starttls", "implicit"

_begun: dict[str, object] = {}  # the transcripts of this process: another session goes to their end


class Dialling(NamedTuple):
    """How to connect."""

    route: Route
    tls: str = OPPORTUNISTIC
    cafile: str = ""  # trusted instead of the system's authorities
    fingerprint: str = ""  # SHA-256 of the certificate, 64 hexadecimal digits; "": the authorities decide
    user: str = ""
    auth: str = ""  # plain, login, scram-sha-256, xoauth2, oauthbearer; "": the best that is offered
    secret: Callable[[], str] | None = None  # the password or token of *user*
    is_token: bool = False
    timeout: float = 300.0  # seconds of silence
    transcript: str = ""
    helo: str = ""


def open_link(dialling: Dialling, name: str = "", addresses: Sequence[str] = ()) -> Link:
    """A link to the route's host, or to *addresses* of the host *name*. Raises MailError."""
    tls = _tls(dialling, name or dialling.route.host)
    login = _login(dialling)
    try:
        return _linked(dialling, name, addresses, tls, login)
    except OpportunityLostError:
        return _linked(dialling, name, addresses, None, login)


def _linked(
    dialling: Dialling, name: str, addresses: Sequence[str], tls: Tls | None, login: Login | None
) -> Link:
    route = dialling.route
    transcript = _transcript(dialling.transcript)
    try:
        if route.path:
            sock = client_connection.connect_unix(route.path, dialling.timeout)
        else:
            sock = client_connection.connect(name or route.host, route.port, dialling.timeout, addresses)
    except BaseException:
        if transcript is not None:
            transcript.close()
        raise
    engine = SmtpClient()
    connection = client_connection.Pump(engine, sock, dialling.timeout, transcript)
    opening = Opening(route.scheme == "lmtp", bool(route.path), tls, login)
    try:
        helo = dialling.helo or clock.host_name()
        return Link(connection, engine, helo, name or route.host or route.path, opening)
    except BaseException:
        connection.close()
        raise


def _tls(dialling: Dialling, host: str) -> Tls | None:
    """What the options ask for. Raises ConfigurationError where they contradict each other."""
    if dialling.tls not in (OFF, OPPORTUNISTIC, STARTTLS, IMPLICIT):
        raise ConfigurationError(
            f"{dialling.tls}: not a way to use TLS; write off, opportunistic, starttls or implicit"
        )
    is_implicit = dialling.tls == IMPLICIT or dialling.route.scheme == "smtps"
    is_required = is_implicit or dialling.tls == STARTTLS or bool(dialling.fingerprint)
    if dialling.tls == OFF:
        if is_required:
            raise ConfigurationError(
                "TLS is off, but a fingerprint or smtps asks for it; leave one of them out"
            )
        return None
    if dialling.route.path and not is_required:
        return None
    layer = functools.partial(_layer, host or "localhost", is_required, dialling.cafile, dialling.fingerprint)
    return Tls(layer, is_implicit, is_required, is_trusted=is_required)


def _layer(host: str, is_verified: bool, cafile: str, fingerprint: str) -> "ClientTls":
    from mailtools.system.tls.client import ClientTls, Policy  # ssl: 10 ms, for those who need it

    return ClientTls(host, Policy(is_verified, cafile, fingerprint))


def _login(dialling: Dialling) -> Login | None:
    """Who logs in; never at the hosts of MX records, who are strangers. Raises ConfigurationError."""
    route = dialling.route
    if not dialling.user or route.scheme == "mx":
        return None
    if dialling.secret is None:
        raise ConfigurationError(
            f"no password for {dialling.user}; give --password-command or --password-file"
        )
    return Login(dialling.user, dialling.secret, dialling.auth, dialling.is_token, route.host, route.port)


def _transcript(target: str) -> "Transcript | None":
    """Raises CannotWriteError."""
    if not target:
        return None
    from mailtools.system.net.transcript import open_transcript

    mark = object()
    return open_transcript(target, "send", again=_begun.setdefault(target, mark) is not mark)
