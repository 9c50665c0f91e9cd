"""One open SMTP or LMTP connection: greeted, and ready for transactions.

Knows no message: what is said over it is services/transfer's affair. Owns RFC 5321 §3.1 and §3.2 (greeting,
EHLO, the fall back to HELO) from the client's side.
"""

from contextlib import suppress

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import (
    BadDataError,
    MailError,
    PolicyError,
    RefusedError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.core.smtp.client import Replied, SmtpClient
from mailtools.core.smtp.reply import Reply
from mailtools.system.pump import LostConnectionError, Pump


class Link:
    """One connection, greeted. *remote*: the server's name, for people and DSNs."""

    def __init__(self, pump: Pump, engine: SmtpClient, helo: str, remote: str = "") -> None:
        """Raises MailError where the server turns us away."""
        self._pump = pump
        self._engine = engine
        self.remote = remote
        self.is_lmtp = False
        self.answered = 0  # messages
        self.broken: MailError | None = None
        greeting = self.reply()
        if greeting.code != 220:
            raise failure("", greeting)
        reply = self.ask("EHLO", helo)
        if reply.code in (500, 502, 504):  # a server of before 1995 (RFC 5321 §3.2)
            reply = self.ask("HELO", helo)
        if reply.code != 250:
            raise failure("EHLO", reply)

    @property
    def offered(self) -> dict[str, str]:
        """The service extensions of the server: keyword to parameters."""
        return self._engine.capabilities

    @property
    def pipelining(self) -> bool:
        """Tell whether commands may go out ahead of replies."""
        return "PIPELINING" in self._engine.capabilities

    def say(self, verb: str, argument: str = "") -> None:
        """Put a command into the buffer. Raises LocalProtocolError."""
        self._engine.command(verb, argument)

    def flush(self) -> None:
        """Send what was said. Raises LostConnectionError, TemporaryError."""
        self._pump.flush()

    def reply(self) -> Reply:
        """The next reply. Raises LostConnectionError, TemporaryError, RemoteProtocolError."""
        return _said(self._pump.next_event())

    def poll_reply(self) -> Reply | None:
        """The same without waiting: None where it is not there yet."""
        event = self._pump.poll_event()
        return None if event is None else _said(event)

    def push(self) -> bool:
        """Send what can be sent now; False where something is left."""
        return self._pump.push()

    def wait(self) -> None:
        """Wait until there is more to read, or room to send. Raises TemporaryError."""
        self._pump.wait()

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._pump.fileno()

    @property
    def timeout(self) -> float:
        """Seconds that the server may be silent."""
        return self._pump.timeout

    def ask(self, verb: str, argument: str = "") -> Reply:
        """Say a command and take its reply."""
        self._engine.command(verb, argument)
        return self.reply()

    def message_chunk(self, octets: bytes) -> None:
        """A part of the message, canonical, into the buffer."""
        self._engine.message_chunk(octets)

    def end_message(self) -> None:
        """The end of the message, into the buffer."""
        self._engine.end_message()

    def quit(self) -> None:
        """Say goodbye; what the server makes of it changes nothing any more."""
        with suppress(MailError):
            self.ask("QUIT")
        self._pump.close()

    def close(self) -> None:
        """Leave without a word."""
        self._pump.close()


def _said(event: Replied) -> Reply:
    if event.reply.code == 421 and event.command != "":
        raise LostConnectionError(f"the server closes the connection: {event.reply}")
    return event.reply


def failure(command: str, reply: Reply) -> MailError:
    """The error that a negative *reply* to *command* is: temporary, or for good and why."""
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
