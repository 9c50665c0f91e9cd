"""The client's half of the mechanisms: against the RFCs' examples, the server's half, and hostile servers."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.auth import client, sasl, scram
from mailtools.core.auth.client import Credentials, Response
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.errors import ConfigurationError

NONCE = "rOprNGfwEbeRWgbNEkqO"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
PROOF = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram_steps() -> client.Mechanism:
    return client.scram_sha_256(Credentials("user", "pencil", NONCE))


def ended(steps: client.Mechanism) -> bool:
    """Tell the mechanism of success; True where it takes it."""
    try:
        steps.send(None)
    except StopIteration:
        return True
    return False


def test_plain_is_the_example_of_the_rfc() -> None:
    steps = client.plain(Credentials("tim", "tanstaaftanstaaf"))
    assert next(steps).octets == b"\0tim\0tanstaaftanstaaf"
    assert ended(steps)


def test_login_says_name_and_password_whatever_the_prompts() -> None:
    steps = client.login(Credentials("bob", "pässword"))
    assert next(steps) == Response(None)
    assert steps.send(b"User Name\0") == Response(b"bob")
    assert steps.send(b"") == Response("pässword".encode())
    assert ended(steps)


def test_scram_is_the_example_of_rfc_7677() -> None:
    steps = scram_steps()
    assert next(steps).octets == FIRST
    assert steps.send(CHALLENGE).octets == FINAL
    assert steps.send(PROOF).octets == b""
    assert ended(steps)


@pytest.mark.parametrize("challenges", [[], [CHALLENGE]])
def test_success_without_the_servers_proof_is_none(challenges: list[bytes]) -> None:
    steps = scram_steps()
    next(steps)
    for challenge in challenges:
        steps.send(challenge)
    with pytest.raises(MalformedError, match="proved nothing"):
        steps.send(None)


@pytest.mark.parametrize(
    "challenge",
    [
        b"", b"r=", b"\xff", CHALLENGE.replace(b"r=rOpr", b"r=xOpr"), CHALLENGE.replace(b"4096", b"0"),
        CHALLENGE.replace(b"4096", b"-1"), CHALLENGE.replace(b"4096", b"1000001"),
        CHALLENGE.replace(b"4096", b"9" * 5000), CHALLENGE.replace(b"gQ==", b"g"),
        CHALLENGE.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="), b"m=ext," + CHALLENGE,
        f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode(), PROOF,
    ],
)  # fmt: skip
def test_a_first_challenge_that_is_none(challenge: bytes) -> None:
    steps = scram_steps()
    next(steps)
    with pytest.raises(MalformedError):
        steps.send(challenge)


@pytest.mark.parametrize(
    "final", [b"", b"v=", b"v=AAAA", PROOF.replace(b"6r", b"7r"), b"v=!", b"\xff", CHALLENGE]
)
def test_a_server_that_cannot_prove_itself(final: bytes) -> None:
    steps = scram_steps()
    next(steps)
    steps.send(CHALLENGE)
    with pytest.raises(MalformedError):
        steps.send(final)


def test_a_server_that_says_why_it_refuses() -> None:
    steps = scram_steps()
    next(steps)
    steps.send(CHALLENGE)
    with pytest.raises(AuthenticationError, match=r"^unknown-user\?$"):
        steps.send(b"e=unknown-user\x1b")


def test_a_bad_password_gives_another_proof() -> None:
    steps = client.scram_sha_256(Credentials("user", "pencils", NONCE))
    next(steps)
    assert steps.send(CHALLENGE).octets != FINAL


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"])
def test_challenges_end(name: str) -> None:
    """No server can keep us answering."""
    steps = client.MECHANISMS[name](Credentials("user", "pencil", NONCE))
    next(steps)
    with pytest.raises(MalformedError):
        for challenge in (CHALLENGE, PROOF, b"", b"", b""):
            steps.send(challenge)


def test_oauthbearer_is_the_example_of_rfc_7628() -> None:
    token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    steps = client.oauthbearer(Credentials("user@example.com", token, host="server.example.com", port=143))
    assert next(steps).octets == (
        b"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer " + token.encode() + b"\1\1"
    )
    assert ended(steps)


def test_xoauth2() -> None:
    steps = client.xoauth2(
        Credentials("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    )
    assert base64.b64encode(next(steps).octets or b"") == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1s"
        b"emRHRXVZMjl0Q2cBAQ=="
    )
    assert ended(steps)


@pytest.mark.parametrize(("name", "answer"), [("OAUTHBEARER", b"\1"), ("XOAUTH2", b"")])
def test_a_token_that_is_refused(name: str, answer: bytes) -> None:
    steps = client.MECHANISMS[name](Credentials("bob", "token"))
    next(steps)
    said = steps.send(b'{"status":"401","schemes":"bearer","scope":"mail"}')
    assert said == Response(answer, "401 mail")
    with pytest.raises(MalformedError, match="and then success"):
        steps.send(None)


@pytest.mark.parametrize(
    ("challenge", "note"),
    [
        (b'{"status": 400, "error_description": "no\\u001b[31m such\\nuser"}', "400 no?[31m such?user"),
        (b"not JSON", "not JSON"), (b"[1, 2]", "[1, 2]"), (b"{}", ""), (b"\xff", "\ufffd"),
        (b'{"status": {"a": 1}}', ""), (b"[" * 5000, "[" * 200 + "..."),
        (b'{"status": "' + b"x" * 999 + b'"}', "x" * 200 + "..."),
        (b'{"status": ' + b"9" * 9000 + b"}", '{"status": ' + "9" * 189 + "..."),
    ],
)  # fmt: skip
def test_what_is_told_of_a_refused_token(challenge: bytes, note: str) -> None:
    assert client.token_note(challenge) == note


def test_names_are_escaped() -> None:
    assert (next(client.scram_sha_256(Credentials("a=b,c", "x", "n"))).octets) == b"n,,n=a=3Db=2Cc,r=n"
    assert (next(client.oauthbearer(Credentials("a=b,c", "x"))).octets or b"").startswith(b"n,a=a=3Db=2Cc,\1")


@pytest.mark.parametrize("name", list(client.MECHANISMS))
@pytest.mark.parametrize(("user", "secret"), [("", "x"), ("a\0b", "x"), ("a", "p\0q")])
def test_what_cannot_be_said(name: str, user: str, secret: str) -> None:
    if (name, user) == ("SCRAM-SHA-256", "a"):  # a password that is never sent may hold anything
        assert next(client.MECHANISMS[name](Credentials(user, secret)))
        return
    with pytest.raises(ConfigurationError):
        next(client.MECHANISMS[name](Credentials(user, secret)))


@pytest.mark.parametrize("name", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("token", ["", "a b", "a\1b", "a\r\nb", "é"])
def test_a_token_that_is_none(name: str, token: str) -> None:
    with pytest.raises(ConfigurationError):
        next(client.MECHANISMS[name](Credentials("bob", token)))


@pytest.mark.parametrize(
    ("offered", "forced", "is_token", "chosen"),
    [
        ("LOGIN PLAIN SCRAM-SHA-256 XOAUTH2", "", False, "SCRAM-SHA-256"),
        ("login plain", "", False, "PLAIN"),
        ("LOGIN CRAM-MD5", "", False, "LOGIN"),
        ("CRAM-MD5 XOAUTH2", "", False, ""),
        ("PLAIN XOAUTH2 OAUTHBEARER", "", True, "OAUTHBEARER"),
        ("PLAIN XOAUTH2", "", True, "XOAUTH2"),
        ("PLAIN", "", True, ""),
        ("PLAIN SCRAM-SHA-256", "plain", False, "PLAIN"),
        ("PLAIN SCRAM-SHA-256", "login", False, ""),
        ("CRAM-MD5", "cram-md5", False, ""),
    ],
)
def test_the_choice(offered: str, forced: str, is_token: bool, chosen: str) -> None:
    assert client.choose(offered.split(), forced, is_token) == chosen


names = st.text(st.characters(exclude_characters="\0\1", exclude_categories=["Cs"]), min_size=1, max_size=20)


def played(name: str, ours: Credentials, password: str, iterations: int = 2) -> str | None:
    """Client half against server half; who logged in, None: nobody."""
    steps = client.MECHANISMS[name](ours)
    keys = scram.derive_keys(password, b"salt", iterations)
    theirs = sasl.MECHANISMS[name](next(steps).octets, {})
    try:
        question = next(theirs)
        while True:
            if isinstance(question, sasl.Challenge):
                response = steps.send(question.octets).octets
                assert response is not None
                question = theirs.send(response)
            elif isinstance(question, sasl.CheckPassword):
                question = theirs.send(question.password == password)
            else:
                question = theirs.send(sasl.Found(keys, "theirs"))
    except StopIteration as end:
        assert ended(steps)
        return str(end.value)
    except AuthenticationError:
        return None


@given(st.sampled_from(sorted(sasl.MECHANISMS.keys() & client.MECHANISMS)), names, names, names)
def test_both_halves_agree(name: str, user: str, password: str, other: str) -> None:
    expected = scram.prepare(user) if name == "SCRAM-SHA-256" else user
    if not expected:
        return
    assert played(name, Credentials(user, password, "ours"), password) == expected
    if scram.prepare(other) != scram.prepare(password):
        assert played(name, Credentials(user, other, "ours"), password) is None


@given(st.sampled_from(sorted(client.MECHANISMS)), st.lists(st.none() | st.binary(max_size=60), max_size=4))
def test_whatever_a_server_says(name: str, challenges: list[bytes | None]) -> None:
    steps = client.MECHANISMS[name](Credentials("bob", "secret", NONCE))
    next(steps)
    with suppress(MalformedError, AuthenticationError, StopIteration):
        for challenge in challenges:
            assert isinstance(steps.send(challenge), Response)
