"""The client's half of POP3: commands in, octets out, replies and messages back in the order of the commands.

Commands may be given ahead of their replies; the caller knows from `capabilities` whether the server
supports this. Knows no maildrop, no file, no policy. Owns, on the client's side, RFC 1939 §3 (replies), §7
(APOP); RFC 2449 §5 (CAPA), §8 (response codes); RFC 2595 §4 (STLS); RFC 5034 §4 (AUTH).

Invariants: no command with CR, LF or NUL is ever sent. Nothing that a server says raises anything but
RemoteProtocolError. Memory is bounded: a message larger than `WHOLE` comes in pieces, and a listing has a
limit.
"""

import hashlib
import re
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.wire import dots, eol
from mailtools.core.wire.outbox import ChallengeMask, Outbox
from mailtools.core.wire.reader import LineTooLongError, Reader

if TYPE_CHECKING:
    from mailtools.core.auth.client import Mechanism
    from mailtools.core.auth.exchange import Exchange

WHOLE = 128 << 10  # octets of a message that is returned in one piece
MAX_LISTING = 256 << 20  # octets of a reply that is no message
_MAX_LINE = 16 << 10  # octets; a challenge may have 12288
_FORBIDDEN = re.compile("[\r\n\x00]")
_BANNER = re.compile(r"<[!-;=?-~]{1,200}@[!-;=?-~]{1,255}>")
_CODE = re.compile(r"\[([A-Za-z0-9/-]{1,64})\] ?")
_END = b"\r\n.\r\n"


class Answered(NamedTuple):
    """The server's reply to *command* ("" is the greeting)."""

    command: str
    is_ok: bool
    text: str
    code: str = ""  # the response code of RFC 2449 or RFC 3206, in upper case


class Listing(NamedTuple):
    """All lines of a positive reply to *command*: CRLF, dots removed."""

    command: str
    octets: bytes


class Pop3Piece(NamedTuple):
    """A part of a large message. *begins_line*: the part begins with a line; *is_last*: nothing follows."""

    octets: bytes
    begins_line: bool
    is_last: bool


Event = Answered | Listing | Pop3Piece


class Pop3Client:
    """The engine of one session."""

    def __init__(self) -> None:
        self.capabilities: dict[str, str] = {}
        self.banner = ""  # the banner for APOP, "" if the server sent none
        self.is_closed = False
        self._reader = Reader()
        self._out = Outbox()
        self._mask = ChallengeMask(rb"\+ ")
        self._awaited: deque[tuple[str, bool]] = deque([("", False)])
        self._login: Exchange | None = None
        self._eof = False
        self._crlf: eol.ToCrlf | None = None  # for a server that ends its lines with LF alone
        self._parser = self._answers()

    # -- what to say ----------------------------------------------------------------------------------------

    def command(self, line: str, is_long: bool = False) -> None:
        """Send a command; *is_long*: a positive reply has more lines. Raises LocalProtocolError."""
        if _FORBIDDEN.search(line):
            raise LocalProtocolError("a line end or NUL in a command")
        octets = line.encode("utf-8", "surrogateescape") + b"\r\n"
        verb = line.partition(" ")[0]
        if verb in ("PASS", "APOP"):
            self._out.say_secretly(octets, f"{verb} ***\r\n".encode())
        else:
            self._out.say(octets)
        self._awaited.append((verb, is_long))

    def apop(self, user: str, password: str) -> None:
        """Log in with a digest of banner and password. Raises LocalProtocolError."""
        octets = (self.banner + password).encode("utf-8", "surrogateescape")
        self.command(f"APOP {user} {hashlib.md5(octets, usedforsecurity=False).hexdigest()}")

    def auth(self, mechanism: str, steps: "Mechanism", with_initial: bool) -> None:
        """Log in. The engine answers the challenges; the only event is the final reply.

        Raises ConfigurationError.

        *with_initial*: send the first response with the command (RFC 5034 §4) if the line is short enough.
        """
        from mailtools.core.auth.exchange import Exchange

        self._login = Exchange(steps, self._send_response)
        initial = self._login.initial
        if initial is not None and with_initial and len(mechanism) + len(initial) + 8 <= 255:
            name = mechanism.encode()
            self._out.say_secretly(b"AUTH %b %b\r\n" % (name, initial), b"AUTH %b ***\r\n" % name)
        else:
            self._login.hold_back()
            self._out.say(f"AUTH {mechanism}\r\n".encode())
        self._awaited.append(("AUTH", False))

    def start_tls(self) -> None:
        """Begin TLS, after STLS: discard what the server said before. Raises RemoteProtocolError."""
        if self._awaited or self._out:
            raise LocalProtocolError("TLS begins in the middle of a dialogue")
        if self.buffered:
            raise RemoteProtocolError("the server said more after its answer to STLS; somebody injects")
        self.capabilities = {}
        self.banner = ""

    @property
    def awaited(self) -> int:
        """The number of replies that are still to come."""
        return len(self._awaited)

    # -- the engine's interface -----------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take received octets."""
        self._reader.feed(self._crlf(octets) if self._crlf is not None else octets)

    def receive_eof(self) -> None:
        """Note that the server closed the connection."""
        self._eof = True

    def next_event(self) -> Event | None:
        """Return the next event, or None if octets are missing. Raises RemoteProtocolError."""
        event = next(self._parser)
        if event is None and self._eof:
            self.is_closed = True
        return event

    def data_to_send(self) -> bytes:
        """Return the octets for the server, each of them once."""
        return self._out.take()

    @property
    def shown(self) -> bytes:
        """What `data_to_send` returned last, without secrets, for transcripts."""
        return self._out.shown

    def heard(self, octets: bytes) -> bytes:
        """Return what the server said, without challenges, which help to guess passwords."""
        return self._mask(octets, self._login is not None and self._login.is_open)

    @property
    def buffered(self) -> int:
        """The number of octets that were received and not parsed yet."""
        return self._reader.size

    # -- answers --------------------------------------------------------------------------------------------

    def _answers(self) -> Generator[Event | None, None, None]:
        while True:
            line = yield from self._line()
            if not self._awaited:
                raise RemoteProtocolError(f"the server answered a command nobody gave: {_shown(line)}")
            command, is_long = self._awaited[0]
            login = self._login if command == "AUTH" else None
            if login is not None and login.is_open and (line == b"+" or line.startswith(b"+ ")):
                login.respond(line[2:])
                continue
            self._awaited.popleft()
            answer = _parsed(command, line)
            if login is not None:
                login.end(answer.is_ok)
            elif command == "":
                # Only the greeting decides: later a bare LF may be part of a message that somebody sent.
                if self._reader.was_bare:
                    self._crlf = eol.ToCrlf()
                    self._reader.octets = self._crlf(self._reader.octets)
                match = _BANNER.search(answer.text)
                self.banner = match[0] if match else ""
            yield answer
            if is_long and answer.is_ok:
                yield from self._long(command)

    def _line(self) -> Generator[None, None, bytes]:
        try:
            return (yield from self._reader.read_any_line(_MAX_LINE))
        except LineTooLongError:
            raise RemoteProtocolError("an answer without end") from None

    def _long(self, command: str) -> Generator[Event | None, None, None]:
        """Read the lines of a long reply: in one piece, or in pieces as they come if there are many."""
        reader = self._reader
        searched = 0
        is_stuffed = False
        while True:  # until the reply is complete, or too large for one piece
            if reader.starts_with(b".\r\n"):
                reader.take(3)
                yield Listing(command, b"")
                return
            # One search nearly always shows that the only dot is the last: a tenth of the whole time.
            if not is_stuffed:
                dot = reader.find(b"\n.", searched)
                end = dot - 1
                is_stuffed = reader.starts_with(b".") or (dot >= 0 and not reader.has(_END, end))
            if is_stuffed:
                end = reader.find(_END, searched)
            if end >= 0:
                octets = reader.take(end + 2)
                reader.take(3)
                yield self._listed(command, dots.unstuff(octets) if is_stuffed else octets)
                return
            if reader.size > WHOLE:
                break
            # a reply that comes in small pieces is not searched again from its beginning
            searched = max(0, reader.size - len(_END) + 1)
            yield None
        if command in ("RETR", "TOP"):
            yield from self._pieces()
        else:
            yield from self._long_listing(command)

    def _pieces(self) -> Generator[Pop3Piece | None, None, None]:
        begins_line = True
        for block in dots.read_dotted(self._reader, 64 << 10):
            if block is None:
                yield None
                continue
            yield Pop3Piece(dots.unstuff(block) if begins_line else _unstuff_rest(block), begins_line, False)
            begins_line = block.endswith(b"\r\n")
        yield Pop3Piece(b"", begins_line, True)

    def _long_listing(self, command: str) -> Generator[Event | None, None, None]:
        blocks: list[bytes] = []
        size = 0
        for block in dots.read_dotted(self._reader, _MAX_LINE):
            if block is None:
                yield None
                continue
            blocks.append(block)
            size += len(block)
            if size > MAX_LISTING:
                raise RemoteProtocolError(f"an answer to {command} without end")
        yield self._listed(command, dots.unstuff(b"".join(blocks)))

    def _listed(self, command: str, octets: bytes) -> Listing:
        if command == "CAPA":
            self.capabilities = _capabilities(octets)
        return Listing(command, octets)

    # -- a login --------------------------------------------------------------------------------------------

    @property
    def login_note(self) -> str:
        """Why the client gave up the last login, or the server's explanation of a refused token."""
        return self._login.note if self._login is not None else ""

    def _send_response(self, line: bytes) -> None:
        self._out.say_secretly(line + b"\r\n", b"***\r\n")


def _parsed(command: str, line: bytes) -> Answered:
    word, _, rest = line.partition(b" ")
    if word.upper() not in (b"+OK", b"-ERR"):
        raise RemoteProtocolError(f"not an answer of POP3: {_shown(line)}")
    text = rest.decode("utf-8", "replace").strip(" ")
    match = _CODE.match(text)
    if match is None:
        return Answered(command, word.upper() == b"+OK", text)
    return Answered(command, word.upper() == b"+OK", text[match.end() :], match[1].upper())


def _shown(line: bytes) -> str:
    return repr(line[:100].decode("latin-1"))


def _capabilities(octets: bytes) -> dict[str, str]:
    found = {}
    for line in octets.decode("utf-8", "replace").split("\r\n"):
        keyword, _, parameters = line.partition(" ")
        if keyword:
            found[keyword.upper()] = parameters
    return found


def _unstuff_rest(block: bytes) -> bytes:
    """Remove the dots of a block that continues a line."""
    return block.replace(b"\n.", b"\n") if b"\n." in block else block


def numbered(listing: bytes) -> tuple[dict[int, str], list[str]]:
    """Return the values of UIDL or LIST by number, and the lines that are neither number nor value."""
    found: dict[int, str] = {}
    bad: list[str] = []
    for line in listing.split(b"\r\n"):
        digits, _, value = line.strip(b" ").partition(b" ")
        if digits.isdigit() and len(digits) <= 10 and value:
            found[int(digits)] = value.strip(b" ").decode("utf-8", "surrogateescape")
        elif line:
            bad.append(_shown(line))
    return found, bad
