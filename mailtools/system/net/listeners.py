"""Sockets to listen on: TCP, unix, or inherited."""

import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress

from mailtools.core.errors import ConfigurationError

BACKLOG = 1024


def open_listener(address: str) -> socket.socket:
    """Return a listening socket for ``HOST:PORT``, ``unix:PATH`` or ``fd:N``. Raises ConfigurationError."""
    try:
        if address.startswith("unix:") and address != "unix:":
            return _unix_listener(address.removeprefix("unix:"))
        if address.startswith("fd:"):
            return socket.socket(fileno=int(address.removeprefix("fd:")))
        host, colon, port = address.rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError(address)
        return _tcp_listener(host.strip("[]"), int(port))
    except ValueError:
        raise ConfigurationError(
            f"{address}: not an address to listen on; write HOST:PORT, unix:PATH or fd:N"
        ) from None
    except socket.gaierror as error:
        raise ConfigurationError(f"{address}: {error.strerror}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from error


def _tcp_listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_listener(path: str) -> socket.socket:
    """Listen on a unix socket; replace the file of a dead server.

    Raises ConfigurationError if a server answers.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            try:
                sock.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                sock.close()
                raise OSError(98, "Address already in use")
    sock.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    # Who may enter the folder may connect, as every user may on a port of loopback. Dovecot does the same.
    os.chmod(path, 0o666)
    sock.listen(BACKLOG)
    return sock


def shown_address(sock: socket.socket) -> str:
    """Return the address of *sock* as the line on stderr and the log show it."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def addresses(sockets: Sequence[socket.socket]) -> list[tuple[str, int]]:
    """Return address and port of each of *sockets* that is no unix socket."""
    return [sock.getsockname()[:2] for sock in sockets if sock.family != socket.AF_UNIX]


def is_loopback(sock: socket.socket) -> bool:
    """Return True if only this machine can reach *sock*."""
    return sock.family == socket.AF_UNIX or is_local(sock.getsockname()[0])


def is_local(address: str) -> bool:
    """Return True if *address* ("" for a unix socket) is this machine."""
    return not address or address.startswith("127.") or address == "::1"
