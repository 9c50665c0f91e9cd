"""Reads the application protocols that a TLS client names in its ClientHello.

Python's ssl library continues if none of the names is ours. RFC 7301 §3.2 requires us to end there, which
turns away a browser that a web page made speak TLS to a mail server (ALPACA). So the ClientHello is read
before the library gets it. This module knows nothing else of TLS. Owns RFC 7301 §3.1, and of RFC 8446
§4.1.2 and §5.1 what leads there.

Invariant: any octets that are no ClientHello raise RemoteProtocolError. At most MAX_HELLO octets in
MAX_RECORDS records are read.
"""

from mailtools.core.engine import RemoteProtocolError

MAX_HELLO = 32 << 10  # octets; those of browsers have 2 KiB
MAX_RECORDS = 16  # records; all of them are read again whenever octets come
# A fatal alert, "no application protocol" (RFC 7301 §3.2).
NO_APPLICATION_PROTOCOL = bytes.fromhex("15030300020278")
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16


def wanted_protocols(octets: bytes) -> tuple[bytes, ...] | None:
    """Return the protocol names of the ClientHello that *octets* begin with; () if it has none.

    Returns None if more octets are needed. Raises RemoteProtocolError if it is no ClientHello.
    """
    message = _first_message(octets)
    if message is None:
        return None
    fields = _Fields(message)
    fields.skip(2 + 32)  # version, random
    fields.vector(1)  # session
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    if fields.is_empty:
        return ()
    extensions = _Fields(fields.vector(2))
    while not extensions.is_empty:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _ALPN:
            names = _Fields(_Fields(content).vector(2))
            found = []
            while not names.is_empty:
                found.append(names.vector(1))
            return tuple(found)
    return ()


def _first_message(octets: bytes) -> bytes | None:
    """Return the first handshake message, which may be spread over several records;

    None if octets are missing.
    """
    message = b""
    at = 0
    for _ in range(MAX_RECORDS):
        head = octets[at : at + 5]
        if head and (head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != 3)):
            raise RemoteProtocolError("no TLS where TLS was to begin")
        if len(head) < 5 or len(octets) < at + 5 + int.from_bytes(head[3:5], "big"):
            if len(octets) > MAX_HELLO:
                raise RemoteProtocolError("a TLS ClientHello without end")
            return None
        size = int.from_bytes(head[3:5], "big")
        if not size:
            raise RemoteProtocolError("an empty TLS record")
        message += octets[at + 5 : at + 5 + size]
        at += 5 + size
        if message[0] != _CLIENT_HELLO:
            raise RemoteProtocolError("TLS does not begin with a ClientHello")
        if len(message) >= 4 and len(message) - 4 >= (wanted := int.from_bytes(message[1:4], "big")):
            return message[4 : 4 + wanted]
    raise RemoteProtocolError("a TLS ClientHello in too many pieces")


class _Fields:
    """Reads numbers and vectors one after another."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._octets)

    def skip(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._octets):
            raise RemoteProtocolError("a TLS ClientHello that is cut")
        octets = self._octets[self._at : end]
        self._at = end
        return octets

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size), "big")

    def vector(self, size: int) -> bytes:
        """Read a length in *size* octets, and return as many octets as it says."""
        return self.skip(self.number(size))
