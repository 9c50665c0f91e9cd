"""The layer that compresses."""

import zlib

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.system.net.deflate import DeflateLayer


def compressed(octets: bytes, end: int = zlib.Z_SYNC_FLUSH) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(octets) + deflater.flush(end)


def test_both_directions() -> None:
    layer = DeflateLayer()
    inflater = zlib.decompressobj(-15)
    for octets in (b"a NOOP\r\n", b"b LOGOUT\r\n" * 1000):
        assert inflater.decompress(layer.send(octets)) == octets, "it is flushed"
    assert layer.receive(compressed(b"a NOOP\r\n")) == b"a NOOP\r\n"
    assert not layer.has_more


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1_000_000, 10_000_000])
def test_a_bomb_is_inflated_piece_by_piece(size: int) -> None:
    layer = DeflateLayer()
    pieces = [layer.receive(compressed(bytes(size)))]
    while layer.has_more:
        pieces.append(layer.more())
    assert max(map(len, pieces)) <= 65_536
    assert sum(map(len, pieces)) == size


def test_octets_come_one_by_one() -> None:
    layer = DeflateLayer()
    assert (
        b"".join(layer.receive(bytes([octet])) for octet in compressed(b"a NOOP\r\n" * 9))
        == b"a NOOP\r\n" * 9
    )


@pytest.mark.parametrize("octets", [b"a NOOP\r\n", b"\xff" * 100])
def test_what_is_no_deflate(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        DeflateLayer().receive(octets)


def test_a_stream_that_ends() -> None:
    layer = DeflateLayer()
    assert layer.receive(compressed(b"a NOOP\r\n", zlib.Z_FINISH)) == b"a NOOP\r\n"
    with pytest.raises(RemoteProtocolError):
        layer.receive(b"more")
