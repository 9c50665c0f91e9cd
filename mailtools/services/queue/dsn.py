"""Queue delivery status notifications (DSNs), which tell senders what became of their mail.

No DSN goes to the null reverse-path, so that there is no DSN about a DSN (RFC 5321 §4.5.5). At most 200 DSNs
an hour go to one address; beyond that the message stays in the queue and its DSN follows later.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailtools.core.errors import BadDataError, CannotWriteError
from mailtools.core.message import header, recode
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import dsn
from mailtools.core.queue.dsn import Notice, RecipientReport
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DELAYED, FAILED, QueueEntry
from mailtools.core.queue.schedule import Schedule
from mailtools.system import clock
from mailtools.system.spool.spool import SpoolLease

_RETURNED_WHOLE = 50 << 10  # octets; of a larger message a DSN returns the header only, unless RET=FULL
_MOST_IN_AN_HOUR = 200  # DSNs to one address
_HOUR = 3600.0  # seconds


class RefusedRecipients(NamedTuple):
    """Recipients of a message that got nothing, each with the reason and the enhanced status code."""

    reverse_path: str
    queue_id: str
    recipients: Sequence[tuple[str, str, str]]
    envid: str = ""


class Notices:
    """Queues DSNs. *add* writes a message into the spool; *host* names this host in the DSN."""

    def __init__(
        self, add: Callable[[QueueEnvelope, Iterable[bytes]], QueueEnvelope], host: str, schedule: Schedule
    ) -> None:
        self._add = add
        self._host = host
        self._schedule = schedule
        self._lock = threading.Lock()
        self._since = 0.0
        self._told: Counter[str] = Counter()

    def tell(self, lease: SpoolLease, of: str, numbers: Sequence[int]) -> str:
        """Queue a DSN about the recipients *numbers*; return its queue id, "" if none is to be sent.

        *of*: what happened to the recipients (FAILED, DELAYED, else success). Raises CannotWriteError.
        """
        envelope = lease.entry.envelope
        if not envelope.reverse_path or not numbers:  # RFC 5321 §4.5.5
            return ""
        self._count(envelope.reverse_path)
        identity = clock.identity()
        notice = self._notice(lease.entry, of, numbers, identity)
        octets, is_whole = _original(lease, notice.full)
        return self._queue(identity, notice, octets, is_whole)

    def tell_of_refused(self, refused: RefusedRecipients, header_fields: bytes) -> str:
        """Queue a DSN about recipients that were not accepted with the rest; return its queue id.

        *header_fields*: of the message, which the DSN returns. Raises CannotWriteError.
        """
        self._count(refused.reverse_path)
        identity, now = clock.identity(), int(clock.now())
        reports = [
            RecipientReport(text, "", "failed", status, "", why, False, now, 0)
            for text, why, status in refused.recipients
        ]
        notice = Notice(
            host=self._host,
            reverse_path=refused.reverse_path,
            envid=refused.envid,
            arrived=now,
            queue_id=refused.queue_id,
            reports=tuple(reports),
            full=False,
            date=clock.date_field(now),
            message_id=f"<{identity}@{self._host}>",
            boundary=f"=_{os.urandom(12).hex()}",
        )
        return self._queue(identity, notice, header_fields + b"\n", False)

    def _queue(self, identity: str, notice: Notice, octets: bytes, is_whole: bool) -> str:
        """Write the DSN into the spool; return *identity*. Raises CannotWriteError."""
        report = dsn.build(notice, octets, is_whole)
        if is_whole and not _can_be_7bit(report):
            report = dsn.build(notice, octets[: header.body_offset(octets)], False)
        told = QueueEnvelope(
            identity,
            clock.now(),
            "",
            (Recipient(notice.reverse_path, notify="NEVER"),),
            needs_utf8=not report[: header.body_offset(report)].isascii(),
            origin="notices",
        )
        try:
            self._add(told, [report])
        except CannotWriteError:
            self._uncount(notice.reverse_path)
            raise
        return identity

    def _count(self, reverse_path: str) -> None:
        with self._lock:
            now = clock.monotonic()
            if now - self._since > _HOUR or len(self._told) > 100_000:
                self._since = now
                self._told.clear()
            if self._told[reverse_path] >= _MOST_IN_AN_HOUR:
                raise CannotWriteError(f"more than {_MOST_IN_AN_HOUR} notices to <{reverse_path}> in an hour")
            self._told[reverse_path] += 1

    def _uncount(self, reverse_path: str) -> None:
        """Take back one count: the DSN was not queued."""
        with self._lock:
            self._told[reverse_path] -= 1

    def _notice(self, entry: QueueEntry, of: str, numbers: Sequence[int], identity: str) -> Notice:
        envelope = entry.envelope
        until = int(clock.now() + self._schedule.expire - entry.age(clock.now()))
        is_small = envelope.stored <= _RETURNED_WHOLE
        return Notice(
            host=self._host,
            reverse_path=envelope.reverse_path,
            envid=envelope.envid,
            arrived=int(envelope.arrived),
            queue_id=envelope.identity,
            reports=tuple([_report(entry, of, number, until) for number in numbers]),
            full=of == FAILED and (envelope.ret == "FULL" or (not envelope.ret and is_small)),
            date=clock.date_field(int(clock.now())),
            message_id=f"<{identity}@{self._host}>",
            boundary=f"=_{os.urandom(12).hex()}",
        )


def _report(entry: QueueEntry, of: str, number: int, until: int) -> RecipientReport:
    recipient, state = entry.envelope.recipients[number], entry.recipients[number]
    last = state.last
    if of == FAILED:
        action = "failed"
    elif of == DELAYED:
        action = "delayed"
    else:
        action = "relayed" if last is not None and last.remote else "delivered"
    return RecipientReport(
        recipient=recipient.address,
        original=recipient.orcpt,
        action=action,
        status=(last.status if last else "") or {"failed": "5.0.0", "delayed": "4.0.0"}.get(action, "2.0.0"),
        remote=last.remote if last else "",
        diagnostic=last.reply if last else "",
        is_reply=bool(last and last.remote),
        last_attempt=int(state.at),
        retry_until=until if of == DELAYED else 0,
    )


def _original(lease: SpoolLease, full: bool) -> tuple[bytes, bool]:
    """Return the message, or its header only, and whether it is the whole message."""
    octets = b""
    try:
        for block in lease.message():
            octets += block
            if len(octets) > dsn.MAX_WHOLE or (not full and header.body_offset(octets) < len(octets)):
                return octets[: header.body_offset(octets)], False
    except BadDataError:  # the spool file is damaged; the sender gets the DSN nevertheless
        return octets, False
    return octets, True


def _can_be_7bit(report: bytes) -> bool:
    """Tell whether *report* can go to a server without 8BITMIME; an 8-bit signed message in it cannot."""
    try:
        recode.to_7bit(report)
    except BadDataError:
        return False
    return True
