"""Journals: what is still to be done, whatever became of the file."""

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DEFERRED, DELAYED, DUE, FAILED, SENT, QueueEntry, Result, parse

T = 1_800_000_000.0
ENVELOPE = QueueEnvelope(
    "0abc-1", T, "alice@example.org", tuple(Recipient(f"r{n}@example.com") for n in range(3))
)
HEAD = envelopes.encode(ENVELOPE)


def entry(*records: dict[str, Any]) -> QueueEntry:
    return parse(HEAD + journal.encode(records))


def states(of: QueueEntry) -> list[str]:
    return [recipient.state for recipient in of.recipients]


def test_a_new_message_waits_for_all() -> None:
    found = parse(HEAD)
    assert found.envelope == ENVELOPE
    assert found.pending == (0, 1, 2)
    assert (found.attempts, found.due, found.is_torn) == (0, 0.0, False)


def test_attempts() -> None:
    found = entry(
        journal.attempt(T + 5, Result((0,), SENT, "250 ok", "2.0.0", "mx", True)),
        journal.attempt(T + 5, Result((1,), FAILED, "550 no", "5.1.1", "mx")),
        journal.attempt(T + 5, Result((2,), DEFERRED, "451 later", "4.3.0", "mx")),
        journal.scheduled(T + 6, T + 66),
    )
    assert states(found) == [SENT, FAILED, DUE]
    assert found.recipients[2].last == Result((2,), DEFERRED, "451 later", "4.3.0", "mx")
    assert (found.pending, found.attempts, found.due, found.age(T + 10)) == ((2,), 1, T + 66, 10)
    assert found.untold(FAILED, "FAILURE") == (1,)
    assert found.untold(SENT, "SUCCESS") == ()  # nobody asked
    assert entry(journal.scheduled(T, T + 60), journal.event(T + 1, "retry", "root")).due == 0


def test_told() -> None:
    failed = journal.attempt(T, Result((0, 1), FAILED, "550 no"))
    assert entry(failed, journal.told(T, FAILED, [1], "0dsn-1")).untold(FAILED, "FAILURE") == (0,)
    assert entry(failed, journal.told(T, DELAYED, [0, 1], "0dsn-1")).untold(FAILED, "FAILURE") == (0, 1)


lines = st.lists(
    st.sampled_from(
        [
            journal.attempt(T + 1, Result((0,), SENT, "250 ok")),
            journal.attempt(T + 2, Result((1, 2), FAILED, "550 \u2028 no")),
            journal.attempt(T + 3, Result((2,), DEFERRED, "451 later")),
            journal.scheduled(T + 4, T + 70),
            journal.told(T + 5, FAILED, [1], "0dsn-1"),
            journal.event(T + 6, "hold", "root"),
        ]
    ),
    max_size=6,
)


@given(lines, st.data())
def test_cut_anywhere_it_tells_what_its_whole_lines_tell(
    records: list[dict[str, Any]], data: st.DataObject
) -> None:
    octets = HEAD + journal.encode(records)
    cut = data.draw(st.integers(len(HEAD), len(octets)))
    found = parse(octets[:cut])
    whole = octets[:cut].rpartition(b"\n")[0] + b"\n"
    assert found._replace(is_torn=False) == parse(whole)
    assert found.is_torn is (octets[cut - 1 : cut] != b"\n")


@given(lines, lines)
def test_applied_later_is_the_same_as_read_together(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    assert journal.apply(entry(*before), *after) == entry(*before, *after)


@given(st.binary(max_size=300))
def test_any_octets_parse_or_are_bad_data(octets: bytes) -> None:
    with contextlib.suppress(BadDataError):
        parse(octets)


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(-2, 5))
)
kinds = st.sampled_from(["attempt", "scheduled", "told", "retry", "hold", "nonsense"])
records = st.fixed_dictionaries(
    {},
    optional={
        "at": st.floats(T - 1e9, T + 1e9) | values,
        "event": kinds | values,
        "result": st.sampled_from([SENT, FAILED, DEFERRED]) | values,
        "recipients": st.lists(st.integers(-2, 5)) | values,
        "due": st.floats(0, 2 * T) | values,
        "of": st.sampled_from([FAILED, SENT, DELAYED]) | values,
        "reply": values,
        "status": values,
        "remote": values,
    },
)


@given(lines, st.binary(max_size=100) | records.map(lambda record: journal.encode([record])))
def test_any_line_appended_keeps_the_entry_sane(before: list[dict[str, Any]], octets: bytes) -> None:
    found = parse(HEAD + journal.encode(before) + octets + b"\n")
    assert found.envelope == ENVELOPE
    assert len(found.recipients) == 3
    assert set(states(found)) <= {DUE, SENT, FAILED}
    assert 0 <= found.due < 1e12
    assert found.waited >= 0
    assert not found.is_torn
    for recipient in found.recipients:
        if recipient.last:
            assert all(isinstance(text, str) for text in recipient.last[1:5])
            assert all(0 <= number < 3 for number in recipient.last.recipients)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"null", b"[1]", b'"x"', b"{}{}", b"\xff\xfe", b"[" * 200_000, b"1" * 5000,
        b'{"event": "attempt", "result": "sent", "recipients": [0]}',  # no time
        b'{"at": true, "event": "attempt", "result": "sent", "recipients": [0]}',
        b'{"at": -1, "event": "attempt", "result": "sent", "recipients": [0]}',
        b'{"at": NaN, "event": "attempt", "result": "sent", "recipients": [0]}',
        b'{"at": 1800000001, "event": "attempt", "result": "eaten", "recipients": [0]}',
        b'{"at": 1800000001, "event": "attempt", "result": "sent", "recipients": [true, -1, 3, "0", 0.0]}',
        b'{"at": 1800000001, "event": "attempt", "result": "sent", "recipients": {"0": 1}}',
        b'{"at": 1800000001, "event": "scheduled", "due": 1e300}',
        b'{"at": 1800000001, "event": "told", "of": ["failed"], "recipients": [0]}',
    ],
)  # fmt: skip
def test_a_line_that_no_line_of_ours_is_loses_nobody(line: bytes) -> None:
    found = parse(HEAD + line + b"\n" + journal.encode([journal.attempt(T, Result((1,), SENT, "250 ok"))]))
    assert states(found) == [DUE, SENT, DUE]
    assert found.due == 0


def test_a_line_that_goes_on_in_the_next_one_is_none() -> None:
    """White space of JSON: an end of line would do, but lines are told apart before."""
    octets = HEAD + b'{"at": 1800000001, "event": "attempt", "result": "sent",\n "recipients": [0, 1, 2]}\n'
    assert states(parse(octets)) == [DUE, DUE, DUE]


@pytest.mark.usefixtures("untraced")
def test_a_long_journal_of_many_recipients_takes_no_time() -> None:
    """A hundred thousand times a hundred thousand would never end."""
    many = ENVELOPE._replace(recipients=tuple(Recipient(f"r{n}@example.com") for n in range(100_000)))
    sent = [journal.attempt(T, Result((number,), SENT, "250 ok")) for number in range(0, 100_000, 2)]
    assert len(parse(envelopes.encode(many) + journal.encode(sent)).pending) == 50_000


@given(st.lists(st.floats(0, 9e11), max_size=20))
def test_a_clock_that_jumps_adds_a_day_at_most_and_takes_nothing(times: list[float]) -> None:
    ages = [0.0]
    found = parse(HEAD)
    for at in times:
        found = journal.apply(found, journal.event(at, "retry"))
        ages.append(found.waited)
    steps = [later - earlier for earlier, later in itertools.pairwise(ages)]
    assert all(-1e-3 <= step <= 25 * 3600 + 1e-3 for step in steps)
