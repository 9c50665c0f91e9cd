"""Parses SELECT expressions, which choose messages.

An expression of terms, ``field:value`` or a bare word, joined by ``and`` (may be omitted), ``or``, ``not``
and parentheses, becomes a predicate over an `MboxEntry`. The module does not know the source of expressions
nor the current time: *now* is an argument.

    expression  = conjunction *("or" conjunction)
    conjunction = factor *(["and"] factor)
    factor      = *"not" (term / "(" expression ")")
    term        = [field ":"] (word / quoted)

Text is compared as substring, decoded, NFC-normalised, without regard to case. A date without zone is
compared with the local time of the message's writer, as `list` shows it; ``30d`` means 30 days ago.

Invariants: a wrong expression raises SelectError with the column and the expected input; parentheses nest to
`MAX_DEPTH`, and no input causes deeper recursion.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unicodedata import normalize

from mailtools.core.errors import MailError
from mailtools.core.mbox import status
from mailtools.core.message import date
from mailtools.services.filters.entries import MboxEntry

MAX_DEPTH = 100

_STATES = ("read", "unread", "flagged", "answered", "draft")
_TOKEN = re.compile(
    r"\s*+(?:(?P<paren>[()])|(?:(?P<field>[A-Za-z][\w.-]*):)?(?:\"(?P<quoted>(?:[^\"\\]++|\\.)*+)\"|(?P<word>[^\s()\"][^\s)]*+))?)",
    re.DOTALL,
)
_DURATIONS = {"m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}
_OCTETS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class SelectError(MailError):
    """An invalid expression; the sentence says where and why."""


class Predicate(NamedTuple):
    """A test of an entry, and the data that the test needs."""

    test: Callable[[MboxEntry], bool]
    fields: frozenset[str] = frozenset()  # header fields that the test reads
    rest: bool = False  # whether the test reads more than the head of a large record


def parse(expression: str, now: float) -> Predicate:
    """The predicate of one SELECT expression. *now*: seconds since 1970, for ``30d``. Raises SelectError."""
    return _Parser(expression, now).whole()


def term(field: str, value: str, now: float) -> Predicate:
    """The predicate of one ``field:value``, as for the option ``--field value``. Raises SelectError."""
    return _term(field, value, now)


def conjunction(predicates: list[Predicate]) -> Predicate:
    """The conjunction of one or more predicates; those that read only the header are tested first."""
    if len(predicates) == 1:
        return predicates[0]
    tests = [predicate.test for predicate in sorted(predicates, key=lambda one: one.rest)]
    return _joined(predicates, lambda entry: all(test(entry) for test in tests))


def _disjunction(predicates: list[Predicate]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]
    tests = [predicate.test for predicate in sorted(predicates, key=lambda one: one.rest)]
    return _joined(predicates, lambda entry: any(test(entry) for test in tests))


def _negation(predicate: Predicate) -> Predicate:
    test = predicate.test
    return predicate._replace(test=lambda entry: not test(entry))


def _joined(predicates: list[Predicate], test: Callable[[MboxEntry], bool]) -> Predicate:
    fields = frozenset().union(*(predicate.fields for predicate in predicates))
    return Predicate(test, fields, any(predicate.rest for predicate in predicates))


class _Token(NamedTuple):
    kind: str  # ( ) and or not term end
    column: int  # from 1
    field: str = ""
    value: str = ""


class _Parser:
    def __init__(self, expression: str, now: float) -> None:
        self.now = now
        self.tokens = _tokens(expression)
        self.token = next(self.tokens)

    def whole(self) -> Predicate:
        predicate = self.expression(0)
        if self.token.kind != "end":
            raise _wrong(self.token, "there is no '(' that it closes")
        return predicate

    def expression(self, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            raise _wrong(self.token, f"parentheses nest deeper than {MAX_DEPTH}")
        choices = [self.conjunction(depth)]
        while self.token.kind == "or":
            self.advance()
            choices.append(self.conjunction(depth))
        return _disjunction(choices)

    def conjunction(self, depth: int) -> Predicate:
        factors = [self.factor(depth)]
        while self.token.kind in ("and", "not", "(", "term"):
            if self.token.kind == "and":
                self.advance()
            factors.append(self.factor(depth))
        return conjunction(factors)

    def factor(self, depth: int) -> Predicate:
        negated = False
        while self.token.kind == "not":
            negated = not negated
            self.advance()
        token = self.token
        if token.kind == "(":
            self.advance()
            predicate = self.expression(depth + 1)
            if self.token.kind != ")":
                raise _wrong(self.token, f"expected ')' for the '(' at column {token.column}")
        elif token.kind == "term":
            try:
                predicate = _term(token.field, token.value, self.now)
            except SelectError as error:
                raise SelectError(f"at column {token.column} of the expression: {error}") from None
        else:
            raise _wrong(token, "expected a word, 'field:value', 'not' or '('")
        self.advance()
        return _negation(predicate) if negated else predicate

    def advance(self) -> None:
        self.token = next(self.tokens)


def _wrong(token: _Token, expected: str) -> SelectError:
    found = {"end": "it ends", "term": f"'{token.field or token.value}'"}.get(token.kind, f"'{token.kind}'")
    return SelectError(f"at column {token.column} of the expression {found}: {expected}")


def _tokens(expression: str) -> Iterator[_Token]:
    at = 0
    end = len(expression.rstrip())
    while at < end:
        match = _TOKEN.match(expression, at)
        start = match.end() - len(match[0].lstrip()) if match else at
        if not match or match.end() == at or match.end() == start:
            raise SelectError(f"at column {start + 1} of the expression: a quote is not closed")
        at = match.end()
        column = start + 1
        word = match["word"]
        if match["paren"]:
            yield _Token(match["paren"], column)
        elif not match["field"] and word and word.lower() in ("and", "or", "not"):
            yield _Token(word.lower(), column)
        elif match["quoted"] is not None:
            text = re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL)
            yield _Token("term", column, match["field"] or "", text)
        elif word is None:
            raise SelectError(
                f"at column {at + 1} of the expression: expected a value behind '{match['field']}:'"
            )
        else:
            yield _Token("term", column, match["field"] or "", word)
    while True:
        yield _Token("end", len(expression) + 1)


def _term(field: str, value: str, now: float) -> Predicate:
    name = field.lower()
    if name.startswith("header."):
        return _header(field[7:], value)
    if name in _FIELDS:
        return _FIELDS[name](value, now)
    from difflib import get_close_matches

    near = get_close_matches(name, _FIELDS, 1)
    hint = f"did you mean '{near[0]}:'?" if near else f"known are {', '.join(sorted(filter(None, _FIELDS)))}"
    raise SelectError(f"there is no field '{field}'; {hint} (quote a word that holds ':')")


def fold(text: str) -> str:
    """*text* normalised for comparison: NFC, casefolded."""
    return text.lower() if text.isascii() else normalize("NFC", text).casefold()


def _header(name: str, value: str) -> Predicate:
    if not re.fullmatch(r"[!-9;-~]{1,200}", name):
        raise SelectError(f"'{name}' is no name of a header field")
    name = name.lower()
    wanted = fold(value)
    return Predicate(lambda entry: wanted in fold(entry.decoded(name)), frozenset([name]))


def _field(name: str) -> "_Maker":
    return lambda value, now: _header(name, value)


def _body(value: str, now: float) -> Predicate:
    wanted = fold(value)
    return Predicate(lambda entry: wanted in fold(entry.text()), rest=True)


def _anywhere(value: str, now: float) -> Predicate:
    headers = [_header(name, value) for name in ("from", "to", "subject")]
    return _disjunction([*headers, _body(value, now)])


def _is(value: str, now: float) -> Predicate:
    state = value.lower()
    if state not in _STATES:
        raise SelectError(f"'is:{value}' is unknown; known are {', '.join(_STATES)}")
    fields = frozenset(status.FIELDS)
    if state == "unread":
        return Predicate(lambda entry: status.READ not in entry.flags, fields)
    return Predicate(lambda entry: state in entry.flags, fields)


def _has(value: str, now: float) -> Predicate:
    if value.lower() != "attachment":
        raise SelectError(f"'has:{value}' is unknown; known is has:attachment")
    from mailtools.core.message import mime

    return Predicate(lambda entry: bool(mime.attachments(mime.parse(entry.message()))), rest=True)


def _larger(value: str, now: float) -> Predicate:
    limit = _size(value)
    return Predicate(lambda entry: entry.size > limit, rest=True)


def _smaller(value: str, now: float) -> Predicate:
    limit = _size(value)
    return Predicate(lambda entry: entry.size < limit, rest=True)


def _size(value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", value, re.IGNORECASE)
    if not match:
        raise SelectError(f"'{value}' is not a size; write it as 4096, 512K or 10M")
    return int(match[1]) * _OCTETS[match[2].lower()]


def _before(value: str, now: float) -> Predicate:
    return _dated(value, now, lambda moment, limit: moment < limit)


def _after(value: str, now: float) -> Predicate:
    return _dated(value, now, lambda moment, limit: moment >= limit)


def _dated(value: str, now: float, compare: Callable[[float, float], bool]) -> Predicate:
    limit, absolute = _moment(value, now)
    fields = frozenset(["date"])

    def test(entry: MboxEntry) -> bool:
        clock = entry.clock
        return clock is not None and compare(date.seconds(clock, absolute), limit)

    return Predicate(test, fields)


def _moment(value: str, now: float) -> tuple[float, bool]:
    """(seconds since 1970, True if in UTC, False if in the writer's local time)."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhdwy])", value)
    if ago:
        return now - int(ago[1]) * _DURATIONS[ago[2]], True
    match = re.fullmatch(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?", value
    )
    clock = date.clock_fields(value.encode()) if match else None
    if not match or clock is None:
        raise SelectError(f"'{value}' is not a date; write it as 2026-01-31, 2026-01-31T10:00, or 30d (ago)")
    return date.seconds(clock, bool(match[3])), bool(match[3])


_Maker = Callable[[str, float], Predicate]
_FIELDS: dict[str, _Maker] = {
    "": _anywhere,
    "from": _field("from"),
    "to": _field("to"),
    "cc": _field("cc"),
    "subject": _field("subject"),
    "list": _field("list-id"),
    "id": _field("message-id"),
    "body": _body,
    "before": _before,
    "after": _after,
    "larger": _larger,
    "smaller": _smaller,
    "is": _is,
    "has": _has,
}
