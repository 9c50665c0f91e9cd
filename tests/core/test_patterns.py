"""core/patterns: compiled at the first use. Patterns that all versions of Python match alike."""

import importlib
import pkgutil
import re
import re._constants as codes  # type: ignore[import-untyped]
import re._parser as sre  # type: ignore[import-untyped]
from collections.abc import Iterator
from typing import Any

import pytest

import mailtools
from mailtools.core import patterns


def test_a_pattern_is_compiled_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    real = re.compile
    monkeypatch.setattr(re, "compile", lambda *args: (compiled.append(args[0]), real(*args))[1])
    pattern = patterns.lazy("(?:A)b", re.I)
    assert not compiled
    assert [bool(pattern.match("ab")), bool(pattern.match("b"))] == [True, False]
    assert compiled == ["(?:A)b"]


# Their alternatives fail at once, or the whole pattern fails behind them. Compared on Python 3.11.2 and 3.11.7.
SAME_IN_ALL_VERSIONS = {
    "core.message.address._USUAL", "core.message.address._QUOTED", "core.message.parameters._PARAMETER",
    "core.message.parameters._COMMENT_PIECE", "core.message.submission._TOKEN",
    "core.message.uuencode._LINES", "services.filters.query._TOKEN",
}  # fmt: skip


def test_no_possessive_group_backtracks() -> None:
    """Python before 3.11.5, as in Debian 12, goes on behind what the failed last repetition took (gh-106052)."""
    found = {name for name, pattern in _patterns() if _backtracks(sre.parse(*pattern), False)}
    assert found == SAME_IN_ALL_VERSIONS


def _patterns() -> Iterator[tuple[str, tuple[Any, int]]]:
    """Name, and pattern and flags, of every constant pattern of the package."""
    for module in pkgutil.walk_packages(mailtools.__path__, "mailtools."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            known = getattr(value, "__self__", value)  # of a bound method, such as `match`
            full = f"{module.name.removeprefix('mailtools.')}.{name}"
            if isinstance(known, re.Pattern):
                yield (
                    full,
                    (known.pattern, known.flags & ~(re.UNICODE if isinstance(known.pattern, bytes) else 0)),
                )
            elif isinstance(known, patterns._Lazy):
                yield full, known._source


def _backtracks(tree: Any, inside: bool) -> bool:
    """Tell whether a possessive or atomic group (*inside* one) holds repetitions or alternatives."""
    for operation, value in tree:
        if operation in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            possessive = operation is codes.POSSESSIVE_REPEAT
            if (inside and not possessive) or _backtracks(value[2], inside or possessive):
                return True
        elif operation is codes.ATOMIC_GROUP:
            if _backtracks(value, True):
                return True
        elif operation is codes.BRANCH:
            if inside or any(_backtracks(branch, inside) for branch in value[1]):
                return True
        elif operation is codes.SUBPATTERN:
            if _backtracks(value[3], inside):
                return True
        elif operation in (codes.ASSERT, codes.ASSERT_NOT) and _backtracks(value[1], False):
            return True
    return False


@pytest.mark.parametrize(
    ("pattern", "is_bad"),
    [
        ("(?:ab?c)*+", True),
        ("(?>ab|c)", True),
        ("(?:a(?:b+c))++", True),
        ("[ab]++", False),
        ("(?:a[bc]++d)*+", False),
    ],
)
def test_the_check_of_possessive_groups(pattern: str, is_bad: bool) -> None:
    assert _backtracks(sre.parse(pattern), False) is is_bad
