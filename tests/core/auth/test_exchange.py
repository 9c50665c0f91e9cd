"""core/auth/exchange: challenges are answered line by line, and a success has to be confirmed."""

import base64
import hashlib

import pytest

from mailtools.core.auth import client, scram
from mailtools.core.auth.exchange import Exchange
from mailtools.core.engine import RemoteProtocolError

CREDENTIALS = client.Credentials("bob", "secret", "abc")


def begun(mechanism: str) -> tuple[Exchange, list[bytes]]:
    said: list[bytes] = []
    return Exchange(client.MECHANISMS[mechanism](CREDENTIALS), said.append), said


def test_plain_needs_no_challenge() -> None:
    login, said = begun("PLAIN")
    assert base64.b64decode(login.initial or b"") == b"\0bob\0secret"
    login.end(is_success=True)
    assert said == []
    assert not login.is_open


def test_an_initial_response_that_was_held_back_answers_the_first_challenge() -> None:
    login, said = begun("PLAIN")
    initial = login.initial
    login.hold_back()
    assert login.initial is None
    login.respond(b"")
    assert said == [initial]
    login.end(is_success=True)


def test_login_answers_any_prompts() -> None:
    login, said = begun("LOGIN")
    assert login.initial is None
    login.respond(b"VXNlcm5hbWU6")
    login.respond(b"eA== ")
    assert [base64.b64decode(line) for line in said] == [b"bob", b"secret"]
    login.end(is_success=True)


@pytest.mark.parametrize("challenge", [b"not base64!", b"AB=C", b"A"])
def test_a_malformed_challenge_cancels_the_login(challenge: bytes) -> None:
    login, said = begun("LOGIN")
    with pytest.raises(RemoteProtocolError, match="the login failed"):
        login.respond(challenge)
    assert said == [b"*"]
    assert not login.is_open


def test_a_challenge_too_many_cancels_the_login() -> None:
    login, said = begun("PLAIN")
    with pytest.raises(RemoteProtocolError):
        login.respond(b"eA==")
    assert said == [b"*"]


def test_a_success_too_early_is_none() -> None:
    login, _ = begun("SCRAM-SHA-256")
    with pytest.raises(RemoteProtocolError, match="success before the mechanism is at its end"):
        login.end(is_success=True)


def test_a_success_after_we_gave_up_is_none() -> None:
    login, _ = begun("LOGIN")
    with pytest.raises(RemoteProtocolError):
        login.respond(b"!")
    with pytest.raises(RemoteProtocolError, match="we gave up"):
        login.end(is_success=True)


def scram_challenges(login: Exchange, said: list[bytes], password: str) -> bytes:
    """Play the server up to its final message, which is returned."""
    first = scram.parse_first(base64.b64decode(login.initial or b""), {}, False)
    salt = b"salt"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    challenge = b"r=abcdef,s=" + base64.b64encode(salt) + b",i=4096"
    login.respond(base64.b64encode(challenge))
    answer = base64.b64decode(said[-1])
    import hmac

    bare = f"n=bob,r={first.nonce}".encode()
    message = b",".join((bare, challenge, answer.rpartition(b",p=")[0]))
    key = hmac.digest(salted, b"Server Key", "sha256")
    return b"v=" + base64.b64encode(hmac.digest(key, message, "sha256"))


def test_scram_confirms_a_server_that_knows_the_password() -> None:
    login, said = begun("SCRAM-SHA-256")
    login.respond(base64.b64encode(scram_challenges(login, said, "secret")))
    assert said[-1] == b""
    login.end(is_success=True)


def test_scram_gives_up_on_a_server_that_does_not() -> None:
    login, said = begun("SCRAM-SHA-256")
    with pytest.raises(RemoteProtocolError, match="proof is wrong"):
        login.respond(base64.b64encode(scram_challenges(login, said, "guess")))
    assert said[-1] == b"*"


def test_the_servers_refusal_is_kept_for_the_user() -> None:
    login, said = begun("SCRAM-SHA-256")
    scram_challenges(login, said, "secret")
    login.respond(base64.b64encode(b"e=invalid-proof"))
    assert said[-1] == b"*"
    assert login.note == "invalid-proof"
    login.end(is_success=False)
