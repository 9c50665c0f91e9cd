"""A client's engine over a blocking socket.

`Pump.next_event` moves octets both ways until the engine has an event. It receives while it sends, so that
there is no deadlock with a server that replies to a long pipeline before it reads on. Every wait ends; if
`deadline` is set, all waits together end then, so that a server cannot delay us by sending one octet at a
time. This module knows no protocol.

`start_tls` puts TLS between engine and socket; everything else works as before, `poll_event` and `push`
included.

TCP_NODELAY is set: without it a small write after another one waits for the peer's delayed ACK (40 ms of
the 55 that msmtp takes for a message).
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
    """The connection ended before the session did."""


class Pump:
    """One connection. *timeout*: seconds without any octet; `deadline`: monotonic seconds.

    `next_event` and `flush` wait; `poll_event` and `push` never wait, for callers that wait for many
    connections. An engine that sends or receives secrets has ``shown`` (what it sent) and ``heard`` (what
    it received), with the secrets masked.
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
        """Return the socket's descriptor."""
        return self._sock.fileno()

    @property
    def is_private(self) -> bool:
        """Return True if only this machine can read what is sent: loopback, or a unix socket."""
        if self._sock.family == socket.AF_UNIX:
            return True
        try:
            address = str(self._sock.getpeername()[0])
        except OSError:
            return False
        return address == "::1" or address.removeprefix("::ffff:").startswith("127.")

    def start_tls(self, layer: "ClientTls") -> None:
        """Do the handshake; after it all octets pass through *layer*.

        Raises RemoteProtocolError if the server's certificate is wrong or it does not speak TLS,
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
        """Return the engine's next event; wait for it.

        Raises LostConnectionError, TemporaryError (time-out) and what the engine raises.
        """
        while (event := self.poll_event()) is None:
            self.wait()
        return event

    def poll_event(self) -> Any:
        """Return the next event, or None if octets have to come or go first. Raises as `next_event`."""
        while (event := self._engine.next_event()) is None:
            if self._ended:
                raise LostConnectionError("the server closed the connection")
            self.push()
            if not self._receive():
                return None
            self._check_deadline()
        return event

    def flush(self) -> None:
        """Send what the engine has to send; wait until it is sent. Raises as `next_event`."""
        while not self.push():
            self.wait()
            self._receive()

    def push(self) -> bool:
        """Send what can be sent now; return False if something is left. Raises as `next_event`."""
        octets = self._engine.data_to_send()
        if octets and self._transcript is not None:
            self._transcript.client(getattr(self._engine, "shown", octets))
        if self._ended:
            return True
        if self._tls is not None:
            if octets:
                self._tls.send(octets)
            octets = self._tls.data_to_send()  # the SSL library has octets of its own to send, too
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
                # The server may have said why it closes the connection: this tells more than our EPIPE.
                while self._receive():
                    pass
                self._end()
        return True

    def wait(self) -> None:
        """Wait until octets can be received, or sent if some wait to be sent. Raises TemporaryError."""
        left = self.timeout
        if self.deadline is not None:
            left = min(left, self.deadline - time.monotonic())
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if left <= 0 or not poll.poll(left * 1000):
            self._check_deadline()
            raise silence(self.timeout)

    def wait_at_most(self, seconds: float) -> bool:
        """Send what there is to send, then wait at most *seconds* for octets; return True if some came."""
        self.push()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _check_deadline(self) -> None:
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TemporaryError("the server is too slow: the connection was not ready in time")

    def close(self) -> None:
        """Close the connection. The engine says goodbye before, if the protocol asks for it."""
        if self._tls is not None and not (self._ended or self._unsent):
            self._tls.close()
            with suppress(OSError):
                self._sock.send(self._tls.data_to_send())
        self._sock.close()
        if self._transcript is not None:
            self._transcript.close()

    def _receive(self) -> bool:
        """Receive what came; return False if nothing did."""
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
        """Decrypt. Raises RemoteProtocolError, after the alert that tells the server is sent."""
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
    """Return the error of a server that sent nothing for *seconds*."""
    return TemporaryError(f"the server did not answer within {seconds:g} seconds")


def connect(host: str, port: int, timeout: float, addresses: Sequence[str] = ()) -> socket.socket:
    """Return a TCP connection to the first of *addresses* that answers;

    Without them, of the addresses of *host*.

    Each address gets a fair share of the time that is left. Raises UnknownHostError, or TemporaryError if
    no address answers.
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
        except OSError as error:  # this machine has no IPv6
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
        # An ASCII name is passed as octets: as text it would import the IDNA codec, which takes 2 ms.
        name = host.encode("ascii") if host.isascii() else host
        return list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError) as error:
        _unresolved(host, error)


def connect_unix(path: str, timeout: float) -> socket.socket:
    """Return a connection to a unix socket. Raises TemporaryError."""
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
