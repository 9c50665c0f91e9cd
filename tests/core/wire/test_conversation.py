"""core/wire/conversation, with the smallest protocol there can be: SEND asks for blocks, ASK for a number."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from mailtools.core.engine import LocalProtocolError, Question
from mailtools.core.errors import CommandError
from mailtools.core.wire.conversation import Block, Conversation, NextBlock, Unreadable
from mailtools.core.wire.dots import Stuffer


@dataclass(slots=True)
class HowMany(Question[int]):
    """A question."""


@dataclass(slots=True)
class FirstBlock(Question[Block]):
    """A question."""


class Engine(Conversation):
    """A protocol of four commands."""

    def _session(self) -> Generator[None, None, None]:
        self._out.append(b"hello\n")
        yield from self._commands(40)

    def _command(self, verb: bytes, argument: bytes, line: bytes) -> Generator[None, None, None] | None:
        if verb == b"ASK":
            return self._do_ask()
        if verb == b"SEND":
            return self._do_send()
        if verb == b"TLS":
            return self._await_tls()
        if verb == b"NOOP":
            self._out.append(b"ok\n")
            return None
        raise CommandError(f"what is {verb.decode()}?")

    def _do_ask(self) -> Generator[None, None, None]:
        number = yield from self.ask(HowMany())
        self._out.append(b"%d\n" % number)

    def _do_send(self) -> Generator[None, None, None]:
        if (yield from self._send_blocks((yield from self.ask(FirstBlock())), Stuffer())):
            self._out.append(b".\n")

    def _refuse(self, problem: CommandError) -> None:
        self._out.append(f"refused: {problem}\n".encode())

    def _broken_line(self, reason: str) -> None:
        self._out.append(f"broken: {reason}\n".encode())

    def _masked(self, verb: bytes, line: bytes) -> bytes:
        return verb + b"\r\n"

    def _not_http(self) -> None:
        self._out.append(b"not HTTP\n")

    def _end(self, reason: str, fault: str = "") -> None:
        if not self.is_closed:
            self._close()
            self._events.append(("end", reason, fault))


def made(said: bytes) -> tuple[Engine, Any]:
    """An engine that has got *said*, and its first event."""
    engine = Engine()
    engine.receive_data(said)
    return engine, engine.next_event()


def test_a_question_stops_parsing_until_its_answer() -> None:
    engine, question = made(b"ASK\r\nNOOP\r\n")
    assert isinstance(question, HowMany)
    assert engine.awaits_reply
    assert engine.next_event() is None
    assert engine.data_to_send() == b"hello\n"
    engine.answer(question, 7)
    assert engine.next_event() is None
    assert engine.data_to_send() == b"7\nok\n"


def test_only_the_question_that_waits_can_be_answered() -> None:
    engine, question = made(b"ASK\r\n")
    with pytest.raises(LocalProtocolError):
        engine.answer(HowMany(), 7)  # an equal one, but another
    engine.answer(question, 7)
    with pytest.raises(LocalProtocolError):
        engine.answer(question, 7)


def test_an_answer_after_the_end_is_dropped() -> None:
    engine, question = made(b"ASK\r\n")
    engine._end("gone")
    engine.answer(question, 7)
    assert engine.next_event() == ("end", "gone", "")
    assert engine.next_event() is None
    assert b"7" not in engine.data_to_send()


def test_blocks_are_asked_for_one_by_one() -> None:
    engine, question = made(b"SEND\r\n")
    for block in (Block(b"a\r\n", False), Block(b".b\r\n", False), Block(b"", True)):
        engine.answer(question, block)
        question = engine.next_event()
        assert question is None or isinstance(question, NextBlock)
    assert question is None
    assert engine.data_to_send() == b"hello\na\r\n..b\r\n.\n"


def test_a_message_that_cannot_be_read_to_its_end_ends_the_session() -> None:
    engine, question = made(b"SEND\r\nNOOP\r\n")
    engine.answer(question, Block(b"a\r\n", False))
    engine.answer(engine.next_event(), Unreadable("disk"))
    assert engine.next_event() == ("end", "disk", "disk")
    assert engine.is_closed
    assert engine.data_to_send() == b"hello\na\r\n"


def test_other_connections_run_between_the_blocks_of_a_large_message() -> None:
    engine, question = made(b"SEND\r\n")
    asked = 0
    while question is not None:
        engine.answer(question, Block(b"x" * 100_000, False))
        asked += 1
        question = engine.next_event()
    assert engine.has_more
    assert asked == 3  # more than 256 KiB
    assert isinstance(engine.next_event(), NextBlock)


def test_other_connections_run_between_many_commands() -> None:
    engine, event = made(b"NOOP\r\n" * 200)
    turns = 1
    while engine.has_more:
        assert event is None
        event = engine.next_event()
        turns += 1
    assert engine.data_to_send().count(b"ok") == 200
    assert turns == 5


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"x" * 41 + b"\r\n", b"broken: Line too long\n"),
        (b"NOOP\nNOOP\r\n", b"broken: Bare LF: a line ends with CRLF\n"),
        (b"FOO bar\r\n", b"refused: what is FOO?\n"),
        (b"noop\r\n", b"ok\n"),
    ],
)
def test_each_line_has_one_answer(line: bytes, answer: bytes) -> None:
    engine, event = made(line + b"NOOP\r\n")
    assert event is None
    assert engine.data_to_send() == b"hello\n" + answer + b"ok\n"


@pytest.mark.parametrize("verb", [b"GET", b"post", b"OPTIONS", b"PRI"])
def test_requests_of_http_end_the_session(verb: bytes) -> None:
    engine, event = made(verb + b" / HTTP/1.1\r\nNOOP\r\n")
    assert event == ("end", "the client speaks HTTP", "")
    assert engine.data_to_send() == b"hello\nnot HTTP\n"
    assert engine.buffered == 0


def test_a_transcript_has_the_masked_commands() -> None:
    engine = Engine()
    engine.heard = []
    engine.receive_data(b"NOOP secret\r\n")
    engine.next_event()
    assert b"".join(engine.heard) == b"NOOP\r\n"


def test_what_was_received_before_tls_is_discarded() -> None:
    engine, _ = made(b"NOOP\r\nTLS\r\nNOOP\r\nNO")
    assert engine.wants_tls
    engine.receive_data(b"OP\r\n")
    engine.secured({})
    engine.receive_data(b"NOOP\r\n")
    assert engine.next_event() is None
    assert engine.data_to_send() == b"hello\nok\nok\n"
