"""Octets that came and were not read yet, and generators that read lines out of them.

``line = yield from reader.read_line(limit)`` stops where octets run short and goes on there when more came,
so that a parser reads from top to bottom. Knows nothing of any protocol. Owns RFC 5321 §2.3.8 for command
and reply lines: CRLF ends a line, no other octet does.

Invariant: a line that is not yet whole is never held beyond its limit.
"""

from collections.abc import Generator

Wait = Generator[None, None, bytes]


class LineTooLongError(Exception):
    """A line is longer than its limit; it was skipped whole."""


class BareNewlineError(Exception):
    """A line holds an LF without CR; it was skipped to its CRLF."""


class Reader:
    """A buffer with generators that read from it."""

    __slots__ = ("_skipping", "octets")

    def __init__(self) -> None:
        self.octets = b""
        self._skipping = False

    def feed(self, octets: bytes) -> None:
        """Add *octets* behind what is there."""
        self.octets = self.octets + octets if self.octets else octets

    def read_line(self, limit: int) -> Wait:
        """Read one line of at most *limit* octets and return it without its CRLF.

        Raises LineTooLongError or BareNewlineError as soon as it is known, at most once a line: what is
        left of a bad line is skipped at the next call.
        """
        if self._skipping:
            yield from self._skip_line()
        searched = 0
        while (end := self.octets.find(b"\n", searched)) < 0:
            searched = len(self.octets)
            if searched > limit:
                self._skipping = True
                raise LineTooLongError
            yield
        if end > limit:
            self._drop_bad_line(end)
            raise LineTooLongError
        if end == 0 or self.octets[end - 1] != 13:
            self._drop_bad_line(end)
            raise BareNewlineError
        line = self.octets[: end - 1]
        self.octets = self.octets[end + 1 :]
        return line

    def _drop_bad_line(self, newline: int) -> None:
        """Drop up to *newline*; where it is a bare LF, the line goes on behind it."""
        self._skipping = newline == 0 or self.octets[newline - 1] != 13
        self.octets = self.octets[newline + 1 :]

    def _skip_line(self) -> Generator[None, None, None]:
        while (end := self.octets.find(b"\r\n")) < 0:
            self.octets = self.octets[-1:] if self.octets.endswith(b"\r") else b""
            yield
        self.octets = self.octets[end + 2 :]
        self._skipping = False
