"""Where passwords come from: a command, a file, the terminal, stdin; never the command line."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mailtools.core.errors import BadDataError, MissingInputError, PolicyError

F = TypeVar("F", bound=Callable[..., Any])
_MOST = 4096  # octets


def password_options(function: F) -> F:
    """``--password-command`` and ``--password-file``."""
    command = click.option("--password-command", metavar="CMD", help="The password is what CMD prints first.")
    file = click.option("--password-file", metavar="FILE", help="The password is the first line of FILE.")
    return command(file(function))


def read_password(*, twice: bool, password_command: str | None, password_file: str | None) -> str:
    """The password, from where the options say; *twice*: a new one, asked for again.

    Raises MissingInputError, BadDataError, PolicyError.
    """
    if password_command:
        done = subprocess.run(["/bin/sh", "-c", password_command], stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise PolicyError(f"the password command failed with {done.returncode}: {password_command}")
        return _first_line(done.stdout)
    if password_file:
        with open(password_file, "rb") as file:
            return _first_line(file.read(_MOST))
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=twice, err=True)
        return password
    octets = sys.stdin.buffer.readline(_MOST)
    if not octets:
        raise MissingInputError(
            "no password on stdin; give one line, or --password-command, or --password-file"
        )
    return _first_line(octets)


def _first_line(octets: bytes) -> str:
    line = octets.partition(b"\n")[0].removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise BadDataError("the password is not UTF-8") from None
