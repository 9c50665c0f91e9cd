"""Reads the arguments of an IMAP command from left to right.

Owns the tokens of RFC 9051 §9: atoms, quoted strings, literals, numbers, sets, dates. A literal stands in the
line as ``\\0n\\0`` and is the n-th of *literals*; the engine has read it. Invariants: linear time; nothing is
raised but ImapCommandError.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mailtools.core.errors import CommandError

_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_ASTRING = re.compile(rb'[^\x00-\x20(){%*"\\\x7f]+')
_PATTERN = re.compile(rb'[^\x00-\x20(){"\\\x7f]+')
_QUOTED = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"')
_LITERAL = re.compile(rb"\x00([0-9]+)\x00")
_NUMBER = re.compile(rb"[0-9]{1,19}")
_SET = re.compile(
    rb"(?:[0-9]{1,10}|\*)(?::(?:[0-9]{1,10}|\*))?(?:,(?:[0-9]{1,10}|\*)(?::(?:[0-9]{1,10}|\*))?)*"
)
_DATE = re.compile(rb'"?([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4})"?')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_LARGEST = 0xFFFF_FFFF


class ImapCommandError(CommandError):
    """A command that cannot be executed: answered BAD, or NO with a response *code*."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class SequenceSet(NamedTuple):
    """A set of sequence numbers or UIDs; None stands for ``*``."""

    parts: tuple[tuple[int | None, int | None], ...]
    is_saved: bool = False  # ``$``: what the last SEARCH saved (RFC 5182); it has no parts

    def ranges(self, largest: int) -> list[tuple[int, int]]:
        """The ranges (first, last), ascending and apart. *largest*: what ``*`` means."""
        ends = [(largest if a is None else a, largest if b is None else b) for a, b in self.parts]
        found: list[tuple[int, int]] = []
        for first, last in sorted((min(pair), max(pair)) for pair in ends):
            if found and first <= found[-1][1] + 1:
                found[-1] = (found[-1][0], max(found[-1][1], last))
            else:
                found.append((first, last))
        return found


class Cursor:
    """A place in a command line."""

    def __init__(self, line: bytes, literals: Sequence[bytes]) -> None:
        self.line = line
        self.at = 0
        self._literals = literals

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self.line, self.at)
        if match is None:
            raise ImapCommandError(f"{what} expected")
        self.at = match.end()
        return match

    # -- places --------------------------------------------------------------------------------------------

    def is_at(self, octets: bytes) -> bool:
        """Tell whether *octets* come next."""
        return self.line.startswith(octets, self.at)

    def takes(self, octets: bytes) -> bool:
        """Pass over *octets* if they come next."""
        if not self.is_at(octets):
            return False
        self.at += len(octets)
        return True

    def needs(self, octets: bytes) -> None:
        """Pass over *octets*, which must come next."""
        if not self.takes(octets):
            raise ImapCommandError(f"{octets.decode()!r} expected")

    def space(self) -> None:
        """Pass over one space."""
        self.needs(b" ")

    def end(self) -> None:
        """Check that nothing follows."""
        if self.at < len(self.line):
            raise ImapCommandError("too many arguments")

    @property
    def is_end(self) -> bool:
        """True at the end of the line."""
        return self.at >= len(self.line)

    # -- tokens --------------------------------------------------------------------------------------------

    def word(self) -> str:
        """An atom in upper case, such as the name of an item."""
        return self._match(_ATOM, "a word")[0].decode().upper()

    def word_or_none(self) -> str | None:
        """An atom in upper case, if one comes next."""
        return self.word() if _ATOM.match(self.line, self.at) else None

    def word_if(self, word: str) -> bool:
        """Pass over *word* (upper case) if it is the next atom."""
        match = _ATOM.match(self.line, self.at)
        if match is None or match[0].upper() != word.encode():
            return False
        self.at = match.end()
        return True

    def atom(self) -> bytes:
        """An atom as it is written."""
        return self._match(_ATOM, "an atom")[0]

    def astring(self) -> bytes:
        """An atom, a quoted string or a literal."""
        return self._string() if self._is_string else self._match(_ASTRING, "a string")[0]

    def nstring(self) -> bytes | None:
        """A string or NIL."""
        if self.line[self.at : self.at + 3].upper() == b"NIL":
            self.at += 3
            return None
        return self._string()

    def pattern(self) -> bytes:
        """A mailbox pattern of LIST: like astring, with the wildcards."""
        return self._string() if self._is_string else self._match(_PATTERN, "a pattern")[0]

    @property
    def _is_string(self) -> bool:
        return self.line[self.at : self.at + 1] in (b'"', b"\0")

    def _string(self) -> bytes:
        if self.is_at(b"\0"):
            return self._literals[int(self._match(_LITERAL, "a literal")[1])]
        text = self._match(_QUOTED, "a string")[1]
        return re.sub(rb"\\(.)", rb"\1", text) if b"\\" in text else text

    def number(self) -> int:
        """A number of at most 63 bits."""
        number = int(self._match(_NUMBER, "a number")[0])
        if number >= 1 << 63:
            raise ImapCommandError("too large a number")
        return number

    def sequence_set(self) -> SequenceSet:
        """A set of sequence numbers or UIDs."""
        if self.takes(b"$"):
            return SequenceSet((), True)
        text = self._match(_SET, "a set of numbers")[0]
        parts = []
        for part in text.split(b","):
            first, colon, last = part.partition(b":")
            parts.append((_number_or_star(first), _number_or_star(last if colon else first)))
        return SequenceSet(tuple(parts))

    def date(self) -> tuple[int, int, int]:
        """A date such as ``1-Feb-2026``: (year, month, day)."""
        match = self._match(_DATE, "a date")
        return int(match[3]), _month(match[2]), int(match[1])

    def date_time(self) -> float:
        """A date and time with its zone: seconds since the epoch."""
        from calendar import timegm

        match = self._match(_DATE_TIME, "a date and time")
        day, month, year, hour, minute, second = (
            match[1],
            _month(match[2]),
            *map(int, match.group(3, 4, 5, 6)),
        )
        hours, minutes = int(match[8]), int(match[9])
        # A second of 60 is a leap second; the days of a month are those of any year.
        if not (year and 0 < int(day) < 32 and hour < 24 and minute < 60 and second < 61):
            raise ImapCommandError("no such date and time")
        if hours > 23 or minutes > 59:
            raise ImapCommandError("no such time zone")
        moment = timegm((year, month, int(day), hour, minute, second))
        offset = hours * 3600 + minutes * 60
        return float(moment - offset if match[7] == b"+" else moment + offset)

    def listed(self) -> list[bytes]:
        """A list of atoms or strings in parentheses."""
        self.needs(b"(")
        found: list[bytes] = []
        while not self.takes(b")"):
            if found:
                self.space()
            found.append(self.astring())
        return found


def _number_or_star(text: bytes) -> int | None:
    if text == b"*":
        return None
    number = int(text)
    if not 0 < number <= _LARGEST:
        raise ImapCommandError("a number out of range")
    return number


def _month(name: bytes) -> int:
    if name.lower() not in _MONTHS:
        raise ImapCommandError("a month expected")
    return _MONTHS.index(name.lower()) + 1
