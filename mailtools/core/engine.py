"""What every protocol engine is: octets in, events out, replies in, octets out. No engine knows a socket.

An engine parses while there are octets, stops at a question (an event that wants an answer) and goes on
where it stopped once its reply method was called. Input from the peer raises nothing but
`RemoteProtocolError`; a call that does not fit the state raises `LocalProtocolError`.
"""

from typing import Any, Protocol

from mailtools.core.errors import ProtocolError


class LocalProtocolError(RuntimeError):
    """We called an engine out of turn: a bug on our side."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol in a way that cannot be answered."""


class Engine(Protocol):
    """The face that `system` moves octets through."""

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the peer."""

    def receive_eof(self) -> None:
        """Learn that the peer will send nothing more."""

    def next_event(self) -> Any:
        """The next event; None where octets run short or a question waits for its answer."""

    def data_to_send(self) -> bytes:
        """Octets for the peer, each given once."""

    @property
    def is_closed(self) -> bool:
        """True once nothing more will be said: the connection may be closed when all octets are sent."""

    @property
    def buffered(self) -> int:
        """Octets received and not yet parsed: where it grows, stop reading."""
