"""The grammar of IMAP, as far as a client needs it: sets of numbers, strings, responses.

Knows no session. Owns RFC 9051 §9 (formal syntax). Invariants: time is linear in the octets, there is no
recursion, and no octets raise anything but RemoteProtocolError.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mailtools.core.engine import RemoteProtocolError

_MOST_IN_SET = 4000  # characters of a set in one command (RFC 2683 §3.2.1.5 asks for short lines)
_DEPTH = 50  # lists within lists
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TOKEN = re.compile(
    rb' *(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|\x00(?P<literal>[0-9]+)\x00'
    rb'|(?P<atom>(?:[^ ()"\x00\[]|\[[^\]]*\]?)+))',
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_NUMBER = re.compile(rb"[0-9]{1,19}")


def sets(numbers: Iterable[int]) -> Iterator[str]:
    """Return sorted *numbers* as sequence sets such as ``1:3,7``; several if one would be too long."""
    ranges: list[str] = []
    length = 0
    for first, last in _ranges(numbers):
        text = str(first) if first == last else f"{first}:{last}"
        if length + len(text) > _MOST_IN_SET and ranges:
            yield ",".join(ranges)
            ranges, length = [], 0
        ranges.append(text)
        length += len(text) + 1
    if ranges:
        yield ",".join(ranges)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = -1
    for number in numbers:
        if first >= 0 and number == last + 1:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


def numbers(words: Sequence[Any]) -> list[int]:
    """Return the numbers of a SEARCH response. Raises RemoteProtocolError."""
    return [number(word) for word in words if isinstance(word, bytes) and word[:1].isdigit()]


def expanded(text: bytes, most: int) -> list[int]:
    """Return the numbers in a set such as ``1:3,7``.

    Raises RemoteProtocolError if there are more than *most*.
    """
    found: list[int] = []
    for part in text.split(b",") if text else ():
        first, _, last = part.partition(b":")
        ends = sorted((number(first), number(last or first)))
        if len(found) + ends[1] - ends[0] >= most:
            raise RemoteProtocolError(f"a set of more than {most} numbers")
        found += range(ends[0], ends[1] + 1)
    return found


def number(word: Any) -> int:
    """Return a number: ASCII digits. Raises RemoteProtocolError."""
    if not (isinstance(word, bytes) and _NUMBER.fullmatch(word)):
        raise RemoteProtocolError(f"not a number: {_shown(word)}")
    return int(word)


def quoted(text: str) -> str:
    """Return *text* as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def search_date(year: int, month: int, day: int) -> str:
    """Return a date as SEARCH wants it: ``1-Feb-2026``."""
    return f"{day}-{_MONTHS[month - 1]}-{year}"


def parse(line: bytes, literals: Sequence[bytes]) -> list[Any]:
    r"""Parse a response into words and lists of words; ``\0n\0`` in *line* stands for literal n.

    Quoted strings, literals and atoms become octets; NIL becomes None. Raises RemoteProtocolError.
    """
    stack: list[list[Any]] = [[]]
    at = 0
    size = len(line)
    while at < size:
        match = _TOKEN.match(line, at)
        if match is None:
            if line[at:].strip(b" "):
                raise RemoteProtocolError(f"not a response of IMAP: {_shown(line)}")
            break
        at = match.end()
        kind = match.lastgroup
        if kind == "open":
            if len(stack) > _DEPTH:
                raise RemoteProtocolError("a response with too many lists in each other")
            stack.append([])
        elif kind == "close":
            if len(stack) == 1:
                raise RemoteProtocolError(f"a list that was not begun: {_shown(line)}")
            done = stack.pop()
            stack[-1].append(done)
        elif kind == "quoted":
            text = match["quoted"]
            stack[-1].append(_QUOTED_PAIR.sub(rb"\1", text) if b"\\" in text else text)
        elif kind == "literal":
            stack[-1].append(literals[int(match["literal"])])
        else:
            atom = match["atom"]
            stack[-1].append(None if atom.upper() == b"NIL" else atom)
    if len(stack) != 1:
        raise RemoteProtocolError(f"a list that does not end: {_shown(line)}")
    return stack[0]


def pairs(words: Any) -> dict[bytes, Any]:
    """Return the attributes of a FETCH response, by name in upper case. Raises RemoteProtocolError."""
    if not isinstance(words, list) or len(words) % 2:
        raise RemoteProtocolError("FETCH without a list of pairs")
    found = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if not isinstance(name, bytes):
            raise RemoteProtocolError("FETCH without the name of an attribute")
        found[name.upper()] = value
    return found


def _shown(word: object) -> str:
    return repr(word[:100].decode("latin-1") if isinstance(word, bytes) else str(word)[:100])
