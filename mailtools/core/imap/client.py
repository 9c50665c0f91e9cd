"""The client's half of IMAP4rev1 and IMAP4rev2: commands in, octets out, responses and messages back.

Commands may be given ahead of their responses. Knows no mailbox, no file, no policy. Owns, on the client's
side, RFC 9051 §2.2 and §7 (tags, responses), RFC 3501 for older servers; RFC 7888 (LITERAL+); RFC 4959
(SASL-IR); RFC 4978 (COMPRESS); RFC 2177 (IDLE).

Invariants: no command with CR, LF or NUL is ever sent, except in a literal. Nothing that a server says
raises anything but RemoteProtocolError. Memory is bounded: a message larger than `WHOLE` comes in pieces,
lines and the literals of a response have limits, and compressed octets are inflated when they are used.
Compression begins after the login, never before (CRIME).
"""

import re
import zlib
from collections import deque
from collections.abc import Collection, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.imap import grammar
from mailtools.core.wire.outbox import ChallengeMask, Outbox
from mailtools.core.wire.reader import LineTooLongError, Reader

if TYPE_CHECKING:
    from mailtools.core.auth.client import Mechanism
    from mailtools.core.auth.exchange import Exchange

WHOLE = 128 << 10  # octets of a message that is returned in one piece
_MAX_LINE = 32 << 20  # octets; SEARCH lists every message of a mailbox in one line
_MAX_LITERALS = 4 << 20  # octets of literals in one response, without a message
_MOST_LITERALS = 10_000  # in one response
_INFLATED = 256 << 10  # octets inflated at once
_FORBIDDEN = re.compile("[\r\n\x00]")
_LITERAL = re.compile(rb"~?\{([0-9]{1,19})\+?\}\Z")
_FETCH = re.compile(rb"\* [0-9]{1,10} FETCH \(", re.IGNORECASE)
_BODY = b"BODY[]"
_ATTRIBUTES = re.compile(rb'\* [0-9]{1,10} FETCH \(UID ([0-9]{1,10}) INTERNALDATE "([^"\\]*)" BODY\[\] \{')
_STATUS = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(rb"\[([^\] ]{1,64})(?: ([^\]]*))?\] ?")


class Status(NamedTuple):
    """A tagged response, or an untagged one: greeting, BYE, warning."""

    command: str  # the first word of the command; "" for an untagged response
    kind: str  # OK, NO, BAD, BYE, PREAUTH
    text: str
    code: str = ""
    argument: bytes = b""  # the argument of the response code

    @property
    def is_ok(self) -> bool:
        """True if the command succeeded."""
        return self.kind == "OK"


class Data(NamedTuple):
    """An untagged response such as EXISTS, SEARCH, LIST; *number* is 0 if it has none."""

    name: str
    number: int
    words: list[Any]


class FetchedMessage(NamedTuple):
    """A whole message and its other FETCH attributes; *octets* is None if the server has none (NIL)."""

    attributes: dict[bytes, Any]
    octets: bytes | None


class ImapPiece(NamedTuple):
    """A part of a large message. The last part has the attributes and no octets."""

    octets: bytes
    attributes: dict[bytes, Any] | None = None


class Continue(NamedTuple):
    """The server waits for more octets ("+")."""

    text: bytes


Event = Status | Data | FetchedMessage | ImapPiece | Continue


class _Part(NamedTuple):
    """A part of a command. *shown*: what transcripts show of it; *waits*: it follows "+" from the server."""

    tag: bytes
    octets: bytes
    shown: bytes
    waits: bool


class ImapClient:
    """The engine of one session."""

    def __init__(self) -> None:
        self.capabilities: frozenset[str] = frozenset()
        self.is_closed = False
        self._reader = Reader()
        self._out = Outbox()
        self._mask = ChallengeMask(rb"\+ ")
        self._held: deque[_Part] = deque()  # the first waits for the server; the others follow it
        self._tag = 0
        self._awaited: dict[bytes, str] = {}
        self._login: Exchange | None = None
        self._eof = False
        self._inflater: Any = None
        self._deflater: Any = None
        self._packed = b""
        self._parser = self._responses()

    # -- what to say -----------------------------------------------------------------------------------------

    def command(self, line: str, *literals: str) -> None:
        """Send a command; each ``{}`` in *line* stands for one of *literals*, if there are any.

        LOGIN is a secret from its second word on. Raises LocalProtocolError.
        """
        if _FORBIDDEN.search(line) or any("\x00" in literal for literal in literals):
            raise LocalProtocolError("a line end or NUL in a command")
        tag = self._next_tag(line.partition(" ")[0])
        is_secret = line.startswith("LOGIN ")
        said = f"{tag.decode()} {line}\r\n"
        parts = said.split("{}") if literals else [said]
        octets, shown, waits = parts[0].encode(), tag + b" LOGIN ***\r\n", False
        is_plus = "LITERAL+" in self.capabilities
        for literal, part in zip(literals, parts[1:], strict=True):
            value = literal.encode("utf-8", "surrogateescape")
            if is_plus or (len(value) <= 4096 and "LITERAL-" in self.capabilities):
                octets += b"{%d+}\r\n%b%b" % (len(value), value, part.encode())
            else:
                octets += b"{%d}\r\n" % len(value)
                self._held.append(_Part(tag, octets, shown if is_secret else octets, waits))
                octets, shown, waits = value + part.encode(), b"***\r\n", True
        self._held.append(_Part(tag, octets, shown if is_secret else octets, waits))
        self._send_held()

    def _send_held(self) -> None:
        """Send what need not wait for the server."""
        while self._held and not self._held[0].waits:
            part = self._held.popleft()
            if part.shown is part.octets:
                self._out.say(part.octets)
            else:
                self._out.say_secretly(part.octets, part.shown)

    def _next_tag(self, command: str) -> bytes:
        self._tag += 1
        tag = b"m%d" % self._tag
        self._awaited[tag] = command.upper()
        return tag

    def done(self) -> None:
        """End IDLE (RFC 2177 §3)."""
        self._out.say(b"DONE\r\n")

    def authenticate(self, mechanism: str, steps: "Mechanism") -> None:
        """Log in. The engine answers the challenges; the only event is the final response.

        Raises ConfigurationError.
        """
        from mailtools.core.auth.exchange import Exchange

        self._login = Exchange(steps, self._send_response)
        tag = self._next_tag("AUTHENTICATE")
        initial = self._login.initial if "SASL-IR" in self.capabilities else None  # RFC 4959 §3
        if initial is None:
            self._login.hold_back()
        said = b"%b AUTHENTICATE %b" % (tag, mechanism.encode())
        octets = said if initial is None else said + b" " + initial
        shown = said if initial is None else said + b" ***"
        self._held.append(_Part(tag, octets + b"\r\n", shown + b"\r\n", waits=False))
        self._send_held()

    def start_tls(self) -> None:
        """Begin TLS: discard what the server said before (RFC 9051 §6.2.1). Raises RemoteProtocolError."""
        if self._awaited or self._out:
            raise LocalProtocolError("TLS begins in the middle of a dialogue")
        if self.buffered:
            raise RemoteProtocolError("the server said more after its answer to STARTTLS; somebody injects")
        self.capabilities = frozenset()

    def start_compression(self) -> None:
        """Compress both directions from now on, after a positive response to COMPRESS (RFC 4978 §3)."""
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(wbits=-15)
        self._packed, self._reader.octets = self._reader.octets, b""

    @property
    def awaited(self) -> Collection[str]:
        """The commands that have no response yet."""
        return self._awaited.values()

    # -- the engine's interface ------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take received octets."""
        if self._inflater is None:
            self._reader.feed(octets)
        else:
            self._packed += octets

    def receive_eof(self) -> None:
        """Note that the server closed the connection."""
        self._eof = True

    def next_event(self) -> Event | None:
        """Return the next event, or None if octets are missing. Raises RemoteProtocolError."""
        while (event := next(self._parser)) is None:
            if not self._inflate():
                self.is_closed = self._eof
                return None
        return event

    def data_to_send(self) -> bytes:
        """Return the octets for the server, each of them once."""
        octets = self._out.take()
        if octets and self._deflater is not None:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        return octets

    @property
    def shown(self) -> bytes:
        """What `data_to_send` returned last, without secrets, for transcripts."""
        return self._out.shown

    def heard(self, octets: bytes) -> bytes:
        """Return what the server said, without challenges, which help to guess passwords."""
        if self._inflater is not None:
            return b"(%d compressed octets)\r\n" % len(octets)
        return self._mask(octets, self._login is not None and self._login.is_open)

    @property
    def buffered(self) -> int:
        """The number of octets that were received and not parsed yet."""
        return self._reader.size + len(self._packed)

    def _inflate(self) -> bool:
        """Inflate some of the compressed octets; return False if that gives nothing."""
        if not self._packed:
            return False
        try:
            octets = self._inflater.decompress(self._packed, _INFLATED)
        except zlib.error:
            raise RemoteProtocolError("what the server says is not compressed as it should be") from None
        self._packed = self._inflater.unconsumed_tail
        self._reader.feed(octets)
        return bool(octets)

    # -- responses -------------------------------------------------------------------------------------------

    def _responses(self) -> Generator[Event | None, None, None]:
        while True:
            line = yield from self._line()
            event = yield from self._response(line)
            if event is not None:
                yield event

    def _line(self) -> Generator[None, None, bytes]:
        try:
            line = yield from self._reader.read_any_line(_MAX_LINE)
            # NUL marks the places of literals in `_joined`; IMAP forbids it in lines
            return line.replace(b"\0", b"?")
        except LineTooLongError:
            raise RemoteProtocolError("a response without end") from None

    def _response(self, line: bytes) -> Generator[Event | None, None, Event | None]:
        """Read the rest of a response. The numbers of its literals stand between NULs in the parsed text."""
        if not line.startswith(b"* ") or _STATUS.fullmatch(line, 2):
            return self._event(line, [])  # its text may end like the announcement of a literal
        literals: list[bytes] = []
        parts: list[bytes] = []
        size, is_large, has_message = 0, False, False
        is_fetch = _FETCH.match(line) is not None
        while match := _LITERAL.search(line):
            length = int(match[1])
            before = line[: match.start()]
            if is_fetch and before[-7:].rstrip(b" ").upper() == _BODY:
                if has_message:
                    raise RemoteProtocolError("two messages in one response")
                has_message, is_large = True, length > WHOLE
                literal = yield from self._large(length) if is_large else self._exactly(length)
            else:
                size += length
                if size > _MAX_LITERALS or len(literals) > _MOST_LITERALS:
                    raise RemoteProtocolError("a literal that is too large, or too many")
                literal = yield from self._exactly(length)
            usual = _ATTRIBUTES.match(line) if has_message and not literals else None
            parts += (before, b"\0%d\0" % len(literals))
            literals.append(literal)
            line = yield from self._line()
            if usual is not None and line == b")":  # nearly all servers answer so: 3 µs instead of 25
                return _fetched({b"UID": usual[1], b"INTERNALDATE": usual[2]}, literal, is_large)
        joined = b"".join(parts) + line
        if not is_fetch:
            return self._event(joined, literals)
        return _fetch_event(joined, literals, is_large)

    def _exactly(self, length: int) -> Generator[None, None, bytes]:
        while self._reader.size < length:
            yield
        return self._reader.take(length)

    def _large(self, length: int) -> Generator[Event | None, None, bytes]:
        """Read a large message, which is returned in pieces."""
        while length:
            piece = self._reader.take(min(length, _INFLATED))
            length -= len(piece)
            yield ImapPiece(piece) if piece else None
        return b""

    def _event(self, line: bytes, literals: list[bytes]) -> Event | None:
        tag, _, rest = line.partition(b" ")
        if tag == b"+":
            return self._continued(rest)
        if tag != b"*":
            return self._tagged(tag, rest)
        status = _STATUS.fullmatch(rest)
        if status is not None:
            return self._status("", status)
        try:
            words = grammar.parse(rest, literals)
        except RemoteProtocolError:
            first = rest.split(b" ", 1)[0]
            if not first.isalpha():
                raise
            words = [first]  # one response that cannot be read stands in the way of no other
        number = 0
        if words and isinstance(words[0], bytes) and words[0].isdigit():
            number = grammar.number(words.pop(0))
        if not words or not isinstance(words[0], bytes):
            raise RemoteProtocolError(f"not a response of IMAP: {line[:100].decode('latin-1')!r}")
        name = words[0].decode("latin-1").upper()
        if name == "CAPABILITY":
            self._learn(b" ".join(word for word in words[1:] if isinstance(word, bytes)))
        return Data(name, number, words[1:])

    def _tagged(self, tag: bytes, rest: bytes) -> Event:
        command = self._awaited.pop(tag, None)
        status = _STATUS.fullmatch(rest)
        if command is None or status is None:
            raise RemoteProtocolError(f"an answer to no command of ours: {tag[:40].decode('latin-1')!r}")
        if self._held:  # the literals of a command that the server refused are not sent
            self._held = deque(part for part in self._held if part.tag != tag)
            self._send_held()
        answer = self._status(command, status)
        if command == "AUTHENTICATE" and self._login is not None:
            self._login.end(answer.is_ok)
        return answer

    def _status(self, command: str, match: re.Match[bytes]) -> Status:
        text = (match[2] or b"").strip(b" ")
        kind = match[1].decode().upper()
        code = _CODE.match(text)
        if code is None:
            return Status(command, kind, text.decode("utf-8", "replace"))
        name, argument = code[1].decode("latin-1").upper(), code[2] or b""
        if name == "CAPABILITY":
            self._learn(argument)
        return Status(command, kind, text[code.end() :].decode("utf-8", "replace"), name, argument)

    def _learn(self, words: bytes) -> None:
        self.capabilities = frozenset(words.decode("latin-1").upper().split())

    def _continued(self, text: bytes) -> Event | None:
        if self._login is not None and self._login.is_open:
            self._login.respond(text)
            return None
        if self._held:
            self._held[0] = self._held[0]._replace(waits=False)
            self._send_held()
            return None
        return Continue(text)

    # -- a login ---------------------------------------------------------------------------------------------

    @property
    def login_note(self) -> str:
        """Why the client gave up the last login, or the server's explanation of a refused token."""
        return self._login.note if self._login is not None else ""

    def _send_response(self, line: bytes) -> None:
        self._out.say_secretly(line + b"\r\n", b"***\r\n")


def _fetch_event(line: bytes, literals: list[bytes], is_large: bool) -> Event:
    """Return the event of a FETCH response. One that cannot be parsed tells nothing of any message."""
    number, _, rest = line[2:].partition(b" ")
    try:
        words = grammar.parse(rest[rest.find(b"(") :], literals)
        attributes = grammar.pairs(words[0])
    except RemoteProtocolError:
        return ImapPiece(b"", {}) if is_large else Data("FETCH", int(number), [])
    if _BODY not in attributes:
        return Data("FETCH", int(number), words)
    octets = attributes.pop(_BODY)
    return _fetched(attributes, octets if isinstance(octets, bytes) else None, is_large)


def _fetched(attributes: dict[bytes, Any], octets: bytes | None, is_large: bool) -> Event:
    return ImapPiece(b"", attributes) if is_large else FetchedMessage(attributes, octets)
