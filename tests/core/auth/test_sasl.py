"""Mechanisms as generators: what they ask, whom they let in."""

import pytest

from mailtools.core.auth import sasl, scram
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.auth.sasl import Challenge, CheckPassword, FindKeys, Found


def test_plain() -> None:
    steps = sasl.plain(b"\0bob\0secret", {})
    assert next(steps) == CheckPassword("bob", "secret")
    with pytest.raises(StopIteration) as end:
        steps.send(True)
    assert end.value.value == "bob"


def test_plain_without_initial_response() -> None:
    steps = sasl.plain(None, {})
    assert next(steps) == Challenge(b"")
    assert steps.send(b"Bob\0bob\0p\xc3\xa9") == CheckPassword("bob", "pé")
    with pytest.raises(AuthenticationError):
        steps.send(False)


def test_login() -> None:
    for steps in (sasl.login(None, {}), sasl.login(b"bob", {})):
        asked = next(steps)
        if asked == Challenge(b"Username:"):
            asked = steps.send(b"bob")
        assert asked == Challenge(b"Password:")
        assert steps.send(b"secret") == CheckPassword("bob", "secret")


@pytest.mark.parametrize(
    "octets", [b"", b"bob", b"bob\0secret", b"\0bob\0secret\0", b"\0b\xff\0x", b"a\0bob\0sec\0ret"]
)
def test_plain_that_is_none(octets: bytes) -> None:
    with pytest.raises(MalformedError):
        next(sasl.plain(octets, {}))


@pytest.mark.parametrize(
    "octets", [b"\0\0secret", b"\0bob\0", b"\0bob\0" + b"x" * 1025, b"ann\0bob\0secret", b"\0\0"]
)
def test_plain_that_is_asked_of_nobody(octets: bytes) -> None:
    """No name, no password, too long a one, and acting for another (RFC 4616 §2)."""
    with pytest.raises(AuthenticationError):
        next(sasl.plain(octets, {}))


def test_login_with_nul_is_refused() -> None:
    steps = sasl.login(b"bob", {})
    next(steps)
    with pytest.raises(MalformedError):
        steps.send(b"secret\0x")


def test_scram_acts_for_nobody_else() -> None:
    with pytest.raises(AuthenticationError):
        next(sasl.scram_sha_256(b"n,a=ann,n=bob,r=x", {}))
    assert next(sasl.scram_sha_256(b"n,a=BOB,n=bob,r=x", {})) == FindKeys("bob")


def test_scram_ends_with_an_empty_message() -> None:
    keys = scram.derive_keys("pencil", b"salt", 4096)
    steps = sasl.scram_sha_256(None, {})
    assert next(steps) == Challenge(b"")
    assert steps.send(b"n,,n=user,r=x") == FindKeys("user")
    challenge = steps.send(Found(keys, "nonce"))
    assert isinstance(challenge, Challenge)
    assert challenge.octets.startswith(b"r=xnonce,s=")
    with pytest.raises(AuthenticationError):
        steps.send(b"c=biws,r=xnonce,p=" + b"A" * 43 + b"=")
