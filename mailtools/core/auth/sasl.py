"""The server's half of the SASL mechanisms, as generators; the protocol around them carries the octets.

A mechanism yields a `Challenge` and is sent the client's response. It yields `CheckPassword` or `FindKeys`
and is sent the answer of the session, which knows the users. It returns the name of the user who logged in.
This module knows neither base64 nor reply codes nor users. Owns RFC 4616 (PLAIN), LOGIN as clients use it,
and the order of SCRAM's messages (RFC 5802 §5).

Invariant: the authorization identity is the user's own name or empty (RFC 4616 §2). Nobody acts for another
user.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mailtools.core.auth import scram
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.engine import Question

MAX_RESPONSE = 12 << 10  # octets in base64, RFC 4954 §4: "12288 octets"
_MAX_PASSWORD = 1024  # octets; hashing costs time by the octet


class Challenge(NamedTuple):
    """Send these octets to the client, and give me its response."""

    octets: bytes


class LoginFailed(NamedTuple):
    """An event of every server engine: a login did not succeed."""

    user: str  # "" if the client's name is not known
    reason: str  # for the log; the client is told the same whatever the reason (promise R7)


class Found(NamedTuple):
    """SCRAM keys, and a nonce that is new and cannot be guessed."""

    keys: scram.Keys
    nonce: str


# The questions of every server engine about logins. The answer None means that nobody can tell at the moment.


@dataclass(slots=True)
class CheckPassword(Question[bool | None]):
    """Is this the password of *name*?"""

    name: str
    password: str


@dataclass(slots=True)
class CheckDigest(Question[bool | None]):
    """Is *digest* made of *banner* and the password of *name* (APOP, RFC 1939 §7)?"""

    name: str
    banner: str
    digest: str


@dataclass(slots=True)
class FindKeys(Question[Found | None]):
    """What are the SCRAM keys of *name*? A name that does not exist has keys too, which fit no password."""

    name: str


MechanismStep = Challenge | CheckPassword | FindKeys
MechanismAnswer = bytes | bool | Found  # the response to a challenge, or the answer to a question
Mechanism = Generator[MechanismStep, MechanismAnswer, str]  # returns the user's name
Bindings = Mapping[str, bytes]  # channel bindings of the TLS layer, by their registered names


def plain(initial: bytes | None, _: Bindings) -> Mechanism:
    """RFC 4616: authzid NUL authcid NUL password."""
    octets = initial if initial is not None else (yield from _ask(b""))
    authzid, name, password = _fields(octets)
    _require_own(authzid, name)
    return (yield from _checked(name, password))


def login(initial: bytes | None, _: Bindings) -> Mechanism:
    """Name, then password."""
    name = initial if initial is not None else (yield from _ask(b"Username:"))
    password = yield from _ask(b"Password:")
    return (yield from _checked(_text(name), _text(password)))


def scram_sha_256(initial: bytes | None, bindings: Bindings) -> Mechanism:
    """RFC 7677, without channel binding."""
    return (yield from _scram(initial, bindings, plus=False))


def scram_sha_256_plus(initial: bytes | None, bindings: Bindings) -> Mechanism:
    """RFC 7677, bound to the TLS layer."""
    return (yield from _scram(initial, bindings, plus=True))


def _scram(initial: bytes | None, bindings: Bindings, plus: bool) -> Mechanism:
    octets = initial if initial is not None else (yield from _ask(b""))
    first = scram.parse_first(octets, bindings, plus)
    _require_own(first.authzid, first.name)
    found = yield FindKeys(first.name)
    assert isinstance(found, Found)
    keys = found.keys
    challenge = scram.server_first(first, found.nonce, keys)
    octets = yield from _ask(challenge)
    binding = bindings.get(first.gs2.partition(",")[0].removeprefix("p="), b"")
    # RFC 4954 §4 has no data with success: the server sends its proof as one more challenge.
    if (yield from _ask(scram.server_final(first, challenge, octets, keys, binding))):
        raise MalformedError("something after the last message")
    return first.name


NewMechanism = Callable[[bytes | None, Bindings], Mechanism]
MECHANISMS: dict[str, NewMechanism] = {
    "PLAIN": plain,
    "LOGIN": login,
    "SCRAM-SHA-256": scram_sha_256,
    "SCRAM-SHA-256-PLUS": scram_sha_256_plus,
}


# -- for servers of tests: anybody is right ------------------------------------------------------------------

NOBODY = "anybody"  # the name of a client that says none


def _any_plain(initial: bytes | None, _: Bindings) -> Mechanism:
    octets = initial if initial is not None else (yield from _ask(b""))
    return _any_name(octets.split(b"\0")[1:2] or [octets])


def _any_login(initial: bytes | None, _: Bindings) -> Mechanism:
    name = initial if initial is not None else (yield from _ask(b"Username:"))
    yield from _ask(b"Password:")
    return _any_name([name])


def _any_cram(initial: bytes | None, _: Bindings) -> Mechanism:
    """CRAM-MD5 (RFC 2195): the name stands before the digest."""
    octets = yield from _ask(b"<any@login>")
    return _any_name([octets.rpartition(b" ")[0]])


def _any_token(initial: bytes | None, _: Bindings) -> Mechanism:
    """XOAUTH2 and OAUTHBEARER (RFC 7628): ``user=NAME`` or ``a=NAME`` among other fields."""
    octets = initial if initial is not None else (yield from _ask(b""))
    names = [field.partition(b"=")[2] for field in octets.replace(b",", b"\1").split(b"\1")
             if field.startswith((b"user=", b"a="))]  # fmt: skip
    return _any_name(names)


ANYBODY: dict[str, NewMechanism] = {
    "PLAIN": _any_plain,
    "LOGIN": _any_login,
    "CRAM-MD5": _any_cram,
    "XOAUTH2": _any_token,
    "OAUTHBEARER": _any_token,
}


def _any_name(found: list[bytes]) -> str:
    """Return the name that a log may show."""
    name = found[0].decode("utf-8", "replace") if found else ""
    return "".join([char for char in name if char.isprintable()])[:255] or NOBODY


def _ask(challenge: bytes) -> Generator[MechanismStep, MechanismAnswer, bytes]:
    response = yield Challenge(challenge)
    assert isinstance(response, bytes)
    return response


def _checked(name: str, password: str) -> Mechanism:
    if not name or not password or len(password.encode()) > _MAX_PASSWORD:
        raise AuthenticationError("no name, no password, or too long a one")
    if not (yield CheckPassword(name, password)):
        raise AuthenticationError("wrong password or no such user")
    return name


def _fields(octets: bytes) -> list[str]:
    fields = octets.split(b"\0")
    if len(fields) != 3:
        raise MalformedError("PLAIN is authzid NUL name NUL password")
    return [_text(field) for field in fields]


def _text(octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None
    if "\0" in text:  # hash functions written in C end at NUL: "a\0b" must not be taken for "a"
        raise MalformedError("NUL in a name or password")
    return text


def _require_own(authzid: str, name: str) -> None:
    if authzid and authzid.lower() != name.lower():
        raise AuthenticationError("nobody acts for another user")
