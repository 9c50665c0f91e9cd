"""aliases(5)."""

import pytest

from mailtools.core.message.aliases import (
    AliasAddress,
    Command,
    File,
    Include,
    parse,
    parse_include,
    parse_targets,
)


def test_a_file() -> None:
    found, problems = parse(
        "# comment\n\nPostmaster:\troot\nteam: bob, ann@x,\n\tcarol\n  ,dave\n# between\n\n"
        '"two words" : bob\nlist: :include:/etc/list, "|/bin/cmd -a, b", |"/bin/x y", /var/mail/a, \\bob\n'
        "noreply: /dev/null # no comment here\n"
    )
    assert not problems
    assert found["postmaster"] == (AliasAddress("root"),)
    assert found["team"] == (
        AliasAddress("bob"),
        AliasAddress("ann@x"),
        AliasAddress("carol"),
        AliasAddress("dave"),
    )
    assert found["two words"] == (AliasAddress("bob"),)
    assert found["list"] == (
        Include("/etc/list"),
        Command("/bin/cmd -a, b"),
        Command("/bin/x y"),
        File("/var/mail/a"),
        AliasAddress("bob", is_final=True),
    )
    assert found["noreply"] == (File("/dev/null # no comment here"),)


def test_lines_that_are_none() -> None:
    found, problems = parse("no colon\n:x\nempty:\ntwo: a\nTWO: b\nok: c\n")
    assert found == {"two": (AliasAddress("a"),), "ok": (AliasAddress("c"),)}
    assert [problem.partition(":")[0] for problem in problems] == ["line 1", "line 2", "line 3", "line 5"]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", ()),
        (",, a ,,b,", (AliasAddress("a"), AliasAddress("b"))),
        ('"quoted \\" name"@x', (AliasAddress('"quoted \\" name"@x'),)),
        ('"a, b", c', (AliasAddress("a, b"), AliasAddress("c"))),
        ('"without end, b', (AliasAddress('"without end, b'),)),
    ],
)
def test_targets(text: str, targets: tuple[AliasAddress, ...]) -> None:
    assert parse_targets(text) == targets


def test_time_is_linear() -> None:
    """Cubic, it would take hours."""
    assert len(parse_targets("b," + " " * 100_000 + '"')) == 2
    assert len(parse_include("\n" + " " * 100_000 + '"' * 10_001)) == 1
    assert parse("x" * 100_000 + " " * 100_000)[1]


def test_an_included_file() -> None:
    assert parse_include("# x\nbob\nann, carol\n\n /etc/passwd\n") == (
        AliasAddress("bob"), AliasAddress("ann"), AliasAddress("carol"), File("/etc/passwd"),
    )  # fmt: skip
