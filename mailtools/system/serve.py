"""Servers: engines over asyncio. Listening, accepting, limits, time-outs, an orderly end.

It moves octets between sockets and engines and events between engines and sessions; what they mean it does
not know. One process, one event loop (uvloop); protocols, never streams.

Nobody keeps anybody out: connections are counted (in all and by address), a client that does not finish what
it began within the time-out is cut, and a client that does not read is not read from either, so that neither
the replies nor the octets it sends heap up.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from mailtools.core.engine import Engine, RemoteProtocolError
from mailtools.core.errors import ConfigurationError, MailError
from mailtools.system.commit import Loop
from mailtools.system.transcript import Transcript, open_transcript

log = logging.getLogger("mailtools")

GRACE = 30.0  # seconds that sessions under way have at the end
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_PARTING = 0.5  # seconds an idle session has to say QUIT
_BACKLOG = 1024
_READ_AHEAD = 256 << 10  # octets taken from a client while its question waits
_RESERVED_FILES = 64  # descriptors kept free for mboxes, logs and the like


class ServerEngine(Engine, Protocol):
    """What a server needs of an engine, beyond the common face."""

    @property
    def awaits_reply(self) -> bool:
        """True while a question waits for our side: not the client's delay."""

    @property
    def in_transaction(self) -> bool:
        """True while something is under way that is worth waiting for at the end."""

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Say goodbye in the protocol's words and close."""


class Session(Protocol):
    """Whoever decides: takes events, calls the engine's reply methods."""

    def handle(self, event: Any) -> None:
        """Act on one event."""


class Limits(NamedTuple):
    """What one server bears. 0 connections by address: any number."""

    connections: int = 10_000
    connections_per_address: int = 50
    count_loopback: bool = False
    timeout: float = 300.0  # seconds, for a client to finish a command or to send more of a message


class Opening(NamedTuple):
    """What a new connection is opened with."""

    peer: str  # address, "" for a unix socket
    resume: Callable[[], None]  # to be called when a question that had to wait was answered


class Settings(NamedTuple):
    """What all servers can be told."""

    limits: Limits
    transcript: str = ""  # a folder, or "-" for stdout; "" for none
    total_timeout: float = 0.0  # seconds, 0 for none: after them the server ends with 75


OpenSession = Callable[[Opening], tuple[ServerEngine, Session]]


class Server:
    """A set of listeners and their connections."""

    open_session: OpenSession

    def __init__(self, name: str, limits: Limits, transcript: str = "") -> None:
        self.name = name
        self.limits = limits
        self.transcript = transcript
        self.connections: set[Connection] = set()
        self.by_address: Counter[str] = Counter()
        self.stopped = asyncio.Event()
        self.exit_code = 0
        self.is_busy: Callable[[], bool] = lambda: False  # work that no connection waits for any more
        self._listeners: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []
        self._max = _raise_file_limit(limits.connections)

    # -- life ----------------------------------------------------------------------------------------------

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on *sockets* from now on, and look for silent clients."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            if sock.family == socket.AF_UNIX:
                self._paths.append(cast(str, sock.getsockname()))
                listener: asyncio.AbstractServer = await loop.create_unix_server(
                    self._connection, sock=sock, backlog=_BACKLOG
                )
            else:
                listener = await loop.create_server(self._connection, sock=sock, backlog=_BACKLOG)
            self._listeners.append(listener)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._sweep()

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

    def _connection(self) -> "Connection":
        return Connection(self)

    def _sweep(self) -> None:
        """One timer for all connections: 10,000 timers would cost more than the sessions."""
        loop = asyncio.get_running_loop()
        oldest = time.monotonic() - self.limits.timeout
        for connection in [c for c in self.connections if c.last_progress < oldest]:
            connection.time_out()
        loop.call_later(min(5.0, self.limits.timeout / 4), self._sweep)

    # -- connections ---------------------------------------------------------------------------------------

    def admit(self, connection: "Connection") -> str:
        """Count *connection* in; the reason where it has to go."""
        self.connections.add(connection)
        self.by_address[connection.peer] += 1
        if self.stopped.is_set():
            return "shutting down"
        if len(self.connections) > self._max:
            return "too many connections, try again later"
        limit = self.limits.connections_per_address
        if not limit or (_is_local(connection.peer) and not self.limits.count_loopback):
            return ""
        return "too many connections from your address" if self.by_address[connection.peer] > limit else ""

    def dismiss(self, connection: "Connection") -> None:
        """Count *connection* out."""
        self.connections.discard(connection)
        self.by_address[connection.peer] -= 1
        if not self.by_address[connection.peer]:
            del self.by_address[connection.peer]


class Connection(asyncio.Protocol):
    """One client: octets to the engine, events to the session, octets back."""

    __slots__ = (
        "_engine",
        "_reading",
        "_server",
        "_session",
        "_transcript",
        "_transport",
        "_writable",
        "last_progress",
        "peer",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._writable = True
        self._reading = True
        self._transcript: Transcript | None = None
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there: let it in or turn it away."""
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = name[0].removeprefix("::ffff:") if isinstance(name, tuple) else ""
        self.last_progress = time.monotonic()
        self._engine, self._session = self._server.open_session(Opening(self.peer, self.advance))
        if self._server.transcript:
            self._start_transcript()
        reason = self._server.admit(self)
        if reason:
            log.warning("connection from %s refused: %s", self.peer or "a local client", reason)
            self._engine.close_with(421, "4.7.0", reason)
        self.advance()

    def _start_transcript(self) -> None:
        try:
            self._transcript = open_transcript(self._server.transcript, self._server.name)
        except MailError as error:
            log.error("%s", error)

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        if self._transcript is not None:
            self._transcript.client(data)
        self._engine.receive_data(data)
        self.advance()

    def eof_received(self) -> bool:
        """The client sends nothing more, but may still read: its replies are not lost on it."""
        self._engine.receive_eof()
        self.advance()
        return not self._engine.is_closed

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._engine.receive_eof()
        self._writable = True  # nobody reads any more: run the engine to its end
        self.advance()
        self._server.dismiss(self)
        if self._transcript is not None:
            self._transcript.close()
            self._transcript = None

    def pause_writing(self) -> None:
        """The client does not read: do no more work for it."""
        self._writable = False
        self._set_reading(False)

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable = True
        self.advance()

    def advance(self) -> None:
        """Move on: every event to the session, the replies in one write."""
        engine, handle, progress = self._engine, self._session.handle, False
        try:
            while self._writable and (event := engine.next_event()) is not None:
                handle(event)
                progress = True
        except RemoteProtocolError as error:
            log.info("%s: %s", self.peer, error)
            self._transport.abort()
            return
        except Exception:  # a bug must not take the other sessions along
            log.exception("a bug in the session of %s", self.peer)
            engine.close_with(421, "4.3.0", "internal error, try again later")
        if progress:
            self.last_progress = time.monotonic()
        self._flush()
        if not self._reading or engine.buffered >= _READ_AHEAD or not self._writable:
            self._set_reading(self._writable and engine.buffered < _READ_AHEAD)

    def _flush(self) -> None:
        octets = self._engine.data_to_send()
        if octets and not self._transport.is_closing():
            self.last_progress = time.monotonic()  # it got an answer, so it said something whole
            if self._transcript is not None:
                self._transcript.server(octets)
            self._transport.write(octets)
        if self._engine.is_closed:
            self._transport.close()

    def _set_reading(self, wanted: bool) -> None:
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def time_out(self) -> None:
        """The client made no progress for too long; where we are the slow ones it is not to blame."""
        if self._engine.awaits_reply:
            return
        log.info("%s timed out", self.peer or "a local client")
        hopeless = self._engine.is_closed or not self._writable
        self._engine.close_with(421, "4.4.2", "timeout, closing")
        self._flush()
        if hopeless:
            self._transport.abort()

    def finish(self, now: bool) -> None:
        """The server ends: an idle session soon (its QUIT may come yet), one under way when it is done."""
        idle = time.monotonic() - self.last_progress
        if not now and (self._engine.in_transaction or idle < _PARTING):
            return
        if not self._engine.is_closed:
            self._engine.close_with(421, "4.3.2", "shutting down")
        self._flush()
        if now:
            self._transport.abort()


def _is_local(address: str) -> bool:
    return not address or address.startswith("127.") or address == "::1"


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


def run(
    name: str,
    sockets: Sequence[socket.socket],
    prepare: Callable[["Server", Loop], OpenSession],
    settings: "Settings",
    ready: Callable[[], None],
) -> int:
    """Serve on *sockets* until a signal, `Server.stop` or the total time-out; return the exit code.

    *prepare* gets the server and its loop, and returns what opens sessions. *ready* is called once
    connections are accepted.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        server = Server(name, settings.limits, settings.transcript)
        server.open_session = prepare(
            server, Loop(loop.call_soon_threadsafe, loop.call_later, loop.add_reader)
        )
        await server.listen(sockets)
        if settings.total_timeout:
            loop.call_later(settings.total_timeout, server.stop, _TEMPORARY_FAILURE)
        ready()
        return await server.run()

    import uvloop

    gc.freeze()  # what start-up made stays
    return uvloop.run(main())


# -- listeners ---------------------------------------------------------------------------------------------


def open_listener(address: str) -> socket.socket:
    """A listening socket for ``HOST:PORT``, ``unix:PATH`` or ``fd:N``. Raises ConfigurationError."""
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
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror}") from error


def _tcp_listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_listener(path: str) -> socket.socket:
    """A socket file left by a dead server is replaced; one that answers is in use."""
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
    sock.listen(_BACKLOG)
    return sock


def shown_address(sock: socket.socket) -> str:
    """As the line on stderr and the log show it."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(sock: socket.socket) -> bool:
    """Tell whether nobody beyond this machine can reach *sock*."""
    return sock.family == socket.AF_UNIX or _is_local(sock.getsockname()[0])
