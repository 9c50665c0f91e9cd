"""The IMAP server's engine: commands with their literals, states, logins, answers.

Owns RFC 9051 §2.2 (commands and responses), §3 (states), §4.3 with RFC 7888 (literals), §6.1 to §6.3 as far
as no mailbox is needed, IDLE (§6.3.13) and the streams of APPEND and FETCH. It knows no mailbox: what needs
one is a question (`core/imap/events`).

Invariants: literals and lines are bounded before they are read, tightly before the login; nothing that the
client says is echoed but its tag; after LOGOUT, BYE or too many errors nothing more is executed.
"""

import re
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from mailtools.core.auth import dialogue, sasl
from mailtools.core.auth.sasl import LoginFailed
from mailtools.core.errors import CommandError
from mailtools.core.imap import commands
from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.events import (
    AppendChunk,
    AppendEnd,
    AppendStart,
    CommandOutcome,
    Execute,
    IdleBegun,
    IdleEnded,
    ImapRefusal,
    MoreWanted,
    SessionEnded,
    UserWanted,
)  # fmt: skip
from mailtools.core.wire.conversation import Conversation, Steps
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError

BEFORE_LOGIN = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE")
AFTER_LOGIN = (
    "IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT",
    "CHILDREN", "LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "ESEARCH", "BINARY", "STATUS=SIZE",
    "STATUS=DELETED", "WITHIN", "CONDSTORE", "QRESYNC", "COMPRESS=DEFLATE", "SORT", "SORT=DISPLAY", "ESORT",
    "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "CREATE-SPECIAL-USE", "METADATA",
    "LIST-METADATA", "NOTIFY", "QUOTA", "QUOTA=RES-STORAGE",
    "PREVIEW", "SEARCHRES", "MULTIAPPEND",
)  # fmt: skip
_CAN_BE_ENABLED = frozenset(("CONDSTORE", "QRESYNC"))
_LINE = 64 << 10  # octets of a line
_STRANGER = 8 << 10  # octets of a command before the login, literals included
_COMMAND = 1 << 20  # octets of a command, literals included; a message has its own limit
_LITERAL = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_MESSAGE = re.compile(rb"~?\{([0-9]{1,20})(\+?)\}\Z")  # of APPEND; literal8 (RFC 3516 §4.4) may hold NUL
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,100}")  # RFC 9051: ASTRING-CHAR without "+"
_MOST_MESSAGES = 1000  # of one APPEND
_SENT_AT_ONCE = 256 << 10  # octets of responses, then other connections run
_HTTP = (b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0")
_SECRET = (b"LOGIN", b"AUTHENTICATE")
_MORE = MoreWanted()


class ImapOffer(NamedTuple):
    """What a server offers."""

    host: str
    starttls: bool = False
    max_append: int = 256 << 20  # octets of a message
    max_errors: int = 50
    max_logins: int = 5


class ImapServerEngine(Conversation):
    """The engine of one connection. The session sets `mechanisms` before the first event."""

    __slots__ = (
        "_is_selected", "_is_sending", "_tag", "_user", "enabled", "errors_left", "is_idle", "logins_left",
        "mechanisms", "offer",
    )  # fmt: skip

    def __init__(self, offer: ImapOffer) -> None:
        super().__init__()
        self.offer = offer
        self.errors_left = offer.max_errors
        self.logins_left = offer.max_logins
        self.mechanisms: Callable[[], Sequence[str]]
        self.is_idle = False
        self.enabled: set[str] = set()  # what the client enabled, by ENABLE or else
        self._user = ""
        self._is_selected = False
        self._is_sending = False  # within responses to a command
        self._tag = b""

    @property
    def in_transaction(self) -> bool:
        """True while a command is under way: a server that stops waits for it."""
        return self._question is not None or self._is_sending

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Say BYE and close at once."""
        if not self.is_closed:
            if not self._is_sending:  # within a literal the client would take it for a part of the message
                self._untagged(f"BYE {text}")
            self._end(text)

    def push(self, octets: bytes) -> None:
        """Send whole untagged responses that the client did not ask for; not within those to a command."""
        if not self._is_sending and not self.is_closed:
            self._out.append(octets)

    # -- lines and literals --------------------------------------------------------------------------------

    def _session(self) -> Steps:
        self._untagged(f"OK [CAPABILITY {self._capabilities()}] {self.offer.host} mailtools ready")
        while True:
            if self.is_closed or self.wants_tls or self.wants_compression:
                yield
                continue
            self._left -= 1
            if not self._left:
                yield from self._pause()
            self._tag = b""
            try:
                yield from self._next_command()
            except LineTooLongError:
                self._wrong("the line is too long")
            except BareNewlineError:
                self._wrong("a line ends with CRLF")
            except CommandError as problem:
                self._refuse(problem)

    def _next_command(self) -> Steps:
        line = yield from self._reader.read_line(_LINE)
        tag, _, rest = line.partition(b" ")
        word = rest.partition(b" ")[0].upper()
        is_secret = word in _SECRET
        self._hear(tag + b" " + word + b" ***\r\n" if is_secret else line + b"\r\n")
        if line.endswith(_HTTP):
            self._untagged("BYE this is IMAP, not HTTP")
            self._end("the client speaks HTTP")
            return
        is_tag = bool(_TAG.fullmatch(tag))
        self._tag = tag if is_tag else b""
        if word == b"APPEND" and self._user and is_tag:
            yield from self._append(rest)
            return
        # All of a command is read before anything in it is refused: its literals must not become commands.
        pieces, literals, has_nul = [rest], list[bytes](), b"\0" in line
        size = 0
        while match := _LITERAL.search(pieces[-1]):
            size += len(pieces[-1])
            literals.append((yield from self._literal(match, size)))
            size += len(literals[-1])
            pieces[-1] = pieces[-1][: match.start()] + b"\0%d\0" % (len(literals) - 1)
            pieces.append((yield from self._reader.read_line(_LINE)))
            self._hear(b"***\r\n" if is_secret else pieces[-1] + b"\r\n")
            has_nul = has_nul or b"\0" in pieces[-1]
        if not is_tag:
            raise ImapCommandError("a command begins with a tag")
        if has_nul:
            raise ImapCommandError("a command holds no NUL")
        yield from self._execute(word.decode("ascii", "replace"), b"".join(pieces), literals)

    def _literal(self, match: re.Match[bytes], before: int) -> Generator[None, None, bytes]:
        """Read one literal; refuse it unread if the command gets too large. Raises ImapCommandError."""
        size, is_waiting = int(match[1]), not match[2]
        if before + size > (_COMMAND if self._user else _STRANGER):
            if not is_waiting:  # its octets come, and nobody must take them for commands
                self._untagged("BYE the literal is too large")
                self._end("a literal that is too large")
            raise ImapCommandError("the literal is too large")
        if is_waiting:
            self._out.append(b"+ go on\r\n")
        found: list[bytes] = []
        yield from self._take(size, found.append)
        return b"".join(found)

    def _take(self, size: int, pass_on: Callable[[bytes], object]) -> Steps:
        """Read exactly *size* octets and pass them on as they come."""
        while size:
            octets = self._reader.take(size)
            if not octets:
                yield
                continue
            size -= len(octets)
            pass_on(octets)

    # -- commands ------------------------------------------------------------------------------------------

    def _execute(self, word: str, line: bytes, literals: list[bytes]) -> Steps:
        cursor = Cursor(line, literals)
        cursor.at = len(word)
        if word in _AT_ANY_TIME:
            yield from _AT_ANY_TIME[word](self, cursor)
        elif word in _BEFORE_LOGIN:
            if self._user:
                raise ImapCommandError("logged in already")
            yield from _BEFORE_LOGIN[word](self, cursor)
        elif word not in _KNOWN:
            raise ImapCommandError("no such command")
        elif not self._user:
            raise ImapCommandError("log in first")
        elif word == "ENABLE":
            self._enable(cursor)
        elif word == "COMPRESS":
            self._compress(cursor)
        elif word == "IDLE":
            cursor.end()
            yield from self._idle()
        else:
            yield from self._ask(word, commands.parse(word, cursor))

    def _ask(self, word: str, command: commands.Command) -> Steps:
        if commands.needs_qresync(command) and "QRESYNC" not in self.enabled:
            raise ImapCommandError("enable QRESYNC first")
        if commands.enables_condstore(command):
            self.enabled.add("CONDSTORE")
        is_of_selected = word in commands.SELECTED or word == "UID"
        if is_of_selected and not self._is_selected:
            raise ImapCommandError("select a mailbox first")
        if word in ("SELECT", "EXAMINE") and self._is_selected and "QRESYNC" in self.enabled:
            self._untagged("OK [CLOSED] the mailbox before")  # also if the other cannot be selected
        if word in ("SELECT", "EXAMINE", "CLOSE", "UNSELECT"):
            self._is_selected = False
        outcome = yield from self.ask(Execute(command))
        yield from self._send(outcome)
        if word in ("SELECT", "EXAMINE"):
            self._is_selected = outcome.status == "OK"

    def _send(self, outcome: CommandOutcome) -> Steps:
        """Send the responses of a command, asking for them one by one, and its result."""
        self._is_sending = True
        if isinstance(outcome.untagged, tuple):
            told = outcome.untagged
            self._out += told if outcome.is_raw else [octets.replace(b"\0", self._tag) for octets in told]
        else:
            waiting = 0
            while (octets := (yield from self.ask(_MORE))) is not None:
                if isinstance(octets, CommandOutcome):  # it cannot be done to its end
                    outcome = octets
                    break
                self._out.append(octets)
                waiting += len(octets)
                if waiting > _SENT_AT_ONCE:
                    waiting = 0
                    yield from self._pause()
        self._is_sending = False
        self._result(outcome.status, outcome.text, outcome.code)

    def _append(self, line: bytes) -> Steps:
        literals: list[bytes] = []
        while (match := _MESSAGE.search(line)) is not None:
            size, is_waiting = int(match[1]), not match[2]
            cursor = Cursor(line[: match.start()], literals)
            cursor.at = len("APPEND")
            try:
                if b"\0" in line.replace(b"\0%d\0" % (len(literals) - 1), b""):
                    raise ImapCommandError("a command holds no NUL")
                cursor.space()
                command = commands.append(cursor)
                cursor.end()
            except ImapCommandError:
                if literals or size > _STRANGER:
                    if not is_waiting:  # the message comes, and must not be taken for commands
                        yield from self._take(size, lambda octets: None)
                        yield from self._reader.read_line(_LINE)
                    raise
                literals.append((yield from self._literal(match, len(line))))  # the name of the mailbox
                following = yield from self._reader.read_line(_LINE)
                line = line[: match.start()] + b"\x000\x00" + following
            else:
                yield from self._take_messages(command, size, is_waiting)
                return
        raise ImapCommandError("APPEND ends with a message")

    def _take_messages(self, command: commands.AppendMessage, size: int, is_waiting: bool) -> Steps:
        """Take the messages of APPEND, of which MULTIAPPEND (RFC 3502) may send several: all or none."""
        refusal: ImapRefusal | None = None
        count, left = 0, self.offer.max_append
        while True:
            if refusal is None:
                refusal = yield from self._start_message(command, size, count, left)
            if refusal is not None and is_waiting:
                break
            if is_waiting:
                self._out.append(b"+ go on\r\n")
            yield from self._take(size, self._pass_on if refusal is None else lambda octets: None)
            count, left = count + 1, left - size
            line = yield from self._reader.read_line(_LINE)
            match = _MESSAGE.search(line)
            if match is None:
                if line and refusal is None:
                    refusal = ImapRefusal("another message expected")
                break
            size, is_waiting = int(match[1]), not match[2]
            try:
                cursor = Cursor(line[: match.start()], [])
                command = commands.append_to(cursor, command.mailbox)
                cursor.end()
            except ImapCommandError as error:
                refusal = refusal or ImapRefusal(str(error))
        if refusal is not None:
            self._result("NO", refusal.text, refusal.code)
            return
        outcome = yield from self.ask(AppendEnd())
        yield from self._send(outcome)

    def _pass_on(self, octets: bytes) -> None:
        self._events.append(AppendChunk(octets))

    def _start_message(
        self, command: commands.AppendMessage, size: int, count: int, left: int
    ) -> Generator[None, None, ImapRefusal | None]:
        if size > left:
            return ImapRefusal("the message is too large", "TOOBIG")
        if count == _MOST_MESSAGES:
            return ImapRefusal("too many messages at a time", "LIMIT")
        return (yield from self.ask(AppendStart(command, size, count > 0)))

    # -- what needs no mailbox -----------------------------------------------------------------------------

    def _do_capability(self, cursor: Cursor) -> Steps:
        cursor.end()
        self._untagged(f"CAPABILITY {self._capabilities()}")
        self._result("OK", "these")
        yield from ()

    def _capabilities(self) -> str:
        if self._user:
            return " ".join((*AFTER_LOGIN, f"APPENDLIMIT={self.offer.max_append}"))
        mechanisms = self.mechanisms()
        offered = [*BEFORE_LOGIN, *(f"AUTH={name}" for name in mechanisms)]
        if self.offer.starttls and not self.is_secure:
            offered.append("STARTTLS")
        if not mechanisms:
            offered.append("LOGINDISABLED")
        return " ".join(offered)

    def _do_id(self, cursor: Cursor) -> Steps:
        self._untagged('ID ("name" "mailtools")')
        self._result("OK", "glad to meet you")
        yield from ()

    def _do_logout(self, cursor: Cursor) -> Steps:
        cursor.end()
        self._untagged("BYE until next time")
        self._result("OK", "goodbye")
        self._end("LOGOUT")
        yield from ()

    def _enable(self, cursor: Cursor) -> None:
        """ENABLE (RFC 5161): what is not known is passed over."""
        named = list[str]()
        while not cursor.is_end:
            cursor.space()
            named.append(cursor.word())
        if not named:
            raise ImapCommandError("names of extensions expected")
        new = [name for name in dict.fromkeys(named) if name in _CAN_BE_ENABLED and name not in self.enabled]
        self.enabled.update(new)
        if "QRESYNC" in new:  # RFC 7162 §3.2.3
            self.enabled.add("CONDSTORE")
        self._untagged(" ".join(("ENABLED", *new)))
        self._result("OK", "done")

    def _compress(self, cursor: Cursor) -> None:
        """COMPRESS (RFC 4978): the answer is the last that is not compressed."""
        cursor.space()
        if cursor.word() != "DEFLATE":
            raise ImapCommandError("DEFLATE is the only way to compress")
        cursor.end()
        if self.is_compressed:
            raise ImapCommandError("the connection is compressed already", "COMPRESSIONACTIVE")
        self._result("OK", "begin to compress")
        self.wants_compression = True

    def _idle(self) -> Steps:
        self._out.append(b"+ idling\r\n")
        self.is_idle = True
        self._events.append(IdleBegun())
        line = yield from self._reader.read_line(_LINE)
        self._hear(line + b"\r\n")
        yield from self.ask(IdleEnded())
        self.is_idle = False
        if line.upper() != b"DONE":
            raise ImapCommandError("DONE ends IDLE")
        self._result("OK", "no longer idle")

    # -- logging in ----------------------------------------------------------------------------------------

    def _do_starttls(self, cursor: Cursor) -> Steps:
        cursor.end()
        if self.is_secure or not self.offer.starttls:
            raise ImapCommandError("TLS is there already" if self.is_secure else "STARTTLS is not offered")
        self._result("OK", "begin TLS")
        self._await_tls()
        yield from ()

    def _do_login(self, cursor: Cursor) -> Steps:
        cursor.space()
        name = cursor.astring()
        cursor.space()
        password = cursor.astring()
        cursor.end()
        self._require_login()
        try:
            user, secret = name.decode(), password.decode()
        except UnicodeDecodeError:
            raise ImapCommandError("names and passwords are UTF-8") from None
        if not user or "\0" in user + secret:
            raise ImapCommandError("no name or password holds NUL")
        is_right = yield from self.ask(sasl.CheckPassword(user, secret))
        if is_right:
            yield from self._log_in(user.lower())
        elif is_right is None:
            self._result("NO", _NOT_NOW, "UNAVAILABLE")
        else:
            self._failed(user, "wrong password or no such user")

    def _do_authenticate(self, cursor: Cursor) -> Steps:
        self._require_login()
        argument = cursor.line[cursor.at :].strip(b" ")
        outcome = yield from dialogue.exchange(self, self.mechanisms(), b"+ ", argument)
        if outcome.how == dialogue.DONE:
            yield from self._log_in(outcome.user)
        elif outcome.how == dialogue.WRONG:
            self._failed(outcome.user, outcome.reason)
        elif outcome.how == dialogue.NOT_NOW:
            self._result("NO", _NOT_NOW, "UNAVAILABLE")
        elif outcome.how == dialogue.CANCELLED:
            raise ImapCommandError("cancelled")
        elif outcome.how == dialogue.NOT_OFFERED:
            self._result("NO", "the mechanism is not offered")
        else:
            raise ImapCommandError("a bad response")

    def _require_login(self) -> None:
        if not self.mechanisms():
            raise ImapCommandError("no login without TLS", "PRIVACYREQUIRED")

    def _failed(self, user: str, reason: str) -> None:
        self._events.append(LoginFailed(user, reason))
        self.logins_left -= 1
        self._result("NO", "wrong name or password", "AUTHENTICATIONFAILED")
        if self.logins_left <= 0:
            self._untagged("BYE too many failed logins")
            self._end("too many failed logins")

    def _log_in(self, user: str) -> Steps:
        refusal = yield from self.ask(UserWanted(user))
        if refusal is not None:
            self._result("NO", refusal.text, refusal.code)
            return
        self._user = user
        self._result("OK", "logged in", f"CAPABILITY {self._capabilities()}")

    # -- answers -------------------------------------------------------------------------------------------

    def _untagged(self, text: str) -> None:
        self._out.append(f"* {text}\r\n".encode())

    def _result(self, status: str, text: str, code: str = "") -> None:
        shown = f"[{code}] {text}" if code else text
        self._out.append(b"%b %b\r\n" % (self._tag or b"*", f"{status} {shown}".encode(errors="replace")))

    def _refuse(self, problem: CommandError) -> None:
        """Answer a command that cannot be executed; the session ends after too many of them."""
        if self.is_closed:
            return
        code = problem.code if isinstance(problem, ImapCommandError) else ""
        if code:
            self._result("NO", str(problem), code)
        else:
            self._wrong(str(problem))

    def _wrong(self, text: str) -> None:
        self.errors_left -= 1
        self._result("BAD", text)
        if self.errors_left <= 0:
            self._untagged("BYE too many errors")
            self._end("too many errors")

    def _end(self, reason: str, fault: str = "") -> None:
        if not self.is_closed:
            self._close()
            self._events.append(SessionEnded())


_NOT_NOW = "no login can be checked now, try again later"
_Do = Callable[[ImapServerEngine, Cursor], Steps]
_AT_ANY_TIME: dict[str, _Do] = {
    "CAPABILITY": ImapServerEngine._do_capability,
    "ID": ImapServerEngine._do_id,
    "LOGOUT": ImapServerEngine._do_logout,
}
_BEFORE_LOGIN: dict[str, _Do] = {
    "STARTTLS": ImapServerEngine._do_starttls,
    "LOGIN": ImapServerEngine._do_login,
    "AUTHENTICATE": ImapServerEngine._do_authenticate,
}
_KNOWN = frozenset((
    *commands.ALONE, *commands.OF_MAILBOXES, *commands.OF_MESSAGES, "UID", "ENABLE", "IDLE", "APPEND",
    "COMPRESS",
))  # fmt: skip
