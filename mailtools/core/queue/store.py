"""What the queue needs of its store: a directory (system/spool/spool), or a database.

A lease is the right to deliver one message: while it is held nobody else gets one. It ends with `close` and
with its holder: a store that cannot see its holders die lets leases expire.
"""

from collections.abc import Iterable, Iterator, Sequence

from mailtools.core.lean import TYPE_CHECKING, Any, NamedTuple, Protocol
from mailtools.core.queue.envelope import QueueEnvelope

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

INCOMING, DEFERRED, HOLD, ACTIVE = "incoming", "deferred", "hold", "active"


class Listed(NamedTuple):
    """One message of the queue as a look at it shows it."""

    entry: "QueueEntry"
    state: str  # INCOMING, DEFERRED, HOLD; ACTIVE: it is being delivered now


class Lease(Protocol):
    """The right to deliver one message."""

    entry: "QueueEntry"

    def message(self) -> Iterator[bytes]:
        """The message in blocks, LF. Raises BadDataError where it is not what was accepted."""

    def record(self, records: Sequence[dict[str, Any]]) -> None:
        """Write what happened into the journal; `entry` tells so then. Raises CannotWriteError."""

    def reschedule(self, due: float) -> None:
        """Have it tried again at *due*, seconds since the epoch. Raises CannotWriteError."""

    def finish(self) -> None:
        """All is done: the message leaves the queue."""

    def move(self, state: str) -> None:
        """Put it on HOLD, or back among the DEFERRED. Raises CannotWriteError."""

    def close(self) -> None:
        """Give the lease back; after `finish` too."""


class Store(Protocol):
    """A queue."""

    def add(self, envelope: QueueEnvelope, blocks: Iterable[bytes]) -> QueueEnvelope:
        """Keep a message, durably; the envelope as kept. Raises CannotWriteError, DiskFullError."""

    def ready(self, now: float) -> Iterator[str]:
        """The ids of the messages that may be due: new ones first, then by the due time noted."""

    def claim(self, identity: str) -> Lease | None:
        """A lease; None where the message is gone, on hold, or leased by another."""

    def query(self, identities: Sequence[str] = ()) -> Iterator[Listed]:
        """All messages, or these, as they stand."""
