"""Command groups: their help names every command, and a mistyped command is answered with the nearest one."""

import pytest

from mailtools.cli import COMMANDS
from tests.servers import mailtools


def test_help_names_every_command_in_order() -> None:
    done = mailtools("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    listed = done.stdout.decode().partition("\nCommands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sned"], "Error: No such command 'sned'. Did you mean 'send'?\n"),
        (["xqzzy"], "Error: No such command 'xqzzy'. See 'mailtools --help'.\n"),
        (["mbox", "lst"], "Error: No such command 'lst'. Did you mean 'list'?\n"),
    ],
)
def test_an_unknown_command_is_a_usage_error_with_a_hint(words: list[str], says: str) -> None:
    done = mailtools(*words)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.decode().endswith(says)
