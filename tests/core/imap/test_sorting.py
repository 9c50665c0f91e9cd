"""SORT: keys and order."""

import pytest

from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.facts import facts
from mailtools.core.imap.sorting import Sortable, SortKey, base_and_reply, base_subject, in_order, parse_keys


@pytest.mark.parametrize(
    "text, base",
    [
        ("Lunch", "lunch"),
        ("Re: Lunch", "lunch"),
        ("RE:  re: Fwd: Lunch (fwd) (FWD)", "lunch"),
        ("[list] Re: [list] Lunch", "lunch"),
        ("Re[2]: Lunch", "lunch"),
        ("[fwd: Re: Lunch]", "lunch"),
        ("[Lunch]", "[lunch]"),  # a subject stays
        ("Re: ", ""),
        ("Lunch\t at   noon", "lunch at noon"),
        ("Rewrite: this", "rewrite: this"),
        ("GRÜSSE", "grüsse".replace("ü", "u\u0308")),
        ("", ""),
    ],
)
def test_base_subject(text: str, base: str) -> None:
    assert base_subject(text) == base


@pytest.mark.parametrize(
    "text, is_reply", [("Lunch", False), ("Re: Lunch", True), ("Lunch (fwd)", True), ("[list] Lunch", False)]
)
def test_what_is_a_reply(text: str, is_reply: bool) -> None:
    assert base_and_reply(text)[1] is is_reply


@pytest.mark.parametrize(
    "text", ["[a]" * 100_000, "re: " * 100_000, "(fwd)" * 100_000, "[fwd:" * 100_000, "[" * 10**6]
)
def test_hostile_subjects_end(text: str) -> None:
    base_subject(text)


def message(number: int, header: bytes, arrived: int = 0, size: int = 0) -> Sortable:
    return Sortable(number, arrived, size, facts(header + b"\r\n\r\n"))


MESSAGES = [
    message(1, b"From: Zoe <a@x>\r\nSubject: Re: b\r\nDate: 2 Jan 2020 00:00:00 +0000", 5, 10),
    message(2, b"From: Ann <z@x>\r\nSubject: a\r\nDate: 1 Jan 2020 00:00:00 +0000", 6, 10),
    message(3, b"From: Mia <m@x>\r\nSubject: B", 1577923200 - 3600, 30),
]


@pytest.mark.parametrize(
    "keys, order",
    [
        ("(ARRIVAL)", [1, 2, 3]),
        ("(REVERSE ARRIVAL)", [3, 2, 1]),
        ("(DATE)", [2, 3, 1]),
        ("(FROM)", [1, 3, 2]),
        ("(DISPLAYFROM)", [2, 3, 1]),
        ("(SUBJECT)", [2, 1, 3]),  # equal ones in their order
        ("(REVERSE SUBJECT)", [1, 3, 2]),
        ("(SUBJECT REVERSE DATE)", [2, 1, 3]),
        ("(REVERSE SIZE ARRIVAL)", [3, 1, 2]),
        ("(to)", [1, 2, 3]),
    ],
)
def test_order(keys: str, order: list[int]) -> None:
    assert in_order(MESSAGES, parse_keys(Cursor(keys.encode(), []))) == order


def test_keys() -> None:
    assert parse_keys(Cursor(b"(reverse cc TO)", [])) == (SortKey("CC", True), SortKey("TO"))


@pytest.mark.parametrize(
    "keys", ["()", "(X)", "(REVERSE)", "(REVERSE REVERSE CC)", "(CC REVERSE)", "CC", "(" + "CC " * 21 + "CC)"]
)
def test_bad_keys(keys: str) -> None:
    with pytest.raises(ImapCommandError):
        parse_keys(Cursor(keys.encode(), []))
