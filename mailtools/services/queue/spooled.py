"""Puts messages into the spool, and makes messages to send of what is in it.

A message with octets that no accepted message has (somebody changed its file) is refused before its first
octet is sent: a CR could end the message early at the next hop (SMTP smuggling).
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from mailtools.core.errors import BadDataError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.schedule import Schedule
from mailtools.services.queue.job import results
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.spool.spool import Spool, SpoolLease

_IN_MEMORY = 256 << 10  # octets; a larger message is read while it is sent


class _Stored:
    """The octets of a large message, read while they are sent."""

    def __init__(self, lease: SpoolLease) -> None:
        self._lease = lease
        self.size = lease.entry.envelope.stored

    def blocks(self) -> Iterator[bytes]:
        """Yield the message in blocks, LF."""
        return self._lease.message()

    def close(self) -> None:
        """There is nothing to close."""


def as_outgoing(lease: SpoolLease, numbers: Sequence[int]) -> Outgoing:
    """Return the message for the recipients of these *numbers*. Raises BadDataError."""
    message = envelope_only(lease, numbers)
    if lease.entry.envelope.stored > _IN_MEMORY:
        _check(lease.message())
        return message._replace(body=_Stored(lease))
    octets = b"".join(lease.message())
    _check([octets])
    body = Buffer()
    body.append(octets)
    return message._replace(body=body)


def envelope_only(lease: SpoolLease, numbers: Sequence[int]) -> Outgoing:
    """Return the message without its octets."""
    envelope = lease.entry.envelope
    return Outgoing(
        name=envelope.identity,
        reverse_path=envelope.reverse_path,
        recipients=tuple([envelope.recipients[number] for number in numbers]),
        head=b"",
        body=Buffer(),
        size=envelope.size,
        needs_8bit=envelope.needs_8bit,
        needs_utf8=envelope.needs_utf8,
        has_long_line=False,
        ret=envelope.ret,
        envid=envelope.envid,
        may_recode=envelope.may_recode,
    )


def _check(blocks: Iterable[bytes]) -> None:
    for block in blocks:
        if b"\r" in block or b"\0" in block:
            raise BadDataError("holds a CR or NUL, which no accepted message does")


def into_spool(
    spool: Spool,
    message: Outgoing,
    origin: str,
    only: Sequence[str] = (),
    hop: tuple[str, str, str] = ("", "", ""),
    tried: Sequence[Outcome] = (),
) -> QueueEnvelope:
    """Store *message* durably for all its recipients, or *only* these. *hop*: route, TLS, account.

    *tried*: the outcomes of a first attempt for these recipients, which the journal keeps; the next attempt
    follows as after an attempt of a queue run. Raises CannotWriteError, and BadDataError for what the queue
    cannot keep.
    """
    recipients = [r for r in message.recipients if not only or r.address in only]
    envelope = QueueEnvelope(
        clock.identity(),
        clock.now(),
        message.reverse_path,
        tuple(recipients),
        needs_utf8=message.needs_utf8,
        may_recode=message.may_recode,
        ret=message.ret,
        envid=message.envid,
        origin=origin,
        route=hop[0],
        tls=hop[1],
        account=hop[2],
    )
    blocks = chain([message.head.replace(b"\r\n", b"\n")], message.body.blocks())
    return spool.add(envelope, blocks, _history(tried, recipients) if tried else ())


def _history(tried: Sequence[Outcome], recipients: Sequence[Recipient]) -> list[dict[str, Any]]:
    """Return the journal's records of a first attempt."""
    by_address = {outcome.recipient: outcome for outcome in tried}
    found = results([by_address[one.address] for one in recipients], range(len(recipients)))
    now = clock.now()
    due = now + Schedule().wait(1, random.random())
    return [*(journal.attempt(now, result) for result in found), journal.scheduled(now, due)]
