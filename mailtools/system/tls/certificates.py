"""The server's certificate: read from files, created if there is none, reloaded on request.

TLS 1.2 and up; options that the library leaves insecure by default are set here. Owns RFC 8996 (old
versions), RFC 5929 §4 (the certificate as channel binding).
"""

import datetime
import hashlib
import ipaddress
import os
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from mailtools.core.errors import CannotWriteError, ConfigurationError
from mailtools.system.files import atomic
from mailtools.system.files.home import expand

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import Certificate

FOLDER = ".tls"  # in the mail root; no user's folder begins with a dot
_YEARS = 10


class Certificates:
    """The server's certificate and key files. *protocols*: the ALPN names of the protocols served.

    *key*: default *certificate*. Raises ConfigurationError as `load`.
    """

    def __init__(self, certificate: str, key: str, protocols: tuple[str, ...]) -> None:
        self._certificate = expand(certificate)
        self._key = expand(key) if key else self._certificate
        self.protocols = protocols
        self.context: ssl.SSLContext
        self.fingerprint = ""  # SHA-256, pairs of hexadecimal digits with colons
        self.end_point = b""  # the channel binding tls-server-end-point
        self.load()

    def load(self) -> None:
        """Read the files. Raises ConfigurationError; the previous certificate then stays in use."""
        from cryptography import x509

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §4, §5
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(self.protocols))
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            with open(self._certificate, "rb") as file:
                certificate = x509.load_pem_x509_certificate(file.read())
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{self._certificate}, {self._key}: no certificate and key in PEM: {error.reason or error}"
            ) from None
        except (OSError, ValueError) as error:
            name = getattr(error, "filename", None) or self._unreadable()
            raise ConfigurationError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        digest = certificate.fingerprint(_sha256()).hex().upper()
        self.end_point = _end_point(certificate)
        self.fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
        self.context = context

    def _unreadable(self) -> str:
        """The path of the unreadable file, which the library does not name."""
        return next((p for p in (self._certificate, self._key) if not os.access(p, os.R_OK)), self._key)


def _no_password() -> str:
    """An empty passphrase, so that the library does not prompt for one."""
    return ""


def _sha256() -> "SHA256":
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _end_point(certificate: "Certificate") -> bytes:
    """tls-server-end-point (RFC 5929 §4.1): hashed as in the signature, but SHA-256 for MD5 and SHA-1."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding

    name = "sha256"
    with suppress(UnsupportedAlgorithm):
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name in ("sha384", "sha512", "sha224"):
            name = algorithm.name
    return hashlib.new(name, certificate.public_bytes(Encoding.DER)).digest()


def self_signed(root: str, host: str) -> tuple[str, str]:
    """(certificate path, key path) of a self-signed certificate in the mail root *root*.

    Created for *host* if it is missing, unusable or expired. Raises CannotWriteError.
    """
    folder = os.path.join(root, FOLDER)
    certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        with atomic.lock(folder):  # several servers may start at the same time
            if not _is_good(certificate, key):
                certificate_octets, key_octets = _make(host)
                atomic.replace(key, key_octets)
                atomic.replace(certificate, certificate_octets)
    except OSError as error:
        raise CannotWriteError(f"{folder}: {error.strerror}: no certificate can be kept there") from error
    return certificate, key


def _is_good(certificate: str, key: str) -> bool:
    if not (os.path.exists(certificate) and os.path.exists(key)):
        return False
    from cryptography import x509

    with suppress(ValueError, ssl.SSLError), open(certificate, "rb") as file:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        expiry = x509.load_pem_x509_certificate(file.read()).not_valid_after_utc
        return expiry > datetime.datetime.now(datetime.UTC)
    return False


def _make(host: str) -> tuple[bytes, bytes]:
    """Create a certificate for *host* and loopback, and its key; both in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    names = [x509.DNSName(n) for n in dict.fromkeys((host, "localhost"))]
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, _sha256())
    )
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
