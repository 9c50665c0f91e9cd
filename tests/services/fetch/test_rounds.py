"""services/fetch/rounds: what is missing is asked for again, in smaller sets, but not for ever."""

from collections.abc import Callable

import pytest

from mailtools.services.fetch.rounds import Rounds


def play(
    uids: list[int], answer: Callable[[list[int]], tuple[list[int], str]], together: int = 10
) -> tuple[Rounds, int]:
    """Ask a server; *answer* returns those of a set that it gives, and a refusal. Returns the number of sets."""
    rounds, asked = Rounds(uids, together), 0
    sets: list[list[int]] = []
    while not rounds.is_done:
        while rounds.under_way < 2 and (uids := rounds.next_set()):
            sets.append(uids)
        asked += 1
        came, why = answer(sets.pop(0))
        for uid in came:
            assert rounds.came(uid)
        rounds.ended(why)
    return rounds, asked


def test_all_come_at_once() -> None:
    rounds, asked = play(list(range(25)), lambda uids: (uids, ""))
    assert (rounds.missing, asked) == ({}, 3)


def test_nothing_is_asked_for_if_nothing_is_wanted() -> None:
    assert Rounds([], 10).is_done


def test_what_is_missing_is_asked_for_alone_at_last() -> None:
    rounds, asked = play(list(range(100)), lambda uids: ([], "no") if 50 in uids else (uids, ""))
    assert rounds.missing == {50: "no"}
    assert asked == 10 + 10


def test_a_few_at_a_time() -> None:
    rounds, _ = play(list(range(100)), lambda uids: (uids[:3], ""), together=50)
    assert rounds.missing == {}


def test_a_server_that_gives_nothing_is_left_in_time() -> None:
    rounds, asked = play(list(range(10_000)), lambda uids: ([], "busy"))
    assert len(rounds.missing) == 10_000
    assert set(rounds.missing.values()) == {"busy"}
    assert asked < 250


def test_a_message_comes_once() -> None:
    rounds = Rounds([1, 2], 10)
    assert rounds.next_set() == [1, 2]
    assert rounds.next_set() == []
    assert rounds.came(1)
    assert not rounds.came(1)
    assert not rounds.came(3)


@pytest.mark.parametrize(("refusal", "reason"), [("", "NIL"), ("no", "no")])
def test_the_last_reason_counts(refusal: str, reason: str) -> None:
    rounds = Rounds([1], 1)
    rounds.next_set()
    rounds.failed(1, "NIL")
    rounds.failed(2, "not asked for")
    rounds.ended(refusal)
    assert rounds.missing == {1: reason}
