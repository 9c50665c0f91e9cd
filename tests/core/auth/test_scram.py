"""SCRAM-SHA-256, after the example of RFC 7677 §3, and what has to fail."""

import base64

import pytest

from mailtools.core.auth import scram
from mailtools.core.auth.errors import AuthenticationError, MalformedError

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
KEYS = scram.derive_keys("pencil", SALT, 4096)
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
PROOF = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_example_of_the_rfc() -> None:
    first = scram.parse_first(FIRST, {}, plus=False)
    assert (first.name, first.authzid) == ("user", "")
    assert scram.server_first(first, NONCE, KEYS) == CHALLENGE
    assert scram.server_final(first, CHALLENGE, FINAL, KEYS, b"") == PROOF


@pytest.mark.parametrize(
    "final",
    [
        FINAL.replace(b"p=dH", b"p=eH"),
        FINAL.replace(b"hNlF", b"hNlG"),
        FINAL.replace(b"c=biws", b"c=eSws"),
        FINAL[: FINAL.index(b"p=")] + b"p=AAAA",
        FINAL[: FINAL.index(b"p=")] + b"p=" + base64.b64encode(b"x" * 40),
        FINAL.replace(b",p=", b",x=extension,p="),
    ],
)
def test_a_proof_that_does_not_fit(final: bytes) -> None:
    first = scram.parse_first(FIRST, {}, plus=False)
    with pytest.raises(AuthenticationError):
        scram.server_final(first, CHALLENGE, final, KEYS, b"")


@pytest.mark.parametrize(
    "final", [b"", b"c=biws", b"p=abcd", FINAL + b"\xff", b"c=!,r=x,p=AAAA", FINAL[:-3] + b"==="]
)
def test_a_last_message_that_is_none(final: bytes) -> None:
    first = scram.parse_first(FIRST, {}, plus=False)
    with pytest.raises(MalformedError):
        scram.server_final(first, CHALLENGE, final, KEYS, b"")


@pytest.mark.parametrize(
    "octets",
    [
        b"", b"n", b"n,,", b"n,,n=,r=x", b"n,,n=user", b"n,,n=us=er,r=x", b"n,,n=user,r=", b"n,,n=user,r=a b",
        b"x,,n=user,r=x", b"n,a=us=2,n=user,r=x", b"\xff,,n=user,r=x", b"n,,m=ext,n=user,r=x",
    ],
)  # fmt: skip
def test_a_first_message_that_is_none(octets: bytes) -> None:
    with pytest.raises(MalformedError):
        scram.parse_first(octets, {}, plus=False)


def test_names_are_unescaped() -> None:
    first = scram.parse_first(b"n,a=a=2Cb=3D,n=a=2Cb=3D,r=x,e=ext", {}, plus=False)
    assert (first.name, first.authzid) == ("a,b=", "a,b=")


def test_channel_binding_is_a_part_of_the_proof() -> None:
    bindings = {"tls-server-end-point": b"certificate"}
    octets = b"p=tls-server-end-point,,n=user,r=x"
    first = scram.parse_first(octets, bindings, plus=True)
    challenge = scram.server_first(first, "y", KEYS)
    bound = base64.b64encode(b"p=tls-server-end-point,,certificate")
    bare = b"c=" + bound + b",r=xy"
    final = bare + b",p=" + _proof(first, challenge, bare)
    assert scram.server_final(first, challenge, final, KEYS, b"certificate").startswith(b"v=")
    with pytest.raises(AuthenticationError):
        scram.server_final(first, challenge, final, KEYS, b"another")


def _proof(first: scram.ClientFirst, challenge: bytes, bare: bytes) -> bytes:
    """The client's half."""
    import hashlib
    import hmac

    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    message = b",".join((first.bare.encode(), challenge, bare))
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    return base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


def test_nobody_in_between_hides_channel_binding() -> None:
    bindings = {"tls-server-end-point": b"c"}
    with pytest.raises(AuthenticationError, match="told that we do not"):
        scram.parse_first(b"y,,n=user,r=x", bindings, plus=False)
    assert scram.parse_first(b"n,,n=user,r=x", bindings, plus=False).name == "user"
    assert scram.parse_first(b"y,,n=user,r=x", {}, plus=False).name == "user"
    with pytest.raises(AuthenticationError, match="tls-exporter"):
        scram.parse_first(b"p=tls-exporter,,n=user,r=x", bindings, plus=True)
    with pytest.raises(MalformedError):
        scram.parse_first(b"p=tls-server-end-point,,n=user,r=x", bindings, plus=False)
    with pytest.raises(MalformedError):
        scram.parse_first(b"n,,n=user,r=x", bindings, plus=True)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_passwords_are_prepared(text: str, prepared: str) -> None:
    """The examples of RFC 4013 §3."""
    assert scram.prepare(text) == prepared
