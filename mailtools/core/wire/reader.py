"""A buffer of received octets, and generators that read lines from it.

``line = yield from reader.read_line(limit)`` yields if octets are missing and continues when more came, so
a parser reads from top to bottom. This module knows no protocol. Owns RFC 5321 §2.3.8 for command and reply
lines: only CRLF ends a line.

Invariants: no more than *limit* octets of an incomplete line are kept. Reading a line takes time in its
length, however much is in the buffer behind it.
"""

from collections.abc import Generator

Wait = Generator[None, None, bytes]


class LineTooLongError(Exception):
    """A line is longer than its limit. The whole line is skipped."""


class BareNewlineError(Exception):
    """A line contains an LF without CR. The line is skipped up to its CRLF."""


class Reader:
    """A buffer with generators that read from it. *takes_lf*: LF alone ends a line too."""

    __slots__ = ("_at", "_octets", "_skipping", "takes_lf", "was_bare")

    def __init__(self, takes_lf: bool = False) -> None:
        self.takes_lf = takes_lf
        self._octets = b""
        self._at = 0  # octets before it are read; removing them for each line would take quadratic time
        self._skipping = False
        self.was_bare = False  # the last line that `read_any_line` read ended with LF alone

    @property
    def octets(self) -> bytes:
        """The octets that are not read yet."""
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
        """The number of octets that are not read yet."""
        return len(self._octets) - self._at

    def feed(self, octets: bytes) -> None:
        """Append *octets*."""
        left = self.octets
        self._octets = left + octets if left else octets

    def take(self, size: int) -> bytes:
        """Read at most *size* octets and return them."""
        octets = self._octets[self._at : self._at + size]
        self._at += len(octets)
        return octets

    def find(self, needle: bytes, start: int = 0) -> int:
        """Return the offset of *needle* in the octets that are not read yet, -1 if there is none.

        *start*: the offset at which the search begins.
        """
        found = self._octets.find(needle, self._at + start)
        return found if found < 0 else found - self._at

    def has(self, octets: bytes, at: int) -> bool:
        """Return True if *octets* stand at the offset *at* of what is not read yet."""
        return at >= 0 and self._octets.startswith(octets, self._at + at)

    def starts_with(self, prefix: bytes) -> bool:
        """Return True if what is not read yet begins with *prefix*."""
        return self._octets.startswith(prefix, self._at)

    def read_line(self, limit: int) -> Wait:
        """Read a line of at most *limit* octets and return it without its CRLF.

        Raises LineTooLongError or BareNewlineError as soon as it is known, once for each line: the next
        call skips the rest of a bad line.
        """
        if self._skipping:
            yield from self._skip_line()
        searched = 0  # octets from `_at` on without an LF
        while (end := self._octets.find(b"\n", self._at + searched)) < 0:
            searched = self.size
            if searched > limit:
                self._skipping = True
                raise LineTooLongError
            yield
        if end - self._at > limit:
            self._drop_bad_line(end)
            raise LineTooLongError
        has_cr = end > self._at and self._octets[end - 1] == 13
        if not has_cr and not self.takes_lf:
            self._drop_bad_line(end)
            raise BareNewlineError
        line = self._octets[self._at : end - has_cr]
        self._at = end + 1
        return line

    def read_any_line(self, limit: int) -> Wait:
        """Read a line that ends with CRLF or LF, as some servers end it; return it without its end.

        For clients, where nobody can smuggle commands this way. `was_bare` tells whether it ended with LF
        alone. Raises LineTooLongError: then nothing is skipped.
        """
        searched = 0
        while (end := self._octets.find(b"\n", self._at + searched)) < 0:
            searched = self.size
            if searched > limit:
                raise LineTooLongError
            yield
        if end - self._at > limit:
            raise LineTooLongError
        line = self._octets[self._at : end]
        self._at = end + 1
        self.was_bare = not line.endswith(b"\r")
        return line.removesuffix(b"\r")

    def _drop_bad_line(self, newline: int) -> None:
        """Drop the octets up to *newline*. If it is a bare LF the line continues behind it."""
        has_cr = newline > self._at and self._octets[newline - 1] == 13
        self._skipping = not has_cr and not self.takes_lf
        self._at = newline + 1

    def _skip_line(self) -> Generator[None, None, None]:
        line_end = b"\n" if self.takes_lf else b"\r\n"
        while (end := self._octets.find(line_end, self._at)) < 0:
            self.octets = b"\r" if self._octets.endswith(b"\r") and self.size else b""
            yield
        self._at = end + len(line_end)
        self._skipping = False
