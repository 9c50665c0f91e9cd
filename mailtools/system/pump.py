"""A client engine over a blocking socket.

`Pump.next_event` moves octets both ways until the engine has something to tell. While it sends it also
receives, so that a server which answers a long pipeline before it reads on never locks us up. Knows no
protocol. Every wait has an end.

TCP_NODELAY is set: without it a small write after another waits for the peer's delayed ACK (40 ms of the 55
that msmtp takes for a message).
"""

import select
import socket
import time
from typing import TYPE_CHECKING, Any

from mailtools.core.engine import Engine
from mailtools.core.errors import MailError, TemporaryError, UnknownHostError

if TYPE_CHECKING:
    from mailtools.system.transcript import Transcript

_BLOCK = 64 << 10


class LostConnectionError(TemporaryError):
    """The connection ended in the middle."""


class Pump:
    """One connection. *timeout*: seconds without any octet."""

    def __init__(
        self, engine: Engine, sock: socket.socket, timeout: float, transcript: "Transcript | None" = None
    ) -> None:
        self._engine = engine
        self._sock = sock
        self._timeout = timeout
        self._transcript = transcript
        self._ended = False
        sock.setblocking(False)

    def next_event(self) -> Any:
        """The engine's next event.

        Raises LostConnectionError, TemporaryError (time-out) and what the engine raises.
        """
        while (event := self._engine.next_event()) is None:
            if self._ended:
                raise LostConnectionError("the server closed the connection")
            self.flush()
            self._wait(select.POLLIN)
            self._receive()
        return event

    def flush(self) -> None:
        """Send what the engine has to send; raises as `next_event`."""
        octets = memoryview(self._engine.data_to_send())
        if self._transcript is not None and octets:
            self._transcript.client(bytes(octets))
        while octets and not self._ended:
            try:
                octets = octets[self._sock.send(octets) :]
            except BlockingIOError:
                if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                    self._receive()
            except OSError:
                # The server may have said why before it closed: its words count more than our EPIPE.
                self._drain()

    def close(self) -> None:
        """End the connection; what a courteous goodbye needs is the engine's affair."""
        self._sock.close()
        if self._transcript is not None:
            self._transcript.close()

    def _receive(self) -> None:
        try:
            octets = self._sock.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._ended = True
            self._engine.receive_eof()
            return
        if self._transcript is not None:
            self._transcript.server(octets)
        self._engine.receive_data(octets)

    def _drain(self) -> None:
        while not self._ended:
            self._receive()

    def _wait(self, events: int) -> int:
        poll = select.poll()
        poll.register(self._sock, events)
        ready = poll.poll(self._timeout * 1000)
        if not ready:
            raise TemporaryError(f"the server did not answer within {self._timeout:g} seconds")
        return ready[0][1]


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection to the first address of *host* that answers.

    Raises UnknownHostError, or TemporaryError where nobody answers.
    """
    try:
        # An ASCII name as octets: as text it would have the IDNA codec imported, 2 ms.
        name = host.encode("ascii") if host.isascii() else host
        addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise _unresolved(host, error) from None
    problem = ""
    deadline = time.monotonic() + timeout
    for family, kind, protocol, _, address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            problem = error.strerror or str(error)
    raise TemporaryError(f"cannot connect to {host}:{port}: {problem or 'timed out'}")


def connect_unix(path: str, timeout: float) -> socket.socket:
    """A connection to a unix socket. Raises TemporaryError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise TemporaryError(f"cannot connect to {path}: {error.strerror or error}") from None
    return sock


def _unresolved(host: str, error: Exception) -> MailError:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return TemporaryError(f"{host}: the name cannot be looked up now: {error.strerror}")
    return UnknownHostError(f"{host}: unknown host; check --host or --route")
