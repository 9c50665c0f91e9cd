"""The interface of every protocol engine: octets in, events out, answers in, octets out.

No engine knows a socket.

An engine parses the octets that it has received. It stops at a question, which is an event that needs an
answer, and continues once it has the answer. Input from the peer raises nothing but `RemoteProtocolError`;
a call that does not fit the state raises `LocalProtocolError`.
"""

from typing import Any, Generic, Protocol, TypeVar

from mailtools.core.errors import ProtocolError

A = TypeVar("A")


class LocalProtocolError(RuntimeError):
    """We called an engine out of turn: a bug on our side."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol in a way that cannot be answered."""


class Question(Generic[A]):
    """An event that needs an answer of type `A` before the engine continues.

    A class of questions names the type of its answer: ``class RcptTo(Question[Reply])``. So mypy checks
    both the session that answers and the engine that uses the answer.
    """

    __slots__ = ()


class Engine(Protocol):
    """The methods that `system` needs to move octets through an engine."""

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the peer."""

    def receive_eof(self) -> None:
        """Note that the peer will send nothing more."""

    def next_event(self) -> Any:
        """Return the next event, or None if more octets or an answer are needed first."""

    def data_to_send(self) -> bytes:
        """Return the octets that wait to be sent to the peer, each of them once."""

    @property
    def is_closed(self) -> bool:
        """True if the engine has nothing more to say: close the connection once all octets are sent."""

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed. Stop reading from the peer while there are many."""
