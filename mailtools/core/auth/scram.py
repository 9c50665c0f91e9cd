"""SCRAM-SHA-256: the client proves that it knows the password without sending it, and so does the server.

The keys, and the server's half of the exchange. Knows no users and no randomness: keys and nonce are
arguments. Owns RFC 5802, RFC 7677, RFC 4013 (SASLprep); the names of channel bindings in RFC 5929 and RFC
9266.
"""

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from mailtools.core.auth.errors import AuthenticationError, MalformedError

ITERATIONS = 4096  # the least that RFC 7677 §4 allows; browsers and phones can compute it
_GS2 = r"(?P<gs2>(?P<flag>[ny]|p=[A-Za-z0-9.-]+),(?:a=(?P<authzid>[^,]*))?,)"
_NONCE = r"r=(?P<nonce>[!-+\--~]+)"  # printable, without comma
_CLIENT_FIRST = re.compile(rf"{_GS2}(?P<bare>n=(?P<name>[^,]+),{_NONCE}(?:,.*)?)", re.DOTALL)
_CLIENT_FINAL = re.compile(
    # An extension named m is mandatory, and we support none (RFC 5802 §5.1).
    rf"(?P<bare>c=(?P<binding>[A-Za-z0-9+/=]+),{_NONCE}(?:,(?!m=).*)?),p=(?P<proof>[A-Za-z0-9+/=]+)",
    re.DOTALL,
)


class Keys(NamedTuple):
    """What a server stores of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def derive_keys(password: str, salt: bytes, iterations: int) -> Keys:
    """Return the keys of a password (RFC 5802 §3). Takes about 2 ms for 4096 iterations."""
    salted = hashlib.pbkdf2_hmac(
        "sha256", prepare(password).encode(errors="surrogateescape"), salt, max(1, iterations)
    )
    client_key = _hmac(salted, b"Client Key")
    return Keys(salt, iterations, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key"))


def prepare(text: str) -> str:
    """Prepare *text* by SASLprep (RFC 4013).

    A text that it forbids is returned unchanged, and matches only itself.
    """
    if text.isascii():
        return text
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    return unicodedata.ucd_3_2_0.normalize("NFKC", mapped)


def _hmac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "sha256")


class ClientFirst(NamedTuple):
    """The client's first message."""

    name: str
    authzid: str
    nonce: str
    gs2: str  # the GS2 header, which says what the client knows of channel binding
    bare: str


def parse_first(octets: bytes, bindings: Mapping[str, bytes], plus: bool) -> ClientFirst:
    """Parse the client's first message. *bindings*: the channel bindings that we have, by type.

    *plus*: the -PLUS mechanism was chosen. Raises MalformedError, or AuthenticationError if somebody in
    between hid -PLUS from the client (RFC 5802 §6).
    """
    match = _CLIENT_FIRST.fullmatch(_text(octets))
    if match is None:
        raise MalformedError("not a SCRAM message")
    flag = match["flag"]
    if plus != flag.startswith("p="):
        raise MalformedError("channel binding belongs to the -PLUS mechanism, and to no other")
    if plus and flag[2:] not in bindings:
        raise AuthenticationError(f"channel binding {flag[2:]} is not to be had here")
    if flag == "y" and bindings:
        raise AuthenticationError("we offer channel binding, and the client was told that we do not")
    name = _unescape(match["name"])
    return ClientFirst(name, _unescape(match["authzid"] or ""), match["nonce"], match["gs2"], match["bare"])


def server_first(first: ClientFirst, nonce: str, keys: Keys) -> bytes:
    """Return the challenge: both nonces, salt, iterations (RFC 5802 §5.1)."""
    return f"r={first.nonce}{nonce},s={base64.b64encode(keys.salt).decode()},i={keys.iterations}".encode()


def server_final(first: ClientFirst, challenge: bytes, octets: bytes, keys: Keys, binding: bytes) -> bytes:
    """Check the client's proof; return ours. Raises MalformedError or AuthenticationError."""
    final = _CLIENT_FINAL.fullmatch(_text(octets))
    if final is None:
        raise MalformedError("not a SCRAM message")
    expected = base64.b64encode(first.gs2.encode() + binding).decode()
    nonce = challenge.decode().partition(",")[0].removeprefix("r=")
    message = ",".join((first.bare, challenge.decode(), final["bare"])).encode()
    signature = _hmac(keys.stored_key, message)
    try:
        proof = base64.b64decode(final["proof"], validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not a SCRAM message") from None
    client_key = bytes(a ^ b for a, b in zip(proof.ljust(32, b"\0"), signature, strict=False))
    is_right = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
    if not (is_right and len(proof) == 32 and final["nonce"] == nonce and final["binding"] == expected):
        raise AuthenticationError("the proof is wrong")
    return b"v=" + base64.b64encode(_hmac(keys.server_key, message))


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None


def _unescape(name: str) -> str:
    """Decode "=2C" and "=3D" in a name (RFC 5802 §5.1). Raises MalformedError for any other "="."""
    if re.search("=(?!2C|3D)", name):
        raise MalformedError("a name that is not escaped")
    return name.replace("=2C", ",").replace("=3D", "=")
