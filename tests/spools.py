"""Queues for tests: messages as a run would have left them."""

from mailtools.core.queue import journal
from mailtools.core.queue.envelope import Envelope, Recipient
from mailtools.core.queue.journal import DEFERRED, SENT, Result
from mailtools.core.queue.store import INCOMING
from mailtools.system import clock
from mailtools.system.spool import Spool

MESSAGE = b"From: alice@example.org\nSubject: lunch\n\nHow about noon?\n"


def add(
    spool: Spool,
    *recipients: str,
    sender: str = "alice@example.org",
    state: str = INCOMING,
    age: float = 0.0,
    reply: str = "",
    sent: int = 0,
    wait: float = 3600.0,
    message: bytes = MESSAGE,
    **fields: object,
) -> str:
    """Queue a message; its id. *reply*: an attempt failed with it, for all but the first *sent* recipients."""
    waiting = tuple(Recipient(address) for address in recipients or ("bob@example.com",))
    envelope = Envelope(clock.identity(), clock.now() - age, sender, waiting, **fields)  # type: ignore[arg-type]
    identity = spool.add(envelope, [message]).identity
    lease = spool.claim(identity)
    assert lease
    numbers = range(len(waiting))
    if sent:
        lease.record([journal.attempt(clock.now(), Result(tuple(numbers[:sent]), SENT, "250 ok", "2.0.0"))])
    if reply:
        result = Result(tuple(numbers[sent:]), DEFERRED, reply, "4.3.0", "mx.example.com")
        lease.record([journal.attempt(clock.now(), result)])
        lease.reschedule(clock.now() + wait)
    lease.move(state if state != INCOMING or not reply else DEFERRED)
    lease.close()
    return identity
