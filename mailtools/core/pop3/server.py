"""The server's half of POP3: octets in, events out, answers in, octets out.

It keeps the three phases, the grammar and the limits. It knows no maildrop: what is in one, and what becomes
of it, are questions. Owns RFC 1939; RFC 2449 (CAPA, response codes); RFC 2595 §4 (STLS); RFC 5034 (AUTH);
RFC 6856 (UTF8); RFC 3206 (AUTH and SYS response codes).

Invariants: an answer for every command, in order. Nothing is removed but by QUIT after a login. At STLS all
that was said before is forgotten, octets that wait included.
"""

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

from mailtools.core.auth import dialogue, sasl
from mailtools.core.auth.sasl import LoginFailed
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.pop3.events import (
    BannerWanted,
    Delete,
    Event,
    List,
    MaildropClosed,
    MaildropSize,
    MaildropWanted,
    Refusal,
    Reset,
    Retrieve,
    Stat,
    Update,
)
from mailtools.core.wire.conversation import Conversation, Steps
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError

MAX_COMMAND = 255  # octets (RFC 2449 §4)
_BATCH = 256 << 10  # octets of an answer until others have a turn
_MAX_PASSWORD_LINE = 2048  # octets; longer passwords than a command may be long are in use
_NUMBER = re.compile(rb"[0-9]{1,10}")
_DIGEST = re.compile(r"[0-9a-fA-F]{32}")
# Browsers made to speak to us by a page (ALPACA).
_HTTP = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT"))
_SECRET = (b"USER", b"PASS", b"APOP", b"AUTH")


class Pop3Offer(NamedTuple):
    """What all sessions of a server have in common."""

    host: str
    stls: bool = False
    expire: str = "NEVER"  # what CAPA says of how long mail is kept
    login_delay: int = 0  # seconds between two logins, 0 for none
    max_errors: int = 50
    max_logins: int = 3


class ProblemError(Exception):
    """A command that cannot be: the sentence is the answer."""


class Pop3ServerEngine(Conversation):
    """One session's engine. Who answers `BannerWanted` has set `mechanisms`; it may change at STLS."""

    __slots__ = (
        "_banner",
        "_is_answering",
        "_name",
        "_user",
        "errors_left",
        "logins_left",
        "mechanisms",
        "offer",
    )

    def __init__(self, offer: Pop3Offer) -> None:
        super().__init__()
        self.offer = offer
        self.errors_left = offer.max_errors
        self.logins_left = offer.max_logins
        self.mechanisms: Callable[[], Sequence[str]]
        self._banner = ""
        self._user = ""  # who is logged in
        self._name = ""  # what USER said
        self._is_answering = False  # within an answer of many lines

    @property
    def in_transaction(self) -> bool:
        """True while something is asked, sent or removed: worth waiting for at the end."""
        return self._question is not None or self._is_answering

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Say an error at once and close, whatever is under way: then nothing is removed."""
        if not self.is_closed:
            if not self._is_answering:  # within a message it would be taken for a line of it
                self._error_line(text, "SYS/TEMP")
            self._end(text)

    # -- the session, read from top to bottom ---------------------------------------------------------------

    def _session(self) -> Steps:
        yield from self._ask(BannerWanted())
        self._banner = str(self._answer or "")
        self._ok(f"{self.offer.host} POP3 mailtools {self._banner}".rstrip())
        while True:
            if self.is_closed or self.wants_tls:
                yield
                continue
            self._left -= 1
            if not self._left:
                yield from self._pause()
            try:
                line = yield from self._reader.read_line(_MAX_PASSWORD_LINE)
            except LineTooLongError:
                self._hear(b"(a line that is too long)\r\n")
                self._wrong("line too long")
                continue
            except BareNewlineError:
                self._hear(b"(a line with a bare LF)\r\n")
                self._wrong("bare LF: a line ends with CRLF")
                continue
            verb, _, argument = line.partition(b" ")
            verb = verb.upper()
            if self.heard is not None:
                self._hear(_masked(verb, line))
            command = (_TRANSACTION if self._user else _AUTHORIZATION).get(verb)
            if command is None or (len(line) > MAX_COMMAND - 2 and verb not in _SECRET):
                self._unknown(verb)
                continue
            try:
                steps = command(self, argument)
                if steps is not None:
                    yield from steps
            except ProblemError as problem:
                self._wrong(str(problem))

    def _unknown(self, verb: bytes) -> None:
        if verb in _HTTP:
            self._error_line("this is POP3, not HTTP")
            self._end("the client speaks HTTP")
        elif verb in _TRANSACTION:
            self._wrong("log in first")
        elif verb in _AUTHORIZATION:
            self._wrong("logged in already")
        else:
            self._wrong("unknown command")

    # -- answers --------------------------------------------------------------------------------------------

    def _ok(self, text: str = "") -> None:
        self._out.append(f"+OK {text}\r\n".encode() if text else b"+OK\r\n")

    def _error_line(self, text: str, code: str = "") -> None:
        self._out.append(f"-ERR {f'[{code}] ' if code else ''}{text}\r\n".encode(errors="replace"))

    def _refuse(self, refusal: Refusal) -> None:
        self._error_line(refusal.text, refusal.code)

    def _wrong(self, text: str) -> None:
        """Answer a bad command; after too many of them end the session."""
        self.errors_left -= 1
        if self.errors_left > 0:
            self._error_line(text)
        else:
            self._error_line("too many errors, closing")
            self._end("too many errors")

    def _end(self, reason: str, fault: str = "") -> None:
        if not self.is_closed:
            self._close()
            self._events.append(MaildropClosed(fault))

    def _lines(self, first: str, blocks: Iterable[bytes]) -> Steps:
        """An answer of many lines; *blocks* are whole but for very long lines, dots stuffed.

        Where they cannot be had to the end the session ends, without the line that would say that they were.
        """
        self._ok(first)
        self._is_answering = True
        waiting = 0
        try:
            for block in blocks:
                self._out.append(block)
                waiting += len(block)
                if waiting > _BATCH:
                    waiting = 0
                    yield from self._pause()
                    if self.is_closed:
                        return
        except (OSError, RemoteProtocolError) as error:
            self._end(str(error), str(error))
            return
        self._out.append(b".\r\n")
        self._is_answering = False

    # -- AUTHORIZATION --------------------------------------------------------------------------------------

    def _do_capa(self, argument: bytes) -> None:
        _no(argument)
        offer, mechanisms = self.offer, () if self._user else self.mechanisms()
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER"]
        lines += [f"EXPIRE {offer.expire}"]
        lines += [f"LOGIN-DELAY {offer.login_delay}"] if offer.login_delay else []
        lines += ["USER", f"SASL {' '.join(mechanisms)}"] if mechanisms else []
        lines += ["STLS"] if offer.stls and not self.is_secure and not self._user else []
        lines += ["IMPLEMENTATION mailtools"] if self._user else []
        self._ok("what can be asked for")
        self._out.append("".join(f"{line}\r\n" for line in (*lines, ".")).encode())

    def _do_stls(self, argument: bytes) -> None:
        _no(argument)
        if self.is_secure:
            raise ProblemError("TLS is there already")
        if not self.offer.stls:
            raise ProblemError("STLS is not offered")
        self._ok("begin TLS")
        self._name = ""
        self._await_tls()

    def _do_utf8(self, argument: bytes) -> None:
        _no(argument)
        self._ok("UTF8 is in use")

    def _do_user(self, argument: bytes) -> None:
        self._require_login()
        self._name = _text(argument, "USER")
        self._ok("and the password?")

    def _do_pass(self, argument: bytes) -> Steps:
        self._require_login()
        if not self._name:
            raise ProblemError("say USER first")
        name, self._name = self._name, ""
        return self._check_pass(name, _text(argument, "PASS"))

    def _check_pass(self, name: str, password: str) -> Steps:
        yield from self._ask(sasl.CheckPassword(name, password))
        yield from self._verdict(name, self._answer, "wrong password or no such user")

    def _do_apop(self, argument: bytes) -> Steps:
        self._require_login()
        if not self._banner:
            raise ProblemError("APOP is not offered")
        octets, _, digest = argument.rpartition(b" ")
        name = _text(octets, "APOP")
        shown = digest.decode("latin-1")
        if not _DIGEST.fullmatch(shown):
            raise ProblemError("APOP takes a name and 32 hexadecimal digits")
        return self._check_apop(name, shown.lower())

    def _check_apop(self, name: str, digest: str) -> Steps:
        yield from self._ask(sasl.CheckDigest(name, self._banner, digest))
        yield from self._verdict(name, self._answer, "wrong digest or no such user")

    def _verdict(self, name: str, is_right: object, reason: str) -> Steps:
        if is_right:
            yield from self._log_in(name.lower())
        elif is_right is None:
            self._error_line("no login can be checked now, try again later", "SYS/TEMP")
        else:
            self._failed(name, reason)

    def _do_auth(self, argument: bytes) -> Steps | None:
        if not argument.strip(b" "):  # as clients before RFC 5034 asked for what there is
            self._ok("mechanisms")
            self._out.append("".join(f"{name}\r\n" for name in (*self.mechanisms(), ".")).encode())
            return None
        self._require_login()
        return self._auth(argument.strip(b" "))

    def _auth(self, argument: bytes) -> Steps:
        outcome = yield from dialogue.dialogue(_Sasl(self), argument)
        if outcome.how == dialogue.DONE:
            yield from self._log_in(outcome.user)
        elif outcome.how == dialogue.WRONG:
            self._failed(outcome.user, outcome.reason)
        elif outcome.how == dialogue.NOT_NOW:
            self._error_line("no login can be checked now, try again later", "SYS/TEMP")
        elif outcome.how == dialogue.CANCELLED:
            self._error_line("cancelled")
        elif outcome.how == dialogue.NOT_OFFERED:
            self._wrong("mechanism not offered")
        else:
            self._wrong(f"bad response: {outcome.reason}")

    def challenge(self, line: bytes) -> Generator[None, None, bytes]:
        """Send a challenge and read the response: for the SASL dialogue. Raises ProblemError."""
        self._out.append(b"+ " + line + b"\r\n")
        try:
            response = yield from self._reader.read_line(dialogue.MAX_LINE)
        except (LineTooLongError, BareNewlineError):
            raise ProblemError("a response that is too long or broken") from None
        self._hear(b"*\r\n" if response == b"*" else b"***\r\n")
        return response

    def consult(self, question: Event) -> Generator[None, None, object]:
        """Ask who knows the users: for the SASL dialogue."""
        yield from self._ask(question)
        return self._answer

    def _require_login(self) -> None:
        if not self.mechanisms():
            if self.offer.stls and not self.is_secure:
                raise ProblemError("say STLS first: a password could be overheard")
            raise ProblemError("nobody can log in here")

    def _failed(self, user: str, reason: str) -> None:
        self._events.append(LoginFailed(user, reason))
        self.logins_left -= 1
        self._error_line("wrong name or password", "AUTH")  # the same whoever it was (promise R7)
        if self.logins_left <= 0:
            self.close_with(0, "", "too many failed logins, closing")

    def _log_in(self, user: str) -> Steps:
        yield from self._ask(MaildropWanted(user))
        if isinstance(self._answer, MaildropSize):
            self._user = user
            self._ok(f"{self._answer.messages} messages, {self._answer.octets} octets")
        elif isinstance(self._answer, Refusal):
            self._refuse(self._answer)

    # -- TRANSACTION ----------------------------------------------------------------------------------------

    def _do_stat(self, argument: bytes) -> Steps:
        _no(argument)
        return self._stat()

    def _stat(self) -> Steps:
        yield from self._ask(Stat())
        if isinstance(self._answer, MaildropSize):
            self._ok(f"{self._answer.messages} {self._answer.octets}")

    def _do_list(self, argument: bytes) -> Steps:
        return self._list(List(_number(argument) if argument else 0, names=False))

    def _do_uidl(self, argument: bytes) -> Steps:
        return self._list(List(_number(argument) if argument else 0, names=True))

    def _list(self, question: List) -> Steps:
        yield from self._ask(question)
        answer = self._answer
        if isinstance(answer, Refusal):
            self._refuse(answer)
        elif question.number:
            self._ok(str(answer))
        else:
            yield from self._lines("", answer)

    def _do_retr(self, argument: bytes) -> Steps:
        return self._retrieve(Retrieve(_number(argument)))

    def _do_top(self, argument: bytes) -> Steps:
        number, _, lines = argument.strip(b" ").partition(b" ")
        if not _NUMBER.fullmatch(lines.strip(b" ")):
            raise ProblemError("TOP takes a message number and a number of lines")
        return self._retrieve(Retrieve(_number(number), int(lines)))

    def _retrieve(self, question: Retrieve) -> Steps:
        yield from self._ask(question)
        answer = self._answer
        if isinstance(answer, Refusal):
            self._refuse(answer)
        elif isinstance(answer, tuple):
            size, blocks = answer
            yield from self._lines(f"{size} octets" if size is not None else "the top", blocks)

    def _do_dele(self, argument: bytes) -> Steps:
        return self._change(Delete(_number(argument)), "marked")

    def _change(self, question: Event, done: str) -> Steps:
        yield from self._ask(question)
        if isinstance(self._answer, Refusal):
            self._refuse(self._answer)
        elif not self.is_closed:
            self._ok(done)

    def _do_noop(self, argument: bytes) -> None:
        _no(argument)
        self._ok()

    def _do_rset(self, argument: bytes) -> Steps:
        _no(argument)
        return self._reset()

    def _reset(self) -> Steps:
        yield from self._ask(Reset())
        if isinstance(self._answer, MaildropSize):
            self._ok(f"{self._answer.messages} messages, {self._answer.octets} octets")

    def _do_quit(self, argument: bytes) -> Steps | None:
        _no(argument)
        if self._user:
            return self._update()
        self._ok("goodbye")
        self._end("QUIT")
        return None

    def _update(self) -> Steps:
        yield from self._change(Update(), "goodbye")
        self._end("QUIT")


class _Sasl:
    """What the SASL dialogue sees of the engine."""

    def __init__(self, engine: Pop3ServerEngine) -> None:
        self.mechanisms = engine.mechanisms()
        self.bindings = engine.bindings
        self.challenge = engine.challenge
        self.consult = engine.consult


def _no(argument: bytes) -> None:
    if argument.strip(b" "):
        raise ProblemError("this command takes no argument")


def _number(argument: bytes) -> int:
    """A message number: ASCII digits and nothing else."""
    digits = argument.strip(b" ")
    if not _NUMBER.fullmatch(digits) or not int(digits):
        raise ProblemError("not a message number")
    return int(digits)


def _text(argument: bytes, verb: str) -> str:
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        raise ProblemError("not UTF-8") from None
    if not text or "\0" in text:  # hashes written in C would stop at NUL
        raise ProblemError(f"{verb} takes a name or password without NUL")
    return text


def _masked(verb: bytes, line: bytes) -> bytes:
    """A command line for a transcript, without what belongs to a login."""
    if verb == b"AUTH":
        argument = line.partition(b" ")[2]
        return (b"AUTH " + dialogue.masked_argument(argument)).rstrip() + b"\r\n"
    if verb in (b"PASS", b"APOP"):
        return verb + b" ***\r\n"
    known = verb in _AUTHORIZATION or verb in _TRANSACTION
    return line + b"\r\n" if known else b"***\r\n"


_AUTHORIZATION: dict[bytes, Callable[[Pop3ServerEngine, bytes], Steps | None]] = {
    b"CAPA": Pop3ServerEngine._do_capa,
    b"STLS": Pop3ServerEngine._do_stls,
    b"UTF8": Pop3ServerEngine._do_utf8,
    b"USER": Pop3ServerEngine._do_user,
    b"PASS": Pop3ServerEngine._do_pass,
    b"APOP": Pop3ServerEngine._do_apop,
    b"AUTH": Pop3ServerEngine._do_auth,
    b"QUIT": Pop3ServerEngine._do_quit,
}
_TRANSACTION: dict[bytes, Callable[[Pop3ServerEngine, bytes], Steps | None]] = {
    b"CAPA": Pop3ServerEngine._do_capa,
    b"STAT": Pop3ServerEngine._do_stat,
    b"LIST": Pop3ServerEngine._do_list,
    b"UIDL": Pop3ServerEngine._do_uidl,
    b"RETR": Pop3ServerEngine._do_retr,
    b"TOP": Pop3ServerEngine._do_top,
    b"DELE": Pop3ServerEngine._do_dele,
    b"NOOP": Pop3ServerEngine._do_noop,
    b"RSET": Pop3ServerEngine._do_rset,
    b"QUIT": Pop3ServerEngine._do_quit,
}
