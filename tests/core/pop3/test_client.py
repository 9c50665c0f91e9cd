"""core/pop3/client: answers in the order of the commands, whole or in pieces."""

import pytest

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.pop3.client import Answered, Listing, Pop3Client, Pop3Piece, numbered

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


@pytest.mark.parametrize("line", [b"y" * 70 + b"\r\n", b".dot\r\n", b"z" * 200_000 + b"\r\n"])
def test_a_large_message_comes_in_pieces(line: bytes) -> None:
    message = line * (3_000_000 // len(line))
    stuffed = message.replace(b".dot", b"..dot")
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
def test_listings_that_are_none(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(numbered(line))


def test_a_command_is_one_line() -> None:
    with pytest.raises(LocalProtocolError):
        engine().command("USER x\r\nDELE 1")
