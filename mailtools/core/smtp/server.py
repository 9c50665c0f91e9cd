"""The server's half of SMTP and LMTP: octets in, events out, replies in, octets out.

It keeps the order of commands, the limits and the grammar, and answers by itself whatever needs no
decision. It does not know who may send, whose mailboxes there are, or where a message goes: those are
questions (`Connected`, `RcptTo`, `MessageEnd` ...), and parsing waits until `reply` or `proceed` answers.

Owns RFC 5321 §3, §4.1, §4.3; RFC 2033 (LMTP); RFC 2920 (PIPELINING); RFC 3030 (CHUNKING); RFC 3207
(STARTTLS); RFC 4954 (AUTH, its place in the session); RFC 2034 (ENHANCEDSTATUSCODES).

Invariants: a reply for every command, in order. Every limit is checked before octets are kept. Whatever a
message breaks, it is read to its end and answered there, so that no line of a message is ever taken for a
command. At STARTTLS all that was said before is forgotten, octets that wait included.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

from mailtools.core.auth import dialogue
from mailtools.core.auth.sasl import LoginFailed
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp import grammar, login
from mailtools.core.smtp.body import BodyReader
from mailtools.core.smtp.events import (
    Closed,
    Connected,
    Envelope,
    Event,
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
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError

_MESSAGE_END = MessageEnd()
_OK = Reply(250, "2.0.0", "Ok")
_HELP = "Commands: HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\nSee RFC 5321"
# Browsers made to speak to us by a page: what they carry shall not be heard to its end (ALPACA).
_HTTP = frozenset(
    (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"PRI")
)


class SmtpServerEngine(Conversation):
    """One session's engine.

    Whoever answers `Hello` may set `mechanisms`, the SASL mechanisms offered from then on.
    """

    __slots__ = (
        "_body", "_extended", "_helo", "_is_login", "_parameters", "_recipients", "_refused_some",
        "_reverse_path", "errors_left", "logins_left", "mechanisms", "offer", "user",
    )  # fmt: skip

    def __init__(self, offer: SmtpOffer) -> None:
        super().__init__()
        self.offer = offer
        self.errors_left = offer.max_errors
        self.logins_left = offer.max_logins
        self.mechanisms: tuple[str, ...]
        self._body: BodyReader | None = None  # of the message under way
        self._is_login = False  # the last known command was AUTH
        self._forget_session()

    # -- answers -------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Answer the question that was put last with *reply*."""
        self.answer(reply)
        if not self.is_closed:
            self._out.append(reply.octets())
            if reply.code == 421:  # "closing transmission channel" (RFC 5321 §3.8)
                self._end(reply.text)

    def reply_each(self, replies: Sequence[Reply]) -> None:
        """Answer `MessageEnd` in LMTP: one for each recipient, in the order of the RCPTs (RFC 2033 §4.2)."""
        self.answer(None)
        for reply in replies if not self.is_closed else ():
            self._send(reply)

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Say a 421 at once and close, whatever is under way (RFC 5321 §3.8)."""
        if not self.is_closed:
            self._send(Reply(code, enhanced, f"{self.offer.host} {text}"))
            self._end(text)

    def abandon(self) -> None:
        """Forget the transaction under way though its question is not answered, and never will be."""
        self._forget_transaction("abandoned")

    @property
    def accepted(self) -> Sequence[Recipient]:
        """The recipients of the transaction under way."""
        return self._recipients

    @property
    def in_transaction(self) -> bool:
        """True from MAIL to the end of its message."""
        return self._reverse_path is not None

    # -- the session, read from top to bottom --------------------------------------------------------------

    def _session(self) -> Steps:
        yield from self._ask(Connected())
        if isinstance(self._answer, Reply) and not self._answer.is_positive:
            self._end(self._answer.text)
        commands = _LMTP_COMMANDS if self.offer.lmtp else _COMMANDS
        while True:
            if self.is_closed or self.wants_tls:
                yield
                continue
            self._left -= 1
            if not self._left:
                yield from self._pause()
            try:
                line = yield from self._reader.read_line(self.offer.max_command)
            except LineTooLongError:
                self._hear(b"(a line that is too long)\r\n")
                self._error(Reply(500, "5.5.2", "Line too long"))
                continue
            except BareNewlineError:
                self._hear(b"(a line with a bare LF)\r\n")
                self._error(Reply(500, "5.5.2", "Bare LF: a line ends with CRLF"))
                continue
            verb, _, argument = line.partition(b" ")
            command = commands.get(verb.upper())
            if self.heard is not None:
                shown = login.masked(
                    line, command is SmtpServerEngine._do_auth, command is not None, self._is_login
                )
                self._hear(shown)
                self._is_login = command is SmtpServerEngine._do_auth or (self._is_login and command is None)
            if command is None:
                self._unknown(verb.upper())
                continue
            try:
                steps = command(self, argument.strip(b" "))
                if steps is not None:
                    yield from steps
            except SyntaxProblemError as problem:
                self._error(Reply(problem.code, problem.enhanced, problem.text))

    def _unknown(self, verb: bytes) -> None:
        if verb in _HTTP:
            self._send(Reply(554, "5.5.1", "This is SMTP, not HTTP"))
            self._end("the client speaks HTTP")
        elif verb in _COMMANDS and self.offer.lmtp:
            self._error(Reply(500, "5.5.1", "This is LMTP: say LHLO"))
        else:
            self._error(Reply(500, "5.5.1", "Command not recognized"))

    def _send(self, reply: Reply) -> None:
        self._out.append(reply.octets())

    def _error(self, reply: Reply) -> None:
        """Answer a bad command; after too many of them end the session, for no client sends those."""
        self.errors_left -= 1
        if self.errors_left > 0:
            self._send(reply)
        else:
            self._send(Reply(421, "4.7.0", f"{self.offer.host} Too many errors, closing"))
            self._end("too many errors")

    def _end(self, reason: str) -> None:
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
        """*reason*: why a message under way does not come to its end."""
        if self._body is not None and self._body.problem is None:
            self._events.append(MessageAborted(reason))
        self._body = None
        self._reverse_path: str | None = None
        self._parameters = NO_MAIL_PARAMETERS
        self._recipients: list[Recipient] = []
        self._refused_some = False

    # -- hello, TLS, login ---------------------------------------------------------------------------------

    def _do_helo(self, argument: bytes) -> Steps:
        yield from self._hello(argument, extended=False)
        if self._answer is None:
            self._send(Reply(250, "", self._greeting()))

    def _do_ehlo(self, argument: bytes) -> Steps:
        yield from self._hello(argument, extended=True)
        if self._answer is None:
            starttls = self.offer.starttls and not self.is_secure
            keywords = self.offer.keywords(starttls, () if self.user else self.mechanisms)
            self._send(Reply(250, "", "\n".join((self._greeting(), *keywords))))

    def _hello(self, argument: bytes, extended: bool) -> Steps:
        helo = grammar.parse_helo(argument)
        self._forget_transaction("another EHLO")  # RFC 5321 §4.1.4: EHLO acts as RSET
        yield from self._ask(Hello(helo))
        if self._answer is None:
            self._helo = helo
            self._extended = extended

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
        outcome = yield from dialogue.dialogue(self, argument)
        if outcome.how in (dialogue.NOT_OFFERED, dialogue.MALFORMED):
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

    def challenge(self, line: bytes) -> Generator[None, None, bytes]:
        """Send a 334 and read the response: for `login`. Raises SyntaxProblemError."""
        self._out.append(b"334 " + line + b"\r\n")
        try:
            response = yield from self._reader.read_line(dialogue.MAX_LINE)
            self._hear(b"*\r\n" if response == b"*" else b"***\r\n")
            return response
        except (LineTooLongError, BareNewlineError):
            raise SyntaxProblemError(
                500, "5.5.6", "Authentication exchange line is too long or broken"
            ) from None

    def consult(self, question: Event) -> Generator[None, None, object]:
        """Ask who knows the users: for `login`."""
        yield from self._ask(question)
        return self._answer

    # -- the envelope --------------------------------------------------------------------------------------

    def _do_mail(self, argument: bytes) -> Steps:
        if not self._helo:
            raise SyntaxProblemError(
                503, "5.5.1", f"Say {'LHLO' if self.offer.lmtp else 'HELO or EHLO'} first"
            )
        if self._reverse_path is not None:
            raise SyntaxProblemError(503, "5.5.1", "Nested MAIL command")
        reverse_path, given = grammar.parse_path_command(argument, "FROM")
        parameters = self._mail_parameters(given) if given else NO_MAIL_PARAMETERS
        self._check_ascii(reverse_path, parameters.smtputf8)
        yield from self._ask(MailFrom(reverse_path, parameters.size))
        if isinstance(self._answer, Reply) and self._answer.is_positive:
            self._reverse_path = reverse_path
            self._parameters = parameters

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
        yield from self._ask(RcptTo(recipient.address))
        if isinstance(self._answer, Reply) and self._answer.is_positive:
            self._recipients.append(recipient)
        else:
            self._refused_some = True

    # -- the message ---------------------------------------------------------------------------------------

    def _do_data(self, argument: bytes) -> Steps:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "DATA takes no argument")
        if self._body is not None:
            raise SyntaxProblemError(503, "5.5.1", "DATA and BDAT do not mix")
        self._check_recipients("DATA")
        yield from self._ask(MessageStart(self._envelope()))
        if self._answer is not None:
            return
        self._send(Reply(354, "", "End data with <CR><LF>.<CR><LF>"))
        body = self._body = BodyReader(self.offer.max_size, self.offer.max_line)
        for block in dots.read_dotted(self._reader, self.offer.max_line):
            if block is None:
                yield
                continue
            if self.heard is not None:
                self._hear(block)
            if body.problem is None:
                self._pass_on(dots.unstuff(block) if body.take_lines(block) else b"")
                yield
        if self.heard is not None:
            self._hear(b".\r\n")
        yield from self._end_message(body)

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
        """Give *lines* to the session, or tell it that no more will come."""
        assert self._body is not None
        if self._body.problem is not None:
            self._events.append(MessageAborted(self._body.problem.text))
        elif lines:
            self._events.append(MessageChunk(lines))

    def _end_message(self, body: BodyReader) -> Steps:
        self._body = None  # whatever becomes of it now, it came whole
        if body.problem is None:
            yield from self._ask(_MESSAGE_END)
        else:
            for _ in self._recipients if self.offer.lmtp else (None,):
                self._send(body.problem)
        self._forget_transaction("")

    def _do_bdat(self, argument: bytes) -> Steps:
        try:
            size, is_last = grammar.parse_bdat(argument)
        except SyntaxProblemError as problem:
            # Nobody knows where its octets end, and they must not be taken for commands.
            self._send(Reply(problem.code, problem.enhanced, problem.text))
            self._end(problem.text)
            return
        try:
            if self._body is None:
                self._check_recipients("BDAT")
                yield from self._ask(MessageStart(self._envelope()))
                if self._answer is None:
                    self._body = BodyReader(self.offer.max_size, self.offer.max_line)
                else:
                    self._recipients = []  # what was answered stays so: the next chunks find no recipient
            elif self._body.problem is not None and not (self.offer.lmtp and is_last):
                raise SyntaxProblemError(503, "5.5.1", "The message was refused; say RSET")
        except SyntaxProblemError:
            yield from self._take_chunk(size, None)
            raise
        yield from self._take_chunk(size, self._body)
        if self._body is not None:
            yield from self._end_chunk(self._body, size, is_last)

    def _take_chunk(self, size: int, body: BodyReader | None) -> Steps:
        """Read exactly *size* octets, whatever becomes of them."""
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
        yield from self._ask(Quit())
        if self._answer is None:
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
