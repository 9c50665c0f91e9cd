"""The octets of a message as they come: checked, counted, cut into whole lines.

For DATA, whose dots are taken off, and for BDAT, whose chunks may end anywhere. Knows no command and no state
of the session. Owns RFC 5321 §2.3.8 (CRLF only), §4.5.3.1.6 (lines, longer ones taken), RFC 1870 (the size).

Invariants: once there is a problem nothing more is passed on. A line is never held beyond its limit.
"""

from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import eol


class BodyReader:
    """One message. Sizes are in octets: of a message as sent, of a line with its CRLF."""

    __slots__ = ("_max_line", "_max_size", "_rest", "problem", "size")

    def __init__(self, max_size: int, max_line: int) -> None:
        self._max_size = max_size
        self._max_line = max_line
        self._rest = b""  # of a line whose end has not come
        self.size = 0
        self.problem: Reply | None = None

    def take_lines(self, block: bytes) -> bool:
        """Count and check whole lines; False where they, or what came before, broke a rule."""
        if self.problem is None:
            self.size += len(block)
            self.problem = self._problem(block)
        return self.problem is None

    def take_octets(self, octets: bytes) -> bytes:
        """Take octets that end anywhere; the whole lines that can be passed on."""
        octets = self._rest + octets
        cut = octets.rfind(b"\r\n") + 2 if b"\r\n" in octets else 0
        self._rest = octets[cut:]
        if len(self._rest) > self._max_line:
            self._rest, cut = b"", len(octets)
        if not cut:
            if self.problem is None and self.size + len(self._rest) > self._max_size:
                self.problem = self._too_large()
            return b""
        lines = octets[:cut]
        return lines if self.take_lines(lines) else b""

    def end(self) -> bytes:
        """The last line, where it came without its CRLF: an mbox has whole lines only."""
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
