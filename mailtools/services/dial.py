"""What opens links: a connection to a next hop, TLS as the policy says, a login.

Blocks, and may be called by many threads. Knows no message and no option; a secret is asked for when it is
needed, not before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.smtp.client import SmtpClient
from mailtools.core.smtp.route import Route
from mailtools.services.link import Link
from mailtools.system import clock, pump

OFF, OPPORTUNISTIC, STARTTLS, IMPLICIT = "off", "opportunistic", "starttls", "implicit"


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
    route = dialling.route
    engine = SmtpClient()
    if route.path:
        sock = pump.connect_unix(route.path, dialling.timeout)
    else:
        sock = pump.connect(addresses[0] if addresses else route.host, route.port, dialling.timeout)
    connection = pump.Pump(engine, sock, dialling.timeout)
    try:
        return Link(connection, engine, dialling.helo or clock.host_name(), name or route.host or route.path)
    except MailError:
        connection.close()
        raise
