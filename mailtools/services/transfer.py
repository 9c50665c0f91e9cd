"""Messages over SMTP to one server: the client's side of a session, many messages over one connection.

The commands of a transaction go out together where the server offers PIPELINING (RFC 2920), and those of the
next message while the answer to this one is on its way: one round trip a message. DATA joins them only
where one recipient is named, for after a 354 a message cannot be taken back, and a recipient refused before
DATA fails the whole message (so that the caller may run it again without duplicates).

Knows no exit codes: each recipient's `Outcome` holds the reply or the error.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import (
    BadDataError,
    MailError,
    PolicyError,
    RefusedError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.core.smtp.client import SmtpClient
from mailtools.core.smtp.reply import Reply
from mailtools.services.outgoing import Outgoing
from mailtools.system.pump import LostConnectionError, Pump

_FLUSH_AT = 128 << 10  # octets gathered before a write


class Outcome(NamedTuple):
    """What became of one recipient of one message."""

    message: Outgoing
    recipient: str
    reply: Reply | None  # the reply that decided; None where none came
    error: MailError | None  # None: sent


class Link:
    """One open SMTP connection, greeted."""

    def __init__(self, pump: Pump, engine: SmtpClient, helo: str) -> None:
        """Raises MailError where the server turns us away."""
        self._pump = pump
        self._engine = engine
        self.answered = 0  # messages
        self.broken: MailError | None = None
        self._expect("", 220)
        engine.command("EHLO", helo)
        reply = self.reply()
        if reply.code in (500, 502, 504):  # a server of before 1995 (RFC 5321 §3.2)
            engine.command("HELO", helo)
            reply = self.reply()
        if reply.code != 250:
            raise failure("EHLO", reply)

    def _expect(self, command: str, code: int) -> None:
        reply = self.reply()
        if reply.code != code:
            raise failure(command, reply)

    def reply(self) -> Reply:
        """The next reply. Raises LostConnectionError, TemporaryError, RemoteProtocolError."""
        event = self._pump.next_event()
        reply: Reply = event.reply
        if reply.code == 421 and event.command != "":
            raise LostConnectionError(f"the server closes the connection: {reply}")
        return reply

    def quit(self) -> None:
        """Say goodbye; what the server makes of it changes nothing any more."""
        try:
            self._engine.command("QUIT")
            self.reply()
        except MailError:
            pass
        self._pump.close()

    def close(self) -> None:
        """Leave without a word."""
        self._pump.close()

    @property
    def pipelining(self) -> bool:
        """Tell whether commands may go out ahead of replies."""
        return "PIPELINING" in self._engine.capabilities

    # -- one message ---------------------------------------------------------------------------------------

    def check(self, message: Outgoing) -> None:
        """Raise BadDataError where this server cannot carry *message*."""
        offered = self._engine.capabilities
        if message.needs_utf8 and "SMTPUTF8" not in offered:
            raise BadDataError("an address or the header is not ASCII, and the server offers no SMTPUTF8")
        if message.needs_8bit and "8BITMIME" not in offered:
            raise BadDataError("the message is 8-bit, and the server offers no 8BITMIME")
        limit = offered.get("SIZE", "")
        if re.fullmatch("[0-9]{1,20}", limit) and 0 < int(limit) < message.size:
            raise BadDataError(f"the message has {message.size} octets; the server takes at most {limit}")

    def start(self, message: Outgoing) -> None:
        """Send what may go before the first answer."""
        for verb, argument in self._opening(message)[: None if self.pipelining else 1]:
            self._engine.command(verb, argument)
        self._pump.flush()

    def _opening(self, message: Outgoing) -> list[tuple[str, str]]:
        commands = [("MAIL", f"FROM:<{message.reverse_path}>{self._parameters(message)}")]
        commands += [("RCPT", f"TO:<{recipient}>") for recipient in message.recipients]
        if len(message.recipients) == 1:
            commands.append(("DATA", ""))
        return commands

    def _parameters(self, message: Outgoing) -> str:
        offered = self._engine.capabilities
        words = [f" SIZE={message.size}"] if "SIZE" in offered else []
        if message.needs_8bit and "8BITMIME" in offered:
            words.append(" BODY=8BITMIME")
        if message.needs_utf8:
            words.append(" SMTPUTF8")
        return "".join(words)

    def envelope(self, message: Outgoing) -> list[Outcome]:
        """Take the answers to what `start` sent; the outcomes if the message failed, [] if a 354 stands."""
        rest = self._opening(message)[1:]
        mail = self.reply()
        if self.pipelining:
            replies = [self.reply() for _ in rest]
        elif mail.is_completed:
            replies = [self._ask(verb, argument) for verb, argument in rest if verb == "RCPT"]
        else:
            replies = []
        recipients = replies[: len(message.recipients)]
        data = replies[len(message.recipients)] if len(replies) > len(message.recipients) else None
        failed = _envelope_outcomes(message, mail, recipients)
        if not failed and data is None:
            data = self._ask("DATA", "")
        if not failed and data is not None and data.code != 354:
            error = failure("DATA", data)
            failed = [Outcome(message, recipient, data, error) for recipient in message.recipients]
        if failed:
            self._leave(mail, data)
        return failed

    def _ask(self, verb: str, argument: str) -> Reply:
        self._engine.command(verb, argument)
        return self.reply()

    def _leave(self, mail: Reply, data: Reply | None) -> None:
        """Get back to where MAIL may come; after a 354 that means an empty message (RFC 2920 §3.1).

        A server that closes instead changes nothing of its refusal; it sets `broken`.
        """
        try:
            if data is not None and data.code == 354:
                self._engine.end_message()
                self.reply()
            if mail.is_completed:
                self._ask("RSET", "")
        except MailError as error:
            self.broken = error

    def body(self, message: Outgoing) -> None:
        """Send the message and its end."""
        size = 0
        for block in message.blocks():
            self._engine.message_chunk(block)
            size += len(block)
            if size > _FLUSH_AT:
                self._pump.flush()
                size = 0
        self._engine.end_message()
        self._pump.flush()

    def verdict(self, message: Outgoing) -> list[Outcome]:
        """The outcomes, once the answer to the message's end is there; sets `broken` where it never comes."""
        try:
            reply = self.reply()
        except MailError as error:
            # Delivered or not: only the server knows (RFC 1047). Trying again may double, never lose.
            self.broken = TemporaryError(str(error))
            doubt = TemporaryError(f"{error}; the message may have been delivered")
            return failed_outcomes(message, doubt)
        self.answered += 1
        return [_outcome(message, recipient, ".", reply) for recipient in message.recipients]

    def exchange(self, message: Outgoing, waiting: Iterator[Outgoing], begun: bool) -> "Step":
        """Send *message*, and begin the next one of *waiting* meanwhile. Raises MailError before the body."""
        try:
            self.check(message)
        except BadDataError as error:
            return Step(failed_outcomes(message, error), None, False)
        if not begun:
            self.start(message)
        failed = self.envelope(message)
        if failed:
            self.answered += 1
            return Step(failed, None, False)
        self.body(message)
        following = next(waiting, None)
        begun = following is not None and self._begin(following)
        return Step(self.verdict(message), following, begun)

    def _begin(self, message: Outgoing) -> bool:
        try:
            self.check(message)
            if self.pipelining:
                self.start(message)
        except MailError:  # told when it is its turn
            return False
        return self.pipelining


class Step(NamedTuple):
    """One message's outcomes, and the next message where it was taken already."""

    outcomes: list[Outcome]
    following: Outgoing | None
    begun: bool  # its first commands are on their way


def transfer(messages: Iterable[Outgoing], open_link: Callable[[], Link]) -> Iterator[list[Outcome]]:
    """Send *messages* over as few connections as serve; yield each one's outcomes as they are known.

    A server that closes between messages is called again; one that cannot be reached, or whose connection
    ends before it answered anything, fails every message that is left.
    """
    waiting = iter(messages)
    message = next(waiting, None)
    link: Link | None = None
    begun = False
    try:
        while message is not None:
            answered = 0
            try:
                if link is None:
                    link, begun = open_link(), False
                answered = link.answered
                step = link.exchange(message, waiting, begun)
            except MailError as error:
                if link is not None:
                    link.close()
                    link = None
                if answered and isinstance(error, LostConnectionError):
                    continue
                step = Step(failed_outcomes(message, error), None, False)
                dead = None if answered else error
            else:
                dead = link.broken if not link.answered else None
                if link.broken:
                    link.close()
                    link = None
            yield step.outcomes
            message, begun = step.following or next(waiting, None), step.begun
            while message is not None and dead is not None:
                yield failed_outcomes(message, dead)
                message = next(waiting, None)
    finally:
        if link is not None:
            link.quit()


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


def failed_outcomes(message: Outgoing, error: MailError) -> list[Outcome]:
    """The same *error* for every recipient."""
    return [Outcome(message, recipient, None, error) for recipient in message.recipients]


def _outcome(message: Outgoing, recipient: str, command: str, reply: Reply) -> Outcome:
    error = None if reply.is_completed else failure(command, reply)
    return Outcome(message, recipient, reply, error)


def _envelope_outcomes(message: Outgoing, mail: Reply, replies: list[Reply]) -> list[Outcome]:
    """[] where MAIL and every RCPT were accepted; else an outcome for each recipient."""
    if not mail.is_completed:
        return [_outcome(message, recipient, "MAIL", mail) for recipient in message.recipients]
    refused = [reply for reply in replies if not reply.is_completed]
    if not refused:
        return []
    # One refused recipient fails the others too; they are to be tried again if that one is.
    first = next((reply for reply in refused if reply.is_transient), refused[0])
    others = "not sent, for another recipient was refused"
    return [
        _outcome(message, recipient, "RCPT", reply)
        if reply in refused
        else Outcome(message, recipient, None, _companion(others, first))
        for recipient, reply in zip(message.recipients, replies, strict=True)
    ]


def _companion(text: str, reply: Reply) -> MailError:
    return type(failure("RCPT", reply))(text)
