"""TLS and login at a server, the same for SMTP, POP3 and IMAP.

Invariant: no password or token is sent where somebody else could read it, or by somebody else than the
server.
"""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.errors import PolicyError

if TYPE_CHECKING:
    from mailtools.core.auth.client import Mechanism
    from mailtools.system.tls.client import ClientTls

OFF, OPPORTUNISTIC, STARTTLS, IMPLICIT = "off", "opportunistic", "starttls", "implicit"


class Access(NamedTuple):
    """TLS and login at one server."""

    tls: str = OPPORTUNISTIC
    cafile: str = ""  # trusted instead of the system's authorities
    fingerprint: str = ""  # SHA-256 of the certificate, 64 hexadecimal digits; "": the authorities decide
    user: str = ""
    secret: Callable[[], str] | None = (
        None  # returns the password or token of *user*; called when it is needed
    )
    auth: str = ""  # the only mechanism to use, in any case; "": the strongest that is offered
    is_token: bool = False  # the secret is an OAuth token
    timeout: float = 300.0  # seconds without an octet from the server


def tls_layer(host: str, access: Access, is_verified: bool) -> "ClientTls":
    """Return a TLS layer for a connection to *host*."""
    from mailtools.system.tls.client import ClientTls, Policy  # ssl: 10 ms, only if TLS is used

    return ClientTls(host, Policy(is_verified, access.cafile, access.fingerprint))


def mechanisms(offered: Collection[str], access: Access, is_safe: bool) -> list[str]:
    """Return the mechanisms that the server offers and that may be used, the strongest first.

    *is_safe*: nobody else can read what is sent.
    """
    from mailtools.core.auth import client  # only programs that log in need it

    found = client.choices(offered, access.auth, access.is_token)
    return [name for name in found if is_safe or not client.sends_secret(name)]


def begin(mechanism: str, access: Access, secret: str, host: str, port: int) -> "Mechanism":
    """Return the steps of a login with *mechanism*."""
    from mailtools.core.auth import client

    nonce = os.urandom(18).hex()
    return client.MECHANISMS[mechanism](client.Credentials(access.user, secret, nonce, host, port))


def no_login_fits(server: str, offered: Collection[str], access: Access, hint: str = "") -> PolicyError:
    """Return the error of a server that offers no mechanism we can use."""
    from mailtools.core.auth import client

    listed = client.printable(", ".join(offered)) or "none"
    wanted = ", ".join(client.usable(access.auth, access.is_token))
    return PolicyError(f"no login that fits: {server} offers {listed}; wanted: {wanted}{hint}")


def login_of(access: Access, how: str) -> str:
    """Return "the login of USER with MECHANISM", for messages."""
    from mailtools.core.auth import client

    return f"the login of {client.printable(access.user)} with {how}"


def overheard(how: str, advice: str) -> PolicyError:
    """Return the error of a login that was not tried because others could read the secret."""
    return PolicyError(f"a login with {how} can be overheard, so it was not tried; use {advice}")
