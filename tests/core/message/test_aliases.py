"""aliases(5)."""

import pytest

from mailtools.core.message import aliases
from mailtools.core.message.aliases import (
    AliasAddress,
    BadTarget,
    Command,
    File,
    Include,
)
from mailtools.core.smtp.grammar import is_mailbox


def parse(text: str) -> tuple[aliases.Aliases, list[str]]:
    return aliases.parse(text, is_mailbox)


def parse_targets(text: str) -> tuple[aliases.AliasTarget, ...]:
    return aliases.parse_targets(text, is_mailbox)


def parse_include(text: str) -> tuple[aliases.AliasTarget, ...]:
    return aliases.parse_include(text, is_mailbox)


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
        ("Admin <admin@elsewhere.example>", (AliasAddress("admin@elsewhere.example"),)),
        ("<a@b>, Bob Smith <bob>", (AliasAddress("a@b"), AliasAddress("bob"))),
        ('"Smith, Bob" <bob@x>, ann (the boss)', (AliasAddress("bob@x"), AliasAddress("ann"))),
        ("\\bob, \\ann@x", (AliasAddress("bob", True), AliasAddress("ann@x", True))),
        ('"a, b", c', (AliasAddress("a, b"), AliasAddress("c"))),
    ],
)
def test_targets(text: str, targets: tuple[AliasAddress, ...]) -> None:
    assert parse_targets(text) == targets


@pytest.mark.parametrize(
    "text",
    [
        "zoe q@x", "a b c", "<>", "<a@x> <b@x>", "Bob <a@x> b", "a@x b@x", "a..b@x", "a@", "@x", "@", "a@b@c",
        '"without end, b', "a@x\x01y", "undisclosed:;", "a@[<x>]",
    ],
)  # fmt: skip
def test_a_target_that_is_no_mailbox_is_told_with_its_line(text: str) -> None:
    assert any(isinstance(target, BadTarget) for target in parse_targets(text))
    found, problems = parse(f"# x\nok: bob\nroot: bob, {text}\n")
    assert problems
    assert all(problem.startswith("line 3: root: ") for problem in problems)
    assert any(isinstance(target, BadTarget) for target in found["root"])
    assert found["ok"] == (AliasAddress("bob"),)
    included = [target for target in parse_include(f"bob\n{text}\n") if isinstance(target, BadTarget)]
    assert included[0].why.startswith("line 2: ")


def test_time_is_linear() -> None:
    """Cubic, it would take hours."""
    assert len(parse_targets("b," + " " * 100_000 + '"')) == 2
    assert len(parse_include("\n" + " " * 100_000 + '"' * 10_001)) == 1
    assert parse("x" * 100_000 + " " * 100_000)[1]


def test_an_included_file() -> None:
    assert parse_include("# x\nbob\nann, carol\n\n /etc/passwd\n") == (
        AliasAddress("bob"), AliasAddress("ann"), AliasAddress("carol"), File("/etc/passwd"),
    )  # fmt: skip
