"""core/pop3/client: answers in the order of the commands, whole or in pieces."""

import base64
from collections.abc import Iterator

import pytest

from mailtools.core.auth.client import MECHANISMS, Credentials
from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.pop3 import client as engines
from mailtools.core.pop3.client import Answered, Listing, Pop3Client, Pop3Piece, numbered
from mailtools.core.wire.dots import Stuffer

GREETING = b"+OK hi <1.2@host>\r\n"


def events(engine: Pop3Client, octets: bytes) -> list[object]:
    engine.receive_data(octets)
    found: list[object] = []
    while (event := engine.next_event()) is not None:
        found.append(event)
    return found


def engine(*commands: str) -> Pop3Client:
    made = Pop3Client()
    assert events(made, GREETING) == [Answered("", True, "hi <1.2@host>")]
    assert made.banner == "<1.2@host>"
    for command in commands:
        made.command(command, is_long=command.split()[0] in ("RETR", "UIDL", "CAPA"))
    return made


def test_answers_in_their_order() -> None:
    made = engine("CAPA", "RETR 1", "DELE 1", "RETR 2")
    assert made.data_to_send() == b"CAPA\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\n"
    said = b"+OK\r\nSASL PLAIN\r\n.\r\n+OK 5\r\na\r\n..b\r\n.\r\n-ERR [IN-USE] no\r\n+OK\r\n.\r\n"
    wanted = [
        Answered("CAPA", True, ""), Listing("CAPA", b"SASL PLAIN\r\n"), Answered("RETR", True, "5"),
        Listing("RETR", b"a\r\n.b\r\n"), Answered("DELE", False, "no", "IN-USE"), Answered("RETR", True, ""),
        Listing("RETR", b""),
    ]  # fmt: skip
    assert events(made, said) == wanted
    assert made.capabilities == {"SASL": "PLAIN"}
    slow = engine("CAPA", "RETR 1", "DELE 1", "RETR 2")
    assert [event for octet in said for event in events(slow, bytes([octet]))] == wanted


@pytest.mark.parametrize("body", [b"x\n.\nx\r\n", b"x\r\n.x\r\n", b"\n.\r\n", b"x\r\n..\r\n"])
def test_only_crlf_dot_crlf_ends_a_message(body: bytes) -> None:
    found = events(engine("RETR 1"), b"+OK\r\n" + body + b".\r\n")
    assert len(found) == 2


@pytest.mark.parametrize(
    "line", [b"y" * 70 + b"\r\n", b".dot\r\n", b"z" * 200_000 + b"\r\n", b"." * 200_000 + b"\r\n"]
)
def test_a_large_message_comes_in_pieces(line: bytes) -> None:
    message = line * (3_000_000 // len(line))
    stuffed = Stuffer()(message)
    made = engine("RETR 1")
    found = events(made, b"+OK\r\n")
    for at in range(0, len(stuffed), 50_000):
        found += events(made, stuffed[at : at + 50_000])
    found += events(made, b".\r\n")
    pieces = [event for event in found if isinstance(event, Pop3Piece)]
    assert b"".join(piece.octets for piece in pieces) == message
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    "octets", [b"* OK imap\r\n", b"220 smtp\r\n", b"x" * 20_000, b"+OK\r\n+OK again\r\n"]
)
def test_what_no_server_should_say(octets: bytes) -> None:
    made = Pop3Client()
    with pytest.raises(RemoteProtocolError):
        events(made, octets)


def test_a_listing_without_end() -> None:
    made = engine("UIDL")
    events(made, b"+OK\r\n")
    with pytest.raises(RemoteProtocolError, match="without end"):
        for _ in range(300):
            events(made, b"1 x\r\n" * 200_000)


@pytest.mark.parametrize(
    "line", [b"x 1\r\n", b"1\r\n", b"1 \r\n", "\uff11 x\r\n".encode(), b"99999999999 x\r\n"]
)
def test_lines_that_are_none_are_named(line: bytes) -> None:
    found, bad = numbered(b"5 a\r\n" + line + b"6 b\r\n")
    assert found == {5: "a", 6: "b"}
    assert len(bad) == 1


@pytest.mark.parametrize("line", ["USER x\r\nDELE 1", "USER x\n", "USER x\r", "USER x\0"])
def test_a_command_is_one_line(line: str) -> None:
    made = engine()
    with pytest.raises(LocalProtocolError):
        made.command(line)
    assert (made.data_to_send(), made.awaited) == (b"", 0)


def test_a_command_holds_the_octets_of_an_argument_that_is_not_utf_8() -> None:
    made = engine()
    made.command("USER b\udcf6b")
    assert made.data_to_send() == b"USER b\xf6b\r\n"


def test_octets_to_send_are_given_once() -> None:
    made = engine("NOOP")
    assert (made.data_to_send(), made.data_to_send()) == (b"NOOP\r\n", b"")


# -- answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"+OK\r\n", Answered("NOOP", True, "")),
        (b"+ok  two \r\n", Answered("NOOP", True, "two")),
        (b"-err no\n", Answered("NOOP", False, "no")),  # LF alone, as some servers send
        (b"-ERR [sys/temp] later\r\n", Answered("NOOP", False, "later", "SYS/TEMP")),
        (b"-ERR [AUTH]\r\n", Answered("NOOP", False, "", "AUTH")),
        (b"-ERR [no code here] x\r\n", Answered("NOOP", False, "[no code here] x")),
        (b"-ERR [\r\n", Answered("NOOP", False, "[")),
        (b"+OK \0\xff\r\n", Answered("NOOP", True, "\0\ufffd")),
        (b"+OK " + b"x" * 16_000 + b"\r\n", Answered("NOOP", True, "x" * 16_000)),
    ],
)
def test_answers_as_servers_write_them(line: bytes, answer: Answered) -> None:
    assert events(engine("NOOP"), line) == [answer]
    slow = engine("NOOP")
    assert [event for octet in line for event in events(slow, bytes([octet]))] == [answer]


@pytest.mark.parametrize(
    "octets",
    [
        b"x" * 17_000,  # no end in sight
        b"+OK " + b"x" * 17_000 + b"\r\n",
        b"\r\n",
        b"\0+OK\r\n",
        b"+OKAY\r\n",
        b"+ \r\n",  # a challenge, but there is no login
        b"+OK\r\n+OK nobody asked\r\n",
    ],
)
def test_answers_that_no_server_should_give(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        events(engine("NOOP"), octets)
    slow = engine("NOOP")
    with pytest.raises(RemoteProtocolError):
        for octet in octets:
            events(slow, bytes([octet]))


def test_answers_are_counted_until_they_come() -> None:
    made = engine("NOOP", "NOOP")
    assert made.awaited == 2
    events(made, b"+OK\r\n")
    assert made.awaited == 1
    assert made.buffered == 0
    events(made, b"+O")
    assert (made.awaited, made.buffered) == (1, 2)


@pytest.mark.parametrize(
    ("greeting", "banner"),
    [
        (b"+OK <1.2@host> hi\r\n", "<1.2@host>"),
        (b"+OK hi\r\n", ""),
        (b"+OK <no at sign>\r\n", ""),
        (b"+OK <a b@host>\r\n", ""),
        (b"+OK <\x01@host>\r\n", ""),
        (b"+OK <a@>\r\n", ""),
    ],
)
def test_the_banner_is_what_looks_like_a_message_id(greeting: bytes, banner: str) -> None:
    made = Pop3Client()
    events(made, greeting)
    assert made.banner == banner


def test_the_end_of_the_connection_is_noted_after_the_last_answer() -> None:
    made = engine("NOOP")
    made.receive_data(b"+OK\r\n")
    made.receive_eof()
    assert made.next_event() == Answered("NOOP", True, "")
    assert not made.is_closed
    assert made.next_event() is None
    assert made.is_closed


# -- long answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"..\r\n", b".\r\n"),
        (b"..\r\n..x\r\n\r\n", b".\r\n.x\r\n\r\n"),
        (b"bare \n.. LF and \r CR\r\n", b"bare \n. LF and \r CR\r\n"),
        (b"\0\xff\r\n", b"\0\xff\r\n"),
        (b"x" * 5000 + b"\r\n" + b"..y\r\n" * 300, b"x" * 5000 + b"\r\n" + b".y\r\n" * 300),
    ],
)
@pytest.mark.parametrize("whole", [10, 1 << 20])
def test_a_message_is_the_same_however_its_octets_come(
    said: bytes, message: bytes, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "WHOLE", whole)
    said = b"+OK\r\n" + said + b".\r\n+OK next\r\n"
    for size in (1, 7, len(said)):
        made = engine("RETR 1", "NOOP")
        found = [e for at in range(0, len(said), size) for e in events(made, said[at : at + size])]
        assert found[0] == Answered("RETR", True, "")
        assert found[-1] == Answered("NOOP", True, "next")
        octets = [event.octets for event in found[1:-1] if isinstance(event, Listing | Pop3Piece)]
        assert b"".join(octets) == message


def test_a_refused_command_has_no_lines() -> None:
    made = engine("RETR 1", "NOOP")
    assert events(made, b"-ERR no\r\n+OK\r\n") == [Answered("RETR", False, "no"), Answered("NOOP", True, "")]


@pytest.mark.parametrize("whole", [10, 1 << 20])
def test_a_long_listing_comes_whole(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WHOLE", whole)
    listing = b"".join(b"%d id-%d\r\n" % (n, n) for n in range(50))
    made = engine("UIDL")
    found = [e for octet in b"+OK\r\n" + listing + b".\r\n" for e in events(made, bytes([octet]))]
    assert found == [Answered("UIDL", True, ""), Listing("UIDL", listing)]


def test_capabilities_have_names_in_capitals_and_parameters() -> None:
    made = engine("CAPA")
    events(made, b"+OK\r\nsasl PLAIN Login\r\nTOP\r\n\r\nEXPIRE 60\r\n.\r\n")
    assert made.capabilities == {"SASL": "PLAIN Login", "TOP": "", "EXPIRE": "60"}


def test_numbers_and_values_of_a_listing() -> None:
    found = numbered(b"1 id\r\n 2  two words \r\n\r\n3 \xff\r\n")
    assert found == ({1: "id", 2: "two words", 3: "\udcff"}, [])


# -- logins and TLS ------------------------------------------------------------------------------------------


def with_login(name: str, with_initial: bool = True, secret: str = "secret") -> Pop3Client:
    made = engine()
    made.auth(name, MECHANISMS[name](Credentials("bob", secret, "nonce")), with_initial)
    return made


def sent(made: Pop3Client) -> list[bytes]:
    """The lines to send; what is base64 in them is decoded."""
    return [decoded(line) for line in made.data_to_send().split(b"\r\n")[:-1]]


def decoded(line: bytes) -> bytes:
    head, _, last = line.rpartition(b" ")
    try:
        return head + b" " * bool(head) + base64.b64decode(last, validate=True)
    except ValueError:
        return line


def challenges(*texts: bytes) -> Iterator[bytes]:
    return (b"+ " + base64.b64encode(text) + b"\r\n" for text in texts)


def test_the_digest_of_apop_is_that_of_the_rfc() -> None:
    """RFC 1939 section 7."""
    made = Pop3Client()
    events(made, b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\r\n")
    made.apop("mrose", "tanstaaf")
    assert made.data_to_send() == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"


@pytest.mark.parametrize(
    ("with_initial", "secret", "is_short"),
    [(True, "secret", True), (False, "secret", False), (True, "s" * 200, False)],
)
def test_the_first_response_goes_with_the_command_if_it_fits_a_line(
    with_initial: bool, secret: str, is_short: bool
) -> None:
    made = with_login("PLAIN", with_initial, secret)
    response = b"\0bob\0" + secret.encode()
    if is_short:
        assert sent(made) == [b"AUTH PLAIN " + response]
    else:
        assert made.data_to_send() == b"AUTH PLAIN\r\n"
        assert events(made, b"+\r\n") == []
        assert sent(made) == [response]
    assert events(made, b"+OK in\r\n") == [Answered("AUTH", True, "in")]


def test_challenges_are_answered_octet_by_octet() -> None:
    made = with_login("LOGIN")
    assert sent(made) == [b"AUTH LOGIN"]
    said = b"".join(challenges(b"User:", b"Password:")) + b"+OK\r\n"
    assert [e for octet in said for e in events(made, bytes([octet]))] == [Answered("AUTH", True, "")]
    assert sent(made) == [b"bob", b"secret"]


def test_a_login_that_the_mechanism_gives_up_is_cancelled() -> None:
    made = with_login("SCRAM-SHA-256")
    made.data_to_send()
    events(made, b"".join(challenges(b"r=nonce1,s=c2FsdA==,i=4096")))
    made.data_to_send()
    assert events(made, b"".join(challenges(b"e=unknown-user"))) == []
    assert made.data_to_send() == b"*\r\n"
    assert made.login_note == "unknown-user"
    assert events(made, b"-ERR cancelled\r\n") == [Answered("AUTH", False, "cancelled")]


@pytest.mark.parametrize(
    ("name", "said", "last"),
    [
        ("PLAIN", b"+ not base64!\r\n", b"*\r\n"),
        ("SCRAM-SHA-256", b"".join(challenges(b"nonsense")), b"*\r\n"),
        ("SCRAM-SHA-256", b"".join(challenges(b"r=other,s=c2FsdA==,i=1")), b"*\r\n"),
        ("PLAIN", b"".join(challenges(b"once more")), b"*\r\n"),
        ("SCRAM-SHA-256", b"+OK\r\n", b""),  # it proved nothing
        ("LOGIN", b"+OK\r\n", b""),
    ],
)
def test_logins_that_the_server_spoils(name: str, said: bytes, last: bytes) -> None:
    made = with_login(name)
    made.data_to_send()
    with pytest.raises(RemoteProtocolError):
        events(made, said)
    assert made.data_to_send() == last


def test_success_after_a_cancelled_login_is_an_error() -> None:
    made = with_login("SCRAM-SHA-256")
    events(made, b"".join(challenges(b"r=nonce1,s=c2FsdA==,i=4096", b"e=no")))
    with pytest.raises(RemoteProtocolError, match="we gave up"):
        events(made, b"+OK in\r\n")


def test_after_a_refused_login_another_may_begin() -> None:
    made = with_login("LOGIN")
    events(made, b"-ERR no\r\n")
    made.data_to_send()
    made.auth("PLAIN", MECHANISMS["PLAIN"](Credentials("bob", "secret")), True)
    assert events(made, b"+OK\r\n") == [Answered("AUTH", True, "")]


def test_tls_forgets_what_was_said_before() -> None:
    made = engine("CAPA", "STLS")
    made.data_to_send()
    events(made, b"+OK\r\nTOP\r\n.\r\n+OK go\r\n")
    made.start_tls()
    assert (made.capabilities, made.banner) == ({}, "")


def test_more_behind_stls_is_an_injection() -> None:
    made = engine("STLS")
    made.data_to_send()
    made.receive_data(b"+OK go\r\n+OK injected\r\n")
    assert made.next_event() == Answered("STLS", True, "go")
    with pytest.raises(RemoteProtocolError, match="injects"):
        made.start_tls()


def test_tls_does_not_begin_before_the_answer() -> None:
    made = engine("STLS")
    made.data_to_send()
    with pytest.raises(LocalProtocolError):
        made.start_tls()
