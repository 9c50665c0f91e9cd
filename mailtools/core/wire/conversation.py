"""What the servers' halves of line protocols share: octets in, events out, questions and their answers.

A protocol's engine is a `Conversation` whose `_session` is one generator, read from top to bottom: it reads
lines, says replies, puts questions, and yields where it has to wait. Knows no protocol, no socket.

Invariants: while a question waits nothing more is parsed. After the end nothing more is taken or told but the
last events. At STARTTLS the octets that wait are forgotten.
"""

from collections import deque
from collections.abc import Generator, Mapping
from typing import Any

from mailtools.core.engine import LocalProtocolError
from mailtools.core.wire.reader import Reader

Steps = Generator[None, None, None]

_TURN = 50  # commands until others have a turn: a client that says NOOP without end delays nobody


class Conversation:
    """One connection's engine, but for its words."""

    # Slots in the place of a dict: 1 KiB less for each of 5,000 idle connections.
    __slots__ = (
        "_answer", "_eof", "_events", "_left", "_out", "_parser", "_question", "_reader", "bindings",
        "has_more", "heard", "is_closed", "is_secure", "wants_tls",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_closed = False
        self.is_secure = False
        self.wants_tls = False  # the peer was told to begin TLS: what comes next is its handshake
        self.bindings: Mapping[str, bytes] = {}  # channel bindings of the TLS below, by name
        self.has_more = (
            False  # parsing was interrupted, though octets wait: call again, after others had a turn
        )
        self.heard: list[bytes] | None = None  # what the client said, secrets masked; kept where it is a list
        self._left = _TURN
        self._reader = Reader()
        self._out: list[bytes] = []
        self._events: deque[Any] = deque()
        self._question: Any = None
        self._answer: Any = None
        self._eof = False
        self._parser = self._session()

    # -- the engine's face ---------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the client."""
        if not (self.is_closed or self.wants_tls):
            self._left = _TURN
            self._reader.feed(octets)

    def receive_eof(self) -> None:
        """The client will send nothing more."""
        self._eof = True

    def next_event(self) -> Any:
        """The next event; None where octets run short or a question waits for its answer."""
        events = self._events
        if not events and self._question is None and not self.is_closed:
            self.has_more = False
            next(self._parser)
            if self._eof and not events and self._question is None and not self.has_more:
                self._end("the client closed the connection")
        return events.popleft() if events else None

    def data_to_send(self) -> bytes:
        """Octets that wait for being sent, each given once."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def answer(self, value: Any) -> None:
        """Answer the question that was put last; too late, after the end, it is dropped.

        Raises LocalProtocolError where there is no question.
        """
        if self.is_closed:
            return
        if self._question is None:
            raise LocalProtocolError("no question waits for an answer")
        self._question = None
        self._answer = value

    def proceed(self) -> None:
        """Answer: nothing is against it; the engine says what belongs there."""
        self.answer(None)

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS is there, with these channel bindings."""
        self.is_secure = True
        self.wants_tls = False
        self.bindings = bindings

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed."""
        return self._reader.size

    @property
    def awaits_reply(self) -> bool:
        """True while a question waits for our side."""
        return self._question is not None

    # -- for the protocol ----------------------------------------------------------------------------------

    def _session(self) -> Steps:
        raise NotImplementedError

    def _end(self, reason: str) -> None:
        """End the session: tell of what was under way, then `_close`."""
        self._close()

    def _pause(self) -> Steps:
        """Let others have a turn; to be called when `_left`, counted down at each command, is 0."""
        self._left = _TURN
        self.has_more = True
        yield

    def _hear(self, octets: bytes) -> None:
        """Keep what the client said, for a transcript."""
        if self.heard is not None:
            self.heard.append(octets)

    def _ask(self, question: Any) -> Steps:
        """Put *question* and wait; what was answered is then in `_answer`."""
        self._events.append(question)
        self._question = question
        while self._question is not None:
            yield

    def _await_tls(self) -> None:
        """What waits came in the clear, from anybody: forget it (RFC 3207 §4.2; CVE-2011-0411)."""
        self._reader = Reader()
        self.wants_tls = True

    def _close(self) -> None:
        self._question = None
        self.is_closed = True
        self.has_more = False
        self._reader.octets = b""
