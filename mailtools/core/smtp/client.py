"""The client's half of SMTP: commands in, octets out, replies back in the order of the commands.

Commands may be given ahead of their replies (pipelining). The caller decides which, and knows from
`capabilities` what the server offers. This module knows no message store and no exit codes.

Owns RFC 5321 §4.1.1 (commands), §4.2 (replies), §4.5.2 (transparency); RFC 2920 §3.1 (replies in order); on
the client's side RFC 4954 §4 (AUTH) and RFC 3207 §4.2 (what STARTTLS discards).

Invariants: no command with CR, LF or NUL is ever sent (as in CVE-2024-6923). Nothing that a server says
raises anything but `RemoteProtocolError`. The size of a reply is bounded. The secrets of a login are only
in `data_to_send`, never in `shown`.
"""

import re
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.smtp.reply import Reply
from mailtools.core.wire.dots import Stuffer
from mailtools.core.wire.outbox import ChallengeMask, Outbox
from mailtools.core.wire.reader import LineTooLongError, Reader

if TYPE_CHECKING:
    from mailtools.core.auth.client import Mechanism  # only programs that log in need it
    from mailtools.core.auth.exchange import Exchange

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_FORBIDDEN = re.compile("[\r\n\x00]")
_MAX_REPLY_LINE = 8192
_MAX_CHALLENGE_LINE = (12 << 10) + 6  # RFC 4954 §4: a challenge has up to 12288 octets
_MAX_AUTH_COMMAND = 512  # octets, CRLF counted (RFC 4954 §4)
_MAX_REPLY_LINES = 500


class Replied(NamedTuple):
    """The server's reply to *command* ("" is the greeting)."""

    command: str
    reply: Reply


class SmtpClient:
    """The engine of one session."""

    def __init__(self) -> None:
        self.capabilities: dict[str, str] = {}
        self.is_closed = False
        self._reader = Reader()
        self._out = Outbox()
        self._awaited: deque[str] = deque([""])
        self._eof = False
        self._parser = self._replies()
        self._stuff = Stuffer()
        self._mask = ChallengeMask(b"334[ -]")
        self._login: Exchange | None = None  # the last login

    # -- what to say ---------------------------------------------------------------------------------------

    def command(self, verb: str, argument: str = "") -> None:
        """Send a command. Raises LocalProtocolError if it would be more than one line."""
        line = f"{verb} {argument}" if argument else verb
        if _FORBIDDEN.search(line):
            raise LocalProtocolError(f"{verb}: a line end or NUL in its argument")
        self._out.say(line.encode("utf-8") + b"\r\n")
        self._awaited.append(verb)

    def message_chunk(self, octets: bytes) -> None:
        """Send a part of the message after a 354: CRLF, dots not stuffed.

        It need not begin or end at a line.
        """
        self._out.say(self._stuff(octets))

    def end_message(self, replies: int = 1) -> None:
        """End the message. Its reply comes as that of the command ".".

        In LMTP there are *replies* of them.
        """
        self._out.say(b".\r\n" if self._stuff.begins_line else b"\r\n.\r\n")
        self._stuff = Stuffer()
        self._awaited.extend(["."] * replies)

    def auth(self, mechanism: str, steps: "Mechanism") -> None:
        """Log in. The engine answers the challenges; the only event is the final reply.

        Raises ConfigurationError if the credentials cannot be used with *mechanism*.
        """
        from mailtools.core.auth.exchange import Exchange

        self._login = Exchange(steps, self._send_response)
        initial = self._login.initial
        if initial is not None and len(mechanism) + len(initial) + 8 <= _MAX_AUTH_COMMAND:
            name = mechanism.encode()
            self._out.say_secretly(b"AUTH %b %b\r\n" % (name, initial), b"AUTH %b ***\r\n" % name)
        else:
            self._login.hold_back()
            self._out.say(f"AUTH {mechanism}\r\n".encode())
        self._awaited.append("AUTH")

    def start_tls(self) -> None:
        """Begin TLS, after a 220 to STARTTLS: discard what the server said before (RFC 3207 §4.2).

        Raises RemoteProtocolError if the server already said more, which would count as said inside TLS (as
        in CVE-2021-38371).
        """
        if self._awaited or self._out:
            raise LocalProtocolError("TLS begins in the middle of a dialogue")
        if self.buffered:
            raise RemoteProtocolError("the server said more after its answer to STARTTLS; somebody injects")
        self.capabilities = {}

    @property
    def awaited(self) -> int:
        """The number of replies that are still to come."""
        return len(self._awaited)

    # -- the engine's face ---------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the server."""
        self._reader.feed(octets)

    def receive_eof(self) -> None:
        """Note that the server closed the connection."""
        self._eof = True

    def next_event(self) -> Replied | None:
        """Return the next reply, or None if octets are missing. Raises RemoteProtocolError."""
        while (reply := next(self._parser)) is not None and self._is_challenge(reply):
            self._respond(reply)
        if reply is None:
            if self._eof:
                self.is_closed = True
            return None
        if not self._awaited:
            if reply.code == 421:  # the server may close at any time (RFC 5321 §3.8)
                self.is_closed = True
                return Replied("", reply)
            raise RemoteProtocolError(f"the server answered a command nobody gave: {reply}")
        command = self._awaited.popleft()
        if command in ("EHLO", "LHLO") and reply.is_positive:
            self.capabilities = _capabilities(reply.text)
        elif command == "AUTH":
            self._ended_login(reply)
        return Replied(command, reply)

    def data_to_send(self) -> bytes:
        """Return the octets for the server, each of them once."""
        return self._out.take()

    @property
    def shown(self) -> bytes:
        """What `data_to_send` returned last, without secrets, for transcripts."""
        return self._out.shown

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed."""
        return len(self._reader.octets)

    def heard(self, octets: bytes) -> bytes:
        """Return what the server said, without SCRAM's challenges, which help to guess passwords."""
        return self._mask(octets, self._is_in_login)

    # -- a login -------------------------------------------------------------------------------------------

    @property
    def login_note(self) -> str:
        """Why the last login was given up, or what the server said about the token it refused."""
        return self._login.note if self._login is not None else ""

    @property
    def _is_in_login(self) -> bool:
        return self._login is not None and self._login.is_open

    def _is_challenge(self, reply: Reply) -> bool:
        return reply.code == 334 and self._is_in_login and list(self._awaited) == ["AUTH"]

    def _respond(self, reply: Reply) -> None:
        assert self._login is not None
        self._login.respond(reply.text.encode())

    def _send_response(self, line: bytes) -> None:
        if line == b"*":
            self._out.say(b"*\r\n")
        else:
            self._out.say_secretly(line + b"\r\n", b"***\r\n")

    def _ended_login(self, reply: Reply) -> None:
        assert self._login is not None
        self._login.end(reply.code == 235)

    # -- replies -------------------------------------------------------------------------------------------

    def _replies(self) -> Generator[Reply | None, None, None]:
        while True:
            texts: list[str] = []
            code, more = b"", True
            while more:
                line = yield from self._reply_line()
                match = _REPLY_LINE.fullmatch(line)
                if match is None or (code and match[1] != code and not self._turns_away(match)):
                    raise RemoteProtocolError(f"not an SMTP reply: {line[:100].decode('latin-1')!r}")
                code = match[1]
                texts.append((match[3] or b"").decode("utf-8", "replace"))
                more = match[2] == b"-"
                if len(texts) > _MAX_REPLY_LINES:
                    raise RemoteProtocolError("a reply without end")
            yield _reply(int(code), texts)

    def _turns_away(self, line: re.Match[bytes]) -> bool:
        """Return True for a 421 or 521 behind the lines of a banner: some servers turn clients away so."""
        return line[1] in (b"421", b"521") and line[2] != b"-" and list(self._awaited) == [""]

    @property
    def _longest_line(self) -> int:
        return _MAX_CHALLENGE_LINE if self._is_in_login else _MAX_REPLY_LINE

    def _reply_line(self) -> Generator[None, None, bytes]:
        try:
            return (yield from self._reader.read_any_line(self._longest_line))
        except LineTooLongError:
            raise RemoteProtocolError("a reply line without end") from None


def _reply(code: int, texts: list[str]) -> Reply:
    match = _ENHANCED.match(texts[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, "", "\n".join(texts))
    prefix = match[1]
    return Reply(code, prefix, "\n".join(text.removeprefix(prefix).removeprefix(" ") for text in texts))


def _capabilities(text: str) -> dict[str, str]:
    """Return the keywords of an EHLO reply with their parameters (RFC 5321 §4.1.1.1)."""
    found = {}
    for line in text.split("\n")[1:]:
        keyword, _, parameters = line.partition(" ")
        found[keyword.upper()] = parameters
    return found
