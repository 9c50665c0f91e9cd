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
    """One connection. *timeout*: seconds without any octet.

    `next_event` and `flush` wait; `poll_event` and `push` never do, for those who wait for many.
    """

    def __init__(
        self, engine: Engine, sock: socket.socket, timeout: float, transcript: "Transcript | None" = None
    ) -> None:
        self.timeout = timeout
        self._engine = engine
        self._sock = sock
        self._transcript = transcript
        self._ended = False
        self._unsent = memoryview(b"")
        sock.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def next_event(self) -> Any:
        """The engine's next event.

        Raises LostConnectionError, TemporaryError (time-out) and what the engine raises.
        """
        while (event := self.poll_event()) is None:
            self.wait()
        return event

    def poll_event(self) -> Any:
        """The engine's next event; None where octets have to come or go first. Raises as `next_event`."""
        while (event := self._engine.next_event()) is None:
            if self._ended:
                raise LostConnectionError("the server closed the connection")
            self.push()
            if not self._receive():
                return None
        return event

    def flush(self) -> None:
        """Send what the engine has to send; raises as `next_event`."""
        while not self.push():
            self.wait()
            self._receive()

    def push(self) -> bool:
        """Send what can be sent now; False where something is left."""
        if octets := self._engine.data_to_send():
            if self._transcript is not None:
                self._transcript.client(octets)
            self._unsent = memoryview(bytes(self._unsent) + octets) if self._unsent else memoryview(octets)
        while self._unsent and not self._ended:
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except BlockingIOError:
                return False
            except OSError:
                # The server may have said why before it closed: its words count more than our EPIPE.
                while self._receive():
                    pass
                self._end()
        return True

    def wait(self) -> None:
        """Wait until octets can come, or go where some wait for it. Raises TemporaryError."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if not poll.poll(self.timeout * 1000):
            raise silence(self.timeout)

    def close(self) -> None:
        """End the connection; what a courteous goodbye needs is the engine's affair."""
        self._sock.close()
        if self._transcript is not None:
            self._transcript.close()

    def _receive(self) -> bool:
        """Take what came; False where nothing did."""
        if self._ended:
            return False
        try:
            octets = self._sock.recv(_BLOCK)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if not octets:
            self._end()
            return True
        if self._transcript is not None:
            self._transcript.server(octets)
        self._engine.receive_data(octets)
        return True

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._engine.receive_eof()


def silence(seconds: float) -> TemporaryError:
    """A server said nothing for so long."""
    return TemporaryError(f"the server did not answer within {seconds:g} seconds")


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
