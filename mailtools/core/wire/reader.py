"""Octets that came and were not read yet, and generators that read lines out of them.

``line = yield from reader.read_line(limit)`` stops where octets run short and goes on there when more came,
so that a parser reads from top to bottom. Knows nothing of any protocol. Owns RFC 5321 §2.3.8 for command
and reply lines: CRLF ends a line, no other octet does.

Invariants: a line that is not yet whole is never held beyond its limit. Reading lines costs what they are
long, however much waits behind them.
"""

from collections.abc import Generator

Wait = Generator[None, None, bytes]


class LineTooLongError(Exception):
    """A line is longer than its limit; it was skipped whole."""


class BareNewlineError(Exception):
    """A line holds an LF without CR; it was skipped to its CRLF."""


class Reader:
    """A buffer with generators that read from it."""

    __slots__ = ("_at", "_octets", "_skipping")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0  # what is before it was read: cutting it off line by line would cost quadratic time
        self._skipping = False

    @property
    def octets(self) -> bytes:
        """What was not read yet."""
        if self._at:
            self._octets = self._octets[self._at :]
            self._at = 0
        return self._octets

    @octets.setter
    def octets(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def size(self) -> int:
        """How many octets were not read yet."""
        return len(self._octets) - self._at

    def feed(self, octets: bytes) -> None:
        """Add *octets* behind what is there."""
        left = self.octets
        self._octets = left + octets if left else octets

    def take(self, size: int) -> bytes:
        """The next octets, at most *size*."""
        octets = self._octets[self._at : self._at + size]
        self._at += len(octets)
        return octets

    def find(self, needle: bytes, start: int = 0) -> int:
        """Where *needle* stands in what was not read yet, counted from its begin; -1 for nowhere.

        *start*: what is before it is not searched.
        """
        found = self._octets.find(needle, self._at + start)
        return found if found < 0 else found - self._at

    def has(self, octets: bytes, at: int) -> bool:
        """Tell whether *octets* stand there, counted from the begin of what was not read yet."""
        return at >= 0 and self._octets.startswith(octets, self._at + at)

    def starts_with(self, prefix: bytes) -> bool:
        """Tell whether what was not read yet begins with *prefix*."""
        return self._octets.startswith(prefix, self._at)

    def read_line(self, limit: int) -> Wait:
        """Read one line of at most *limit* octets and return it without its CRLF.

        Raises LineTooLongError or BareNewlineError as soon as it is known, at most once a line: what is
        left of a bad line is skipped at the next call.
        """
        if self._skipping:
            yield from self._skip_line()
        searched = 0  # octets from where we are
        while (end := self._octets.find(b"\n", self._at + searched)) < 0:
            searched = self.size
            if searched > limit:
                self._skipping = True
                raise LineTooLongError
            yield
        if end - self._at > limit:
            self._drop_bad_line(end)
            raise LineTooLongError
        if end == self._at or self._octets[end - 1] != 13:
            self._drop_bad_line(end)
            raise BareNewlineError
        line = self._octets[self._at : end - 1]
        self._at = end + 1
        return line

    def read_any_line(self, limit: int) -> Wait:
        """Read one line that ends with CRLF or, as some servers say it, LF; return it without its end.

        For clients, where nothing hangs on it. Raises LineTooLongError: nothing is skipped then.
        """
        searched = 0
        while (end := self._octets.find(b"\n", self._at + searched)) < 0:
            searched = self.size
            if searched > limit:
                raise LineTooLongError
            yield
        if end - self._at > limit:
            raise LineTooLongError
        line = self._octets[self._at : end].removesuffix(b"\r")
        self._at = end + 1
        return line

    def _drop_bad_line(self, newline: int) -> None:
        """Drop up to *newline*; where it is a bare LF, the line goes on behind it."""
        self._skipping = newline == self._at or self._octets[newline - 1] != 13
        self._at = newline + 1

    def _skip_line(self) -> Generator[None, None, None]:
        while (end := self._octets.find(b"\r\n", self._at)) < 0:
            self.octets = b"\r" if self._octets.endswith(b"\r") and self.size else b""
            yield
        self._at = end + 2
        self._skipping = False
