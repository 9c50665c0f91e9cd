"""Servers: accepting, limits, time-outs, signals, an orderly end.

What happens on one connection is system/net/server_connection. One process, one event loop (uvloop);
protocols, never streams.

Nobody keeps anybody out: connections are counted (in all and by address), and a client that does not finish
what it began within the time-out is cut.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, cast

from mailtools.core.errors import MailError
from mailtools.system.net.listeners import BACKLOG
from mailtools.system.net.server_connection import OpenSession, ServerConnection
from mailtools.system.process.loop import Loop
from mailtools.system.tls.certificates import Certificates

log = logging.getLogger("mailtools")

GRACE = 30.0  # seconds that sessions under way have at the end
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_RESERVED_FILES = 64  # descriptors kept free for mboxes, logs and the like


class Limits(NamedTuple):
    """What one server bears. 0 connections by address: any number."""

    connections: int = 10_000
    connections_per_address: int = 50
    count_loopback: bool = False
    timeout: float = 300.0  # seconds, for a client to finish a command or to send more of a message


class ServerSettings(NamedTuple):
    """What all servers can be told."""

    limits: Limits
    transcript: str = ""  # a folder, or "-" for stdout; "" for none
    total_timeout: float = 0.0  # seconds, 0 for none: after them the server ends with 75
    certificates: Certificates | None = None
    implicit_tls: bool = False


class Server:
    """A set of listeners and their connections."""

    open_session: OpenSession

    def __init__(self, name: str, settings: ServerSettings) -> None:
        self.name = name
        self.limits = settings.limits
        self.transcript = settings.transcript
        self.certificates = settings.certificates
        self.implicit_tls = settings.implicit_tls
        self.connections: set[ServerConnection] = set()
        self.by_address: Counter[str] = Counter()
        self.stopped = asyncio.Event()
        self.exit_code = 0
        self.is_busy: Callable[[], bool] = lambda: False  # work that no connection waits for any more
        self._listeners: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []
        self._max = _raise_file_limit(settings.limits.connections)

    # -- life ----------------------------------------------------------------------------------------------

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on *sockets* from now on, and look for silent clients."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            if sock.family == socket.AF_UNIX:
                self._paths.append(cast(str, sock.getsockname()))
                listener: asyncio.AbstractServer = await loop.create_unix_server(
                    self._connection, sock=sock, backlog=BACKLOG
                )
            else:
                listener = await loop.create_server(self._connection, sock=sock, backlog=BACKLOG)
            self._listeners.append(listener)
        if _is_main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        self._sweep()

    def reload(self) -> None:
        """Read the certificate anew; the users file is seen anyway."""
        try:
            if self.certificates is not None:
                self.certificates.load()
        except MailError as error:
            log.error("%s; the certificate stays as it was", error)
        else:
            log.info("read the configuration anew")

    def stop(self, exit_code: int = 0) -> None:
        """Begin the end: accept nobody, let what is under way finish."""
        self.exit_code = self.exit_code or exit_code
        self.stopped.set()

    async def run(self) -> int:
        """Serve until `stop`; return the exit code."""
        await self.stopped.wait()
        for listener in self._listeners:
            listener.close()
        for path in self._paths:
            with suppress(OSError):
                os.unlink(path)
        deadline = asyncio.get_running_loop().time() + GRACE
        while self.connections or self.is_busy():
            late = asyncio.get_running_loop().time() > deadline
            for connection in list(self.connections):
                connection.finish(now=late)
            if late:
                break
            await asyncio.sleep(0.02)
        return self.exit_code

    def _connection(self) -> "ServerConnection":
        return ServerConnection(self)

    def _sweep(self) -> None:
        """One timer for all connections: 10,000 timers would cost more than the sessions."""
        loop = asyncio.get_running_loop()
        oldest = time.monotonic() - self.limits.timeout
        for connection in [c for c in self.connections if c.last_progress < oldest]:
            connection.time_out()
        loop.call_later(min(5.0, self.limits.timeout / 4), self._sweep)

    # -- connections ---------------------------------------------------------------------------------------

    def admit(self, connection: "ServerConnection") -> str:
        """Count *connection* in; the reason where it has to go."""
        self.connections.add(connection)
        self.by_address[connection.peer] += 1
        if self.stopped.is_set():
            return "shutting down"
        if len(self.connections) > self._max:
            return "too many connections, try again later"
        limit = self.limits.connections_per_address
        if not limit or (connection.is_local and not self.limits.count_loopback):
            return ""
        return "too many connections from your address" if self.by_address[connection.peer] > limit else ""

    def dismiss(self, connection: "ServerConnection") -> None:
        """Count *connection* out."""
        self.connections.discard(connection)
        self.by_address[connection.peer] -= 1
        if not self.by_address[connection.peer]:
            del self.by_address[connection.peer]


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_file_limit(wanted: int) -> int:
    """As many connections as *wanted*, or as descriptors allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted + _RESERVED_FILES
    if soft < target:
        soft = min(target, hard) if hard != resource.RLIM_INFINITY else target
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(wanted, soft - _RESERVED_FILES))


def serve(
    name: str,
    sockets: Sequence[socket.socket],
    prepare: Callable[["Server", Loop], OpenSession],
    settings: "ServerSettings",
    ready: Callable[[Callable[[], object]], None],
) -> int:
    """Serve on *sockets* until a signal, `Server.stop` or the total time-out; return the exit code.

    *prepare* gets the server and its loop, and returns what opens sessions. *ready* is called once
    connections are accepted, with what ends the server, from any thread. In another thread than the main
    one signals are left alone.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        server = Server(name, settings)
        server.open_session = prepare(
            server, Loop(loop.call_soon_threadsafe, loop.call_later, loop.add_reader)
        )
        await server.listen(sockets)
        if settings.total_timeout:
            loop.call_later(settings.total_timeout, server.stop, _TEMPORARY_FAILURE)
        ready(lambda: loop.call_soon_threadsafe(server.stop))
        return await server.run()

    import uvloop

    if _is_main_thread():
        gc.freeze()  # what start-up made stays
    return uvloop.run(main())
