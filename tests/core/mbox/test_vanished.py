"""core/mbox/vanished: which UIDs were expunged since when; told too many rather than too few."""

from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.mbox import vanished
from mailtools.core.mbox.vanished import Vanished, common, gaps, runs


def test_ranges_since_a_number() -> None:
    found = Vanished(4)
    found.add([(7, 9), (20, 20)], 5)
    found.add([(2, 2)], 8)
    assert found.since(3) is None
    assert found.since(4) == [(2, 2), (7, 9), (20, 20)]
    assert found.since(5) == [(2, 2)]
    assert found.since(8) == []


def test_the_oldest_ranges_are_forgotten() -> None:
    found = Vanished()
    for number in range(1, vanished.MOST + 2):
        found.add([(number, number)], number)
    assert len(found) == vanished.MOST // 2
    assert found.since(found.floor - 1) is None
    assert found.since(found.floor) == [(n, n) for n in range(found.floor + 1, vanished.MOST + 2)]


def test_an_expunge_of_more_ranges_than_are_kept() -> None:
    found = Vanished()
    found.add([(2 * n + 1, 2 * n + 1) for n in range(2 * vanished.MOST)], 5)
    assert len(found) == vanished.MOST // 2
    assert found.since(4) is None
    assert found.since(5) == []


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_runs_and_gaps(there: set[int], gone: set[int]) -> None:
    uids = sorted(there | gone)
    kept = {row for row, uid in enumerate(uids) if uid not in gone}
    told = {uid for first, last in runs(uids, kept) for uid in range(first, last + 1)}
    assert gone <= told
    assert not told & (there - gone)
    told = {uid for first, last in gaps(uids, 41) for uid in range(first, last + 1)}
    assert told == set(range(1, 41)) - set(uids)


def test_what_ranges_have_in_common() -> None:
    import random

    chance = random.Random(1)
    for _ in range(300):
        some, others = ({chance.randint(1, 40) for _ in range(chance.randint(0, 30))} for _ in range(2))
        ranges = [[(one, one) for one in sorted(numbers)] for numbers in (some, others)]
        joined = [gaps(sorted(set(range(1, 41)) - numbers), 41) for numbers in (some, others)]
        for left, right in (ranges, joined):
            found = [number for first, last in common(left, right) for number in range(first, last + 1)]
            assert found == sorted(some & others)
