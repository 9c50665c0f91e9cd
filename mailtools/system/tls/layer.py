"""TLS between octets: what comes from the socket goes in, what the peer said comes out, and back.

The ssl library works on memory; sockets and loops are others' affair. That keeps STARTTLS exact (what came
before it was never inside), lets the ClientHello be looked at, and costs 25 KiB an idle connection where
asyncio's own TLS costs 278.

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

_SLICE = 64 << 10  # octets fed at a time: the library's buffers never shrink
_RECORD = 16 << 10  # octets that one read can give


class MemoryTls:
    """One connection's TLS, of either side; ``_object`` is made by the side."""

    __slots__ = ("_incoming", "_object", "_outgoing", "is_ended", "is_established")

    def __init__(self) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object: ssl.SSLObject
        self.is_established = False
        self.is_ended = False  # the peer said that nothing more comes

    def receive(self, octets: bytes) -> bytes:
        """Take octets of the socket; what the peer said in them.

        Raises RemoteProtocolError; there may be an alert to send even so.
        """
        said = []
        for at in range(0, len(octets), _SLICE):
            self._incoming.write(octets[at : at + _SLICE])
            said += self._drain()
        return b"".join(said)

    def _check(self) -> None:
        """Look at the peer once its handshake is done. Raises RemoteProtocolError."""

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
                    return said  # else the library says so with an exception: 5 us a message
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
        """Encrypt *octets*; `data_to_send` has them then."""
        self._object.write(octets)

    def close(self) -> None:
        """Say that nothing more comes."""
        if self.is_established:
            with suppress(ssl.SSLError):  # the peer's own goodbye has not come, and is not waited for
                self._object.unwrap()

    def data_to_send(self) -> bytes:
        """Octets for the socket, each given once."""
        return self._outgoing.read()

    @property
    def shown(self) -> str:
        """Version and cipher, for transcripts and logs."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0] if cipher else ''}".strip()


class TlsLayer(MemoryTls):
    """One connection's TLS, the server's side."""

    __slots__ = ("_certificates", "_hello")

    def __init__(self, certificates: "Certificates") -> None:
        super().__init__()
        self._certificates = certificates
        self._object = certificates.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._hello: bytes | None = b""  # what came of the ClientHello, until it is whole

    def receive(self, octets: bytes) -> bytes:
        """Take octets of the socket; what the client said in them.

        Raises RemoteProtocolError; there may be an alert to send even so.
        """
        if self._hello is not None:
            self._hello += octets
            wanted = client_hello.wanted_protocols(self._hello)
            if wanted is None:
                return b""
            if wanted and not set(wanted) & {name.encode() for name in self._certificates.protocols}:
                self._outgoing.write(client_hello.NO_APPLICATION_PROTOCOL)
                raise RemoteProtocolError("the TLS client wants to speak another protocol")
            octets, self._hello = self._hello, None
        return super().receive(octets)

    def bindings(self) -> Mapping[str, bytes]:
        """Channel bindings, by their registered names; none with TLS 1.3.

        There clients use tls-exporter (RFC 9266 §3), which Python does not give: to offer -PLUS with another
        would have them choose it and fail (GNU SASL does).
        """
        if self._object.version() != "TLSv1.2":
            return {}
        unique = self._object.get_channel_binding("tls-unique")
        found = {"tls-server-end-point": self._certificates.end_point}
        return found | {"tls-unique": unique} if unique else found
