"""The ClientHello, as real clients send it, whole and in pieces."""

import ssl
from contextlib import suppress

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.wire.client_hello import MAX_HELLO, wanted_protocols


def hello(protocols: list[str]) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="host.example").do_handshake()
    return out.read()


@pytest.mark.parametrize("protocols", [[], ["smtp"], ["h2", "http/1.1"]])
def test_what_clients_want(protocols: list[str]) -> None:
    octets = hello(protocols)
    names = tuple(name.encode() for name in protocols)
    assert wanted_protocols(octets) == names
    assert wanted_protocols(octets + b"more") == names
    for end in range(len(octets)):
        assert wanted_protocols(octets[:end]) is None


def test_a_hello_in_many_records() -> None:
    octets = hello(["smtp"])
    message = octets[5:]

    def records(size: int) -> bytes:
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)

    assert wanted_protocols(records(len(message) // 12)) == (b"smtp",)
    with pytest.raises(RemoteProtocolError, match="too many pieces"):
        wanted_protocols(records(1))


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n", b"GET / HTTP/1.1\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x02", b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x01\x02", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", b"\x80\x2e\x01\x03\x01",
    ],
)  # fmt: skip
def test_what_is_none(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        wanted_protocols(octets)


def test_one_without_end() -> None:
    endless = b"\x16\x03\x01\x3f\xff\x01\xff\xff\xff" + b"\0" * 16379
    with pytest.raises(RemoteProtocolError, match="without end"):
        wanted_protocols(endless + (b"\x16\x03\x01\x3f\xff" + b"\0" * 16383) * (MAX_HELLO // 16383))
