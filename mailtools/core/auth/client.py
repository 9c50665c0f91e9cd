"""The client's half of the SASL mechanisms, as generators; the protocol around them carries the octets.

A mechanism yields a `Response` and is sent the server's challenge, or None when the server says that the
login succeeded. Then it returns, or raises if the server has not proved what it must. This module knows no
base64, no reply code and no randomness: the nonce is an argument. Owns, on the client's side, RFC 4616
(PLAIN), LOGIN as servers use it, RFC 5802 and RFC 7677 (SCRAM-SHA-256, without channel binding), RFC 7628
(OAUTHBEARER), XOAUTH2 as Google and Microsoft describe it.

Invariants: nothing that a server says raises anything but MalformedError and AuthenticationError. A success
of SCRAM without the server's proof is no success, and no server can make us compute longer than
MAX_ITERATIONS take.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Generator
from typing import NamedTuple

from mailtools.core.auth import scram
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.errors import ConfigurationError

MAX_ITERATIONS = 1_000_000  # half a second; servers have 4096 to 310,000
_MAX_NOTE = 200  # characters of what a server says about a token
_NESTING = 8  # brackets within brackets in a server's JSON: the parser recurses
_SERVER_FIRST = re.compile(
    r"r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[A-Za-z0-9+/=]+),i=(?P<iterations>[1-9][0-9]{0,9})(?:,.*)?",
    re.DOTALL,
)
_SERVER_FINAL = re.compile(r"(?:e=(?P<error>[^,]*)|v=(?P<proof>[A-Za-z0-9+/=]+))(?:,.*)?", re.DOTALL)
_TOKEN = re.compile("[!-~]+")


class Credentials(NamedTuple):
    """Who logs in. *secret*: the password or token; *nonce*: printable, new, and not guessable."""

    user: str
    secret: str
    nonce: str = ""
    host: str = ""  # OAUTHBEARER names the server that it believes to log in to (RFC 7628 §3.1)
    port: int = 0


class Response(NamedTuple):
    """What to send; *octets* None: nothing, because the server begins.

    *note*: what the server said, for the user.
    """

    octets: bytes | None
    note: str = ""


Mechanism = Generator[Response, bytes | None, None]


def plain(credentials: Credentials) -> Mechanism:
    """RFC 4616 §2: no authzid, the name, the password."""
    yield from _last(
        b"\0" + _octets(credentials.user, "user") + b"\0" + _octets(credentials.secret, "password")
    )


def login(credentials: Credentials) -> Mechanism:
    """LOGIN: the name, then the password, whatever the prompts are."""
    name, password = _octets(credentials.user, "user"), _octets(credentials.secret, "password")
    _challenge((yield Response(None)))
    _challenge((yield Response(name)))
    yield from _last(password)


def xoauth2(credentials: Credentials) -> Mechanism:
    """XOAUTH2: a token. A server that refuses it says why, and expects an empty response."""
    user = _octets(credentials.user, "user")
    if b"\1" in user:
        raise ConfigurationError("the user's name holds a control character; check --user")
    said = yield Response(b"user=" + user + b"\1auth=Bearer " + _token(credentials.secret) + b"\1\1")
    if said is not None:
        yield from _last(b"", token_note(said), must_fail=True)


def oauthbearer(credentials: Credentials) -> Mechanism:
    """RFC 7628 §3.1. The response to an error is one control-A (§3.2.3)."""
    user = _saslname(credentials.user).encode("utf-8", "surrogateescape")
    fields = [b"n,a=" + user + b","]
    fields += [b"host=" + credentials.host.encode()] if credentials.host else []
    fields += [b"port=%d" % credentials.port] if credentials.port else []
    said = yield Response(b"\1".join([*fields, b"auth=Bearer " + _token(credentials.secret), b"", b""]))
    if said is not None:
        yield from _last(b"\1", token_note(said), must_fail=True)


def scram_sha_256(credentials: Credentials) -> Mechanism:
    """RFC 5802 §3, §5. "n": this client supports no channel binding."""
    bare = f"n={_saslname(scram.prepare(credentials.user))},r={credentials.nonce}"
    bare_octets = bare.encode("utf-8", "surrogateescape")
    challenge = _challenge((yield Response(b"n,," + bare_octets)))
    match = _SERVER_FIRST.fullmatch(_text(challenge))
    if match is None:
        raise MalformedError("not a SCRAM message")
    if not match["nonce"].startswith(credentials.nonce) or match["nonce"] == credentials.nonce:
        raise MalformedError("the server's nonce does not begin with ours and go on")
    iterations = int(match["iterations"])
    if iterations > MAX_ITERATIONS:
        raise MalformedError(f"{iterations} iterations; at most {MAX_ITERATIONS} are done")
    salt = _base64(match["salt"])
    without_proof = f"c=biws,r={match['nonce']}".encode()
    message = b",".join((bare_octets, challenge, without_proof))
    proof, expected = _proofs(credentials.secret, salt, iterations, message)
    final = _challenge((yield Response(without_proof + b",p=" + base64.b64encode(proof))))
    match = _SERVER_FINAL.fullmatch(_text(final))
    if match is None:
        raise MalformedError("not a SCRAM message")
    if match["error"] is not None:
        raise AuthenticationError(printable(match["error"]))
    if not hmac.compare_digest(_base64(match["proof"]), expected):
        raise MalformedError("the server's proof is wrong: it does not know the password")
    yield from _last(b"")


def _proofs(password: str, salt: bytes, iterations: int, message: bytes) -> tuple[bytes, bytes]:
    """Return our proof, and the proof that the server has to send (RFC 5802 §3)."""
    prepared = scram.prepare(password).encode("utf-8", "surrogateescape")
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return proof, hmac.digest(server_key, message, "sha256")


MECHANISMS: dict[str, Callable[[Credentials], Mechanism]] = {
    "SCRAM-SHA-256": scram_sha_256,
    "PLAIN": plain,
    "LOGIN": login,
    "OAUTHBEARER": oauthbearer,
    "XOAUTH2": xoauth2,
}
_WITH_PASSWORD = ("SCRAM-SHA-256", "PLAIN", "LOGIN")  # the strongest first
_WITH_TOKEN = ("OAUTHBEARER", "XOAUTH2")


def usable(forced: str, is_token: bool) -> tuple[str, ...]:
    """Return the mechanisms that may be used, the strongest first. *forced*: the only one, in any case."""
    if forced:
        return (forced.upper(),)
    return _WITH_TOKEN if is_token else _WITH_PASSWORD


def choose(offered: Collection[str], forced: str = "", is_token: bool = False) -> str:
    """Return the strongest mechanism that the server offers and that may be used, or ""."""
    return next(iter(choices(offered, forced, is_token)), "")


def choices(offered: Collection[str], forced: str = "", is_token: bool = False) -> list[str]:
    """Return all mechanisms that the server offers and that may be used, the strongest first."""
    names = {name.upper() for name in offered}
    return [name for name in usable(forced, is_token) if name in names and name in MECHANISMS]


def sends_secret(mechanism: str) -> bool:
    """Return True if somebody who reads the octets, or answers in place of the server, learns the secret."""
    return mechanism != "SCRAM-SHA-256"


def token_note(challenge: bytes) -> str:
    """Return what a server says about a token: ``status`` and explanations in JSON (RFC 7628 §3.2.2)."""
    import json  # json is seldom needed

    found: object = None
    if challenge.count(b"[") + challenge.count(b"{") <= _NESTING:
        try:
            found = json.loads(challenge)
        except ValueError:
            found = None
    if not isinstance(found, dict):
        return printable(challenge.decode("utf-8", "replace"))
    told = [found.get(key) for key in ("status", "error", "error_description", "scope")]
    return printable(" ".join(str(value) for value in told if isinstance(value, str | int)))


def printable(text: str) -> str:
    """Return *text* on one line, not too long, without control characters."""
    cut = text[:_MAX_NOTE] + ("..." if len(text) > _MAX_NOTE else "")
    return "".join(character if character.isprintable() else "?" for character in cut).strip()


def _last(octets: bytes, note: str = "", must_fail: bool = False) -> Mechanism:
    """Send the last response. Only success or failure may follow it."""
    if (yield Response(octets, note)) is not None:
        raise MalformedError("a challenge more than the mechanism has")
    if must_fail:
        raise MalformedError("an error, and then success")


def _challenge(said: bytes | None) -> bytes:
    if said is None:
        raise MalformedError("success before the mechanism is at its end: the server has proved nothing")
    return said


def _octets(text: str, what: str) -> bytes:
    if not text or "\0" in text:
        raise ConfigurationError(f"the {what} is empty or holds a NUL; check where it comes from")
    return text.encode("utf-8", "surrogateescape")


def _token(text: str) -> bytes:
    if not _TOKEN.fullmatch(text):
        raise ConfigurationError(
            "the token is empty or holds more than printable ASCII; check --token-command"
        )
    return text.encode()


def _saslname(name: str) -> str:
    """Escape "=" and "," in a name (RFC 5802 §5.1)."""
    if not name or "\0" in name or "\1" in name:
        raise ConfigurationError("the user is empty or holds a control character; check --user")
    return name.replace("=", "=3D").replace(",", "=2C")


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not base64 in a SCRAM message") from None
