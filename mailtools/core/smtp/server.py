"""The server's half of SMTP: octets in, events out, replies in, octets out.

It keeps the order of commands, the limits and the grammar, and answers by itself whatever needs no
decision. It does not know who may send, whose mailboxes there are, or where a message goes: those are
questions (`Connected`, `MailFrom`, `RcptTo`, `MessageEnd`), and parsing waits until `reply` answers.

Owns RFC 5321 §3, §4.1, §4.3; RFC 1870 (SIZE); RFC 2920 (PIPELINING); RFC 6152 (8BITMIME); RFC 6531
(SMTPUTF8); RFC 2034 (ENHANCEDSTATUSCODES).

Invariants: a reply for every command, in order. Every limit is checked before octets are kept. Whatever
a message breaks, it is read to its CRLF.CRLF and answered there, so that no line of a message is ever
taken for a command.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping

from mailtools.core.engine import LocalProtocolError
from mailtools.core.smtp import grammar
from mailtools.core.smtp.events import (
    Closed,
    Connected,
    Envelope,
    Event,
    Hello,
    MailFrom,
    MessageAborted,
    MessageChunk,
    MessageEnd,
    MessageStart,
    RcptTo,
    Verify,
)
from mailtools.core.smtp.grammar import SyntaxProblemError
from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import dots, eol
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError, Reader

Steps = Generator[None, None, None]

_MESSAGE_END = MessageEnd()
_OK = Reply(250, "2.0.0", "Ok")
_HELP = "Commands: HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\nSee RFC 5321"


class SmtpServer:
    """One session's engine. Sizes are in octets.

    host: our name in greeting and HELO reply. max_size: of a message as sent (CRLF). max_line: of a
    message's line, its CRLF counted. max_command: of a command line, likewise. max_errors: commands in
    error before the session ends with 421.
    """

    def __init__(
        self,
        host: str,
        *,
        max_size: int = 50 << 20,
        max_recipients: int = 1000,
        max_line: int = (64 << 10) + 2,
        max_command: int = 4096,
        max_errors: int = 50,
    ) -> None:
        self.host = host
        self.max_size = max_size
        self.max_recipients = max_recipients
        self.max_line = max_line
        self.max_command = max_command
        self.errors_left = max_errors
        self.is_closed = False
        self._reader = Reader()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._question: Event | None = None
        self._answer = _OK
        self._eof = False
        self._helo = ""
        self._extended = False
        self._forget_transaction()
        self._parser = self._session()

    # -- the engine's face ---------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the client."""
        if not self.is_closed:
            self._reader.feed(octets)

    def receive_eof(self) -> None:
        """The client will send nothing more. A message under way is aborted (RFC 5321 §4.1.1.4)."""
        self._eof = True

    def next_event(self) -> Event | None:
        """The next event; None where octets run short or a question waits for `reply`."""
        events = self._events
        if not events and self._question is None and not self.is_closed:
            next(self._parser)
            if self._eof and not events and self._question is None:
                self._close("the client closed the connection")
        return events.popleft() if events else None

    def data_to_send(self) -> bytes:
        """Replies that wait for being sent, each given once."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def reply(self, reply: Reply) -> None:
        """Answer the question that was asked last; too late, after the end, it is dropped.

        Raises LocalProtocolError where there is no question.
        """
        if self.is_closed:
            return
        if self._question is None:
            raise LocalProtocolError("no question waits for a reply")
        self._question = None
        self._answer = reply
        self._send(reply)
        if reply.code == 421:  # "closing transmission channel" (RFC 5321 §3.8)
            self._close(reply.text)

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Say a 421 at once and close, whatever is under way (RFC 5321 §3.8)."""
        if not self.is_closed:
            self._send(Reply(code, enhanced, f"{self.host} {text}"))
            self._close(text)

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed."""
        return len(self._reader.octets)

    @property
    def awaits_reply(self) -> bool:
        """True while a question waits for our side."""
        return self._question is not None

    @property
    def in_transaction(self) -> bool:
        """True from MAIL to the end of its message."""
        return self._reverse_path is not None or self._in_message

    # -- the session, read from top to bottom --------------------------------------------------------------

    def _session(self) -> Steps:
        yield from self._ask(Connected())
        if not self._answer.is_positive and not self.is_closed:
            self._close(self._answer.text)
        while True:
            if self.is_closed:
                yield
                continue
            try:
                line = yield from self._reader.read_line(self.max_command)
            except LineTooLongError:
                self._error(Reply(500, "5.5.2", "Line too long"))
                continue
            except BareNewlineError:
                self._error(Reply(500, "5.5.2", "Bare LF: a line ends with CRLF"))
                continue
            verb, _, argument = line.partition(b" ")
            command = _COMMANDS.get(verb.upper())
            if command is None:
                self._error(Reply(500, "5.5.1", "Command not recognized"))
                continue
            try:
                steps = command(self, argument.strip(b" "))
                if steps is not None:
                    yield from steps
            except SyntaxProblemError as problem:
                self._error(Reply(problem.code, problem.enhanced, problem.text))

    def _ask(self, question: Event) -> Steps:
        """Put *question* and wait; the reply is then in `_answer`."""
        self._events.append(question)
        self._question = question
        while self._question is not None:
            yield

    def _send(self, reply: Reply) -> None:
        self._out.append(reply.octets())

    def _error(self, reply: Reply) -> None:
        """Answer a bad command; after too many of them end the session, for no client sends those."""
        self.errors_left -= 1
        if self.errors_left > 0:
            self._send(reply)
        else:
            self._send(Reply(421, "4.7.0", f"{self.host} Too many errors, closing"))
            self._close("too many errors")

    def _close(self, reason: str) -> None:
        if self._in_message:
            self._events.append(MessageAborted(reason))
        self._forget_transaction()
        self._question = None
        self.is_closed = True
        self._reader.octets = b""
        self._events.append(Closed())

    def _forget_transaction(self) -> None:
        self._reverse_path: str | None = None
        self._recipients: list[str] = []
        self._refused_some = False
        self._body = ""
        self._smtputf8 = False
        self._in_message = False

    # -- commands ------------------------------------------------------------------------------------------

    def _do_helo(self, argument: bytes) -> None:
        self._hello(argument, extended=False)
        self._send(Reply(250, "", self._greeting()))

    def _do_ehlo(self, argument: bytes) -> None:
        self._hello(argument, extended=True)
        keywords = ("PIPELINING", f"SIZE {self.max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
        self._send(Reply(250, "", "\n".join((self._greeting(), *keywords))))

    def _hello(self, argument: bytes, extended: bool) -> None:
        self._helo = grammar.parse_helo(argument)
        self._extended = extended
        self._forget_transaction()  # RFC 5321 §4.1.4: EHLO acts as RSET
        self._events.append(Hello(self._helo))

    def _greeting(self) -> str:
        return f"{self.host} Hello {self._helo}, pleased to meet you"

    def _do_mail(self, argument: bytes) -> Steps:
        if not self._helo:
            raise SyntaxProblemError(503, "5.5.1", "Say HELO or EHLO first")
        if self._reverse_path is not None:
            raise SyntaxProblemError(503, "5.5.1", "Nested MAIL command")
        reverse_path, parameters = grammar.parse_path_command(argument, "FROM")
        size = self._take_mail_parameters(parameters)
        self._check_ascii(reverse_path, "SMTPUTF8" in parameters)
        yield from self._ask(MailFrom(reverse_path, size))
        if self._answer.is_positive:
            self._reverse_path = reverse_path
            self._body = (parameters.get("BODY") or "").upper()
            self._smtputf8 = "SMTPUTF8" in parameters

    def _take_mail_parameters(self, parameters: Mapping[str, str | None]) -> int:
        """Check them; return the declared size. Raises SyntaxProblemError."""
        for key, value in parameters.items():
            if not self._extended or key not in ("SIZE", "BODY", "SMTPUTF8"):
                raise SyntaxProblemError(555, "5.5.4", f"Parameter {key} not recognized")
            if key == "BODY" and (value or "").upper() not in ("7BIT", "8BITMIME"):
                raise SyntaxProblemError(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
            if key == "SMTPUTF8" and value is not None:
                raise SyntaxProblemError(501, "5.5.4", "SMTPUTF8 takes no value")
        size = grammar.parse_size(parameters["SIZE"]) if "SIZE" in parameters else 0
        if size > self.max_size:
            raise SyntaxProblemError(552, "5.3.4", f"Message too large: at most {self.max_size} octets")
        return size

    def _check_ascii(self, mailbox: str, smtputf8: bool) -> None:
        if not smtputf8 and not mailbox.isascii():
            raise SyntaxProblemError(553, "5.6.7", "Non-ASCII address without SMTPUTF8")

    def _do_rcpt(self, argument: bytes) -> Steps | None:
        if self._reverse_path is None:
            raise SyntaxProblemError(503, "5.5.1", "Need MAIL before RCPT")
        recipient, parameters = grammar.parse_path_command(argument, "TO")
        if parameters:
            raise SyntaxProblemError(555, "5.5.4", f"Parameter {next(iter(parameters))} not recognized")
        self._check_ascii(recipient, self._smtputf8)
        if len(self._recipients) >= self.max_recipients:
            # No error of the client: it sends the rest in another transaction (RFC 5321 §4.5.3.1.10).
            self._send(Reply(452, "4.5.3", f"Too many recipients: at most {self.max_recipients}"))
            return None
        return self._ask_recipient(recipient)

    def _ask_recipient(self, recipient: str) -> Steps:
        yield from self._ask(RcptTo(recipient))
        if self._answer.is_positive:
            self._recipients.append(recipient)
        else:
            self._refused_some = True

    def _do_data(self, argument: bytes) -> Steps:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "DATA takes no argument")
        if self._reverse_path is None:
            raise SyntaxProblemError(503, "5.5.1", "Need MAIL before DATA")
        if not self._recipients:
            if self._refused_some:
                raise SyntaxProblemError(554, "5.5.1", "No valid recipients")
            raise SyntaxProblemError(503, "5.5.1", "Need RCPT before DATA")
        self._send(Reply(354, "", "End data with <CR><LF>.<CR><LF>"))
        self._events.append(MessageStart(self._envelope()))
        self._in_message = True
        problem = yield from self._read_message()
        if problem is None:
            yield from self._ask(_MESSAGE_END)
        else:
            self._send(problem)
        self._forget_transaction()

    def _envelope(self) -> Envelope:
        protocol = "UTF8SMTP" if self._smtputf8 else "ESMTP" if self._extended else "SMTP"
        return Envelope(
            self._reverse_path or "",
            tuple(self._recipients),
            protocol,
            self._helo,
            self._body,
            self._smtputf8,
        )

    def _read_message(self) -> Generator[None, None, Reply | None]:
        """Read to the end in any case; return the refusal where the message broke a rule."""
        size = 0
        problem: Reply | None = None
        for block in dots.read_dotted(self._reader, self.max_line):
            if block is None:
                yield
                continue
            if problem is not None:
                continue
            size += len(block)
            problem = self._block_problem(block, size)
            if problem is None:
                self._events.append(MessageChunk(dots.unstuff(block)))
                yield
            else:
                self._events.append(MessageAborted(problem.text))
        return problem

    def _block_problem(self, block: bytes, size: int) -> Reply | None:
        if size > self.max_size:
            return Reply(552, "5.3.4", f"Message too large: at most {self.max_size} octets")
        if not block.endswith(b"\r\n") or eol.has_line_over(block, self.max_line):
            return Reply(500, "5.5.2", f"A line is longer than {self.max_line - 2} octets")
        if not eol.is_canonical(block):
            return Reply(554, "5.6.0", "Bare CR or LF in the message (RFC 5321 section 2.3.8)")
        return None

    def _do_rset(self, argument: bytes) -> None:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "RSET takes no argument")
        self._forget_transaction()
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

    def _do_help(self, argument: bytes) -> None:
        self._send(Reply(214, "2.0.0", _HELP))

    def _do_quit(self, argument: bytes) -> None:
        if argument:
            raise SyntaxProblemError(501, "5.5.4", "QUIT takes no argument")
        self._send(Reply(221, "2.0.0", f"{self.host} closing connection"))
        self._close("QUIT")


# One table for all sessions: a table in each costs 1 KiB a connection.
_COMMANDS: dict[bytes, Callable[[SmtpServer, bytes], Steps | None]] = {
    b"HELO": SmtpServer._do_helo,
    b"EHLO": SmtpServer._do_ehlo,
    b"MAIL": SmtpServer._do_mail,
    b"RCPT": SmtpServer._do_rcpt,
    b"DATA": SmtpServer._do_data,
    b"RSET": SmtpServer._do_rset,
    b"NOOP": SmtpServer._do_noop,
    b"VRFY": SmtpServer._do_vrfy,
    b"HELP": SmtpServer._do_help,
    b"QUIT": SmtpServer._do_quit,
}
