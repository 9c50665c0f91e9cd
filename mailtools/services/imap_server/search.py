"""SEARCH: which messages match a key (RFC 9051 §6.4.4).

Texts are compared as a reader sees them: decoded, in any case. A message is read only if a key needs it, and
then once.
"""

from collections.abc import Callable, Iterator

from mailtools.core.imap.search_keys import SearchKey
from mailtools.core.message import date, header, mime, words
from mailtools.services.filters import render
from mailtools.services.imap_server.fetch import header_alone
from mailtools.services.imap_server.view import BITS, View
from mailtools.system import clock


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
    test = _test(key, view)
    found = []
    for number, uid in enumerate(view.uids, 1):
        with view.box.lock:  # held for one message: other sessions of the mailbox go on between
            row = view.row(uid)
            if row >= 0 and test(Candidate(view, number, uid, row)):
                found.append((number, uid))
    return found


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


def _set(value: tuple[object, bool], view: View) -> Test:
    numbers, by_uid = value
    chosen = view.chosen(numbers.ranges(view.largest(by_uid)), by_uid)  # type: ignore[attr-defined]
    uids = {uid for _, uid in chosen}
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
