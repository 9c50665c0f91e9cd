"""When a message is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.queue.schedule import DAY, HOUR, MINUTE, Schedule, step

times = st.floats(0, 1e11)


def test_a_minute_doubled_up_to_four_hours() -> None:
    waits = [Schedule().wait(attempts, 0.5) for attempts in range(1, 12)]
    assert waits[:4] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]
    assert waits[8:] == [4 * HOUR] * 3


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_jitter_is_a_tenth(attempts: int, chance: float) -> None:
    exact = Schedule().wait(attempts, 0.5)
    assert 0.9 * exact - 1e-6 <= Schedule().wait(attempts, chance) <= 1.1 * exact + 1e-6


def test_intervals_said_one_by_one() -> None:
    schedule = Schedule(intervals=(5.0, 60.0, 600.0))
    assert [schedule.wait(attempts, 1.0) for attempts in (1, 2, 3, 4, 99)] == [5, 60, 600, 600, 600]


@pytest.mark.parametrize(
    ("due", "now", "is_due"),
    [
        (0, 1e9, True),
        (1e9, 1e9, True),
        (1e9 + 1, 1e9, False),
        (1e9 + 8 * HOUR, 1e9, False),
        (1e9 + 9 * HOUR, 1e9, True),
    ],
)
def test_due(due: float, now: float, is_due: bool) -> None:
    assert Schedule().is_due(due, now) is is_due


def test_long_intervals_are_believed() -> None:
    assert not Schedule(intervals=(3 * DAY,)).is_due(3 * DAY, 0)


@given(st.integers(1, 100), st.floats(0, 1), times)
def test_what_was_scheduled_is_due_then_and_not_before(attempts: int, chance: float, now: float) -> None:
    due = now + Schedule().wait(attempts, chance)
    assert not Schedule().is_due(due, now)
    assert Schedule().is_due(due, due)


@given(times, times)
def test_a_step_is_never_less_than_nothing_nor_more_than_a_day_and_an_hour(
    earlier: float, later: float
) -> None:
    assert 0 <= step(earlier, later) <= DAY + HOUR
    if 0 <= later - earlier <= DAY:
        assert step(earlier, later) == later - earlier
