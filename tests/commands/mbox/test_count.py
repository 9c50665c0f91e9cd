"""``mailtools mbox count``."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailtools.commands.mbox.count import command


def run(*args: object, stdin: bytes = b"") -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(arg) for arg in args], input=stdin)
    return result.exit_code, result.stdout


def test_one_number(own: Path) -> None:
    assert run(own / "mixed.mbox") == (0, "8\n")
    assert run("-u", own / "mixed.mbox") == (0, "5\n")
    assert run("--from", "alice", "--subject", "nested", own / "mixed.mbox") == (0, "1\n")
    assert run("-q", "is:read", "-q", "is:draft", own / "mixed.mbox") == (0, "1\n")


def test_several_sources(own: Path) -> None:
    mixed, quoted = own / "mixed.mbox", own / "quoted.mbox"
    assert run(mixed, quoted) == (0, f"{mixed}\t8\n{quoted}\t3\n")


def test_stdin(own: Path) -> None:
    assert run(stdin=(own / "mixed.mbox").read_bytes()) == (0, "8\n")
    assert run("-", stdin=b"") == (1, "0\n")


def test_none_is_1(own: Path) -> None:
    assert run("--from", "nobody-at-all", own / "mixed.mbox") == (1, "0\n")


def test_errors_are_told_at_the_end(own: Path, tmp_path: Path) -> None:
    code, out = run(tmp_path / "none", own / "mixed.mbox")
    assert (code, out) == (66, f"{own / 'mixed.mbox'}\t8\n")
    assert run(own / "words.eml")[0] == 65
    assert run(tmp_path)[0] == 65


@pytest.mark.parametrize("args", [["-q", "(a"], ["--larger", "much"], ["--before", "tomorrow"]])
def test_a_wrong_expression_is_usage(own: Path, args: list[str]) -> None:
    assert run(*args, own / "mixed.mbox")[0] == 2  # Click's; `cli.main` makes it 64
