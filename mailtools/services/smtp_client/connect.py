"""Open a connection to an SMTP or LMTP server: the socket, TLS as the policy says, the login.

Blocks; may be called by many threads. This module knows no message and no option.

TLS that is not required is used if the server offers it, whatever its certificate; if it fails, a second
connection is made without TLS. `STARTTLS`, `IMPLICIT`, a smtps route and a fingerprint require TLS: then
there is no second connection. Unix sockets use TLS only if it is required; they cannot be overheard.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp.client import SmtpClient
from mailtools.services.access import IMPLICIT, OFF, OPPORTUNISTIC, STARTTLS, tls_layer
from mailtools.services.smtp_client.connection import Link, OpportunityLostError, SmtpTarget, Tls
from mailtools.system import clock
from mailtools.system.net import client_connection

if TYPE_CHECKING:
    from mailtools.system.net.transcript import Transcript

_begun: dict[str, object] = {}  # the transcripts of this process: later sessions are appended to them


def open_link(
    target: SmtpTarget, name: str = "", addresses: Sequence[str] = (), until: float = math.inf
) -> Link:
    """Return a link to the target's host, or to *addresses* of the host *name*. Raises MailError.

    *until*: monotonic seconds, when a link that is not open yet is given up.
    """
    access = target.access
    if target.logs_in and access.secret is None:
        raise ConfigurationError(f"no password for {access.user}; give --password-command or --password-file")
    tls = _tls(target, name or target.route.host)
    try:
        return _linked(target, name, addresses, tls, until)
    except OpportunityLostError:
        return _linked(target, name, addresses, None, until)


def _linked(target: SmtpTarget, name: str, addresses: Sequence[str], tls: Tls | None, until: float) -> Link:
    route, timeout = target.route, target.access.timeout
    patience = max(0.001, min(timeout, until - clock.monotonic()))
    transcript = _transcript(target.transcript)
    try:
        if route.path:
            sock = client_connection.connect_unix(route.path, patience)
        else:
            sock = client_connection.connect(name or route.host, route.port, patience, addresses)
    except BaseException:  # Ctrl-C too: nobody else has the file yet
        if transcript is not None:
            transcript.close()
        raise
    engine = SmtpClient()
    pump = client_connection.Pump(engine, sock, timeout, transcript)
    try:
        return Link(pump, engine, target, name or route.host or route.path, tls, until)
    except BaseException:  # Ctrl-C too: nobody else has the connection yet
        pump.close()
        raise


def _tls(target: SmtpTarget, host: str) -> Tls | None:
    """Return the TLS that the options ask for. Raises ConfigurationError if they contradict each other."""
    route, access = target.route, target.access
    if access.tls not in (OFF, OPPORTUNISTIC, STARTTLS, IMPLICIT):
        raise ConfigurationError(
            f"{access.tls}: not a way to use TLS; write off, opportunistic, starttls or implicit"
        )
    is_implicit = access.tls == IMPLICIT or route.scheme == "smtps"
    is_required = is_implicit or access.tls == STARTTLS or bool(access.fingerprint)
    if access.tls == OFF:
        if is_required:
            raise ConfigurationError(
                "TLS is off, but a fingerprint or smtps asks for it; leave one of them out"
            )
        return None
    if route.path and not is_required:
        return None
    layer = functools.partial(tls_layer, host or "localhost", access, is_required)
    return Tls(layer, is_implicit, is_required, is_trusted=is_required)


def _transcript(target: str) -> "Transcript | None":
    """Open the transcript. Raises CannotWriteError."""
    if not target:
        return None
    from mailtools.system.net.transcript import open_transcript

    mark = object()
    return open_transcript(target, "send", again=_begun.setdefault(target, mark) is not mark)
