"""What becomes of mail that comes in over SMTP: who may get it, and its way into their mboxes.

One `ReceiveSession` a connection: it answers the engine's questions and turns a message into records. It
knows neither sockets nor threads: durable appending is `deliver`, which reports back when it is done, and
only then the 250 is said (RFC 5321 §6.1).

Memory: a message of more than 256 KiB lies in a nameless file beside the mailboxes, quoted as it came, and is
copied under the lock at its end: a slow client holds no lock, an aborted message leaves no octet.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mailtools.core.errors import DiskFullError, LockTimeoutError, MailError
from mailtools.core.mbox import quoting
from mailtools.core.mbox.record import make_postmark
from mailtools.core.message.trace import Stamp, delivery_fields, received
from mailtools.core.smtp import events, grammar
from mailtools.core.smtp.events import Envelope, Event
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServer
from mailtools.core.wire import eol
from mailtools.system import clock
from mailtools.system.buffer import Buffer
from mailtools.system.commit import Delivery
from mailtools.system.mailroot import MailRoot
from mailtools.system.mboxfile import NO_ROOM, Record

MAX_HEADER = 256 << 10  # octets; a message whose header is larger is refused
_ACCEPTED = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_DISK_FULL = Reply(452, "4.3.1", "Insufficient system storage")
_HEADER_TOO_LARGE = Reply(552, "5.3.4", f"Header too large: at most {MAX_HEADER} octets")


class Policy(NamedTuple):
    """Who gets mail here, and where it goes."""

    root: MailRoot
    mbox: str = ""  # all mail into this one mbox
    domains: frozenset[str] = frozenset()  # empty: any
    users: frozenset[str] | None = None  # None: any

    def target(self, recipient: str) -> str:
        """The mbox of *recipient*. Raises RefusedRecipientError, MailError or OSError."""
        local, domain = grammar.split_mailbox(recipient)
        if self.domains and domain and domain not in self.domains:
            raise RefusedRecipientError(Reply(550, "5.7.1", "Relaying denied: not a domain of this server"))
        user = local.lower()
        if self.users is not None and user not in self.users and user != "postmaster":
            raise RefusedRecipientError(Reply(550, "5.1.1", "No such user here"))
        if self.mbox:
            return self.mbox
        try:
            return self.root.inbox(user)
        except ValueError:
            raise RefusedRecipientError(Reply(550, "5.1.1", "No such user here")) from None


class RefusedRecipientError(Exception):
    """A recipient is not welcome; holds the reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Accepted(NamedTuple):
    """A message that is durable: what the log and `--to-stdout` tell of it."""

    identity: str
    envelope: Envelope
    head: str  # Return-Path, Delivered-To, Received, as in the first mbox
    body: Buffer  # LF, quoted


class Ports(NamedTuple):
    """What a session needs of the world, given by who opens it."""

    deliver: Callable[[Delivery], None]
    resume: Callable[[], None]
    accepted: Callable[[Accepted], None]
    log: Callable[[str], None]
    warn: Callable[[str], None] = lambda _: None  # what an operator has to see to


class ReceiveSession:
    """One SMTP session's decisions."""

    def __init__(self, engine: SmtpServer, policy: Policy, peer: str, ports: Ports) -> None:
        self._engine = engine
        self._policy = policy
        self._peer = peer
        self._ports = ports
        self._targets: dict[str, list[str]] = {}  # mbox -> the recipients whose mail goes there
        self._message: _Incoming | None = None

    def handle(self, event: Event) -> None:
        """Act on *event*; a question is answered now or, for a message's end, once it is durable."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _connected(self, _: events.Connected) -> None:
        self._engine.reply(Reply(220, "", f"{self._engine.host} ESMTP mailtools"))

    def _mail_from(self, _: events.MailFrom) -> None:
        self._targets = {}
        self._engine.reply(_ACCEPTED)

    def _rcpt_to(self, event: events.RcptTo) -> None:
        try:
            target = self._policy.target(event.recipient)
        except RefusedRecipientError as refused:
            self._ports.log(f"refused recipient <{event.recipient}> from {self._peer}: {refused.reply}")
            self._engine.reply(refused.reply)
            return
        except (MailError, OSError) as error:
            self._ports.warn(f"cannot deliver to <{event.recipient}>: {error}")
            self._engine.reply(_failure(error))
            return
        self._targets.setdefault(target, []).append(event.recipient)
        self._engine.reply(_RECIPIENT_OK)

    def _message_start(self, event: events.MessageStart) -> None:
        self._message = _Incoming(event.envelope, os.path.dirname(next(iter(self._targets))))

    def _message_chunk(self, event: events.MessageChunk) -> None:
        if self._message is not None:
            self._message.take(event.octets)

    def _message_aborted(self, event: events.MessageAborted) -> None:
        if self._message is not None:
            self._message.body.close()
            self._message = None
        self._ports.log(f"message from {self._peer} dropped: {event.reason}")

    def _message_end(self, _: events.MessageEnd) -> None:
        message, self._message = self._message, None
        assert message is not None
        message.end()
        if message.problem is not None:
            message.body.close()
            self._ports.log(f"message from {self._peer} refused: {message.problem}")
            self._engine.reply(message.problem)
            return
        accepted, records = self._records(message)

        def done(error: MailError | None) -> None:
            if error is None:
                self._ports.accepted(accepted)
                self._engine.reply(Reply(250, "2.0.0", f"Ok: {accepted.identity}"))
            else:
                self._ports.warn(f"message {accepted.identity} not stored: {error}")
                self._engine.reply(_failure(error))
            accepted.body.close()
            self._ports.resume()

        self._ports.deliver(Delivery(records, done))

    def _records(self, message: "_Incoming") -> tuple[Accepted, list[tuple[str, Record]]]:
        """One record for each mbox, however many of the recipients have their mail there."""
        now = int(clock.now())
        envelope = message.envelope
        stamp = Stamp(
            helo=envelope.helo,
            peer=self._peer,
            host=self._engine.host,
            protocol=envelope.protocol,
            identity=clock.identity(),
            date=clock.date_field(now),
        )
        postmark = make_postmark(envelope.reverse_path, clock.asctime(now))
        trace = received(stamp, envelope.recipients[0] if len(envelope.recipients) == 1 else "")
        heads = {
            mbox: delivery_fields(envelope.reverse_path, recipients) + trace
            for mbox, recipients in self._targets.items()
        }
        records = [(mbox, Record(postmark + head.encode(), message.body)) for mbox, head in heads.items()]
        return Accepted(stamp.identity, envelope, next(iter(heads.values())), message.body), records


_HANDLERS: dict[type, Callable[[ReceiveSession, Any], None]] = {
    events.Connected: ReceiveSession._connected,
    events.MailFrom: ReceiveSession._mail_from,
    events.RcptTo: ReceiveSession._rcpt_to,
    events.MessageStart: ReceiveSession._message_start,
    events.MessageChunk: ReceiveSession._message_chunk,
    events.MessageEnd: ReceiveSession._message_end,
    events.MessageAborted: ReceiveSession._message_aborted,
}


class _Incoming:
    """A message as it comes: chunks turned into the mbox's form one by one."""

    def __init__(self, envelope: Envelope, folder: str) -> None:
        self.envelope = envelope
        self.body = Buffer(folder)
        self.problem: Reply | None = None
        # The header is gathered whole: the mbox's own fields in it are quoted (core/mbox/quoting).
        self._header: bytearray | None = bytearray()

    def take(self, chunk: bytes) -> None:
        """Add whole CRLF lines; once there is a problem they are passed over."""
        if self.problem is not None:
            return
        lines = eol.to_lf(chunk)
        if self._header is not None:
            searched = max(0, len(self._header) - 1)
            self._header += lines
            end = 0 if self._header.startswith(b"\n") else self._header.find(b"\n\n", searched) + 1
            if not end and not self._header.startswith(b"\n"):
                if len(self._header) > MAX_HEADER:
                    self._fail(_HEADER_TOO_LARGE)
                return
            lines = self._leave_header(end)
        self._append(quoting.quote(lines))

    def end(self) -> None:
        """The message is whole; a header without a body is one too."""
        if self._header is not None and self.problem is None:
            self._append(quoting.quote(self._leave_header(len(self._header))))

    def _leave_header(self, end: int) -> bytes:
        assert self._header is not None
        octets = bytes(self._header)
        self._header = None
        return quoting.quote_state(octets[:end]) + octets[end:]

    def _append(self, lines: bytes) -> None:
        try:
            self.body.append(lines)
        except OSError:
            self._fail(_DISK_FULL)

    def _fail(self, problem: Reply) -> None:
        self.problem = problem
        self.body.close()


def _failure(error: Exception) -> Reply:
    """What the client is told: everything that stopped us may be mended, so it shall try again."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return _DISK_FULL
    if isinstance(error, LockTimeoutError):
        return Reply(451, "4.3.0", "Mailbox is locked, try again later")
    return Reply(451, "4.3.0", "Mailbox cannot be written, try again later")
