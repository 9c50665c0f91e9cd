"""THREAD: who answers whom."""

import re

import pytest

from mailtools.core.imap.facts import facts
from mailtools.core.imap.sorting import Sortable
from mailtools.core.imap.threads import ordered_subject, references


def messages(*told: tuple[str, str, str]) -> list[Sortable]:
    """Messages (ID, references, subject), one a second."""
    return [
        Sortable(number, number, 1, facts(f"Message-ID: <{i}>\r\nReferences: {r}\r\nSubject: {s}\r\n\r\n".encode()))
        for number, (i, r, s) in enumerate(told, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "told, threads",
    [
        ([], b""),
        ([("a@x", "", "a"), ("b@x", "", "b")], b"(1)(2)"),
        ([("a@x", "", "a"), ("b@x", "<a@x>", "Re: a"), ("c@x", "<a@x> <b@x>", "Re: a")], b"(1 2 3)"),
        (
            [("a@x", "", "a"), ("b@x", "<a@x>", "x"), ("c@x", "<a@x>", "y"), ("d@x", "<b@x>", "z")],
            b"(1 (2 4)(3))",
        ),
        ([("c@x", "<a@x>", "y"), ("a@x", "", "a")], b"(2 1)"),  # the answer came first
        ([("b@x", "<gone@x>", "b"), ("c@x", "<gone@x>", "c")], b"((1)(2))"),
        ([("b@x", "<gone@x>", "b")], b"(1)"),
        ([("b@x", "<a@x> <gone@x>", "b"), ("a@x", "", "a")], b"(2 1)"),
        # What a message says of itself counts, not what another said of it (step 1.B)
        ([("a@x", "", "a"), ("c@x", "<a@x> <b@x>", "c"), ("b@x", "", "b")], b"(1)(3 2)"),
        ([("a@x", "<b@x>", "a"), ("b@x", "<a@x>", "b")], b"(2 1)"),  # a circle
        ([("a@x", "<a@x>", "a")], b"(1)"),
        ([("a@x", "", "a"), ("a@x", "", "b"), ("c@x", "<a@x>", "c")], b"(1 3)(2)"),  # one ID twice
        # By subject, where references are missing
        ([("a@x", "", "lunch"), ("b@x", "", "Re: lunch")], b"(1 2)"),
        ([("a@x", "", "Re: lunch"), ("b@x", "", "lunch")], b"(2 1)"),
        ([("a@x", "", "lunch"), ("b@x", "", "lunch")], b"((1)(2))"),
        ([("a@x", "", "lunch"), ("b@x", "", "lunch"), ("c@x", "", "lunch")], b"((1)(2)(3))"),
        ([("a@x", "<g@x>", "lunch"), ("b@x", "<g@x>", "z"), ("c@x", "", "lunch")], b"((1)(2)(3))"),
        ([("a@x", "", ""), ("b@x", "", "")], b"(1)(2)"),
    ],
)
def test_references(told: list[tuple[str, str, str]], threads: bytes) -> None:
    assert references(messages(*told)) == threads


@pytest.mark.parametrize(
    "subjects, threads",
    [
        (["a", "b", "Re: a"], b"(1 3)(2)"),
        (["a", "Re: a", "Fwd: a", "b"], b"(1 (2)(3))(4)"),
        ([], b""),
    ],
)
def test_ordered_subject(subjects: list[str], threads: bytes) -> None:
    assert ordered_subject(messages(*((f"{n}@x", "", s) for n, s in enumerate(subjects)))) == threads


def numbers(threads: bytes) -> list[int]:
    return sorted(map(int, re.findall(rb"[0-9]+", threads)))


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("step", [1, -1])
def test_a_thread_of_great_depth(step: int) -> None:
    told = [(f"{n}@x", f"<{n - 1}@x>", "a") for n in range(20_000)][::step]
    threads = references(messages(*told))
    assert numbers(threads) == list(range(1, 20_001))
    if step == 1:
        assert threads.count(b"(") == 1


def test_every_message_is_told_once_whatever_refers_to_what() -> None:
    import random

    chance = random.Random(1)
    for _ in range(300):
        count = chance.randint(1, 12)
        told = [
            (
                f"{chance.randint(0, count)}@x",
                " ".join(f"<{chance.randint(0, count + 3)}@x>" for _ in range(chance.randint(0, 4))),
                chance.choice(["a", "Re: a", "b", "", "Re: b"]),
            )
            for _ in range(count)
        ]
        found = references(messages(*told))
        assert numbers(found) == list(range(1, count + 1)), (told, found)
        assert found.count(b"(") == found.count(b")")
        assert b"()" not in found


def test_threads_are_gathered_by_subject_in_the_order_of_their_dates() -> None:
    told = [("a@x", "", "b", 4), ("b@x", "<gone@x>", "Re: b", 2), ("c@x", "", "b", 3)]
    sent = [
        message._replace(arrived=told[number][3])
        for number, message in enumerate(messages(*(one[:3] for one in told)))
    ]
    assert references(sent) == b"((3 2)(1))"
