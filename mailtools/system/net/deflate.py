"""COMPRESS=DEFLATE (RFC 4978): a layer between the octets of a connection and the engine, inside TLS.

A few octets may stand for gigabytes: so at most `_AT_ONCE` octets are inflated together, and what waits is
not inflated before it is asked for. Memory: about 80 KiB a connection.
"""

import zlib

from mailtools.core.engine import RemoteProtocolError

_AT_ONCE = 64 << 10
_WINDOW, _MEMORY, _LEVEL = -12, 5, 6  # of what we send: a quarter of the memory of zlib's defaults


class DeflateLayer:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
        self._waiting = b""
        self._is_full = False  # the last octets were as many as may be: the inflater may hold others

    def receive(self, octets: bytes) -> bytes:
        """Take octets of the client; return what they begin with. Raises RemoteProtocolError."""
        self._waiting += octets
        return self.more()

    @property
    def has_more(self) -> bool:
        """Whether `more` may return something."""
        return bool(self._waiting) or self._is_full

    def more(self) -> bytes:
        """Return the next octets, at most `_AT_ONCE`. Raises RemoteProtocolError."""
        try:
            octets = self._inflater.decompress(self._waiting, _AT_ONCE)
        except zlib.error:
            raise RemoteProtocolError("what the client sent is no DEFLATE") from None
        self._waiting = self._inflater.unconsumed_tail
        self._is_full = len(octets) >= _AT_ONCE
        if self._inflater.eof:
            self._waiting = b""
            if not octets:
                raise RemoteProtocolError("the client ended its DEFLATE stream")
        return octets

    def send(self, octets: bytes) -> bytes:
        """Compress *octets*, all of them."""
        return self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
