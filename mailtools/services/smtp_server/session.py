"""What becomes of mail that comes in over SMTP or LMTP: who may get it, and its way to its places.

One `ReceiveSession` a connection: it answers the engine's questions and turns a message into records. It
knows neither sockets nor threads: what takes time reports back when it is done, and only then the 250 is said
(RFC 5321 §6.1).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mailtools.core.auth.sasl import CheckPassword, FindKeys, Found, LoginFailed
from mailtools.core.errors import MailError
from mailtools.core.message.trace import Stamp, delivery_fields, received
from mailtools.core.smtp import events, grammar
from mailtools.core.smtp.events import Envelope, Event
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.services.delivery import content_filter
from mailtools.services.delivery.addressing import (
    Addressing,
    MboxPlace,
    Place,
    RefusedRecipientError,
    RelayPlace,
)
from mailtools.services.delivery.content_filter import Verdict
from mailtools.services.delivery.dispatch import Carriers, Failures, Handover, failure, make_loads, worst
from mailtools.services.transit.received import Incoming, message_blocks
from mailtools.services.users.login import Logins
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.process.programs import ProgramJob, Ran

if TYPE_CHECKING:
    from mailtools.services.smtp_server.relay import Relaying

_ACCEPTED = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")


class Accepted(NamedTuple):
    """A message that is durable: what the log and `--to-stdout` tell of it."""

    identity: str
    envelope: Envelope
    head: str  # Return-Path, Delivered-To, Received, as in the first mbox
    body: Buffer  # LF, quoted


class SmtpPorts(NamedTuple):
    """What sessions need of the world, given by who opens them."""

    carriers: Carriers
    accepted: Callable[[Accepted], None]
    log: Callable[[str], None]
    filter: str = ""  # a command that sees each message first
    relaying: "Relaying | None" = None

    def warn(self, text: str) -> None:
        """Tell an operator what has to be seen to."""
        self.carriers.warn(text)


class ReceiveSession:
    """One session's decisions. *resume* is called when a question that had to wait was answered."""

    __slots__ = ("_addressing", "_engine", "_logins", "_message", "_peer", "_ports", "_recipients", "_resume")

    def __init__(
        self,
        engine: SmtpServerEngine,
        addressing: Addressing,
        logins: Logins,
        peer: str,
        ports: SmtpPorts,
        resume: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._addressing = addressing
        self._logins = logins
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._recipients: list[tuple[str, tuple[Place, ...]]] = []  # as accepted, in order
        self._message: Incoming | None = None

    def handle(self, event: Event) -> None:
        """Act on *event*; a question is answered now or, where that takes time, later."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    # -- the session ---------------------------------------------------------------------------------------

    def _connected(self, _: events.Connected) -> None:
        offer = self._engine.offer
        self._engine.reply(Reply(220, "", f"{offer.host} {'LMTP' if offer.lmtp else 'ESMTP'} mailtools"))

    def _hello(self, _: events.Hello) -> None:
        engine = self._engine
        engine.mechanisms = self._logins.mechanisms(self._peer, engine.is_secure, bool(engine.bindings))
        engine.proceed()

    def _quit(self, _: events.Quit) -> None:
        self._engine.proceed()

    def _login_question(self, question: CheckPassword | FindKeys) -> None:
        def answer(value: bool | Found | None) -> None:
            self._engine.answer(value)
            self._resume()

        self._logins.decide(question, self._peer, answer)

    def _logged_in(self, event: events.LoggedIn) -> None:
        self._logins.succeeded(self._peer)
        self._ports.log(f"login of {event.user} from {self._peer or 'a local client'}")

    def _login_failed(self, event: LoginFailed) -> None:
        self._ports.warn(
            f"login of {event.user!r} from {self._peer or 'a local client'} failed: {event.reason}"
        )

    # -- the envelope --------------------------------------------------------------------------------------

    def _mail_from(self, _: events.MailFrom) -> None:
        self._recipients = []
        self._engine.reply(_ACCEPTED)

    def _rcpt_to(self, event: events.RcptTo) -> None:
        try:
            places = self._places(event.recipient)
        except RefusedRecipientError as refused:
            tell = self._ports.warn if refused.is_our_fault else self._ports.log
            tell(f"refused recipient <{event.recipient}> from {self._peer}: {refused.reply} ({refused})")
            self._engine.reply(refused.reply)
            return
        except (MailError, OSError) as error:
            self._ports.warn(f"cannot deliver to <{event.recipient}>: {error}")
            self._engine.reply(failure(error))
            return
        self._recipients.append((event.recipient, places))
        self._engine.reply(_RECIPIENT_OK)

    def _places(self, recipient: str) -> tuple[Place, ...]:
        """Raises RefusedRecipientError, MailError, OSError."""
        relaying, engine = self._ports.relaying, self._engine
        is_elsewhere = not self._addressing.is_ours(grammar.split_mailbox(recipient)[1])
        if is_elsewhere and relaying is not None and relaying.lets(engine.user, self._peer):
            return (RelayPlace(recipient),)
        return self._addressing.places(recipient)

    # -- the message ---------------------------------------------------------------------------------------

    def _message_start(self, event: events.MessageStart) -> None:
        self._message = Incoming(event.envelope, self._beside())
        self._engine.proceed()

    def _beside(self) -> str:
        """Beside what a large message may lie: on the filesystem that it will end up on."""
        for _, places in self._recipients:
            for place in places:
                if isinstance(place, MboxPlace):
                    return place.path
        return f"{self._addressing.root.path}/"

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
            self._refuse(message, message.problem)
            return
        stamp = self._stamp(message.envelope)
        trace = received(stamp, self._recipients[0][0] if len(self._recipients) == 1 else "")
        if self._ports.filter:
            self._examine(message, stamp.identity, trace)
        else:
            self._hand_over(message, stamp.identity, trace)

    def _refuse(self, message: Incoming, problem: Reply) -> None:
        message.body.close()
        self._ports.log(f"message from {self._peer} refused: {problem}")
        self._answer([problem] * len(self._recipients))

    def _stamp(self, envelope: Envelope) -> Stamp:
        return Stamp(
            helo=envelope.helo,
            peer=self._peer,
            host=self._engine.offer.host,
            protocol=envelope.protocol,
            identity=clock.identity(),
            date=clock.date_field(int(clock.now())),
        )

    def _examine(self, message: Incoming, identity: str, trace: str) -> None:
        """Show the message to the filter; what it prints goes on in its place, our Received included."""
        envelope, beside = message.envelope, self._beside()
        shown = "\n".join(recipient for recipient, _ in self._recipients)

        def judge(ran: Ran) -> Verdict:
            return content_filter.judge(ran, envelope, beside)

        def done(verdict: Verdict) -> None:
            message.body.close()
            if verdict.warning:
                self._ports.warn(verdict.warning)
            if verdict.message is not None:
                self._hand_over(verdict.message, identity, "")
            elif verdict.reply is not None:
                self._ports.log(
                    f"message {identity} from {self._peer}: the filter's verdict: {verdict.reply}"
                )
                self._answer([verdict.reply] * len(self._recipients))
                self._resume()

        environment = content_filter.environment(envelope, self._peer, shown)
        blocks = message_blocks(envelope, trace, message.body)
        self._ports.carriers.run(ProgramJob(self._ports.filter, environment, blocks, judge, done))

    def _hand_over(self, message: Incoming, identity: str, trace: str) -> None:
        envelope, body = message.envelope, message.body
        # The engine's list has what RCPT said of DSNs; ours where the mail goes.
        places = [its for _, its in self._recipients]
        goals = list(zip(envelope.recipients, places, strict=True))
        loads = make_loads(message, identity, trace, goals, self._peer)
        first = [recipient.address for recipient, its in goals if its[:1] == places[0][:1]]
        shown = delivery_fields(envelope.reverse_path, first) + trace

        def done(failures: Failures) -> None:
            if not loads or any(place not in failures for its in loads for place in its):
                self._ports.accepted(Accepted(identity, envelope, shown, body))
            ok = Reply(250, "2.0.0", f"Ok: {identity}")
            self._answer([worst([failures[p] for p in its if p in failures], ok) for its in places])
            body.close()
            self._resume()

        Handover(self._ports.carriers, done).start(loads)

    def _answer(self, replies: list[Reply]) -> None:
        """A reply for each recipient in LMTP (RFC 2033 §4.2), one for all in SMTP: the worst."""
        if self._engine.offer.lmtp:
            self._engine.reply_each(replies)
        else:
            refusals = [reply for reply in replies if not reply.is_completed]
            self._engine.reply(worst(refusals, replies[0]))


_HANDLERS: dict[type, Callable[[ReceiveSession, Any], None]] = {
    events.Connected: ReceiveSession._connected,
    events.Hello: ReceiveSession._hello,
    events.Quit: ReceiveSession._quit,
    CheckPassword: ReceiveSession._login_question,
    FindKeys: ReceiveSession._login_question,
    events.LoggedIn: ReceiveSession._logged_in,
    LoginFailed: ReceiveSession._login_failed,
    events.MailFrom: ReceiveSession._mail_from,
    events.RcptTo: ReceiveSession._rcpt_to,
    events.MessageStart: ReceiveSession._message_start,
    events.MessageChunk: ReceiveSession._message_chunk,
    events.MessageEnd: ReceiveSession._message_end,
    events.MessageAborted: ReceiveSession._message_aborted,
}
