"""Options and start of every server."""

import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from mailtools.commands._options import DURATION, root_option
from mailtools.core.errors import CannotWriteError

F = TypeVar("F", bound=Callable[..., Any])


def server_options(port: int) -> Callable[[F], F]:
    """The options that all servers share; *port* is the default one."""
    options = [
        click.option("--host", metavar="ADDR", default="127.0.0.1", show_default=True, help="Listen here."),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="On this port; 0 chooses a free one.",
        ),
        click.option(
            "--listen",
            metavar="WHERE",
            multiple=True,
            help="HOST:PORT, unix:PATH or fd:N, instead of --host and --port; repeatable.",
        ),
        click.option("--port-file", metavar="FILE", help="Write the port to FILE once listening."),
        root_option,
        click.option(
            "--users", metavar="FILE", help="Who has mail here.  [default: ROOT/users if it exists]"
        ),
        click.option("--dev", is_flag=True, help="Accept any recipient; loopback only."),
        click.option(
            "--max-connections",
            metavar="N",
            type=click.IntRange(1),
            default=10_000,
            show_default=True,
            help="At most N connections at a time.",
        ),
        click.option(
            "--max-connections-per-ip",
            metavar="N",
            type=click.IntRange(0),
            help="At most N from one address.  [default: 50; loopback: any number]",
        ),
        click.option(
            "--timeout",
            metavar="DUR",
            type=DURATION,
            default="5m",
            show_default=True,
            help="Cut a client that makes no progress for DUR.",
        ),
        click.option(
            "--transcript",
            metavar="DIR|-",
            default="",
            help="Write every session as C: and S: lines, a file each in DIR, or to stdout.",
        ),
    ]

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def open_sockets(host: str, port: int, listen: Sequence[str]) -> list[socket.socket]:
    """Listening sockets for the options. Raises ConfigurationError."""
    from mailtools.system.serve import open_listener

    shown = f"[{host}]" if ":" in host else host
    return [open_listener(address) for address in listen or [f"{shown}:{port}"]]


def announce(name: str, sockets: Sequence[socket.socket], port_file: str | None) -> None:
    """One line a listener on stderr, and the port file, whole or not at all."""
    from mailtools.system.serve import shown_address

    if port_file:
        ports = [str(s.getsockname()[1]) for s in sockets if s.family != socket.AF_UNIX]
        write_port_file(port_file, "".join(f"{port}\n" for port in ports))
    for sock in sockets:
        click.echo(f"listening {name} {shown_address(sock)}", err=True)


def write_port_file(path: str, content: str) -> None:
    """Raises CannotWriteError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".port-")
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}: the port file cannot be written") from error
