"""TLS between octets, the client's side, and whom it takes for the server it wanted.

Three policies: the certificate is of a known authority and has the host's name or address; it has a known
fingerprint, and then nothing else is asked; or it is not looked at, which keeps out those only who merely
listen. Knows no socket. Importing it imports ssl: whoever sends without TLS does not import it.

Owns RFC 6125 / RFC 9525 as far as the library leaves it to us: which name is asked for; RFC 6066 §3 (server
name: never an address); RFC 8996 (TLS 1.2 and up).
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
from mailtools.system.tls.layer import MemoryTls


class Policy(NamedTuple):
    """Whom to take for the server."""

    is_verified: bool = True  # by the authorities of the system or of *cafile*, and its name
    cafile: str = ""
    fingerprint: str = ""  # SHA-256 of the certificate: it decides alone


UNVERIFIED = Policy(is_verified=False)


class ClientTls(MemoryTls):
    """One connection's TLS, the client's side. *host*: whom we want: a name or an address."""

    __slots__ = ("_fingerprint",)

    def __init__(self, host: str, policy: Policy) -> None:
        """The first octets are there at once. Raises ConfigurationError."""
        self._fingerprint = fingerprint_digits(policy.fingerprint) if policy.fingerprint else ""
        context = _context(policy.is_verified and not self._fingerprint, *_stamped(policy.cafile))
        name = _name(host)
        if context.check_hostname and not name:  # the library would check none then
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
    """The 64 digits of ``SHA256:...``, however they are written. Raises ConfigurationError."""
    digits = re.sub("^sha-?256[:=]", "", text.strip().lower()).replace(":", "")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigurationError(f"{text}: not a fingerprint; write SHA256: and 64 hexadecimal digits")
    return digits


def _name(host: str) -> str:
    """What a certificate calls *host*: an address as it is, a name as A-labels without the last dot."""
    host = host.partition("%")[0]  # an IPv6 zone is this machine's affair
    if host.isascii():
        return host if ":" in host else host.removesuffix(".").lower()
    import idna

    try:
        return idna.encode(host.removesuffix("."), uts46=True).decode()
    except idna.IDNAError as error:
        raise ConfigurationError(f"{host}: not a host name: {error}") from None


def _stamped(cafile: str) -> tuple[str, int]:
    """The file, and when it was written: who runs for months reads a new one."""
    if not cafile:
        return "", 0
    path = os.path.expanduser(cafile)
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; check --cafile") from None


@functools.lru_cache(maxsize=16)
def _context(is_verified: bool, cafile: str, _: int) -> ssl.SSLContext:
    """Kept, for reading the system's authorities takes 10 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
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
