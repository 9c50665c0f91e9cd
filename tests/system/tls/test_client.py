"""TLS from the client's side: whom it trusts, what it says where it does not."""

import hashlib
import ssl
from pathlib import Path

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import ConfigurationError
from mailtools.system.tls import client as client_
from mailtools.system.tls.certificates import Certificates, self_signed
from mailtools.system.tls.client import ClientTls, Policy, fingerprint_digits
from mailtools.system.tls.layer import TlsLayer

UNVERIFIED = Policy(is_verified=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(str(tmp_path_factory.mktemp("root")), "xn--bcher-kva.test")


@pytest.fixture
def server(files: tuple[str, str]) -> TlsLayer:
    return TlsLayer(Certificates(*files, ()))


def fingerprint(files: tuple[str, str]) -> str:
    der = ssl.PEM_cert_to_DER_cert(Path(files[0]).read_text())
    return hashlib.sha256(der).hexdigest()


def shaken(client: ClientTls, server: TlsLayer) -> None:
    """Carry octets to and fro until nobody has any."""
    while octets := client.data_to_send():
        server.receive(octets)
        client.receive(server.data_to_send())


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "127.0.0.1", "::1", "xn--bcher-kva.test", "bücher.test", "BÜCHER.test."],
)
def test_a_certificate_of_a_trusted_authority_and_the_right_name(
    host: str, files: tuple[str, str], server: TlsLayer
) -> None:
    client = ClientTls(host, Policy(cafile=files[0]))
    shaken(client, server)
    assert client.is_established
    assert client.shown.startswith("TLSv1.3 ")
    client.send(b"EHLO x\r\n")
    assert server.receive(client.data_to_send()) == b"EHLO x\r\n"
    server.send(b"250 x\r\n")
    server.close()
    assert client.receive(server.data_to_send()) == b"250 x\r\n"
    assert client.is_ended


@pytest.mark.parametrize("host", ["example.org", "127.0.0.2", "::2", "localhost.example.org"])
def test_the_wrong_name(host: str, files: tuple[str, str], server: TlsLayer) -> None:
    client = ClientTls(host, Policy(cafile=files[0]))
    with pytest.raises(RemoteProtocolError, match="not valid for"):
        shaken(client, server)
    assert not client.is_established
    assert client.data_to_send(), "an alert for the server"


def test_an_authority_that_the_system_does_not_know(server: TlsLayer) -> None:
    client = ClientTls("localhost", Policy())
    with pytest.raises(RemoteProtocolError, match=r"self-signed certificate.*--cafile or --fingerprint"):
        shaken(client, server)


@pytest.mark.parametrize("host", ["localhost", "example.org", ""])
def test_a_fingerprint_decides_alone(host: str, files: tuple[str, str], server: TlsLayer) -> None:
    digits = fingerprint(files).upper()
    written = "SHA256:" + ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    client = ClientTls(host, Policy(fingerprint=written))
    shaken(client, server)
    assert client.is_established


def test_another_fingerprint_is_told(files: tuple[str, str], server: TlsLayer) -> None:
    """Even where an authority vouches for it."""
    client = ClientTls("localhost", Policy(cafile=files[0], fingerprint="0" * 64))
    with pytest.raises(RemoteProtocolError, match=f"SHA256:{fingerprint(files)}"):
        shaken(client, server)
    assert not client.is_established


def test_unverified_takes_any(server: TlsLayer) -> None:
    client = ClientTls("example.org", UNVERIFIED)
    shaken(client, server)
    assert client.is_established


def test_old_versions_are_refused(files: tuple[str, str]) -> None:
    certificates = Certificates(*files, ())
    certificates.context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        certificates.context.maximum_version = ssl.TLSVersion.TLSv1_1
    client, server = ClientTls("localhost", UNVERIFIED), TlsLayer(certificates)
    with pytest.raises(RemoteProtocolError):
        shaken(client, server)


@pytest.mark.parametrize(
    "octets", [b"220 ready\r\n", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", b"\x15\x03\x03\0\2\2\x28"]
)
def test_what_is_no_tls(octets: bytes) -> None:
    client = ClientTls("localhost", UNVERIFIED)
    with pytest.raises(RemoteProtocolError, match="TLS failed"):
        client.receive(octets)


def test_a_name_is_asked_for_and_an_address_is_not() -> None:
    assert b"example.org" in ClientTls("Example.ORG.", UNVERIFIED).data_to_send()
    assert b"xn--bcher-kva.test" in ClientTls("bücher.test", UNVERIFIED).data_to_send()
    assert b"192.0.2.1" not in ClientTls("192.0.2.1", UNVERIFIED).data_to_send()
    assert ClientTls("fe80::1%eth0", UNVERIFIED).data_to_send()


@pytest.mark.parametrize(
    "host", ["", ".example.org", "a" * 64 + ".example.org", "a\0b", "\u2028.test", "a..b"]
)
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(ConfigurationError):
        ClientTls(host, Policy())


@pytest.mark.parametrize(
    "text", ["", "SHA256:", "md5:" + "0" * 32, "0" * 63, "0" * 65, "g" * 64, "SHA256:" + "0" * 40]
)
def test_a_fingerprint_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        fingerprint_digits(text)


def test_a_cafile_that_is_none(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.write_text("nothing")
    for path in (missing, empty, tmp_path):
        with pytest.raises(ConfigurationError, match="check --cafile"):
            ClientTls("localhost", Policy(cafile=str(path)))


def test_a_cafile_that_was_renewed_is_read_anew(
    tmp_path: Path, files: tuple[str, str], server: TlsLayer
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(Path(self_signed(str(tmp_path), "other.test")[0]).read_text())
    with pytest.raises(RemoteProtocolError):
        shaken(ClientTls("localhost", Policy(cafile=str(path))), TlsLayer(Certificates(*files, ())))
    before = path.stat().st_mtime_ns
    path.write_text(Path(files[0]).read_text())
    client_.os.utime(path, ns=(before + 10**9, before + 10**9))
    client = ClientTls("localhost", Policy(cafile=str(path)))
    shaken(client, server)
    assert client.is_established
