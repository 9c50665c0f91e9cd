"""Servers: listening, limits, time-outs, signals, an orderly end.

One process, one event loop (uvloop), asyncio protocols instead of streams. What happens on one connection
is in system/net/server_connection.

No client can keep others out: connections are counted (in all and by address), and a client that does not
finish what it began within the time-out is disconnected.
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

GRACE = 30.0  # seconds that sessions in progress have at the end
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_RESERVED_FILES = 64  # descriptors kept free for mboxes, logs and the like


class Limits(NamedTuple):
    """The limits of one server. `connections_per_address` of 0: no limit."""

    connections: int = 10_000
    connections_per_address: int = 50
    count_loopback: bool = False
    timeout: float = 300.0  # seconds for a client to finish a command, or to send more of a message
    # Seconds for us to answer. SMTP clients give up after 600 (RFC 5321 §4.5.3.2.6); ours is the last bound
    # behind those of locks, filters and programs.
    silence: float = 570.0


class ServerSettings(NamedTuple):
    """Settings that all servers have."""

    limits: Limits
    transcript: str = ""  # a folder, or "-" for stdout; "" for none
    total_timeout: float = 0.0  # seconds after which the server ends with 75; 0 for never
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
        # True while work goes on that no connection waits for any more
        self.is_busy: Callable[[], bool] = lambda: False
        self._listeners: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []
        self._max = _raise_file_limit(settings.limits.connections)

    # -- life ----------------------------------------------------------------------------------------------

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on *sockets* from now on, and check for silent clients."""
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
        """Load the certificate again. The users file is reloaded whenever it changes."""
        try:
            if self.certificates is not None:
                self.certificates.load()
        except MailError as error:
            log.error("%s; the certificate stays as it was", error)
        else:
            log.info("read the configuration anew")

    def stop(self, exit_code: int = 0) -> None:
        """Accept no more connections, and end when the sessions in progress are done."""
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
        """Disconnect who makes no progress. One timer: 10,000 would cost more than the sessions."""
        loop = asyncio.get_running_loop()
        timeout, silence = self.limits.timeout, self.limits.silence
        shortest = min(timeout, silence)
        oldest = time.monotonic() - shortest
        for connection in [c for c in self.connections if c.last_progress < oldest]:
            connection.time_out(timeout, silence)
        loop.call_later(min(5.0, shortest / 4), self._sweep)

    # -- connections ---------------------------------------------------------------------------------------

    def admit(self, connection: "ServerConnection") -> str:
        """Count *connection*; return the reason if it has to be refused, else ""."""
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
        """Count *connection* no more."""
        self.connections.discard(connection)
        self.by_address[connection.peer] -= 1
        if not self.by_address[connection.peer]:
            del self.by_address[connection.peer]


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_file_limit(wanted: int) -> int:
    """Return the number of connections that *wanted* and the limit of descriptors allow."""
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

    *prepare* gets the server and its loop, and returns the function that opens a session. *ready* is called
    once connections are accepted; it gets a function that stops the server and may be called from any
    thread. Outside of the main thread signals are left alone.
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
        gc.freeze()  # the garbage collector need not look at the objects of start-up
    return uvloop.run(main())
