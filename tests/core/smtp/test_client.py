"""The client engine: replies in order, nothing of a stranger's believed, nothing sent that is two lines."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.auth.client import MECHANISMS, Credentials
from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.smtp.client import Replied, SmtpClient
from mailtools.core.smtp.reply import Reply


def client(*said: bytes) -> SmtpClient:
    engine = SmtpClient()
    for octets in said:
        engine.receive_data(octets)
    return engine


def test_replies_come_in_the_order_of_commands() -> None:
    engine = client(b"220 hi\r\n")
    engine.command("EHLO", "x")
    engine.command("MAIL", "FROM:<a@b> SIZE=1")
    assert engine.data_to_send() == b"EHLO x\r\nMAIL FROM:<a@b> SIZE=1\r\n"
    engine.receive_data(b"250-h\r\n250-SIZE 10\r\n250 pipelining\r\n250 2.1.0 ")
    assert engine.next_event() == Replied("", Reply(220, "", "hi"))
    assert engine.next_event() == Replied("EHLO", Reply(250, "", "h\nSIZE 10\npipelining"))
    assert engine.capabilities == {"SIZE": "10", "PIPELINING": ""}
    assert engine.next_event() is None
    engine.receive_data(b"Ok\n")
    assert engine.next_event() == Replied("MAIL", Reply(250, "2.1.0", "Ok"))
    assert engine.awaited == 0


@pytest.mark.parametrize(
    "said",
    [b"hello\r\n", b"199 x\r\n", b"600 x\r\n", b"250-a\r\n251 b\r\n", b"25\r\n", b"x" * 9000, b"250-a\r\n" * 600,
     b"\xb2\xb5\xb0 x\r\n", b"220 " + b"y" * 9000 + b"\r\n"],
)  # fmt: skip
def test_what_is_no_reply(said: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        while client(said).next_event() is None:
            raise AssertionError("not told")


def test_a_reply_nobody_asked_for() -> None:
    engine = client(b"220 x\r\n250 surprise\r\n")
    engine.next_event()
    with pytest.raises(RemoteProtocolError):
        engine.next_event()


def test_421_may_come_at_any_time() -> None:
    engine = client(b"220 x\r\n421 bye\r\n")
    engine.next_event()
    assert engine.next_event() == Replied("", Reply(421, "", "bye"))
    assert engine.is_closed


@pytest.mark.parametrize("bad", ["a\r\nRCPT TO:<b@c>", "a\nb", "a\rb", "a\0b"])
def test_no_command_is_two_lines(bad: str) -> None:
    with pytest.raises(LocalProtocolError):
        SmtpClient().command("RCPT", f"TO:<{bad}>")


@pytest.mark.parametrize(
    ("chunks", "sent"),
    [
        ([], b".\r\n"),
        ([b""], b".\r\n"),
        ([b".\r\n", b".x\r\n"], b"..\r\n..x\r\n.\r\n"),
        ([b"no end"], b"no end\r\n.\r\n"),
        ([b"a piece", b".and more\r\n"], b"a piece.and more\r\n.\r\n"),
    ],
)
def test_messages(chunks: list[bytes], sent: bytes) -> None:
    engine = SmtpClient()
    for chunk in chunks:
        engine.message_chunk(chunk)
    engine.end_message()
    assert engine.data_to_send() == sent


# -- STARTTLS ------------------------------------------------------------------------------------------------


def test_tls_makes_void_what_was_said_before() -> None:
    engine = client(b"220 hi\r\n250-h\r\n250 STARTTLS\r\n220 go\r\n")
    engine.command("EHLO", "x")
    engine.command("STARTTLS")
    assert engine.data_to_send()
    for _ in range(3):
        engine.next_event()
    assert "STARTTLS" in engine.capabilities
    engine.start_tls()
    assert engine.capabilities == {}


@pytest.mark.parametrize("more", [b"2", b"250 ok\r\n", b"\n", b"250-h\r\n250 AUTH PLAIN\r\n"])
def test_what_comes_with_the_answer_to_starttls_is_injected(more: bytes) -> None:
    engine = client(b"220 hi\r\n220 go\r\n" + more)
    engine.command("STARTTLS")
    engine.data_to_send()
    engine.next_event()
    engine.next_event()
    with pytest.raises(RemoteProtocolError, match="injects"):
        engine.start_tls()


def test_tls_begins_between_commands_only() -> None:
    engine = client(b"220 hi\r\n")
    engine.next_event()
    engine.command("STARTTLS")
    with pytest.raises(LocalProtocolError):
        engine.start_tls()


# -- AUTH ----------------------------------------------------------------------------------------------------

BOB = Credentials("bob", "secret", "nonce")


def at_login(name: str, credentials: Credentials = BOB) -> SmtpClient:
    engine = client(b"220 hi\r\n")
    engine.next_event()
    engine.auth(name, MECHANISMS[name](credentials))
    return engine


def said(octets: bytes) -> bytes:
    return base64.b64encode(octets) + b"\r\n"


def test_a_login_in_one_command() -> None:
    engine = at_login("PLAIN")
    assert engine.data_to_send() == b"AUTH PLAIN " + said(b"\0bob\0secret")
    assert engine.shown == b"AUTH PLAIN ***\r\n"
    engine.receive_data(b"235 2.7.0 in\r\n")
    assert engine.next_event() == Replied("AUTH", Reply(235, "2.7.0", "in"))


def test_a_login_in_many_lines() -> None:
    engine = at_login("LOGIN")
    assert engine.data_to_send() == engine.shown == b"AUTH LOGIN\r\n"
    for challenge, response in ((b"VXNlcm5hbWU6", b"bob"), (b"", b"secret")):
        engine.receive_data(b"334 " + challenge + b"\r\n")
        assert engine.next_event() is None
        assert engine.data_to_send() == said(response)
        assert engine.shown == b"***\r\n"
    engine.receive_data(b"535 5.7.8 wrong\r\n")
    assert engine.next_event() == Replied("AUTH", Reply(535, "5.7.8", "wrong"))


@pytest.mark.parametrize("size", [367, 368])
def test_a_command_has_512_octets_at_most(size: int) -> None:
    password = "x" * size
    engine = at_login("PLAIN", Credentials("bob", password))
    command = engine.data_to_send()
    assert len(command) <= 512
    assert (command == b"AUTH PLAIN\r\n") == (size == 368)
    if size == 368:
        engine.receive_data(b"334\r\n")
        assert engine.next_event() is None
        assert engine.data_to_send() == said(b"\0bob\0" + password.encode())


def test_a_challenge_may_be_long() -> None:
    engine = at_login("LOGIN")
    engine.receive_data(b"334 " + base64.b64encode(b"x" * 9000) + b"\r\n")
    assert engine.next_event() is None
    engine.receive_data(b"334 " + b"x" * 13_000)
    with pytest.raises(RemoteProtocolError, match="without end"):
        engine.next_event()


@pytest.mark.parametrize(
    "challenge", [b"334 ?\r\n", b"334 VXN\r\n", b"334-VXNl\r\n334 VXNl\r\n", b"334 \xff\r\n"]
)
def test_a_challenge_that_is_none_is_cancelled(challenge: bytes) -> None:
    engine = at_login("LOGIN")
    engine.data_to_send()
    engine.receive_data(challenge)
    with pytest.raises(RemoteProtocolError, match="not base64"):
        engine.next_event()
    assert engine.data_to_send() == b"*\r\n"
    engine.receive_data(b"235 in\r\n")
    with pytest.raises(RemoteProtocolError, match="gave up"):
        engine.next_event()


def test_a_success_that_proves_nothing() -> None:
    engine = at_login("SCRAM-SHA-256")
    engine.receive_data(b"235 in\r\n")
    with pytest.raises(RemoteProtocolError, match="proved nothing"):
        engine.next_event()


def test_what_the_server_says_of_a_token() -> None:
    engine = at_login("OAUTHBEARER")
    engine.data_to_send()
    engine.receive_data(b"334 " + said(b'{"status":"invalid_token"}'))
    assert engine.next_event() is None
    assert engine.data_to_send() == b"AQ==\r\n"
    assert engine.login_note == "invalid_token"


def test_334_is_nothing_special_elsewhere() -> None:
    engine = client(b"220 hi\r\n334 VXNl\r\n")
    engine.command("NOOP")
    engine.next_event()
    assert engine.next_event() == Replied("NOOP", Reply(334, "", "VXNl"))


def test_challenges_are_masked_whatever_the_pieces() -> None:
    engine = at_login("LOGIN")
    whole = b"334 c2VjcmV0\r\n334-a\r\n334 b\n235 in\r\n"
    assert b"".join(engine.heard(bytes([octet])) for octet in whole) == (
        b"334 ***\r\n334-***\r\n334 ***\n235 in\r\n"
    )
    assert client().heard(b"334 c2Vjcm") == b"334 c2Vjcm"


@given(
    st.sampled_from(sorted(MECHANISMS)),
    st.lists(
        st.sampled_from([b"334 ", b"334 AAAA", b"235 in", b"535 no", b"\r\n", b"\n"]) | st.binary(max_size=9)
    ),
)
def test_whatever_a_server_says_to_a_login(name: str, pieces: list[bytes]) -> None:
    engine = at_login(name)
    with suppress(RemoteProtocolError):
        for piece in pieces:
            engine.receive_data(piece)
            while engine.next_event() is not None:
                pass


@pytest.mark.parametrize("code", [421, 521])
def test_a_greeting_that_ends_with_a_refusal_is_one(code: int) -> None:
    client = SmtpClient()
    client.receive_data(b"220-mx.test welcomes\r\n220-nobody\r\n%d too many\r\n" % code)
    event = client.next_event()
    assert event is not None
    assert (event.command, event.reply.code) == ("", code)


def test_only_the_last_line_of_a_greeting_may_have_another_code() -> None:
    for octets in (b"220-a\r\n421-b\r\n421 c\r\n", b"220-a\r\n250 b\r\n"):
        client = SmtpClient()
        client.receive_data(octets)
        with pytest.raises(RemoteProtocolError):
            client.next_event()
