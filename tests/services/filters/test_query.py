"""SELECT expressions: what they mean, and what they say when they mean nothing."""

from pathlib import Path

import pytest

from mailtools.services.filters import listing, query

NOW = 1767951000.0  # 2026-01-09 09:30 UTC


def numbers(expression: str, source: Path) -> list[int]:
    predicate = query.parse(expression, NOW)

    def fail(name: str, error: Exception) -> None:
        raise error

    return [entry.number for entry in listing.selected([str(source)], predicate, (), fail)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("from:juergen", [1]),
        ("from:MÜLLER", [1]),
        ("from:mu\u0308ller", [1]),
        ("from:王小明", [2]),
        ("subject:你好世界", [1]),
        ("to:user199@", [7]),
        ("cc:x", []),
        ("body:会议室", [2]),
        ("body:café", [1, 4]),
        ("body:stylex or body:color", []),
        ("café", [1, 4]),
        ('"two words"', [1]),
        ('subject:"deja vu" or subject:"déjà vu"', [6]),
        ("larger:6K", [7]),
        ("smaller:150", [6]),
        ("larger:200 smaller:400", [2, 5]),
        ("is:read", [2, 4, 6]),
        ("is:unread and not is:flagged", [1, 5, 7, 8]),
        ("is:flagged is:answered", [3]),
        ("is:draft", [6]),
        ("has:attachment", [3]),
        ("header.content-type:gb2312", [2]),
        ("id:words@", [1]),
        ("before:2026-01-06", [1, 5]),
        ("after:2026-01-09", [6, 7, 8]),
        ("after:2026-01-08T08:00 before:2026-01-09T08:00", [4, 6]),
        ("after:2026-01-09T08:30Z", [6, 8]),
        ("after:1d", [4, 6, 7, 8]),
        ("before:3d", [1, 2, 5]),
        ("after:45m", [6, 8]),
        ("from:alice or from:shop and is:unread", [3]),
        ("(from:alice or from:shop) and is:answered", [3, 4]),
        ("not (from:alice or from:shop) larger:1K", [7]),
        ("not not from:alice", [3]),
        ("NOT from:example.org AND NOT from:example.cn", [4, 6]),
    ],
)
def test_meaning(own: Path, expression: str, expected: list[int]) -> None:
    assert numbers(expression, own / "mixed.mbox") == expected


@pytest.mark.parametrize(
    ("expression", "column", "sentence"),
    [
        ("", 1, "expected a word"),
        ("from:", 6, "expected a value behind 'from:'"),
        ("a and", 6, "expected a word"),
        ("or a", 1, "expected a word"),
        ("(a", 3, "expected ')' for the '(' at column 1"),
        ("a )", 3, "no '('"),
        ("()", 2, "expected a word"),
        ("form:x", 1, "did you mean 'from:'"),
        ("a or http://x", 6, "there is no field 'http'"),
        ('x "open', 3, "quote is not closed"),
        ("before:yesterday", 1, "is not a date"),
        ("before:2026-02-30", 1, "is not a date"),
        ("larger:10X", 1, "is not a size"),
        ("is:lost", 1, "known are read"),
        ("(" * 200 + "a" + ")" * 200, 102, "deeper than 100"),
    ],
)
def test_errors_say_where_and_what(expression: str, column: int, sentence: str) -> None:
    with pytest.raises(query.SelectError) as raised:
        query.parse(expression, NOW)
    assert f"column {column} " in str(raised.value)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "expression", ["not " * 100_000 + "a", "a or " * 20_000 + "a", "a " * 20_000, "(" * 100_000]
)
def test_long_expressions_do_not_recurse(expression: str) -> None:
    try:
        query.parse(expression, NOW)
    except query.SelectError as error:
        assert "deeper" in str(error)
