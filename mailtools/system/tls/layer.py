"""TLS over octets in memory: converts octets of the socket to octets of the peer, and back.

Knows no sockets or loops. This keeps STARTTLS exact (plain octets before the handshake never reach TLS), lets
the server inspect the ClientHello, and costs 25 KiB per idle connection, where asyncio's own TLS costs 278.

Owns the checks of RFC 7301 §3.2 (ALPN) and RFC 5929 / RFC 9266 (channel bindings).
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.wire import client_hello

if TYPE_CHECKING:
    from mailtools.system.tls.certificates import Certificates

_SLICE = 64 << 10  # octets passed to the library at a time, because its buffers never shrink
_RECORD = 16 << 10  # octets that one read can return


class MemoryTls:
    """TLS for one connection, either side. The subclass creates ``_object``."""

    __slots__ = ("_incoming", "_object", "_outgoing", "is_ended", "is_established")

    def __init__(self) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object: ssl.SSLObject
        self.is_established = False
        self.is_ended = False  # the peer closed its direction

    def receive(self, octets: bytes) -> bytes:
        """Decrypt octets of the socket; returns the peer's octets.

        Raises RemoteProtocolError; `data_to_send` may then hold an alert.
        """
        said = []
        for at in range(0, len(octets), _SLICE):
            self._incoming.write(octets[at : at + _SLICE])
            said += self._drain()
        return b"".join(said)

    def _check(self) -> None:
        """Check the peer after the handshake; a hook for subclasses. Raises RemoteProtocolError."""

    def _drain(self) -> list[bytes]:
        said: list[bytes] = []
        try:
            if not self.is_established:
                self._object.do_handshake()
                self._check()
                self.is_established = True
            while octets := self._object.read(_RECORD):
                said.append(octets)
                if not (self._incoming.pending or self._object.pending()):
                    return said  # another read would raise SSLWantReadError: 5 µs a message
            self.is_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise RemoteProtocolError(
                f"TLS failed: the certificate is not trusted: {why}; check the host's name, or"
                " give --cafile or --fingerprint"
            ) from None
        except ssl.SSLError as error:
            raise RemoteProtocolError(f"TLS failed: {error.reason or error}") from None
        return said

    def send(self, octets: bytes) -> None:
        """Encrypt *octets* for `data_to_send`."""
        self._object.write(octets)

    def close(self) -> None:
        """Queue the close_notify alert for `data_to_send`; nothing can be sent after it."""
        if self.is_established:
            with suppress(
                ssl.SSLError
            ):  # raised because the peer's close_notify is missing; do not wait for it
                self._object.unwrap()

    def data_to_send(self) -> bytes:
        """The octets to write to the socket; each call returns new ones."""
        return self._outgoing.read()

    @property
    def shown(self) -> str:
        """TLS version and cipher, for transcripts and logs."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0] if cipher else ''}".strip()


class TlsLayer(MemoryTls):
    """The server side of TLS for one connection."""

    __slots__ = ("_certificates", "_hello")

    def __init__(self, certificates: "Certificates") -> None:
        super().__init__()
        self._certificates = certificates
        self._object = certificates.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._hello: bytes | None = b""  # the ClientHello so far; None once it is complete

    def receive(self, octets: bytes) -> bytes:
        """Decrypt octets of the socket; returns the client's octets.

        Raises RemoteProtocolError; `data_to_send` may then hold an alert.
        """
        if self._hello is not None:
            self._hello += octets
            wanted = client_hello.wanted_protocols(self._hello)
            if wanted is None:
                return b""
            # RFC 7301 §3.2: no protocol in common is a fatal alert
            if wanted and not set(wanted) & {name.encode() for name in self._certificates.protocols}:
                self._outgoing.write(client_hello.NO_APPLICATION_PROTOCOL)
                raise RemoteProtocolError("the TLS client wants to speak another protocol")
            octets, self._hello = self._hello, None
        return super().receive(octets)

    def bindings(self) -> Mapping[str, bytes]:
        """Channel bindings by their registered names (RFC 5929); none with TLS 1.3.

        With TLS 1.3 clients use tls-exporter (RFC 9266 §3), which Python does not provide: if -PLUS were
        offered with another binding, clients would choose it and fail (GNU SASL does).
        """
        if self._object.version() != "TLSv1.2":
            return {}
        unique = self._object.get_channel_binding("tls-unique")
        found = {"tls-server-end-point": self._certificates.end_point}
        return found | {"tls-unique": unique} if unique else found
