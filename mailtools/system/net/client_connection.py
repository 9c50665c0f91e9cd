"""A client engine over a blocking socket.

`Pump.next_event` moves octets both ways until the engine has something to tell. While it sends it also
receives, so that a server which answers a long pipeline before it reads on never locks us up. Knows no
protocol. Every wait has an end, and where `deadline` is set all of them together have one: a server that
dribbles an octet at a time holds nobody up.

TLS goes between engine and socket (`start_tls`); all else works on as before, the halves that never wait too.

TCP_NODELAY is set: without it a small write after another waits for the peer's delayed ACK (40 ms of the 55
that msmtp takes for a message).
"""

import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from mailtools.core.engine import Engine, RemoteProtocolError
from mailtools.core.errors import TemporaryError, UnknownHostError

if TYPE_CHECKING:
    from mailtools.system.net.transcript import Transcript
    from mailtools.system.tls.client import ClientTls

_BLOCK = 64 << 10


class LostConnectionError(TemporaryError):
    """The connection ended in the middle."""


class Pump:
    """One connection. *timeout*: seconds without any octet. *deadline*: when all has to be done, monotonic.

    `next_event` and `flush` wait; `poll_event` and `push` never do, for those who wait for many. An engine
    whose octets are secret in part has them masked in ``shown`` (what it sent) and ``heard`` (what came).
    """

    def __init__(
        self, engine: Engine, sock: socket.socket, timeout: float, transcript: "Transcript | None" = None
    ) -> None:
        self.timeout = timeout
        self.sent = 0  # octets
        self.deadline: float | None = None
        self._engine = engine
        self._sock = sock
        self._transcript = transcript
        self._tls: ClientTls | None = None
        self._ended = False
        self._unsent = memoryview(b"")
        sock.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    @property
    def is_private(self) -> bool:
        """Tell whether nobody but this machine can hear what is said: loopback, or a unix socket."""
        if self._sock.family == socket.AF_UNIX:
            return True
        try:
            address = str(self._sock.getpeername()[0])
        except OSError:
            return False
        return address == "::1" or address.removeprefix("::ffff:").startswith("127.")

    def start_tls(self, layer: "ClientTls") -> None:
        """Do the handshake; from then on all octets go through *layer*.

        Raises RemoteProtocolError where the server is not the one it should be or does not speak TLS,
        LostConnectionError, TemporaryError (time-out).
        """
        self._tls = layer
        while not layer.is_established:
            self.push()
            if not self._receive():
                self.wait()
            self._check_deadline()
            if self._ended and not layer.is_established:
                raise LostConnectionError(
                    "the server closed the connection in the middle of the TLS handshake"
                )
        self.push()
        if self._transcript is not None:
            self._transcript.remark(layer.shown)

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
            self._check_deadline()
        return event

    def flush(self) -> None:
        """Send what the engine has to send; raises as `next_event`."""
        while not self.push():
            self.wait()
            self._receive()

    def push(self) -> bool:
        """Send what can be sent now; False where something is left."""
        octets = self._engine.data_to_send()
        if octets and self._transcript is not None:
            self._transcript.client(getattr(self._engine, "shown", octets))
        if self._ended:
            return True
        if self._tls is not None:
            if octets:
                self._tls.send(octets)
            octets = self._tls.data_to_send()  # the library has words of its own to say, too
        if octets:
            self._unsent = memoryview(bytes(self._unsent) + octets) if self._unsent else memoryview(octets)
        while self._unsent and not self._ended:
            try:
                sent = self._sock.send(self._unsent)
                self._unsent = self._unsent[sent:]
                self.sent += sent
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
        left = self.timeout
        if self.deadline is not None:
            left = min(left, self.deadline - time.monotonic())
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if left <= 0 or not poll.poll(left * 1000):
            self._check_deadline()
            raise silence(self.timeout)

    def wait_at_most(self, seconds: float) -> bool:
        """Send what there is to send and wait so long for octets; tell whether some came."""
        self.push()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _check_deadline(self) -> None:
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TemporaryError("the server is too slow: the connection was not ready in time")

    def close(self) -> None:
        """End the connection; what a courteous goodbye needs is the engine's affair."""
        if self._tls is not None and not (self._ended or self._unsent):
            self._tls.close()
            with suppress(OSError):
                self._sock.send(self._tls.data_to_send())
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
        if self._tls is not None:
            octets = self._decrypted(self._tls, octets)
        if octets and self._transcript is not None:
            heard = getattr(self._engine, "heard", None)
            self._transcript.server(heard(octets) if heard else octets)
        if octets:
            self._engine.receive_data(octets)
        if self._tls is not None and self._tls.is_ended:
            self._end()
        return True

    def _decrypted(self, tls: "ClientTls", octets: bytes) -> bytes:
        """Raises RemoteProtocolError, once the alert that tells the server is on its way."""
        try:
            return tls.receive(octets)
        except RemoteProtocolError:
            with suppress(OSError):
                self._sock.send(bytes(self._unsent) + tls.data_to_send())
            self._unsent = memoryview(b"")
            self._end()
            raise

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._engine.receive_eof()


def silence(seconds: float) -> TemporaryError:
    """A server said nothing for so long."""
    return TemporaryError(f"the server did not answer within {seconds:g} seconds")


def connect(host: str, port: int, timeout: float, addresses: Sequence[str] = ()) -> socket.socket:
    """A TCP connection to the first of *addresses* that answers; without them, to one of *host*'s.

    Each address gets a fair share of the time that is left. Raises UnknownHostError, or TemporaryError where
    nobody answers.
    """
    found = [place for name in addresses or (host,) for place in _places(name, port)]
    problem = ""
    deadline = time.monotonic() + timeout
    for number, (family, kind, protocol, _, address) in enumerate(found):
        left = (deadline - time.monotonic()) / (len(found) - number)
        if left <= 0:
            break
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            problem = error.strerror or str(error)
            continue
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            problem = error.strerror or str(error)
    raise TemporaryError(f"cannot connect to {host}:{port}: {problem or 'timed out'}")


def _places(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        # An ASCII name as octets: as text it would have the IDNA codec imported, 2 ms.
        name = host.encode("ascii") if host.isascii() else host
        return list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError) as error:
        _unresolved(host, error)


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


def _unresolved(host: str, error: Exception) -> NoReturn:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        raise TemporaryError(f"{host}: the name cannot be looked up now: {error.strerror}") from None
    raise UnknownHostError(f"{host}: unknown host; check --host or --route") from None
