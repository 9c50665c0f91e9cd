"""The queue as it is shown."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DEFERRED, DUE, FAILED, QueueEntry, Result
from mailtools.core.queue.store import ACTIVE, BAD, HOLD, INCOMING, Listed
from mailtools.services.queue import listing
from mailtools.services.queue.listing import Filter
from mailtools.system import clock


def listed(
    *recipients: str, sender: str = "alice@example.org", state: str = INCOMING, arrived: float = 1e9
) -> Listed:
    envelope = QueueEnvelope("0abc-1", arrived, sender, tuple(Recipient(address) for address in recipients))
    return Listed(QueueEntry(envelope, (journal.RecipientState(),) * len(recipients), seen=arrived), state)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2001-09-09T01:46:40+00:00"),
        ("IST-5:30", "2001-09-09T07:16:40+05:30"),
        ("NST3:30", "2001-09-08T22:16:40-03:30"),
    ],
    indirect=["zone"],
)
def test_times_are_local_with_their_offset(zone: None, text: str) -> None:
    assert listing.iso(1e9) == text


def test_times_that_no_clock_has_are_told_too() -> None:
    assert listing.iso(9.9e11).startswith("3")
    assert listing.mailq(listed("a@b", arrived=9.9e11), str)


@pytest.mark.parametrize(
    ("state", "due", "text"),
    [
        (INCOMING, 0, "now"),
        (DEFERRED, 1e9, "now"),
        (ACTIVE, 4e9, "now"),
        (HOLD, 0, "-"),
        (BAD, 0, "-"),
        (DEFERRED, 4e9, "2096"),
    ],
)
def test_due(state: str, due: float, text: str) -> None:
    entry, *_ = listed("a@b")
    assert listing.due_text(Listed(entry._replace(due=due), state)).startswith(text)


def test_a_row_where_nobody_waits_any_more() -> None:
    entry, state, _ = listed("a@b", "c@d")
    entry = journal.apply(entry, journal.attempt(1e9, Result((0, 1), FAILED, "550 no such user")))
    cells = dict(zip(listing.COLUMNS, listing.row(Listed(entry, state)), strict=True))
    assert (cells["recipients"], cells["reason"]) == ("-", "550 no such user")
    assert listing.mailq(Listed(entry, state), str).count("\n") == 1
    record = listing.as_json(Listed(entry, state))
    assert record["recipients"] == []
    assert [recipient["state"] for recipient in record["done"]] == [FAILED, FAILED]


def test_columns_are_as_many_as_cells() -> None:
    assert len(listing.row(listed("a@b"))) == len(listing.COLUMNS)


@pytest.mark.parametrize(
    ("octets", "count", "text"),
    [
        (0, 1, "-- 0 Kbytes in 1 Request."),
        (1023, 2, "-- 0 Kbytes in 2 Requests."),
        (10694, 5, "-- 10 Kbytes in 5 Requests."),
    ],
)
def test_the_last_line_of_mailq(octets: int, count: int, text: str) -> None:
    assert listing.mailq_end(octets, count) == text


@pytest.mark.parametrize(
    ("filter_", "selected"),
    [
        (Filter(), True),
        (Filter(sender="*@example.org"), True),
        (Filter(sender="*@example.com"), False),
        (Filter(sender="[ab]lice@*"), True),
        (Filter(sender="alice"), False),
        (Filter(sender="<>"), False),
        (Filter(recipient="*@TWO.example"), True),
        (Filter(recipient="?@one.example"), True),
        (Filter(site="two.example"), True),
        (Filter(site="wo.example"), False),
        (Filter(state=INCOMING), True),
        (Filter(state=ACTIVE), False),
        (Filter(older=100.0), True),
        (Filter(older=1e10), False),
        (Filter(sender="alice@*", site="two.example", state=INCOMING, older=5.0), True),
        (Filter(sender="alice@*", site="two.example", state=HOLD, older=5.0), False),
    ],
)
def test_filters(filter_: Filter, selected: bool) -> None:
    message = listed("a@one.example", "b@two.example", arrived=clock.now() - 3600)
    assert filter_.predicate()(message) is selected


def test_a_pattern_takes_linear_time() -> None:
    message = listed("a@b", sender=f"{'a' * 5000}@example.org")
    assert Filter(sender="*a" * 100 + "*!").predicate()(message) is False


@given(st.lists(st.sampled_from(["", "451 one", "451 two"]), min_size=1, max_size=8))
def test_mailq_says_each_reason_before_those_whom_it_delays(replies: list[str]) -> None:
    entry, state, _ = listed(*(f"r{number}@example.com" for number in range(len(replies))))
    for number, reply in enumerate(replies):
        if reply:
            entry = journal.apply(entry, journal.attempt(1e9, Result((number,), DEFERRED, reply)))
    found, why = [], ""
    for line in listing.mailq(Listed(entry, state), str).splitlines()[1:]:
        text = line.strip()
        if text.startswith("("):
            assert text != why
            why = text
        else:
            found.append("" if why == "(reason unavailable)" else why.strip("()"))
            assert line.index("r") == 47
    assert found == replies
    assert all(recipient.state == DUE for recipient in entry.recipients)
