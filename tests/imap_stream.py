"""A strict reader of what an IMAP server sends: each response whole, and by the grammar (RFC 9051 §9).

Nothing here is recursive: a response with 100,000 lists in each other is read like any other. Responses of
extensions that are not named here must at least be well-formed words, strings, literals and lists.
"""

import re
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from tests.imap_responses import check_body, check_envelope

_STATUS = re.compile(rb"(?:\*|[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+) (?:OK|NO|BAD|BYE|PREAUTH)(?: |\r\n)")
_TEXT = re.compile(rb"(?:\[([^\]\r\n]+)\] )?([\x01-\x09\x0b\x0c\x0e-\x7f]+)")
_CODE = re.compile(rb"[A-Z][A-Z0-9-]*(?: .+)?", re.DOTALL)
_ENDS_WITH_LITERAL = re.compile(rb"~?\{(0|[1-9][0-9]*)\}\r\n\Z")
_CONTINUATION = re.compile(rb"\+ [\x01-\x09\x0b\x0c\x0e-\x7f]*\r\n")
_FLAG = re.compile(rb"\\?[^\x00-\x20(){%*\"\\\]\x7f-\xff]+|\\\*")
_DATE_TIME = re.compile(
    rb'"[ 0-3][0-9]-[A-Z][a-z]{2}-[0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] [+-][0-9]{4}"'
)
_TOKEN = re.compile(
    rb"(?P<open>\()|(?P<close>\))|(?P<space> )"
    rb'|(?P<quoted>"(?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\xff]|\\["\\])*")'
    rb"|(?P<literal>(?P<eight>~)?\{(?P<size>0|[1-9][0-9]*)\}\r\n)"
    rb"|(?P<atom>(?:\\\*|\\?[^\x00-\x20(){\"\\\x7f\[]+|\[(?:[^\]\"\r\n\x00]|\"(?:[^\"\\\r\n\x00]|\\.)*\")*\]|\[)+)"
)
_LONGEST_LINE = 100_000_000  # octets between two literals


class Atom(bytes):
    """A word, as against a string."""


class Literal8(bytes):
    """A literal that may hold NUL."""


class Response(NamedTuple):
    """One response: its tag (``*``, ``+`` or the client's), its words, and its octets."""

    tag: bytes
    words: list[Any]
    octets: bytes


def read(file: IO[bytes]) -> Response | None:
    """The next response, checked; None at the end. A response that is cut off or malformed fails."""
    line = file.readline(_LONGEST_LINE)
    if not line:
        return None
    pieces = [line]
    if not _STATUS.match(line) and not line.startswith(b"+"):
        while match := _ENDS_WITH_LITERAL.search(pieces[-1]):
            literal = file.read(int(match[1]))
            assert len(literal) == int(match[1]), "a literal is cut off"
            pieces += (literal, file.readline(_LONGEST_LINE))
    octets = b"".join(pieces)
    assert pieces[-1].endswith(b"\r\n"), octets[-200:]
    return checked(octets)


def checked(octets: bytes) -> Response:
    """Check one response with its CRLF."""
    if octets.startswith(b"+"):
        assert _CONTINUATION.fullmatch(octets), octets[:200]
        return Response(b"+", [], octets)
    if status := _STATUS.match(octets):
        return _status(octets, status.end())
    assert octets.startswith(b"* "), octets[:200]
    words = _values(octets[2:-2])
    name = words[1] if words[0].isdigit() else words[0]
    assert isinstance(name, Atom), octets[:200]
    if words[0].isdigit():
        number = int(words[0])
        assert name in (b"EXISTS", b"RECENT", b"EXPUNGE", b"FETCH"), octets[:200]
        assert len(words) == 2 + (name == b"FETCH"), octets[:200]
        assert number or name not in (b"EXPUNGE", b"FETCH")
    _CHECKS.get(bytes(name), lambda words: None)(words)
    return Response(b"*", words, octets)


def _status(octets: bytes, end: int) -> Response:
    tag, status = octets[:end].split()
    assert octets[end - 1 : end] == b" ", octets[:200]
    match = _TEXT.fullmatch(octets[end:-2])
    assert match, octets[:200]
    if match[1] is not None:
        assert _CODE.fullmatch(match[1]), octets[:200]
        assert b"\r" not in match[1]
        _values(match[1])
    assert tag == b"*" or status in (b"OK", b"NO", b"BAD"), octets[:200]
    return Response(tag, [Atom(status), match[1], match[2]], octets)


def _values(octets: bytes) -> list[Any]:
    """The values in *octets*: words, strings, None for NIL, lists. One space stands between two of them."""
    stack: list[list[Any]] = [[]]
    at, may_begin = 0, True
    while at < len(octets):
        match = _TOKEN.match(octets, at)
        shown = octets[max(at - 30, 0) : at + 30]
        assert match, shown
        kind, at = match.lastgroup, match.end()
        if match["space"]:
            assert not may_begin, shown
            may_begin = True
            assert octets[at : at + 1] not in (b" ", b")", b""), shown
            continue
        if match["close"]:
            assert len(stack) > 1, shown
            done = stack.pop()
            stack[-1].append(done)
            may_begin = False
            continue
        if match["open"]:
            # Addresses and the parts of a multipart follow each other without a space.
            assert may_begin or octets[match.start() - 1 : match.start()] == b")", shown
            stack.append([])
            may_begin = True
            continue
        assert may_begin, shown
        may_begin = False
        if match["literal"]:
            end = at + int(match["size"])
            value = octets[at:end]
            assert match["eight"] or b"\0" not in value, "NUL in a literal"
            stack[-1].append(Literal8(value) if match["eight"] else value)
            at = end
        elif match["quoted"]:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match["quoted"][1:-1]))
        else:
            assert kind in ("atom", "eight", "size"), shown
            stack[-1].append(None if match["atom"] == b"NIL" else Atom(match["atom"]))
    assert len(stack) == 1, octets[:200]
    return stack[0]


# -- responses by name ---------------------------------------------------------------------------------------


def _fetch(words: list[Any]) -> None:
    pairs = words[2]
    assert isinstance(pairs, list)
    assert pairs
    assert len(pairs) % 2 == 0, pairs[::2]
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        assert isinstance(name, Atom), name
        base = name.partition(b"[")[0].partition(b"<")[0]
        assert base in _ITEMS, name
        if base in (b"BODY", b"BINARY") and b"[" in name:
            assert value is None or (isinstance(value, bytes) and not isinstance(value, Atom)), (name, value)
            assert base == b"BINARY" or not isinstance(value, Literal8)
        else:
            _ITEMS[base](value)


def _number(value: Any) -> None:
    assert isinstance(value, Atom)
    assert value.isdigit()
    assert int(value) < 1 << 63


def _flags(value: Any) -> None:
    assert isinstance(value, list)
    assert all(isinstance(flag, Atom) and _FLAG.fullmatch(flag) for flag in value), value


def _string(value: Any) -> None:
    assert value is None or isinstance(value, bytes)


def _date(value: Any) -> None:
    assert _DATE_TIME.fullmatch(b'"%b"' % value), value


def _numbers(value: Any) -> None:
    assert isinstance(value, list)
    list(map(_number, value))


def _mailbox(words: list[Any]) -> None:
    _, flags, delimiter, name = words[:4]
    assert len(words) in (4, 5)
    _flags(flags)
    assert delimiter is None or len(delimiter) == 1
    assert isinstance(name, bytes)


def _status_of(words: list[Any]) -> None:
    _, name, items = words
    assert isinstance(name, bytes)
    assert len(items) % 2 == 0


def _as_tuples(value: Any) -> Any:
    """Lists as tuples and numbers as int, as tests/imap_responses wants them, without recursion."""
    done: list[Any] = []
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.append(len(item))
            todo.extend(item)
        elif isinstance(item, int):
            items = [done.pop() for _ in range(item)]
            done.append(tuple(items))
        else:
            done.append(int(item) if isinstance(item, Atom) and item.isdigit() else item)
    return done[0]


def _envelope(value: Any) -> None:
    check_envelope(_as_tuples(value))


def _body(value: Any) -> None:
    check_body(_as_tuples(value), False)


def _structure(value: Any) -> None:
    check_body(_as_tuples(value), True)


_ITEMS: dict[bytes, Callable[[Any], None]] = {
    b"UID": _number, b"FLAGS": _flags, b"INTERNALDATE": _date, b"RFC822.SIZE": _number, b"ENVELOPE": _envelope,
    b"BODY": _body, b"BODYSTRUCTURE": _structure, b"RFC822": _string, b"RFC822.HEADER": _string,
    b"RFC822.TEXT": _string, b"BINARY": _string, b"BINARY.SIZE": _number, b"MODSEQ": _numbers,
    b"EMAILID": lambda value: None, b"THREADID": lambda value: None, b"SAVEDATE": lambda value: None,
    b"PREVIEW": _string,
}  # fmt: skip
_CHECKS: dict[bytes, Callable[[list[Any]], None]] = {
    b"FETCH": _fetch,
    b"FLAGS": lambda words: _flags(words[1]),
    b"LIST": _mailbox,
    b"LSUB": _mailbox,
    b"STATUS": _status_of,
    b"SEARCH": lambda words: [_number(word) for word in words[1:] if not isinstance(word, list)] and None,
    b"EXISTS": lambda words: None,
}
