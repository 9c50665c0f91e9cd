"""Reads passwords from a command, a file, ~/.netrc, the terminal or stdin; never from the command line."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.output.print import warn
from mailtools.core.errors import BadDataError, MissingInputError, PolicyError
from mailtools.system.files.home import expand

if TYPE_CHECKING:
    from mailtools.services.submission.next_hop import HopSettings

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_MOST = 4096  # octets


def password_options(function: F) -> F:
    """``--password-command`` and ``--password-file``."""
    command = click.option(
        "--password-command", metavar="CMD", help="The first line that CMD prints is the password."
    )
    file = click.option("--password-file", metavar="FILE", help="The first line of FILE is the password.")
    return command(file(function))


def read_password(*, twice: bool, password_command: str | None, password_file: str | None) -> str:
    """Return the password, from where the options say. *twice*: it is new, so ask for it twice.

    Raises MissingInputError, BadDataError, PolicyError.
    """
    if password_command:
        return _printed(password_command, "password")
    if password_file:
        return _written(password_file)
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=twice, err=True)
        return password
    octets = sys.stdin.buffer.readline(_MOST)
    if not octets:
        raise MissingInputError(
            "no password on stdin; give one line, or --password-command, or --password-file"
        )
    return _first_line(octets)


def secret(host: str, connection: "HopSettings", variable: str = "MAILTOOLS_SEND_PASSWORD") -> str:
    """Return the password or token for a login at *host*. Raises PolicyError, BadDataError, OSError."""
    if connection.token_command:
        return _printed(connection.token_command, "token")
    if connection.password_command:
        return _printed(connection.password_command, "password")
    if connection.password_file:
        return _written(expand(connection.password_file))
    if given := os.environ.get(variable):
        return given
    from mailtools.system.users import netrc

    if found := netrc.password(host, connection.user):
        return found
    return _asked_for(host, connection.user, variable)


def _asked_for(host: str, user: str, variable: str) -> str:
    """Ask on the terminal itself: stdin is the message. Without a terminal getpass would read stdin."""
    import getpass

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise PolicyError(
            f"no password for {user} at {host}, and no terminal to ask; give --password-command CMD, "
            f"--password-file FILE, an entry in ~/.netrc, or {variable}"
        ) from None
    return getpass.getpass(f"Password of {user} at {host}: ")


def asker(connection: "HopSettings", ask: Callable[[], str]) -> Callable[[], str]:
    """Return what gives the secret of *connection* at each login: a password is asked for once, a token
    expires.
    """
    return ask if connection.token_command else once(ask)


def once(ask: Callable[[], T]) -> Callable[[], T]:
    """Return a function that calls *ask* at its first call, and always returns that result."""
    found: list[T] = []

    def answer() -> T:
        if not found:
            found.append(ask())
        return found[0]

    return answer


def _printed(command: str, what: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise PolicyError(f"the {what} command failed with {done.returncode}: {_program(command)}")
    found = _first_line(done.stdout)
    if not found:
        raise PolicyError(f"the {what} command printed nothing: {_program(command)}")
    return found


def _program(command: str) -> str:
    """Return the program of *command* without arguments: these may be secrets, and errors are kept in the
    queue.
    """
    return next((word for word in command.split() if "=" not in word), "")[:100]


def _written(path: str) -> str:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
                warn(f"{path}: every user of this machine can read it; make it yours: chmod 600 {path}")
            return _first_line(file.read(_MOST))
    except OSError as error:
        raise MissingInputError(f"{path}: no password: {error.strerror}; check --password-file") from None


def _first_line(octets: bytes) -> str:
    line = octets.partition(b"\n")[0].removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise BadDataError("the password is not UTF-8") from None
