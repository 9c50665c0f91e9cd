"""The client side of TLS, over octets in memory, and the check of the server's certificate.

Three policies: the certificate comes from a known authority and has the host's name or address; or it has a
known fingerprint, and nothing else is checked; or it is not checked, which protects only against
eavesdroppers. Knows no socket. Importing this module imports ssl, so code that sends without TLS must not.

Owns the part of RFC 6125 / RFC 9525 that the library leaves to its caller (the choice of the name); RFC 6066
§3 (server name: never an address); RFC 8996 (TLS 1.2 and up).
"""

import functools
import hashlib
import hmac
import os
import re
import ssl
from typing import NamedTuple

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import ConfigurationError
from mailtools.system.files.home import expand
from mailtools.system.tls.layer import MemoryTls


class Policy(NamedTuple):
    """How to verify the server's certificate."""

    is_verified: bool = True  # check the name and the authority (of the system, or of *cafile*)
    cafile: str = ""
    fingerprint: str = ""  # SHA-256 of the certificate; if given, nothing else is checked


class ClientTls(MemoryTls):
    """The client side of TLS for one connection. *host*: the server's name or address."""

    __slots__ = ("_fingerprint",)

    def __init__(self, host: str, policy: Policy) -> None:
        """Start the handshake: `data_to_send` has the ClientHello at once. Raises ConfigurationError."""
        self._fingerprint = fingerprint_digits(policy.fingerprint) if policy.fingerprint else ""
        context = _context(policy.is_verified and not self._fingerprint, *_stamped(policy.cafile))
        name = _name(host)
        if context.check_hostname and not name:  # without a name the library would check none
            raise ConfigurationError("there is no host name that the certificate could have; check --host")
        super().__init__()
        try:
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name or None)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{host!r}: TLS cannot ask for that host: {error}") from None
        self._drain()

    def _check(self) -> None:
        if not self._fingerprint:
            return
        seen = hashlib.sha256(self._object.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(seen, self._fingerprint):
            raise RemoteProtocolError(
                f"the server's certificate is another: its fingerprint is SHA256:{seen}; if that is right,"
                " give it with --fingerprint"
            )


def fingerprint_digits(text: str) -> str:
    """The 64 hexadecimal digits of ``SHA256:...``, in any usual spelling. Raises ConfigurationError."""
    digits = re.sub("^sha-?256[:=]", "", text.strip().lower()).replace(":", "")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigurationError(f"{text}: not a fingerprint; write SHA256: and 64 hexadecimal digits")
    return digits


def _name(host: str) -> str:
    """*host* as a certificate names it: an address unchanged, a name as A-labels without the last dot."""
    host = host.partition("%")[0]  # an IPv6 zone has a meaning on this machine only
    if host.isascii():
        return host if ":" in host else host.removesuffix(".").lower()
    import idna

    try:
        return idna.encode(host.removesuffix("."), uts46=True).decode()
    except idna.IDNAError as error:
        raise ConfigurationError(f"{host}: not a host name: {error}") from None


def _stamped(cafile: str) -> tuple[str, int]:
    """(path, mtime) of *cafile*, the key of the context cache: a changed file is read again."""
    if not cafile:
        return "", 0
    path = expand(cafile)
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; check --cafile") from None


@functools.lru_cache(maxsize=16)
def _context(is_verified: bool, cafile: str, _: int) -> ssl.SSLContext:
    """The SSL context for a policy. Cached, because reading the system's authorities takes 10 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §4, §5
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if not cafile:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(cafile)
    except OSError as error:  # SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates in PEM"
        raise ConfigurationError(f"{cafile}: {why}; check --cafile") from None
    return context
