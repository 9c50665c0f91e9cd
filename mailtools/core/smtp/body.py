"""The octets of a message while it is received: checked, counted, cut into whole lines.

For DATA, after its dots are removed, and for BDAT, whose chunks may end anywhere. Knows no command and no
state of the session. Owns RFC 5321 §2.3.8 (only CRLF), §4.5.3.1.6 (line length; longer lines are accepted),
RFC 1870 (message size).

Invariants: after a problem no more octets are passed on. No more than the limit of a line is kept.
"""

from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import eol


class BodyReader:
    """The octets of one message. Sizes are in octets: of the message as sent, of a line with its CRLF."""

    __slots__ = ("_max_line", "_max_size", "_rest", "_takes_lf", "problem", "size")

    def __init__(self, max_size: int, max_line: int, takes_lf: bool = False) -> None:
        """*takes_lf*: each bare LF becomes CRLF."""
        self._max_size = max_size
        self._max_line = max_line
        self._takes_lf = takes_lf
        self._rest = b""  # an incomplete line
        self.size = 0
        self.problem: Reply | None = None

    def take_lines(self, block: bytes) -> bool:
        """Count and check whole lines; return False if the message broke a rule."""
        if self.problem is None:
            self.size += len(block)
            self.problem = self._problem(block)
        return self.problem is None

    def lines(self, block: bytes) -> bytes:
        """Return *block* with the line ends that the message shall have."""
        return eol.normalized(block) if self._takes_lf else block

    def take_octets(self, octets: bytes) -> bytes:
        """Take octets that may end anywhere; return the whole lines that can be passed on."""
        octets = self._rest + octets
        line_end = b"\n" if self._takes_lf else b"\r\n"
        cut = octets.rfind(line_end) + len(line_end) if line_end in octets else 0
        self._rest = octets[cut:]
        if len(self._rest) > self._max_line:
            self._rest, cut = b"", len(octets)
        if not cut:
            if self.problem is None and self.size + len(self._rest) > self._max_size:
                self.problem = self._too_large()
            return b""
        lines = self.lines(octets[:cut])
        return lines if self.take_lines(lines) else b""

    def end(self) -> bytes:
        """Return the last line with a CRLF added if it has none: an mbox has only whole lines."""
        rest, self._rest = self._rest, b""
        return rest + b"\r\n" if rest and self.take_lines(rest + b"\r\n") else b""

    def _problem(self, block: bytes) -> Reply | None:
        if self.size > self._max_size:
            return self._too_large()
        if not block.endswith(b"\r\n") or eol.has_line_over(block, self._max_line):
            return Reply(500, "5.5.2", f"A line is longer than {self._max_line - 2} octets")
        if not eol.is_canonical(block):
            return Reply(554, "5.6.0", "Bare CR or LF in the message (RFC 5321 section 2.3.8)")
        return None

    def _too_large(self) -> Reply:
        return Reply(552, "5.3.4", f"Message too large: at most {self._max_size} octets")
