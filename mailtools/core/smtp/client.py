"""The client's half of SMTP: commands in, octets out, replies back in the order of the commands.

Commands may be given ahead of their replies (pipelining); which ones is the caller's affair, who knows
from `capabilities` what the server offers. Knows no message store and no exit codes.

Owns RFC 5321 §4.1.1 (commands), §4.2 (replies), §4.5.2 (transparency); RFC 2920 §3.1 (replies in order).

Invariants: no command with CR, LF or NUL in it is ever sent (CVE-2024-6923's kin). Nothing but
`RemoteProtocolError` comes of what a server says. A reply's size is bounded.
"""

import re
from collections import deque
from collections.abc import Generator
from typing import NamedTuple

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import dots
from mailtools.core.wire.reader import Reader

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_FORBIDDEN = re.compile("[\r\n\x00]")
_MAX_REPLY_LINE = 8192
_MAX_REPLY_LINES = 500


class Replied(NamedTuple):
    """The server answered *command* ("" is the greeting)."""

    command: str
    reply: Reply


class SmtpClient:
    """One session's engine."""

    def __init__(self) -> None:
        self.capabilities: dict[str, str] = {}
        self.is_closed = False
        self._reader = Reader()
        self._out: list[bytes] = []
        self._awaited: deque[str] = deque([""])
        self._eof = False
        self._parser = self._replies()
        self._at_line_start = True

    # -- what to say ---------------------------------------------------------------------------------------

    def command(self, verb: str, argument: str = "") -> None:
        """Say a command. Raises LocalProtocolError where it would be more than one line."""
        line = f"{verb} {argument}" if argument else verb
        if _FORBIDDEN.search(line):
            raise LocalProtocolError(f"{verb}: a line end or NUL in its argument")
        self._out.append(line.encode("utf-8") + b"\r\n")
        self._awaited.append(verb)

    def mail(self, reverse_path: str, parameters: str = "") -> None:
        """MAIL FROM; *parameters* as in ``SIZE=42 BODY=8BITMIME``."""
        self.command("MAIL", f"FROM:<{reverse_path}> {parameters}".rstrip())

    def rcpt(self, recipient: str) -> None:
        """RCPT TO."""
        self.command("RCPT", f"TO:<{recipient}>")

    def message_chunk(self, octets: bytes) -> None:
        """A part of the message after a 354, canonical, dots not stuffed.

        Whole lines, or pieces of one: a dot that begins a piece in the middle of a line is no line's first.
        """
        stuffed = dots.stuff(octets)
        if not self._at_line_start and stuffed.startswith(b"."):
            stuffed = stuffed[1:]
        self._out.append(stuffed)
        if octets:
            self._at_line_start = octets.endswith(b"\r\n")

    def end_message(self) -> None:
        """The end of the message; its reply comes as that of the command "."."""
        self._out.append(b".\r\n" if self._at_line_start else b"\r\n.\r\n")
        self._at_line_start = True
        self._awaited.append(".")

    @property
    def awaited(self) -> int:
        """How many replies are still to come."""
        return len(self._awaited)

    # -- the engine's face ---------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the server."""
        self._reader.feed(octets)

    def receive_eof(self) -> None:
        """The server closed the connection."""
        self._eof = True

    def next_event(self) -> Replied | None:
        """The next reply; None where octets run short. Raises RemoteProtocolError."""
        reply = next(self._parser)
        if reply is None:
            if self._eof:
                self.is_closed = True
            return None
        if not self._awaited:
            if reply.code == 421:  # may come at any time (RFC 5321 §3.8)
                self.is_closed = True
                return Replied("", reply)
            raise RemoteProtocolError(f"the server answered a command nobody gave: {reply}")
        command = self._awaited.popleft()
        if command == "EHLO" and reply.is_positive:
            self.capabilities = _capabilities(reply.text)
        return Replied(command, reply)

    def data_to_send(self) -> bytes:
        """Octets for the server, each given once."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed."""
        return len(self._reader.octets)

    # -- replies -------------------------------------------------------------------------------------------

    def _replies(self) -> Generator[Reply | None, None, None]:
        while True:
            texts: list[str] = []
            code, more = b"", True
            while more:
                line = yield from self._reply_line()
                match = _REPLY_LINE.fullmatch(line)
                if match is None or (code and match[1] != code):
                    raise RemoteProtocolError(f"not an SMTP reply: {line[:100].decode('latin-1')!r}")
                code = match[1]
                texts.append((match[3] or b"").decode("utf-8", "replace"))
                more = match[2] == b"-"
                if len(texts) > _MAX_REPLY_LINES:
                    raise RemoteProtocolError("a reply without end")
            yield _reply(int(code), texts)

    def _reply_line(self) -> Generator[None, None, bytes]:
        """One line. LF alone is taken too: servers that send it are about, and no command hangs on it."""
        searched = 0
        reader = self._reader
        while (end := reader.octets.find(b"\n", searched)) < 0:
            searched = len(reader.octets)
            if searched > _MAX_REPLY_LINE:
                raise RemoteProtocolError("a reply line without end")
            yield
        if end > _MAX_REPLY_LINE:
            raise RemoteProtocolError("a reply line without end")
        line = reader.octets[:end].removesuffix(b"\r")
        reader.octets = reader.octets[end + 1 :]
        return line


def _reply(code: int, texts: list[str]) -> Reply:
    match = _ENHANCED.match(texts[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, "", "\n".join(texts))
    prefix = match[1]
    return Reply(code, prefix, "\n".join(text.removeprefix(prefix).removeprefix(" ") for text in texts))


def _capabilities(text: str) -> dict[str, str]:
    """The lines of an EHLO reply after its first: keyword -> its parameters (RFC 5321 §4.1.1.1)."""
    found = {}
    for line in text.split("\n")[1:]:
        keyword, _, parameters = line.partition(" ")
        found[keyword.upper()] = parameters
    return found
