"""Gives up messages that were set aside (system/spool/aside) and that nobody brought back in time.

Their senders are told as of any message that expires. A message whose sender cannot be read stays until an
operator deletes it.
"""

from mailtools.core.errors import CannotWriteError
from mailtools.core.queue import journal
from mailtools.core.queue.journal import QueueEntry
from mailtools.core.queue.store import BAD
from mailtools.services.queue.job import Settlement, give_up, settle
from mailtools.system import clock
from mailtools.system.spool.spool import Spool, SpoolLease

_OUR_FAULT = "5.3.0"  # RFC 3463 §3.4: something of the mail system, nothing of the message or the address
_WHY = "the server that had the message cannot read it any more"
_A_DAY = 86400.0  # seconds


def can_be_told(entry: QueueEntry) -> bool:
    """Return True if the journal of *entry* says who sent the message and who did not get it."""
    return bool(entry.envelope.reverse_path and entry.envelope.recipients)


def expire(spool: Spool, settlement: Settlement) -> None:
    """Give up the messages set aside that have waited for as long as any message may."""
    for identity in spool.bad():
        lease = spool.claim(identity, held=True)
        if lease is None:
            continue
        try:
            if lease.state == BAD and can_be_told(lease.entry):
                _expire(lease, settlement)
        except CannotWriteError as error:
            settlement.warn(str(error))
        finally:
            lease.close()


def _expire(lease: SpoolLease, settlement: Settlement) -> None:
    now = clock.now()
    if lease.entry.age(now) >= settlement.schedule.expire:
        give_up(lease, _WHY, _OUR_FAULT)
        settle(lease, settlement)
    elif now - lease.entry.seen >= _A_DAY:  # the age is the sum of the waits that the journal knows
        lease.record([journal.event(now, "waits")])
