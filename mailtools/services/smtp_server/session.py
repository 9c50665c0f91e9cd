"""An SMTP or LMTP session: which recipients are accepted, and the way of each message to its places.

Each connection has one `ReceiveSession`, which answers the engine's questions and starts the deliveries. It
knows neither sockets nor threads. The reply 250 is sent only after all places report that the message is
durable (RFC 5321 §6.1). Failures become replies here, not before.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mailtools.core.auth.sasl import ANYBODY, CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.errors import MailError
from mailtools.core.message.trace import Stamp, delivery_fields, received
from mailtools.core.smtp import events, grammar
from mailtools.core.smtp.events import Envelope, Event
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.services.delivery import content_filter
from mailtools.services.delivery.addressing import Addressing, MboxPlace, Place, RelayPlace
from mailtools.services.delivery.content_filter import Verdict
from mailtools.services.delivery.dispatch import Carriers, Failures, Handover, make_loads
from mailtools.services.delivery.failures import (
    AliasLoopError,
    BrokenAliasError,
    as_reply,
    explained,
    not_stored,
    not_taken,
    worst,
)
from mailtools.services.transit.mbox_form import message_blocks, new_record
from mailtools.services.transit.received import FROM_SMTP, Received, ReceivedIntake
from mailtools.services.users.login import LoginClient, Logins
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.process.programs import ProgramJob, Ran

if TYPE_CHECKING:
    from mailtools.services.smtp_server.relay import Relaying

A = TypeVar("A")

_ACCEPTED = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_NO_DOMAIN = Reply(553, "5.1.3", "Bad address syntax: it has no domain, and is no name of this server")
_DROPPED = Reply(250, "2.0.0", "Ok")


class Accepted(NamedTuple):
    """A message that is durable, as the log and `--to-stdout` show it."""

    identity: str
    envelope: Envelope
    head: str  # Return-Path, Delivered-To, Received, as in the first mbox
    body: Buffer  # LF, quoted


class SmtpPorts(NamedTuple):
    """What the sessions of a server share."""

    carriers: Carriers
    accepted: Callable[[Accepted], None]
    log: Callable[[str], None]
    filter: str = ""  # a command that may change or refuse each message
    relaying: "Relaying | None" = None

    def warn(self, text: str) -> None:
        """Log a fault that an operator should see."""
        self.carriers.warn(text)


class ReceiveSession:
    """The decisions of one session. *resume* is called after a question was answered later."""

    __slots__ = (
        "_addressing", "_engine", "_envelope", "_intake", "_login", "_logins", "_peer", "_ports", "_problem",
        "_recipients", "_resume",
    )  # fmt: skip

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
        self._login: LoginClient | None = None
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._recipients: list[tuple[str, tuple[Place, ...]]] = []  # as accepted, in order
        self._envelope: Envelope | None = None
        self._intake: ReceivedIntake | None = None  # None: there is no message, or it is refused
        self._problem: MailError | None = None  # why the message is refused

    def handle(self, event: Event) -> None:
        """Handle *event*. A question is answered now, or later if that takes time."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def lost(self) -> None:
        """Give up what waits for the client alone: its login. A message that is complete is stored."""
        if self._login is not None:
            self._login.leave()

    # -- the session ---------------------------------------------------------------------------------------

    def _connected(self, question: events.Connected) -> None:
        offer = self._engine.offer
        greeting = Reply(220, "", f"{offer.host} {'LMTP' if offer.lmtp else 'ESMTP'} mailtools")
        self._engine.answer(question, greeting)

    def _hello(self, question: events.Hello) -> None:
        engine = self._engine
        offered = self._logins.mechanisms(self._peer, engine.is_secure, bool(engine.bindings))
        engine.mechanisms = tuple(ANYBODY) if offered and engine.offer.takes_any_login else offered
        engine.answer(question, None)

    def _quit(self, question: events.Quit) -> None:
        self._engine.answer(question, None)

    def _answer_later(self, question: Question[A], value: A) -> None:
        self._engine.answer(question, value)
        self._resume()

    def _check_password(self, question: CheckPassword) -> None:
        def answer(is_right: bool | None) -> None:
            self._answer_later(question, is_right)

        self._login_client.check(question, answer)

    def _find_keys(self, question: FindKeys) -> None:
        self._login_client.find_keys(question, lambda found: self._answer_later(question, found))

    @property
    def _login_client(self) -> LoginClient:
        if self._login is None:
            self._login = self._logins.client(self._peer)
        return self._login

    def _logged_in(self, event: events.LoggedIn) -> None:
        self._login_client.succeeded()
        self._engine.user = self._logins.user_of(event.user)
        self._ports.log(f"login of {event.user} from {self._peer or 'a local client'}")

    def _login_failed(self, event: LoginFailed) -> None:
        self._login_client.failed()
        self._ports.warn(
            f"login of {event.user!r} from {self._peer or 'a local client'} failed: {event.reason}"
        )

    # -- the envelope --------------------------------------------------------------------------------------

    def _mail_from(self, question: events.MailFrom) -> None:
        self._recipients = []
        self._engine.answer(question, _ACCEPTED)

    def _rcpt_to(self, question: events.RcptTo) -> None:
        recipient = question.recipient
        if "@" not in recipient and not self._addressing.knows_name(recipient):
            self._engine.answer(question, _NO_DOMAIN)
            return
        try:
            places = self._places(recipient)
        except (MailError, OSError) as error:
            self._engine.answer(question, self._refused(recipient, error))
            return
        self._recipients.append((recipient, places))
        self._engine.answer(question, _RECIPIENT_OK)

    def _refused(self, recipient: str, error: MailError | OSError) -> Reply:
        """Return the reply to a recipient who is refused because of *error*.

        Log more than the client is told.
        """
        if isinstance(error, OSError) or not error.status:
            self._ports.warn(f"cannot deliver to <{recipient}>: {error}")
            return as_reply(not_stored(error))
        reply = as_reply(error)
        tell = self._ports.warn if isinstance(error, BrokenAliasError | AliasLoopError) else self._ports.log
        tell(f"refused recipient <{recipient}> from {self._peer}: {reply} ({explained(error)})")
        return reply

    def _places(self, recipient: str) -> tuple[Place, ...]:
        """Return where mail for *recipient* goes. Raises what `Addressing.places` raises."""
        relaying, engine = self._ports.relaying, self._engine
        is_elsewhere = not self._addressing.is_ours(grammar.split_mailbox(recipient)[1])
        if is_elsewhere and relaying is not None and relaying.lets(engine.user, self._peer):
            return (RelayPlace(recipient),)
        return self._addressing.places(recipient)

    # -- the message ---------------------------------------------------------------------------------------

    def _message_start(self, question: events.MessageStart) -> None:
        self._envelope, self._problem = question.envelope, None
        self._intake = ReceivedIntake(FROM_SMTP, self._beside())
        self._engine.answer(question, None)

    def _beside(self) -> str:
        """Return a path on the filesystem of the message's place, for the buffer of a large message."""
        for _, places in self._recipients:
            for place in places:
                if isinstance(place, MboxPlace):
                    return place.path
        return f"{self._addressing.root.path}/"

    def _message_chunk(self, event: events.MessageChunk) -> None:
        if self._intake is not None:
            try:
                self._intake.take(event.octets)
            except (MailError, OSError) as error:
                self._intake, self._problem = None, not_taken(error)  # frees memory and file

    def _message_aborted(self, event: events.MessageAborted) -> None:
        self._intake = None
        self._ports.log(f"message from {self._peer} dropped: {event.reason}")

    def _message_end(self, question: events.MessageEnd) -> None:
        intake, self._intake = self._intake, None
        envelope = self._envelope
        assert envelope is not None
        if intake is None:
            assert self._problem is not None
            self._ports.log(f"message from {self._peer} refused: {as_reply(self._problem)}")
            self._engine.answer(question, self._replies([self._problem] * len(self._recipients), _ACCEPTED))
            return
        # `intake.end` has nothing to do: the engine gives whole lines.
        stamp = self._stamp(envelope)
        trace = received(stamp, self._recipients[0][0] if len(self._recipients) == 1 else "")
        message = Received(envelope, intake.body)
        if self._ports.filter:
            self._examine(question, message, stamp.identity, trace)
        else:
            self._hand_over(question, message, stamp.identity, trace)

    def _stamp(self, envelope: Envelope) -> Stamp:
        return Stamp(
            helo=envelope.helo,
            peer=self._peer,
            host=self._engine.offer.host,
            protocol=envelope.protocol,
            identity=clock.identity(),
            date=clock.date_field(int(clock.now())),
        )

    def _examine(self, question: events.MessageEnd, message: Received, identity: str, trace: str) -> None:
        """Run the filter. What it prints replaces the message, including our Received."""
        envelope, beside = message.envelope, self._beside()
        shown = "\n".join(recipient for recipient, _ in self._recipients)

        def judge(ran: Ran) -> Verdict:
            return content_filter.judge(ran, envelope, beside)

        def done(verdict: Verdict) -> None:
            if verdict.warning:
                self._ports.warn(verdict.warning)
            if verdict.message is not None:
                self._hand_over(question, verdict.message, identity, "")
                return
            reply = _DROPPED if verdict.error is None else as_reply(verdict.error)
            self._ports.log(f"message {identity} from {self._peer}: the filter's verdict: {reply}")
            replies = self._replies([verdict.error] * len(self._recipients), _DROPPED)
            self._answer_later(question, replies)

        environment = content_filter.environment(envelope, self._peer, shown)
        blocks = message_blocks(new_record(envelope.reverse_path, trace, message.body))
        self._ports.carriers.run(ProgramJob(self._ports.filter, environment, blocks, judge, done))

    def _hand_over(self, question: events.MessageEnd, message: Received, identity: str, trace: str) -> None:
        """Start the deliveries, and answer *question* after the last of them."""
        envelope, body = message.envelope, message.body
        # The engine's list has the DSN parameters of each RCPT, ours the places.
        places = [its for _, its in self._recipients]
        goals = list(zip(envelope.recipients, places, strict=True))
        loads = make_loads(message, identity, trace, goals, self._peer)
        first = [recipient.address for recipient, its in goals if its[:1] == places[0][:1]]
        shown = delivery_fields(envelope.reverse_path, first) + trace

        def done(failures: Failures) -> None:
            if not loads or any(place not in failures for its in loads for place in its):
                self._ports.accepted(Accepted(identity, envelope, shown, body))
            ok = Reply(250, "2.0.0", f"Ok: {identity}")
            failed = [worst(failures[place] for place in its if place in failures) for its in places]
            self._answer_later(question, self._replies(failed, ok))

        Handover(self._ports.carriers, done).start(loads)

    def _replies(self, failures: Sequence[MailError | None], ok: Reply) -> list[Reply]:
        """Return a reply for each recipient in LMTP (RFC 2033 §4.2); in SMTP one, of the worst failure."""
        if not self._engine.offer.lmtp:
            failures = [worst(one for one in failures if one is not None)]
        return [as_reply(one) if one is not None else ok for one in failures]


_HANDLERS: dict[type, Callable[[ReceiveSession, Any], None]] = {
    events.Connected: ReceiveSession._connected,
    events.Hello: ReceiveSession._hello,
    events.Quit: ReceiveSession._quit,
    CheckPassword: ReceiveSession._check_password,
    FindKeys: ReceiveSession._find_keys,
    events.LoggedIn: ReceiveSession._logged_in,
    LoginFailed: ReceiveSession._login_failed,
    events.MailFrom: ReceiveSession._mail_from,
    events.RcptTo: ReceiveSession._rcpt_to,
    events.MessageStart: ReceiveSession._message_start,
    events.MessageChunk: ReceiveSession._message_chunk,
    events.MessageEnd: ReceiveSession._message_end,
    events.MessageAborted: ReceiveSession._message_aborted,
}
