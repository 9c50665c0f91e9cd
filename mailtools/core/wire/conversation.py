"""The part of a server's engine that all line protocols share: lines, questions and their answers, blocks.

The engine of a protocol is a `Conversation`. Its `_session` is one generator that reads from top to bottom:
it reads lines, writes replies, asks questions, and yields where it has to wait. `_commands` is the loop
over command lines. This module knows no protocol and no socket.

Invariants: nothing more is parsed while a question waits for its answer. After the end no octets are taken,
and only the events that were queued before are still given. STARTTLS discards the octets that were received
before TLS.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from mailtools.core.engine import LocalProtocolError, Question
from mailtools.core.errors import CommandError
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError, Reader

Steps = Generator[None, None, None]
A = TypeVar("A")

_COMMANDS_AT_ONCE = 50  # then other connections run: a client that repeats NOOP without end delays nobody
_SENT_AT_ONCE = 256 << 10  # octets of a message, then other connections run
# A web page can make a browser send requests to a mail server (ALPACA). No command of ours has one of these
# names.
_HTTP = frozenset(
    (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"PRI")
)


class Block(NamedTuple):
    """The next octets of a message: whole CRLF lines, except within lines that are longer than a block."""

    octets: bytes
    is_last: bool


class Unreadable(NamedTuple):
    """The rest of a message cannot be read. The client must not take what it has for the whole message."""

    reason: str  # for the log


class NextBlock(Question[Block | Unreadable]):
    """A question: what is the next block of the message that is being sent?"""

    __slots__ = ()


_NEXT_BLOCK = NextBlock()


class Conversation:
    """The engine of one connection, without the commands of its protocol."""

    # Slots in the place of a dict: 1 KiB less for each of 5,000 idle connections.
    __slots__ = (
        "_answer", "_eof", "_events", "_left", "_out", "_parser", "_question", "_reader", "bindings",
        "has_more", "heard", "is_closed", "is_compressed", "is_secure", "wants_compression", "wants_tls",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_closed = False
        self.is_secure = False
        self.wants_tls = False  # the client was told to begin TLS: its next octets are the handshake
        self.wants_compression = False  # the client was told to begin: its next octets are compressed
        self.is_compressed = False
        self.bindings: Mapping[str, bytes] = {}  # channel bindings of the TLS layer, by name
        self.has_more = False  # parsing paused for other connections: call `next_event` again after them
        self.heard: list[bytes] | None = None  # if it is a list, what the client said, without secrets
        self._left = _COMMANDS_AT_ONCE
        self._reader = Reader()
        self._out: list[bytes] = []
        self._events: deque[Any] = deque()
        self._question: Question[Any] | None = None
        self._answer: object = None
        self._eof = False
        self._parser = self._session()

    # -- the interface of the engine -----------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the client."""
        if not (self.is_closed or self.wants_tls or self.wants_compression):
            self._left = _COMMANDS_AT_ONCE
            self._reader.feed(octets)

    def receive_eof(self) -> None:
        """Note that the client will send nothing more."""
        self._eof = True

    def next_event(self) -> Any:
        """Return the next event, or None if more octets or an answer are needed first."""
        events = self._events
        if not events and self._question is None and not self.is_closed:
            self.has_more = False
            next(self._parser)
            if self._eof and not events and self._question is None and not self.has_more:
                self._end("the client closed the connection")
        return events.popleft() if events else None

    def data_to_send(self) -> bytes:
        """Return the octets that wait to be sent, each of them once."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def answer(self, question: Question[A], value: A) -> None:
        """Answer *question*, which must be the one that waits. After the end of the session nothing happens.

        Raises LocalProtocolError if another question waits, or none.
        """
        if self.is_closed:
            return
        if self._question is not question:
            raise LocalProtocolError(f"{question} does not wait for an answer")
        self._question = None
        self._answer = value

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """Note that TLS is established, with these channel bindings."""
        self.is_secure = True
        self.wants_tls = False
        self.bindings = bindings

    def compressed(self) -> bytes:
        """Note that compression is there; return the octets that came behind the command, compressed."""
        self.is_compressed, self.wants_compression = True, False
        octets, self._reader = self._reader.octets, Reader(self._reader.takes_lf)
        return octets

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed."""
        return self._reader.size

    @property
    def awaits_reply(self) -> bool:
        """True while a question waits for our side: the delay is not the client's."""
        return self._question is not None

    # -- what each protocol defines ------------------------------------------------------------------------

    def _session(self) -> Steps:
        """The whole session: the greeting, then `_commands`."""
        raise NotImplementedError

    def _command(self, verb: bytes, argument: bytes, line: bytes) -> Steps | None:
        """Execute one command; *verb* is in upper case. Raises CommandError."""
        raise NotImplementedError

    def _refuse(self, problem: CommandError) -> None:
        """Answer a command that raised *problem*."""
        raise NotImplementedError

    def _broken_line(self, reason: str) -> None:
        """Answer a line that cannot be parsed."""
        raise NotImplementedError

    def _masked(self, verb: bytes, line: bytes) -> bytes:
        """Return a command line as a transcript may show it."""
        raise NotImplementedError

    def _not_http(self) -> None:
        """Answer a request of HTTP; the session ends after it."""
        raise NotImplementedError

    def _end(self, reason: str, fault: str = "") -> None:
        """End the session: queue the last events, then `_close`.

        *fault*: a failure on our side, for the log.
        """
        self._close()

    # -- what each protocol uses ---------------------------------------------------------------------------

    def _commands(self, max_line: int) -> Steps:
        """Read command lines of at most *max_line* octets and execute them until the session is closed."""
        while True:
            if self.is_closed or self.wants_tls:
                yield
                continue
            self._left -= 1
            if not self._left:
                yield from self._pause()
            try:
                line = yield from self._reader.read_line(max_line)
            except LineTooLongError:
                self._hear(b"(a line that is too long)\r\n")
                self._broken_line("Line too long")
                continue
            except BareNewlineError:
                self._hear(b"(a line with a bare LF)\r\n")
                self._broken_line("Bare LF: a line ends with CRLF")
                continue
            verb, _, argument = line.partition(b" ")
            verb = verb.upper()
            if self.heard is not None:
                self._hear(self._masked(verb, line))
            if verb in _HTTP:
                self._not_http()
                self._end("the client speaks HTTP")
                continue
            try:
                steps = self._command(verb, argument, line)
                if steps is not None:
                    yield from steps
            except CommandError as problem:
                self._refuse(problem)

    def ask(self, question: Question[A]) -> Generator[None, None, A]:
        """Ask *question*, wait for its answer and return it."""
        self._events.append(question)
        self._question = question
        while self._question is not None:
            yield
        return cast("A", self._answer)  # `answer` has checked that it is the answer to this question

    def read_response(self, prompt: bytes, max_line: int) -> Generator[None, None, bytes]:
        """Send *prompt* and read the line that answers it, which is a secret.

        Raises LineTooLongError, BareNewlineError.
        """
        self._out.append(prompt)
        line = yield from self._reader.read_line(max_line)
        self._hear(b"*\r\n" if line == b"*" else b"***\r\n")
        return line

    def _send_blocks(
        self, block: Block, encode: Callable[[bytes], bytes | None]
    ) -> Generator[None, None, bool]:
        """Send a message that begins with *block*; return False if it cannot be sent whole.

        The other blocks are asked for one by one. *encode* returns a block as the protocol sends it, or
        None if enough is sent. If the message cannot be read to its end the session ends.
        """
        waiting = 0
        while True:
            octets = encode(block.octets)
            if octets:
                self._out.append(octets)
            if block.is_last or octets is None:
                return True
            waiting += len(block.octets)
            if waiting > _SENT_AT_ONCE:
                waiting = 0
                yield from self._pause()
            answer = yield from self.ask(_NEXT_BLOCK)
            if isinstance(answer, Unreadable):
                self._end(answer.reason, answer.reason)
                return False
            block = answer

    def _pause(self) -> Steps:
        """Let other connections run; called at each command that counts `_left` down to 0."""
        self._left = _COMMANDS_AT_ONCE
        self.has_more = True
        yield

    def _hear(self, octets: bytes) -> None:
        """Keep what the client said, for a transcript."""
        if self.heard is not None:
            self.heard.append(octets)

    def _await_tls(self) -> None:
        """Discard what was received in the clear: anybody could have sent it (RFC 3207 §4.2.

        CVE-2011-0411).
        """
        self._reader = Reader(self._reader.takes_lf)
        self.wants_tls = True

    def _close(self) -> None:
        self._question = None
        self.is_closed = True
        self.has_more = False
        self._reader.octets = b""
