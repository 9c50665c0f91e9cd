"""core/imap/server: lines, literals, states, and what may not be mistaken for a command."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.auth.sasl import CheckPassword
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.imap import events
from mailtools.core.imap.events import CommandOutcome, ImapRefusal
from mailtools.core.imap.server import ImapOffer, ImapServerEngine


class Talk:
    """An engine whose questions are answered with yes."""

    def __init__(self, login: bool = True, **offer: Any) -> None:
        self.engine = ImapServerEngine(ImapOffer("host", **offer))
        self.engine.mechanisms = lambda: ("PLAIN",)
        self.events: list[Any] = []
        self.refusal: ImapRefusal | None = None
        self.say(b"")
        if login:
            assert b" OK " in self.say(b"a LOGIN bob x\r\n")
            assert b"b OK" in self.say(b"b SELECT INBOX\r\n")
        self.events.clear()

    def say(self, octets: bytes) -> bytes:
        if octets:
            self.engine.receive_data(octets)
        said = b""
        while (event := self.engine.next_event()) is not None or self.engine.has_more:
            if event is not None:
                self.events.append(event)
                self.answer(event)
            said += self.engine.data_to_send()
        return said + self.engine.data_to_send()

    def answer(self, event: Any) -> None:
        if isinstance(event, CheckPassword):
            self.engine.answer(event, True)
        elif isinstance(event, (events.UserWanted, events.IdleEnded)):
            self.engine.answer(event, None)
        elif isinstance(event, events.AppendStart):
            self.engine.answer(event, self.refusal)
        elif isinstance(event, (events.Execute, events.AppendEnd)):
            self.engine.answer(event, CommandOutcome("OK", "done", "", (b"* here\r\n",)))

    def commands(self) -> list[Any]:
        return [event.command for event in self.events if isinstance(event, events.Execute)]


def test_the_answer_has_the_tag_and_the_responses() -> None:
    assert Talk().say(b"x.1 NOOP\r\n") == b"* here\r\nx.1 OK done\r\n"


def test_octet_by_octet() -> None:
    said = b'a SEARCH TEXT {3}\r\nx"y BODY {2+}\r\nab\r\nb CREATE {5+}\r\na b/c\r\nc NOOP\r\n'
    whole, single = Talk(), Talk()
    expected = whole.say(said)
    assert b"".join(single.say(said[at : at + 1]) for at in range(len(said))) == expected
    assert single.commands() == whole.commands()
    assert len(whole.commands()) == 3


def test_blocks_that_come_later() -> None:
    talk = Talk(False)
    talk.say(b"a LOGIN bob x\r\n")
    engine = talk.engine
    engine.receive_data(b"b NOOP\r\nc NOOP\r\n")
    question = engine.next_event()
    engine.answer(question, CommandOutcome("OK", "done", "", iter(())))
    for octets in (b"* one\r\n", b"* two\r\n"):
        more = engine.next_event()
        assert isinstance(more, events.MoreWanted)
        assert engine.in_transaction
        engine.answer(more, octets)
    engine.answer(engine.next_event(), None)
    assert isinstance(engine.next_event(), events.Execute)
    assert engine.data_to_send() == b"* one\r\n* two\r\nb OK done\r\n"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"a CREATE {2000000}\r\n", b"a BAD the literal is too large\r\n"),
        (b"a CREATE {99999999999999999999}\r\n", b"a BAD the literal is too large\r\n"),
        (b"a CREATE {99999999999999999999999}\r\n", b"a BAD *"),
        (b"a CREATE {-1}\r\n", b"a BAD *"),
        (b"a CREATE " + b"x" * 70_000 + b"\r\n", b"* BAD the line is too long\r\n"),
        (b"a CREATE x\0y\r\n", b"a BAD a command holds no NUL\r\n"),
        (b"a NOOP\n", b"* BAD a line ends with CRLF\r\n"),
        (b"\xff NOOP\r\n", b"* BAD a command begins with a tag\r\n"),
    ],
)
def test_what_is_too_much_or_broken(said: bytes, answer: bytes) -> None:
    talk = Talk()
    found = talk.say(said)
    assert found.startswith(answer.removesuffix(b"*"))
    assert b"z OK done" in talk.say(b"\r\nz NOOP\r\n")
    assert talk.commands()[-1].__class__.__name__ == "Noop"
    assert len(talk.commands()) == 1


def test_a_literal_that_is_too_large_and_comes_anyway_ends_the_session() -> None:
    """Its octets could be taken for commands."""
    talk = Talk()
    assert talk.say(b"a CREATE {2000000+}\r\nz DELETE x\r\n").startswith(b"* BYE")
    assert talk.engine.is_closed
    assert not talk.commands()


@pytest.mark.parametrize("start", [b"\xff ", b"a b\0c", b"a FROB ", b"a SEARCH FROB "])
def test_the_literals_of_a_wrong_command_are_no_commands(start: bytes) -> None:
    talk = Talk()
    inner = b"x DELETE INBOX\r\n"
    talk.say(start + b" {%d+}\r\n%b\r\nz NOOP\r\n" % (len(inner), inner))
    assert [type(command).__name__ for command in talk.commands()] == ["Noop"]


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.parametrize("sign", ["", "+"])
def test_append(is_refused: bool, sign: str) -> None:
    talk = Talk()
    talk.refusal = ImapRefusal("no", "TRYCREATE") if is_refused else None
    message = b"Subject: x\r\n\r\nz DELETE INBOX\r\n"
    said = talk.say(b"a APPEND x (\\Seen) {%d%b}\r\n" % (len(message), sign.encode()))
    assert said == (b"" if sign else b"a NO [TRYCREATE] no\r\n" if is_refused else b"+ go on\r\n")
    if not (is_refused and not sign):
        said = talk.say(message + b"\r\n")
        assert said == (b"a NO [TRYCREATE] no\r\n" if is_refused else b"* here\r\na OK done\r\n")
    octets = b"".join(event.octets for event in talk.events if isinstance(event, events.AppendChunk))
    assert octets == (b"" if is_refused else message)
    assert not talk.commands()
    assert talk.say(b"b NOOP\r\n").endswith(b"b OK done\r\n")


def test_append_to_a_mailbox_whose_name_is_a_literal() -> None:
    talk = Talk()
    assert talk.say(b"a APPEND {3}\r\n") == b"+ go on\r\n"
    assert talk.say(b"a b {2}\r\n") == b"+ go on\r\n"
    assert talk.say(b"hi\r\n").endswith(b"a OK done\r\n")
    (start,) = [event for event in talk.events if isinstance(event, events.AppendStart)]
    assert (start.command.mailbox, start.size) == ("a b", 2)


def test_append_of_too_much() -> None:
    talk = Talk(max_append=10)
    assert talk.say(b"a APPEND x {11}\r\n").startswith(b"a NO [TOOBIG]")
    assert talk.say(b"a APPEND x {11+}\r\n12345678901\r\n").startswith(b"a NO [TOOBIG]")
    assert talk.say(b"b NOOP\r\n").endswith(b"b OK done\r\n")


def test_idle() -> None:
    talk = Talk()
    assert talk.say(b"a IDLE\r\n") == b"+ idling\r\n"
    talk.engine.push(b"* 1 EXISTS\r\n")
    assert talk.say(b"") == b"* 1 EXISTS\r\n"
    assert talk.say(b"done\r\n") == b"a OK no longer idle\r\n"
    talk.engine.push(b"* 2 EXISTS\r\n")  # NOTIFY asks for news between commands
    assert talk.say(b"b IDLE\r\n") == b"* 2 EXISTS\r\n+ idling\r\n"
    assert talk.say(b"NOOP\r\n").startswith(b"b BAD")
    assert [type(event).__name__ for event in talk.events] == ["IdleBegun", "IdleEnded"] * 2


def test_what_came_before_tls_is_forgotten() -> None:
    talk = Talk(False, starttls=True)
    assert talk.say(b"a STARTTLS\r\nb LOGIN bob x\r\n") == b"a OK begin TLS\r\n"
    assert talk.engine.wants_tls
    talk.engine.secured({})
    assert talk.say(b"c CAPABILITY\r\n").startswith(b"* CAPABILITY IMAP4rev1")
    assert not talk.events


def test_without_mechanisms_no_password_is_heard() -> None:
    talk = Talk(False)
    talk.engine.mechanisms = tuple
    assert b"LOGINDISABLED" in talk.say(b"a CAPABILITY\r\n")
    assert talk.say(b"a LOGIN bob x\r\n").startswith(b"a NO [PRIVACYREQUIRED]")
    assert talk.say(b"a AUTHENTICATE PLAIN AGIAeA==\r\n").startswith(b"a NO [PRIVACYREQUIRED]")
    assert not talk.events


def test_a_browser_is_sent_away() -> None:
    talk = Talk(False)
    assert talk.say(b"POST / HTTP/1.1\r\na LOGIN bob x\r\n").startswith(b"* BYE")
    assert talk.engine.is_closed


def test_a_transcript_shows_no_password() -> None:
    talk = Talk(False)
    talk.engine.heard = []
    talk.say(b"a LOGIN bob {6+}\r\nsecret\r\n")
    talk.say(b"b LOGIN bob secret\r\n")
    heard = b"".join(talk.engine.heard)
    assert b"LOGIN ***" in heard
    assert b"secret" not in heard


def test_too_many_errors() -> None:
    talk = Talk()
    said = talk.say(b"a FROB\r\n" * 60)
    assert said.count(b"a BAD") == 50
    assert said.endswith(b"* BYE too many errors\r\n")


@given(st.lists(st.sampled_from([
    b"a ", b"b NOOP", b"FETCH 1 ", b"LOGIN x ", b"{3}", b"{3+}", b"{5000000}", b"\r\n", b"\n", b"\0", b"abc", b"APPEND x ",
    b'"', b"\\", b"(", b")", b"IDLE", b"DONE", b"\xff", b"AUTHENTICATE PLAIN", b"=", b"STARTTLS", b" ",
]), max_size=30))  # fmt: skip
def test_any_octets(pieces: list[bytes]) -> None:
    talk = Talk()
    try:
        said = b"".join(talk.say(piece) for piece in pieces)
    except RemoteProtocolError:
        return
    assert all(
        line.startswith((b"* ", b"+ ", b"a", b"b", b"d")) or b" " in line for line in said.split(b"\r\n")[:-1]
    )
    assert said == b"" or said.endswith(b"\r\n")
