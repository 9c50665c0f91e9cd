"""The server's half of POP3: octets in, events out, answers in, octets out.

It keeps the three states, the grammar and the limits. It knows no maildrop: it asks for the messages and what
becomes of them. Owns RFC 1939; RFC 2449 (CAPA, response codes); RFC 2595 §4 (STLS); RFC 5034 (AUTH);
RFC 6856 (UTF8); RFC 3206 (AUTH and SYS response codes).

Invariants: each command gets one answer, in order. Messages are removed only by QUIT after a login. STLS
discards all that was said before, and the octets that were received before TLS.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.core.auth import dialogue, sasl
from mailtools.core.auth.sasl import LoginFailed
from mailtools.core.errors import CommandError
from mailtools.core.pop3.events import (
    BannerWanted,
    Delete,
    ListAll,
    ListOne,
    MaildropClosed,
    MaildropSize,
    MaildropWanted,
    Refusal,
    Reset,
    Retrieve,
    Stat,
    Update,
)
from mailtools.core.pop3.top import Top
from mailtools.core.wire.conversation import Conversation, Steps
from mailtools.core.wire.dots import Stuffer

MAX_COMMAND = 255  # octets (RFC 2449 §4)
_MAX_PASSWORD_LINE = 2048  # octets; passwords longer than RFC 2449 §4 allows a command are in use
_NUMBER = re.compile(rb"[0-9]{1,10}")
_DIGEST = re.compile(r"[0-9a-fA-F]{32}")
_SECRET = (b"USER", b"PASS", b"APOP", b"AUTH")


class Pop3Offer(NamedTuple):
    """What all sessions of a server have in common."""

    host: str
    stls: bool = False
    expire: str = "NEVER"  # how long mail is kept, as CAPA says it (RFC 2449 §6.7)
    login_delay: int = 0  # seconds between two logins, 0 for none
    max_errors: int = 50
    max_logins: int = 3


class Pop3CommandError(CommandError):
    """A command that cannot be executed; its text is the answer."""


class Pop3ServerEngine(Conversation):
    """The engine of one session.

    The session sets `mechanisms` before it answers `BannerWanted`; what it returns may change after STLS.
    """

    __slots__ = (
        "_banner", "_is_answering", "_name", "_user", "errors_left", "logins_left", "mechanisms", "offer",
    )  # fmt: skip

    def __init__(self, offer: Pop3Offer) -> None:
        super().__init__()
        self.offer = offer
        self.errors_left = offer.max_errors
        self.logins_left = offer.max_logins
        self.mechanisms: Callable[[], Sequence[str]]
        self._banner = ""
        self._user = ""  # the user who is logged in
        self._name = ""  # the argument of USER
        self._is_answering = False  # within an answer of many lines

    @property
    def in_transaction(self) -> bool:
        """True while a question waits or an answer is being sent: a server that stops waits for it."""
        return self._question is not None or self._is_answering

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Answer with an error and close at once. Nothing is removed."""
        if not self.is_closed:
            if not self._is_answering:  # within a message the client would take it for a line of the message
                self._error_line(text, "SYS/TEMP")
            self._end(text)

    # -- the session ----------------------------------------------------------------------------------------

    def _session(self) -> Steps:
        self._banner = yield from self.ask(BannerWanted())
        self._ok(f"{self.offer.host} POP3 mailtools {self._banner}".rstrip())
        yield from self._commands(_MAX_PASSWORD_LINE)

    def _command(self, verb: bytes, argument: bytes, line: bytes) -> Steps | None:
        command = (_TRANSACTION if self._user else _AUTHORIZATION).get(verb)
        if command is not None and (len(line) <= MAX_COMMAND - 2 or verb in _SECRET):
            return command(self, argument)
        if verb in _TRANSACTION:
            raise Pop3CommandError("log in first")
        if verb in _AUTHORIZATION:
            raise Pop3CommandError("logged in already")
        raise Pop3CommandError("unknown command")

    def _masked(self, verb: bytes, line: bytes) -> bytes:
        return _masked(verb, line)

    def _not_http(self) -> None:
        self._error_line("this is POP3, not HTTP")

    def _refuse(self, problem: CommandError) -> None:
        self._wrong(str(problem))

    def _broken_line(self, reason: str) -> None:
        self._wrong(reason[:1].lower() + reason[1:])

    # -- answers --------------------------------------------------------------------------------------------

    def _ok(self, text: str = "") -> None:
        self._out.append(f"+OK {text}\r\n".encode() if text else b"+OK\r\n")

    def _error_line(self, text: str, code: str = "") -> None:
        self._out.append(f"-ERR {f'[{code}] ' if code else ''}{text}\r\n".encode(errors="replace"))

    def _refused(self, refusal: Refusal) -> None:
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
            raise Pop3CommandError("TLS is there already")
        if not self.offer.stls:
            raise Pop3CommandError("STLS is not offered")
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
            raise Pop3CommandError("say USER first")
        name, self._name = self._name, ""
        return self._check_pass(name, _text(argument, "PASS"))

    def _check_pass(self, name: str, password: str) -> Steps:
        is_right = yield from self.ask(sasl.CheckPassword(name, password))
        yield from self._verdict(name, is_right, "wrong password or no such user")

    def _do_apop(self, argument: bytes) -> Steps:
        self._require_login()
        if not self._banner:
            raise Pop3CommandError("APOP is not offered")
        octets, _, digest = argument.rpartition(b" ")
        name = _text(octets, "APOP")
        shown = digest.decode("latin-1")
        if not _DIGEST.fullmatch(shown):
            raise Pop3CommandError("APOP takes a name and 32 hexadecimal digits")
        return self._check_apop(name, shown.lower())

    def _check_apop(self, name: str, digest: str) -> Steps:
        is_right = yield from self.ask(sasl.CheckDigest(name, self._banner, digest))
        yield from self._verdict(name, is_right, "wrong digest or no such user")

    def _verdict(self, name: str, is_right: bool | None, reason: str) -> Steps:
        if is_right:
            yield from self._log_in(name.lower())
        elif is_right is None:
            self._error_line(_NOT_NOW, "SYS/TEMP")
        else:
            self._failed(name, reason)

    def _do_auth(self, argument: bytes) -> Steps | None:
        if not argument.strip(b" "):  # clients older than RFC 5034 ask this way for the mechanisms
            self._ok("mechanisms")
            self._out.append("".join(f"{name}\r\n" for name in (*self.mechanisms(), ".")).encode())
            return None
        self._require_login()
        return self._auth(argument.strip(b" "))

    def _auth(self, argument: bytes) -> Steps:
        outcome = yield from dialogue.exchange(self, self.mechanisms(), b"+ ", argument)
        if outcome.how == dialogue.DONE:
            yield from self._log_in(outcome.user)
        elif outcome.how == dialogue.WRONG:
            self._failed(outcome.user, outcome.reason)
        elif outcome.how == dialogue.NOT_NOW:
            self._error_line(_NOT_NOW, "SYS/TEMP")
        elif outcome.how == dialogue.CANCELLED:
            self._error_line("cancelled")
        elif outcome.how == dialogue.NOT_OFFERED:
            self._wrong("mechanism not offered")
        elif outcome.how == dialogue.BROKEN_LINE:
            self._wrong("a response that is too long or broken")
        else:
            self._wrong(f"bad response: {outcome.reason}")

    def _require_login(self) -> None:
        if not self.mechanisms():
            if self.offer.stls and not self.is_secure:
                raise Pop3CommandError("say STLS first: a password could be overheard")
            raise Pop3CommandError("nobody can log in here")

    def _failed(self, user: str, reason: str) -> None:
        self._events.append(LoginFailed(user, reason))
        self.logins_left -= 1
        self._error_line("wrong name or password", "AUTH")  # the same for every name (promise R7)
        if self.logins_left <= 0:
            self.close_with(0, "", "too many failed logins, closing")

    def _log_in(self, user: str) -> Steps:
        answer = yield from self.ask(MaildropWanted(user))
        if isinstance(answer, Refusal):
            self._refused(answer)
        else:
            self._user = user
            self._ok(_shown(answer))

    # -- TRANSACTION ----------------------------------------------------------------------------------------

    def _do_stat(self, argument: bytes) -> Steps:
        _no(argument)
        return self._stat()

    def _stat(self) -> Steps:
        size = yield from self.ask(Stat())
        self._ok(f"{size.messages} {size.octets}")

    def _do_list(self, argument: bytes) -> Steps:
        return (
            self._list_one(ListOne(_number(argument), False)) if argument else self._list_all(ListAll(False))
        )

    def _do_uidl(self, argument: bytes) -> Steps:
        return self._list_one(ListOne(_number(argument), True)) if argument else self._list_all(ListAll(True))

    def _list_all(self, question: ListAll) -> Steps:
        lines = yield from self.ask(question)
        self._ok()
        self._out.append(lines + b".\r\n")

    def _list_one(self, question: ListOne) -> Steps:
        answer = yield from self.ask(question)
        if isinstance(answer, Refusal):
            self._refused(answer)
        else:
            self._ok(answer)

    def _do_retr(self, argument: bytes) -> Steps:
        return self._retrieve(_number(argument), None)

    def _do_top(self, argument: bytes) -> Steps:
        number, _, lines = argument.strip(b" ").partition(b" ")
        if not _NUMBER.fullmatch(lines.strip(b" ")):
            raise Pop3CommandError("TOP takes a message number and a number of lines")
        return self._retrieve(_number(number), int(lines))

    def _retrieve(self, number: int, lines: int | None) -> Steps:
        """Send a message, or with *lines* its header and so many lines of its body."""
        answer = yield from self.ask(Retrieve(number))
        if isinstance(answer, Refusal):
            self._refused(answer)
            return
        self._ok(f"{answer.size} octets" if lines is None else "the top")
        self._is_answering = True
        # A message that ends early has no last line ".", and the session ends: so the client sees the
        # fault.
        encode = Top(lines) if lines is not None else _as_it_is if answer.is_dotless else Stuffer()
        if (yield from self._send_blocks(answer.block, encode)):
            self._out.append(b".\r\n")
            self._is_answering = False

    def _do_dele(self, argument: bytes) -> Steps:
        return self._delete(_number(argument))

    def _delete(self, number: int) -> Steps:
        refusal = yield from self.ask(Delete(number))
        if refusal is None:
            self._ok("marked")
        else:
            self._refused(refusal)

    def _do_noop(self, argument: bytes) -> None:
        _no(argument)
        self._ok()

    def _do_rset(self, argument: bytes) -> Steps:
        _no(argument)
        return self._reset()

    def _reset(self) -> Steps:
        size = yield from self.ask(Reset())
        self._ok(_shown(size))

    def _do_quit(self, argument: bytes) -> Steps | None:
        _no(argument)
        if self._user:
            return self._update()
        self._ok("goodbye")
        self._end("QUIT")
        return None

    def _update(self) -> Steps:
        refusal = yield from self.ask(Update())
        if refusal is None:
            self._ok("goodbye")
        else:
            self._refused(refusal)
        self._end("QUIT")


def _as_it_is(block: bytes) -> bytes:
    return block


_NOT_NOW = "no login can be checked now, try again later"


def _shown(size: MaildropSize) -> str:
    return f"{size.messages} messages, {size.octets} octets"


def _no(argument: bytes) -> None:
    if argument.strip(b" "):
        raise Pop3CommandError("this command takes no argument")


def _number(argument: bytes) -> int:
    """Parse a message number: ASCII digits. Raises Pop3CommandError."""
    digits = argument.strip(b" ")
    if not _NUMBER.fullmatch(digits) or not int(digits):
        raise Pop3CommandError("not a message number")
    return int(digits)


def _text(argument: bytes, verb: str) -> str:
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        raise Pop3CommandError("not UTF-8") from None
    if not text or "\0" in text:  # hash functions written in C end at NUL
        raise Pop3CommandError(f"{verb} takes a name or password without NUL")
    return text


def _masked(verb: bytes, line: bytes) -> bytes:
    """Return a command line as a transcript may show it."""
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
