"""The client engine: replies in order, nothing of a stranger's believed, nothing sent that is two lines."""

import pytest

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
    engine.mail("a@b", "SIZE=1")
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
        SmtpClient().rcpt(bad)


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
