"""TLS between octets, against the ssl library's own client."""

import ssl
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import ConfigurationError
from mailtools.system.tls.certificates import Certificates, self_signed
from mailtools.system.tls.layer import TlsLayer


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(*self_signed(str(tmp_path_factory.mktemp("root")), "host.example"), ("smtp",))


class Client:
    """The other side, in memory."""

    def __init__(self, layer: TlsLayer, certificate: str, **options: object) -> None:
        self.layer = layer
        context = ssl.create_default_context(cafile=certificate)
        for name, value in options.items():
            if name == "alpn":
                context.set_alpn_protocols(value)  # type: ignore[arg-type]
            else:
                setattr(context, name, value)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def exchange(self, piece: int = 1 << 20) -> bytes:
        """Carry octets to the server and back; what the server heard."""
        heard = b""
        while octets := self.outgoing.read():
            for at in range(0, len(octets), piece):
                heard += self.layer.receive(octets[at : at + piece])
            self.incoming.write(self.layer.data_to_send())
        return heard

    def handshake(self, piece: int = 1 << 20) -> None:
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.exchange(piece)

    def hear(self) -> bytes:
        self.incoming.write(self.layer.data_to_send())
        heard = b""
        with suppress(ssl.SSLWantReadError):
            while octets := self.tls.read(1 << 16):
                heard += octets
        return heard


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_both_sides_understand_each_other(certificates: Certificates, piece: int) -> None:
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate)
    assert not layer.is_established
    client.handshake(piece)
    assert layer.is_established
    client.tls.write(b"x" * 300_000)
    assert client.exchange(max(piece, 1000)) == b"x" * 300_000
    layer.send(b"y" * 300_000)
    assert client.hear() == b"y" * 300_000
    assert layer.shown.startswith("TLSv1.3 ")


def test_old_versions_are_refused(certificates: Certificates) -> None:
    for version in (0x0301, 0x0302):  # TLS 1.0 and 1.1
        layer = TlsLayer(certificates)
        client = Client(layer, certificates._certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion(version)
        client.tls = context.wrap_bio(client.incoming, client.outgoing)
        with pytest.raises(RemoteProtocolError, match="TLS failed"):
            client.handshake()
        assert layer.data_to_send(), "an alert says why"


def test_another_application_protocol_is_refused(certificates: Certificates) -> None:
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate, alpn=["h2", "http/1.1"])
    with pytest.raises(RemoteProtocolError, match="another protocol"):
        client.handshake()
    client.incoming.write(layer.data_to_send())
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        client.tls.do_handshake()
    ours = TlsLayer(certificates)
    client = Client(ours, certificates._certificate, alpn=["h2", "smtp"])
    client.handshake()
    assert client.tls.selected_alpn_protocol() == "smtp"


@pytest.mark.parametrize("octets", [b"EHLO x\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\0"])
def test_what_is_no_tls(certificates: Certificates, octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        TlsLayer(certificates).receive(octets)


def test_garbage_inside(certificates: Certificates) -> None:
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate)
    client.handshake()
    with pytest.raises(RemoteProtocolError, match="TLS failed"):
        layer.receive(b"\x17\x03\x03\x00\x20" + b"x" * 32)


def test_the_clients_goodbye_is_heard_and_ours_said(certificates: Certificates) -> None:
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate)
    client.handshake()
    with suppress(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.exchange()
    assert layer.is_ended
    layer.close()
    assert layer.data_to_send()


def test_channel_bindings(certificates: Certificates) -> None:
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate)
    client.handshake()
    assert layer.bindings() == {}
    layer = TlsLayer(certificates)
    client = Client(layer, certificates._certificate, maximum_version=ssl.TLSVersion.TLSv1_2)
    client.handshake()
    assert layer.bindings()["tls-unique"] == client.tls.get_channel_binding("tls-unique")
    import hashlib

    der = client.tls.getpeercert(binary_form=True)
    assert der
    assert layer.bindings()["tls-server-end-point"] == hashlib.sha256(der).digest()


# -- certificates ------------------------------------------------------------------------------------------


def test_a_certificate_of_our_own_is_made_once_and_kept(tmp_path: Path) -> None:
    certificate, key = self_signed(str(tmp_path), "host.example")
    first = Path(certificate).read_bytes()
    assert self_signed(str(tmp_path), "other.example") == (certificate, key)
    assert Path(certificate).read_bytes() == first
    assert Path(key).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".tls").stat().st_mode & 0o777 == 0o700
    Path(certificate).write_text("broken")
    self_signed(str(tmp_path), "host.example")
    fingerprint = Certificates(certificate, key, ("smtp",)).fingerprint
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert fingerprint in shown
    assert "DNS:host.example" in shown
    assert "IP Address:127.0.0.1" in shown


def test_key_and_certificate_may_share_a_file(tmp_path: Path) -> None:
    certificate, key = self_signed(str(tmp_path), "h")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(key).read_bytes() + Path(certificate).read_bytes())
    assert Certificates(str(both), "", ("smtp",)).fingerprint


def test_files_that_cannot_be_used_are_told_by_name_and_change_nothing(tmp_path: Path) -> None:
    certificate, key = self_signed(str(tmp_path / "."), "h")
    good = Certificates(certificate, key, ("smtp",))
    before = good.context
    with pytest.raises(ConfigurationError, match=r"none\.pem.*No such file"):
        Certificates(str(tmp_path / "none.pem"), key, ("smtp",))
    with pytest.raises(ConfigurationError, match=r"none\.key.*No such file"):
        Certificates(certificate, str(tmp_path / "none.key"), ("smtp",))
    Path(certificate).write_text("-----BEGIN CERTIFICATE-----\nx\n")
    with pytest.raises(ConfigurationError, match="PEM"):
        good.load()
    assert good.context is before
