"""SEARCH: which messages match a key (RFC 9051 §6.4.4).

Texts are compared as a reader sees them: decoded, in any case. A message is read only if a key needs it, and
then once.
"""

from array import array
from collections.abc import Callable, Iterator
from itertools import compress
from operator import eq, ge, lt
from typing import Any

from mailtools.core.imap import facts
from mailtools.core.imap.cursor import SequenceSet
from mailtools.core.imap.search_keys import SearchKey
from mailtools.core.message import date, header, mime, words
from mailtools.services.filters import render
from mailtools.services.imap_server.fetch import header_alone
from mailtools.services.imap_server.view import BITS, View
from mailtools.system import clock

_TOGETHER = 1000  # messages that are looked at while the lock of the mailbox is held


class Candidate:
    """One message that is looked at."""

    def __init__(self, view: View, number: int, uid: int, row: int) -> None:
        self.view = view
        self.number = number
        self.uid = uid
        self.row = row
        self._message: bytes | None = None
        self._head: bytes | None = None
        self._text: str | None = None

    @property
    def message(self) -> bytes:
        """The message; b"" if it is gone."""
        if self._message is None:
            found = self.view.box.message(self.row)
            self._message = found if isinstance(found, bytes) else b"".join(found or ())
        return self._message

    @property
    def head(self) -> bytes:
        """The header of the message."""
        if self._head is None:
            self._head = header_alone(self.view, self.row)
        if self._head is None:
            self._head = self.message[: mime.body_of(self.message)]
        return self._head

    def fields(self, name: str) -> Iterator[str]:
        """The values of the fields *name*, decoded."""
        for value in header.values(self.head, name):
            yield words.decode(header.unfold(value))

    @property
    def text(self) -> str:
        """The readable text of the body."""
        if self._text is None:
            self._text = render.text_of(self.message.replace(b"\r\n", b"\n")).casefold()
        return self._text

    @property
    def arrived(self) -> float:
        """When it arrived, in seconds since the epoch."""
        moment = date.parse(self.view.box.postmark(self.row).split(b" ", 2)[-1])
        return float(moment[0]) if moment else 0.0

    @property
    def sent_day(self) -> tuple[int, int, int] | None:
        """The day of its Date field, in the writer's zone."""
        value = header.value(self.head, "Date")
        found = date.clock_fields(header.unfold(value)) if value else None
        return found[:3] if found else None

    @property
    def arrived_day(self) -> tuple[int, int, int]:
        """The day on which it arrived (UTC)."""
        import time

        moment = time.gmtime(self.arrived)
        return moment.tm_year, moment.tm_mon, moment.tm_mday


Test = Callable[[Candidate], bool]


def matching(view: View, key: SearchKey) -> list[tuple[int, int]]:
    """(sequence number, UID) of the messages that match. Raises OSError, MailError."""
    parts = sorted(key.keys if key.kind == "AND" else (key,), key=_costs)
    columns = [_COLUMNS[part.kind](part.value, view) for part in parts if _is_column(part)]
    tests = [_test(part, view) for part in parts if not _is_column(part)]
    found: list[tuple[int, int]] = []
    everything = list(enumerate(view.uids, 1))
    for first in range(0, len(everything), _TOGETHER):
        with view.box.lock:
            numbers, uids, rows = view.located(everything[first : first + _TOGETHER])
            group = list(zip(numbers, uids, rows, strict=True))
            for column in columns:
                group = list(compress(group, column(group)))
        pairs = [(number, uid) for number, uid, _ in group]
        found += [pair for pair in pairs if _matches(view, *pair, tests)] if tests else pairs
    return found


def _matches(view: View, number: int, uid: int, tests: "list[Test]") -> bool:
    with view.box.lock:  # held for one message: other sessions of the mailbox go on between
        row = view.row(uid)
        if row < 0:
            return False
        message = Candidate(view, number, uid, row)
        return all(test(message) for test in tests)


# -- keys that many messages are looked at for together, without reading them --------------------------------

Group = list[tuple[int, int, int]]  # sequence numbers, UIDs, rows
Column = Callable[[Group], list[bool]]  # whether each message of a group matches


def _is_column(key: SearchKey) -> bool:
    if key.kind == "FIELD":
        return key.value[0] in _FACT_OF and bool(key.value[1])  # "" asks whether there is such a field
    if key.kind == "FLAG":
        return bool(key.value[0] != b"\\Recent")
    return key.kind in _COLUMNS


def _flag_column(value: tuple[bytes, bool], view: View) -> Column:
    bit, wanted = BITS[value[0]], value[1]

    def column(group: Group) -> list[bool]:
        flags = view.box.states.flags
        return [bool(flags[row] & bit) is wanted for _, _, row in group]

    return column


def _field_column(value: tuple[str, str], view: View) -> Column:
    number, text = facts.Facts._fields.index(_FACT_OF[value[0]]), value[1].casefold()
    octets, is_ascii = text.encode(), text.isascii()

    def column(group: Group) -> list[bool]:
        values = _facts_of(view, group)
        if is_ascii and (together := b"".join(values)).isascii():  # no fact need be taken apart
            if octets not in together.lower():
                return [False] * len(values)
            return [octets in known.lower().split(facts.SEPARATOR)[number] for known in values]
        separator = facts.SEPARATOR.decode()
        return [text in known.decode().casefold().split(separator)[number] for known in values]

    return column


def _date_column(value: tuple[bool, str, tuple[int, int, int]], view: View) -> Column:
    is_sent, sign, (year, month, day) = value
    wanted = date.days_before(year, month, day)
    compared = {"<": lt, "=": eq, ">=": ge}[sign]

    def column(group: Group) -> list[bool]:
        if is_sent:
            days = [facts.from_octets(known).day for known in _facts_of(view, group)]
            return [day is not None and compared(day, wanted) for day in days]
        return [compared(moment // 86400, wanted) for moment in _arrivals(view, group)]

    return column


def _age_column(value: tuple[str, int], view: View) -> Column:
    is_older, moment = value[0] == ">", clock.now() - value[1]
    return lambda group: [(arrived <= moment) is is_older for arrived in _arrivals(view, group)]


def _facts_of(view: View, group: Group) -> list[bytes]:
    uids, rows = array("I", [uid for _, uid, _ in group]), [row for _, _, row in group]
    return view.box.rendered.column("FACTS", uids, rows)


def _arrivals(view: View, group: Group) -> list[int]:
    uids, rows = array("I", [uid for _, uid, _ in group]), [row for _, _, row in group]
    return [int(moment) for moment in view.box.rendered.column("ARRIVED", uids, rows)]


_FACT_OF = {"subject": "subject", "from": "from_", "to": "to", "cc": "cc", "bcc": "bcc"}
_COLUMNS: dict[str, Callable[[Any, View], Column]] = {
    "FLAG": _flag_column, "FIELD": _field_column, "DATE": _date_column, "AGE": _age_column,
}  # fmt: skip


# -- keys of one message -------------------------------------------------------------------------------------


def _test(key: SearchKey, view: View) -> Test:
    """The test of *key*; keys within keys are at most 100 deep (core/imap/search_keys)."""
    if key.kind in ("AND", "OR", "NOT"):
        tests = [_test(one, view) for one in sorted(key.keys, key=_costs)]
        if key.kind == "NOT":
            return lambda message: not tests[0](message)
        if key.kind == "AND":
            return lambda message: all(test(message) for test in tests)
        return lambda message: any(test(message) for test in tests)
    return _SIMPLE[key.kind](key.value, view)


def _costs(key: SearchKey) -> int:
    """How much a key costs: 0 without the message, 1 with its header, 2 with its text."""
    if key.keys:
        return max(_costs(one) for one in key.keys)
    return {"FIELD": 1, "BODY": 2, "TEXT": 2}.get(key.kind, int(key.kind == "DATE" and key.value[0]))


def _all(value: object, view: View) -> Test:
    return lambda message: True


def _flag(value: tuple[bytes, bool], view: View) -> Test:
    name, wanted = value
    if name == b"\\Recent":
        return lambda message: (message.uid in view.recent) is wanted
    bit = BITS[name]
    return lambda message: bool(view.box.states.flags[message.row] & bit) is wanted


def _keyword(value: tuple[bytes, bool], view: View) -> Test:
    name, wanted = value[0].lower(), value[1]
    states = view.box.states
    mask = sum(1 << bit for bit, word in enumerate(states.words) if word.lower() == name)
    return lambda message: bool(states.masks[message.row] & mask) is wanted


def _set(value: tuple[SequenceSet, bool], view: View) -> Test:
    numbers, by_uid = value
    uids = {uid for _, uid in view.picked(numbers, by_uid)}
    return lambda message: message.uid in uids


def _field(value: tuple[str, str], view: View) -> Test:
    name, text = value[0], value[1].casefold()
    return lambda message: any(text in found.casefold() for found in message.fields(name))


def _body(value: str, view: View) -> Test:
    text = value.casefold()
    return lambda message: text in message.text


def _whole(value: str, view: View) -> Test:
    text = value.casefold()
    return lambda message: (
        text in words.decode(header.unfold(message.head)).casefold() or text in message.text
    )


def _modseq(value: int, view: View) -> Test:
    modseqs = view.box.states.modseqs
    return lambda message: modseqs[message.row] >= value


def _larger(value: int, view: View) -> Test:
    return lambda message: view.box.size(message.row) > value


def _smaller(value: int, view: View) -> Test:
    return lambda message: view.box.size(message.row) < value


def _date(value: tuple[bool, str, tuple[int, int, int]], view: View) -> Test:
    is_sent, sign, day = value

    def test(message: Candidate) -> bool:
        found = message.sent_day if is_sent else message.arrived_day
        if found is None:
            return False
        return found < day if sign == "<" else found == day if sign == "=" else found >= day

    return test


def _age(value: tuple[str, int], view: View) -> Test:
    sign, seconds = value
    moment = clock.now() - seconds
    if sign == ">":
        return lambda message: message.arrived <= moment
    return lambda message: message.arrived > moment


_SIMPLE: dict[str, Callable[..., Test]] = {
    "ALL": _all, "FLAG": _flag, "KEYWORD": _keyword, "SET": _set, "FIELD": _field, "BODY": _body,
    "TEXT": _whole, "LARGER": _larger, "MODSEQ": _modseq, "SMALLER": _smaller, "DATE": _date, "AGE": _age,
}  # fmt: skip
