"""The states of a queued message, and a message as a look at the queue shows it."""

from mailtools.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

INCOMING, DEFERRED, HOLD, ACTIVE = "incoming", "deferred", "hold", "active"
BAD = "bad"  # its files are damaged, or nothing can be done with it: it waits for an operator


class Listed(NamedTuple):
    """One message of the queue as a look at it shows it."""

    entry: "QueueEntry"
    state: str  # INCOMING, DEFERRED, HOLD, BAD; ACTIVE: it is being delivered now
    why: str = ""  # the reason of BAD
