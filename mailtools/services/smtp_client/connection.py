"""One SMTP or LMTP connection: greeting, TLS and login done, ready for transactions.

This module knows no message: services/smtp_client/transaction sends them. Owns, on the client's side,
RFC 5321 §3.1 and §3.2 (greeting, EHLO, HELO for old servers), RFC 2033 §4.1 (LHLO), RFC 3207 §4 (STARTTLS),
RFC 4954 §4 and §6 (AUTH), RFC 7504 (521: the host accepts no mail).

Invariants: if TLS is required and fails, for whatever reason, neither a login nor a message is sent. No
password or token is sent where somebody else could read it, or answer in place of the server. Opening a
connection ends, however slowly a server sends its octets: after twice the time-out, or after
`LEAST_PATIENCE` if that is more.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import (
    BadDataError,
    MailError,
    PolicyError,
    ProtocolError,
    RefusedError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.core.smtp.client import Replied, SmtpClient
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.route import Route
from mailtools.services import access as accesses
from mailtools.services.access import Access
from mailtools.system import clock
from mailtools.system.net.client_connection import LostConnectionError, Pump, silence

if TYPE_CHECKING:
    from mailtools.system.tls.client import ClientTls

LEAST_PATIENCE = 60.0  # seconds
_PIECE = 4096  # octets


class OpportunityLostError(TemporaryError):
    """Opportunistic TLS failed; the server may accept the message without TLS."""


class SmtpTarget(NamedTuple):
    """A server to send to, and how."""

    route: Route
    access: Access = Access()
    transcript: str = ""  # a folder, or "-" for stdout; "" for none
    helo: str = ""  # the name in EHLO; "": the name of this host

    @property
    def logs_in(self) -> bool:
        """True if there is a user to log in; never at the hosts of MX records, which others own."""
        return bool(self.access.user) and self.route.scheme != "mx"


class Tls(NamedTuple):
    """TLS for one connection."""

    layer: Callable[[], "ClientTls"]
    is_implicit: bool = False  # from the first octet
    is_required: bool = False
    is_trusted: bool = False  # the server's certificate is verified


class Link:
    """One open connection. *remote*: the server's name, for people and DSNs."""

    def __init__(
        self,
        pump: Pump,
        engine: SmtpClient,
        target: SmtpTarget,
        remote: str,
        tls: Tls | None = None,
        until: float = math.inf,
    ) -> None:
        """Raises MailError if the server refuses us, or does not offer what is required.

        *until*: monotonic seconds, when the connection is given up if it is not ready.
        """
        self._pump = pump
        self._engine = engine
        self._helo = target.helo or clock.host_name()
        self.remote = remote
        self.is_lmtp = target.route.scheme == "lmtp"
        self.answered = 0  # messages
        self._heard = 0  # replies
        self.broken: MailError | None = None
        pump.deadline = min(until, clock.monotonic() + max(2 * pump.timeout, LEAST_PATIENCE))
        self._open(target, tls)
        pump.deadline = None

    # -- opening -------------------------------------------------------------------------------------------

    def _open(self, target: SmtpTarget, tls: Tls | None) -> None:
        is_trusted = False
        if tls and tls.is_implicit:
            self._pump.start_tls(tls.layer())
            is_trusted = tls.is_trusted
        self._take_greeting()
        self._greet(may_be_lmtp=bool(target.route.path))
        if tls and not tls.is_implicit and self._start_tls(tls):
            is_trusted = tls.is_trusted
            self._greet_again(tls)
        if target.logs_in:
            self._log_in(target, is_trusted or self._pump.is_private)

    def _take_greeting(self) -> None:
        greeting = self.reply()
        if greeting.code in (521, 556):  # RFC 7504 §2, §3: the host accepts no mail, today or tomorrow
            raise RefusedError(str(greeting)).coded("5.3.2")
        if greeting.code != 220:
            raise failure("", greeting)

    def _greet(self, may_be_lmtp: bool) -> None:
        """Send EHLO or LHLO.

        Over a unix socket the server may speak either: Dovecot's LMTP refuses EHLO, Postfix's SMTP refuses
        LHLO.
        """
        verb = "LHLO" if self.is_lmtp else "EHLO"
        reply = self.ask(verb, self._helo)
        if reply.code >= 500 and may_be_lmtp:
            lmtp_reply = self.ask("LHLO", self._helo)
            if lmtp_reply.code == 250:
                self.is_lmtp, reply = True, lmtp_reply
        if reply.code in (500, 502, 504) and not self.is_lmtp:  # a server older than 1995 (RFC 5321 §3.2)
            reply = self.ask("HELO", self._helo)
        if reply.code != 250:
            raise failure(verb, reply)

    def _start_tls(self, tls: Tls) -> bool:
        """Send STARTTLS; return False if TLS is not possible and not required."""
        if "STARTTLS" not in self.offered:
            if tls.is_required:
                raise ProtocolError(
                    f"{self.remote or 'the server'} offers no STARTTLS, which is required; check host and"
                    " port, or try --tls implicit"
                )
            return False
        try:
            reply = self.ask("STARTTLS")
        except MailError as error:
            raise error if tls.is_required else _lost(error) from None
        if reply.code != 220:
            if not tls.is_required:
                return False
            if reply.is_transient:
                raise TemporaryError(f"no TLS now: {reply}")
            raise ProtocolError(f"the server refuses TLS, which is required: {reply}")
        self._engine.start_tls()
        try:
            self._pump.start_tls(tls.layer())
        except MailError as error:
            raise error if tls.is_required else _lost(error) from None
        return True

    def _greet_again(self, tls: Tls) -> None:
        """Send EHLO under TLS. With TLS 1.3 a server reports what it disliked in the handshake only now."""
        try:
            self._greet(may_be_lmtp=False)
        except MailError as error:
            raise error if tls.is_required else _lost(error) from None

    def _log_in(self, target: SmtpTarget, is_safe: bool) -> None:
        access, route = target.access, target.route
        offered = _mechanisms(self.offered)
        fitting = accesses.mechanisms(offered, access, is_safe=True)
        if not fitting:
            hint = "; try --tls starttls" if "STARTTLS" in self.offered else ""
            raise accesses.no_login_fits("the server", offered, access, hint)
        mechanism = fitting[0]
        if not accesses.mechanisms([mechanism], access, is_safe):
            raise accesses.overheard(mechanism, "--tls starttls")
        steps = accesses.begin(mechanism, access, self._secret(access), route.host, route.port)
        self._engine.auth(mechanism, steps)
        try:
            reply = self.reply()
        except RemoteProtocolError:
            with suppress(MailError):
                self._pump.push()  # the "*" that cancels
            raise
        if reply.code != 235:
            raise self._refusal(reply, accesses.login_of(access, mechanism))

    def _secret(self, access: Access) -> str:
        """Return the password or token; the time that a person takes to type it does not count."""
        assert access.secret is not None  # `open_link` has checked it
        began = clock.monotonic()
        secret = access.secret()
        if self._pump.deadline is not None:
            self._pump.deadline += clock.monotonic() - began
        return secret

    def _refusal(self, reply: Reply, what: str) -> MailError:
        note = f" ({self._engine.login_note})" if self._engine.login_note else ""
        if reply.is_transient:
            return TemporaryError(f"{what} is not possible now: {reply}{note}")
        if reply.code < 500:
            return RemoteProtocolError(f"unexpected reply to {what}: {reply}")
        return PolicyError(f"{what} was refused: {reply}{note}")

    # -- open ----------------------------------------------------------------------------------------------

    @property
    def offered(self) -> dict[str, str]:
        """The service extensions of the server: keyword to parameters."""
        return self._engine.capabilities

    @property
    def pipelining(self) -> bool:
        """True if commands may be sent ahead of replies (RFC 2920)."""
        return "PIPELINING" in self._engine.capabilities

    def say(self, verb: str, argument: str = "") -> None:
        """Put a command into the buffer. Raises LocalProtocolError."""
        self._engine.command(verb, argument)

    def flush(self) -> None:
        """Send the buffer. Raises LostConnectionError, TemporaryError."""
        self._pump.flush()

    def reply(self) -> Reply:
        """Return the next reply. Raises LostConnectionError, TemporaryError, RemoteProtocolError."""
        return _said(self._pump.next_event())

    def poll_reply(self) -> Reply | None:
        """Return the next reply, or None if it has not come yet."""
        event = self._pump.poll_event()
        if event is None:
            return None
        self._heard += 1
        return _said(event)

    @property
    def progress(self) -> int:
        """A number that grows with each reply, and with each 4 KiB that the server takes."""
        return self._heard + self._pump.sent // _PIECE

    def push(self) -> bool:
        """Send what can be sent now; return False if something is left."""
        return self._pump.push()

    def wait(self) -> None:
        """Wait until the server's octets can be read, or ours be sent. Raises TemporaryError."""
        self._pump.wait()

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._pump.fileno()

    @property
    def timeout(self) -> float:
        """Seconds that the server may be silent."""
        return self._pump.timeout

    def ask(self, verb: str, argument: str = "") -> Reply:
        """Send a command and return its reply."""
        self._engine.command(verb, argument)
        return self.reply()

    def message_chunk(self, octets: bytes) -> None:
        """Put a part of the message into the buffer: CRLF, dots not stuffed."""
        self._engine.message_chunk(octets)

    def end_message(self, recipients: int = 1) -> None:
        """Put the end of the message into the buffer. In LMTP each of its *recipients* gets a reply."""
        self._engine.end_message(recipients if self.is_lmtp else 1)

    def quit(self) -> None:
        """Send QUIT and wait for its reply, whatever it is."""
        with suppress(MailError):
            self.ask("QUIT")
        self._pump.close()

    def leave(self) -> None:
        """Send QUIT and close without waiting for its reply. May be called again."""
        with suppress(MailError, OSError):
            self._engine.command("QUIT")
            self._pump.push()
        self._pump.close()

    def close(self) -> None:
        """Close without QUIT."""
        self._pump.close()


class Patience:
    """Gives up a link that makes no progress within its time-out, though an octet may come now and then."""

    def __init__(self) -> None:
        self._seen: tuple[Link, int] | None = None
        self._since = 0.0

    def left(self, link: Link) -> float:
        """Return the seconds until *link* is given up. Raises TemporaryError when that is now."""
        now = clock.monotonic()
        seen = (link, link.progress)
        if seen != self._seen:
            self._seen, self._since = seen, now
        left = self._since + link.timeout - now
        if left <= 0:
            raise silence(link.timeout)
        return left


def _said(event: Replied) -> Reply:
    if event.reply.code == 421 and event.command != "":
        raise LostConnectionError(f"the server closes the connection: {event.reply}")
    return event.reply


def _lost(error: MailError) -> OpportunityLostError:
    return OpportunityLostError(f"TLS did not come about: {error}")


def _mechanisms(offered: dict[str, str]) -> list[str]:
    """Return the mechanisms that AUTH offers. Servers before RFC 2554 write ``AUTH=PLAIN LOGIN``."""
    found: list[str] = []
    for keyword, parameters in offered.items():
        if keyword == "AUTH" or keyword.startswith("AUTH="):
            found += [keyword[5:], *parameters.upper().split()]
    return list(dict.fromkeys(name for name in found if name))


def failure(command: str, reply: Reply) -> MailError:
    """Return the error that a negative *reply* to *command* means: temporary, or permanent and why."""
    text = str(reply)
    if reply.is_transient:
        return TemporaryError(text)
    if reply.code < 500:
        return RemoteProtocolError(f"unexpected reply to {command or 'our connection'}: {text}")
    if command == ".":
        return BadDataError(text)
    if reply.code in (530, 534, 535, 538) or reply.enhanced.startswith("5.7."):
        return PolicyError(text)
    if command == "RCPT":
        return UnknownRecipientError(text)
    if command == "MAIL" and reply.code == 552:
        return BadDataError(text)
    return RefusedError(text)
