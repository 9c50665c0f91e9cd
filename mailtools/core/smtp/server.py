"""The server's half of SMTP and LMTP: octets in, events out, answers in, octets out.

It keeps the order of commands, the limits and the grammar, and answers by itself what needs no decision. It
does not know who may send, which mailboxes exist, or where a message goes: it asks (`Connected`, `RcptTo`,
`MessageEnd` ...), and parses on once it has the answer.

Owns RFC 5321 §3, §4.1, §4.3; RFC 2033 (LMTP); RFC 2920 (PIPELINING); RFC 3030 (CHUNKING); RFC 3207
(STARTTLS); RFC 4954 (AUTH, its place in the session); RFC 2034 (ENHANCEDSTATUSCODES).

Invariants: each command gets one reply, in order. Every limit is checked before octets are kept. A message
that breaks a rule is read to its end and answered there, so that no line of a message is taken for a
command. STARTTLS discards all that was said before, and the octets that were received before TLS.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

from mailtools.core.auth import dialogue, sasl
from mailtools.core.auth.sasl import LoginFailed
from mailtools.core.errors import CommandError
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp import grammar, login
from mailtools.core.smtp.body import BodyReader
from mailtools.core.smtp.events import (
    Closed,
    Connected,
    Envelope,
    Hello,
    LoggedIn,
    MailFrom,
    MessageAborted,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Quit,
    RcptTo,
    Verify,
)
from mailtools.core.smtp.grammar import SyntaxProblemError
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    mail_parameters,
    rcpt_parameters,
)
from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import dots
from mailtools.core.wire.conversation import Conversation, Steps

_OK = Reply(250, "2.0.0", "Ok")
_HELP = "Commands: HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\nSee RFC 5321"


class SmtpServerEngine(Conversation):
    """The engine of one session.

    The session may set `mechanisms`, the SASL mechanisms that are offered, before it answers `Hello`.
    """

    __slots__ = (
        "_body", "_extended", "_helo", "_is_login", "_parameters", "_recipients", "_refused_some",
        "_reverse_path", "errors_left", "logins_left", "mechanisms", "offer", "user",
    )  # fmt: skip

    def __init__(self, offer: SmtpOffer) -> None:
        super().__init__()
        self.offer = offer
        self._reader.takes_lf = offer.takes_lf
        self.errors_left = offer.max_errors
        self.logins_left = offer.max_logins
        self.mechanisms: tuple[str, ...]
        self._body: BodyReader | None = None  # of the message that is being received
        self._is_login = False  # the last known command was AUTH
        self._forget_session()

    # -- for the session's owner ---------------------------------------------------------------------------

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Reply 421 and close at once (RFC 5321 §3.8)."""
        if not self.is_closed:
            self._send(Reply(code, enhanced, f"{self.offer.host} {text}"))
            self._end(text)

    def abandon(self) -> None:
        """Discard the current transaction, whose question will never be answered."""
        self._forget_transaction("abandoned")

    @property
    def accepted(self) -> Sequence[Recipient]:
        """The accepted recipients of the current transaction."""
        return self._recipients

    @property
    def in_transaction(self) -> bool:
        """True from MAIL to the end of its message."""
        return self._reverse_path is not None

    # -- the session ---------------------------------------------------------------------------------------

    def _session(self) -> Steps:
        greeting = yield from self.ask(Connected())
        self._send(greeting)
        if not greeting.is_positive:
            self._end(greeting.text)
        yield from self._commands(self.offer.max_command)

    def _command(self, verb: bytes, argument: bytes, line: bytes) -> Steps | None:
        command = (_LMTP_COMMANDS if self.offer.lmtp else _COMMANDS).get(verb)
        if command is not None:
            return command(self, argument.strip(b" "))
        if verb in _COMMANDS:
            raise SyntaxProblemError(500, "5.5.1", "This is LMTP: say LHLO")
        raise SyntaxProblemError(500, "5.5.1", "Command not recognized")

    def _masked(self, verb: bytes, line: bytes) -> bytes:
        is_auth, is_known = verb == b"AUTH", verb in (_LMTP_COMMANDS if self.offer.lmtp else _COMMANDS)
        shown = login.masked(line, is_auth, is_known, self._is_login)
        self._is_login = is_auth or (self._is_login and not is_known)
        return shown

    def _not_http(self) -> None:
        self._send(Reply(554, "5.5.1", "This is SMTP, not HTTP"))

    def _refuse(self, problem: CommandError) -> None:
        assert isinstance(problem, SyntaxProblemError)
        self._error(Reply(problem.code, problem.enhanced, problem.text))

    def _broken_line(self, reason: str) -> None:
        self._error(Reply(500, "5.5.2", reason))

    def _answered(self, reply: Reply) -> None:
        """Send the session's reply; 421 means "closing transmission channel" (RFC 5321 §3.8)."""
        self._send(reply)
        if reply.code == 421:
            self._end(reply.text)

    def _send(self, reply: Reply) -> None:
        self._out.append(reply.octets())

    def _error(self, reply: Reply) -> None:
        """Answer a bad command; end the session after too many of them, which no mail client sends."""
        self.errors_left -= 1
        if self.errors_left > 0:
            self._send(reply)
        else:
            self._send(Reply(421, "4.7.0", f"{self.offer.host} Too many errors, closing"))
            self._end("too many errors")

    def _end(self, reason: str, fault: str = "") -> None:
        if not self.is_closed:
            self._forget_transaction(reason)
            self._close()
            self._events.append(Closed())

    def _forget_session(self) -> None:
        self.mechanisms = ()
        self._helo = ""
        self._extended = False
        self.user = ""
        self._forget_transaction("the session began anew")

    def _forget_transaction(self, reason: str) -> None:
        """*reason*: why the message that is being received will not be complete."""
        if self._body is not None and self._body.problem is None:
            self._events.append(MessageAborted(reason))
        self._body = None
        self._reverse_path: str | None = None
        self._parameters = NO_MAIL_PARAMETERS
        self._recipients: list[Recipient] = []
        self._refused_some = False

    # -- hello, TLS, login ---------------------------------------------------------------------------------

    def _do_helo(self, argument: bytes) -> Steps:
        if (yield from self._hello(argument, extended=False)):
            self._send(Reply(250, "", self._greeting()))

    def _do_ehlo(self, argument: bytes) -> Steps:
        if (yield from self._hello(argument, extended=True)):
            starttls = self.offer.starttls and not self.is_secure
            keywords = self.offer.keywords(starttls, () if self.user else self.mechanisms)
            self._send(Reply(250, "", "\n".join((self._greeting(), *keywords))))

    def _hello(self, argument: bytes, extended: bool) -> Generator[None, None, bool]:
        """Return True if the client may go on."""
        helo = grammar.parse_helo(argument)
        self._forget_transaction("another EHLO")  # RFC 5321 §4.1.4: EHLO acts as RSET
        if self._is_refused((yield from self.ask(Hello(helo)))):
            return False
        self._helo = helo
        self._extended = extended
        return True

    def _is_refused(self, refusal: Reply | None) -> bool:
        """Send the session's refusal, if it is one."""
        if refusal is not None:
            self._answered(refusal)
        return refusal is not None

    def _greeting(self) -> str:
        return f"{self.offer.host} Hello {self._helo}, pleased to meet you"

    def _do_starttls(self, argument: bytes) -> None:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "STARTTLS takes no argument")
        if self.is_secure:
            raise SyntaxProblemError(503, "5.5.1", "TLS is there already")
        if not self.offer.starttls:
            raise SyntaxProblemError(502, "5.5.1", "STARTTLS is not offered")
        self._send(Reply(220, "2.0.0", "Ready to start TLS"))
        self._forget_session()
        self._await_tls()

    def _do_auth(self, argument: bytes) -> Steps:
        if not self._extended:
            raise SyntaxProblemError(503, "5.5.1", "Say EHLO first")
        if self.user:
            raise SyntaxProblemError(503, "5.5.1", "Already logged in")
        if self.in_transaction:
            raise SyntaxProblemError(503, "5.5.1", "Not in a mail transaction")
        if not self.mechanisms:
            if self.offer.starttls and not self.is_secure:
                raise SyntaxProblemError(538, "5.7.11", "Encryption required: say STARTTLS first")
            raise SyntaxProblemError(502, "5.5.1", "AUTH is not offered")
        return self._auth(argument)

    def _auth(self, argument: bytes) -> Steps:
        known = sasl.ANYBODY if self.offer.takes_any_login else sasl.MECHANISMS
        outcome = yield from dialogue.exchange(self, self.mechanisms, b"334 ", argument, known)
        if outcome.is_client_fault:
            self._error(login.reply(outcome))
            return
        if outcome.how == dialogue.DONE:
            self.user = outcome.user
            self._events.append(LoggedIn(outcome.user))
        elif outcome.how == dialogue.WRONG:
            self._events.append(LoginFailed(outcome.user, outcome.reason))
            self.logins_left -= 1
        self._send(login.reply(outcome))
        if self.logins_left <= 0:
            self.close_with(421, "4.7.0", "Too many failed logins, closing")

    # -- the envelope --------------------------------------------------------------------------------------

    def _do_mail(self, argument: bytes) -> Steps:
        if not self._helo:
            raise SyntaxProblemError(
                503, "5.5.1", f"Say {'LHLO' if self.offer.lmtp else 'HELO or EHLO'} first"
            )
        if self._reverse_path is not None:
            raise SyntaxProblemError(503, "5.5.1", "Nested MAIL command")
        reverse_path, given = grammar.parse_path_command(argument, "FROM")
        if reverse_path and "@" not in reverse_path:
            reverse_path = f"{reverse_path}@{self.offer.host}"  # a DSN has to find its way
        parameters = self._mail_parameters(given) if given else NO_MAIL_PARAMETERS
        self._check_ascii(reverse_path, parameters.smtputf8)
        reply = yield from self.ask(MailFrom(reverse_path, parameters.size))
        if reply.is_positive:
            self._reverse_path = reverse_path
            self._parameters = parameters
        self._answered(reply)

    def _mail_parameters(self, given: Mapping[str, str | None]) -> MailParameters:
        if not self._extended:
            raise SyntaxProblemError(555, "5.5.4", f"Parameter {next(iter(given))} not recognized")
        parameters = mail_parameters(given, bool(self.mechanisms))
        if parameters.size > self.offer.max_size:
            raise SyntaxProblemError(552, "5.3.4", f"Message too large: at most {self.offer.max_size} octets")
        return parameters

    def _check_ascii(self, mailbox: str, smtputf8: bool) -> None:
        if not smtputf8 and not mailbox.isascii():
            raise SyntaxProblemError(553, "5.6.7", "Non-ASCII address without SMTPUTF8")

    def _do_rcpt(self, argument: bytes) -> Steps | None:
        if self._reverse_path is None or self._body is not None:
            raise SyntaxProblemError(503, "5.5.1", "Need MAIL before RCPT")
        address, given = grammar.parse_path_command(argument, "TO")
        if given and not self._extended:
            raise SyntaxProblemError(555, "5.5.4", f"Parameter {next(iter(given))} not recognized")
        parameters = rcpt_parameters(given) if given else NO_RCPT_PARAMETERS
        self._check_ascii(address, self._parameters.smtputf8)
        if len(self._recipients) >= self.offer.max_recipients:
            # No error of the client: it sends the rest in another transaction (RFC 5321 §4.5.3.1.10).
            self._send(Reply(452, "4.5.3", f"Too many recipients: at most {self.offer.max_recipients}"))
            return None
        return self._ask_recipient(Recipient(address, *parameters))

    def _ask_recipient(self, recipient: Recipient) -> Steps:
        reply = yield from self.ask(RcptTo(recipient.address))
        if reply.is_positive:
            self._recipients.append(recipient)
        else:
            self._refused_some = True
        self._answered(reply)

    # -- the message ---------------------------------------------------------------------------------------

    def _do_data(self, argument: bytes) -> Steps:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "DATA takes no argument")
        if self._body is not None:
            raise SyntaxProblemError(503, "5.5.1", "DATA and BDAT do not mix")
        self._check_recipients("DATA")
        if self._is_refused((yield from self.ask(MessageStart(self._envelope())))):
            return
        self._send(Reply(354, "", "End data with <CR><LF>.<CR><LF>"))
        body = self._body = self._new_body()
        for block in dots.read_dotted(self._reader, self.offer.max_line):
            if block is None:
                yield
                continue
            if self.heard is not None:
                self._hear(block)
            if body.problem is None:
                lines = body.lines(block)
                self._pass_on(dots.unstuff(lines) if body.take_lines(lines) else b"")
                yield
        if self.heard is not None:
            self._hear(b".\r\n")
        yield from self._end_message(body)

    def _new_body(self) -> BodyReader:
        return BodyReader(self.offer.max_size, self.offer.max_line, self.offer.takes_lf)

    def _check_recipients(self, verb: str) -> None:
        if self._reverse_path is None:
            raise SyntaxProblemError(503, "5.5.1", f"Need MAIL before {verb}")
        if not self._recipients:
            if self._refused_some and not self.offer.lmtp:
                raise SyntaxProblemError(554, "5.5.1", "No valid recipients")
            raise SyntaxProblemError(503, "5.5.1", f"Need RCPT before {verb}")

    def _envelope(self) -> Envelope:
        parameters = self._parameters
        return Envelope(
            self._reverse_path or "",
            tuple(self._recipients),
            self.offer.protocol(self._extended, parameters.smtputf8, self.is_secure, bool(self.user)),
            self._helo,
            parameters.body,
            parameters.smtputf8,
            parameters.ret,
            parameters.envid,
            self.user,
        )

    def _pass_on(self, lines: bytes) -> None:
        """Give *lines* to the session, or tell it that the message is refused."""
        assert self._body is not None
        if self._body.problem is not None:
            self._events.append(MessageAborted(self._body.problem.text))
        elif lines:
            self._events.append(MessageChunk(lines))

    def _end_message(self, body: BodyReader) -> Steps:
        self._body = None  # it is complete: the end of the session aborts it no more
        if body.problem is None:
            replies = yield from self.ask(MessageEnd())
            for reply in replies:
                self._send(reply)
            if any(reply.code == 421 for reply in replies):
                self._end(replies[-1].text)
        else:
            for _ in self._recipients if self.offer.lmtp else (None,):
                self._send(body.problem)
        self._forget_transaction("")

    def _do_bdat(self, argument: bytes) -> Steps:
        try:
            size, is_last = grammar.parse_bdat(argument)
        except SyntaxProblemError as problem:
            # Its octets follow, nobody knows how many, and they must not be taken for commands.
            self._send(Reply(problem.code, problem.enhanced, problem.text))
            self._end(problem.text)
            return
        try:
            if self._body is None:
                self._check_recipients("BDAT")
                if self._is_refused((yield from self.ask(MessageStart(self._envelope())))):
                    self._recipients = []  # so the next chunks are refused as well
                else:
                    self._body = self._new_body()
            elif self._body.problem is not None and not (self.offer.lmtp and is_last):
                raise SyntaxProblemError(503, "5.5.1", "The message was refused; say RSET")
        except SyntaxProblemError:
            yield from self._take_chunk(size, None)
            raise
        yield from self._take_chunk(size, self._body)
        if self._body is not None:
            yield from self._end_chunk(self._body, size, is_last)

    def _take_chunk(self, size: int, body: BodyReader | None) -> Steps:
        """Read exactly *size* octets; discard them if *body* is None or has a problem."""
        left = size
        while left:
            octets = self._reader.take(left)
            if not octets:
                yield
                continue
            left -= len(octets)
            self._hear(octets if left or octets.endswith(b"\n") else octets + b"\r\n")
            if body is not None and body.problem is None:
                self._pass_on(body.take_octets(octets))

    def _end_chunk(self, body: BodyReader, size: int, is_last: bool) -> Steps:
        if is_last:
            if body.problem is None:
                self._pass_on(body.end())
            yield from self._end_message(body)
        else:
            self._send(body.problem or Reply(250, "2.0.0", f"{size} octets received"))

    # -- the rest ------------------------------------------------------------------------------------------

    def _do_rset(self, argument: bytes) -> None:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "RSET takes no argument")
        self._forget_transaction("RSET")
        self._send(_OK)

    def _do_noop(self, argument: bytes) -> None:
        self._send(_OK)

    def _do_vrfy(self, argument: bytes) -> None:
        text = grammar.decode_argument(argument)
        if not text.strip():
            raise SyntaxProblemError(501, "5.5.4", "Syntax: VRFY address")
        self._events.append(Verify(text))
        # The same for every name: VRFY must not tell who exists (RFC 5321 §7.3).
        self._send(Reply(252, "2.5.2", "Cannot VRFY a user, but will take mail and try to deliver it"))

    def _do_expn(self, argument: bytes) -> None:
        raise SyntaxProblemError(502, "5.5.1", "EXPN is not offered")

    def _do_help(self, argument: bytes) -> None:
        self._send(Reply(214, "2.0.0", _HELP))

    def _do_quit(self, argument: bytes) -> Steps:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "QUIT takes no argument")
        if not self._is_refused((yield from self.ask(Quit()))):
            self._send(Reply(221, "2.0.0", f"{self.offer.host} closing connection"))
            self._end("QUIT")


# One table for all sessions: a table in each costs 1 KiB a connection.
_COMMANDS: dict[bytes, Callable[[SmtpServerEngine, bytes], Steps | None]] = {
    b"HELO": SmtpServerEngine._do_helo,
    b"EHLO": SmtpServerEngine._do_ehlo,
    b"STARTTLS": SmtpServerEngine._do_starttls,
    b"AUTH": SmtpServerEngine._do_auth,
    b"MAIL": SmtpServerEngine._do_mail,
    b"RCPT": SmtpServerEngine._do_rcpt,
    b"DATA": SmtpServerEngine._do_data,
    b"BDAT": SmtpServerEngine._do_bdat,
    b"RSET": SmtpServerEngine._do_rset,
    b"NOOP": SmtpServerEngine._do_noop,
    b"VRFY": SmtpServerEngine._do_vrfy,
    b"EXPN": SmtpServerEngine._do_expn,
    b"HELP": SmtpServerEngine._do_help,
    b"QUIT": SmtpServerEngine._do_quit,
}
# RFC 2033 §4.1: LHLO in the place of both.
_LMTP_COMMANDS = {verb: command for verb, command in _COMMANDS.items() if verb not in (b"HELO", b"EHLO")}
_LMTP_COMMANDS[b"LHLO"] = SmtpServerEngine._do_ehlo
