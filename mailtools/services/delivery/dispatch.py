"""Takes a message to all its places (mboxes, programs, the spool) and reports which of them failed.

Knows no session. Mail for other servers is one entry of the spool, however many recipients it has.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from mailtools.core.errors import BadDataError, MailError, TemporaryError, UnknownRecipientError
from mailtools.core.message.recipient import Recipient
from mailtools.core.message.trace import delivery_fields
from mailtools.core.queue import envelope as queue
from mailtools.services.delivery import content_filter
from mailtools.services.delivery.addressing import MboxPlace, Place, RelayPlace
from mailtools.services.delivery.failures import not_stored
from mailtools.services.transit.mbox_form import message_blocks, new_record
from mailtools.services.transit.received import Received
from mailtools.system import clock
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.group_commit import Delivery
from mailtools.system.process.programs import ProgramJob, Ran, unprivileged

_TEMP_FAIL = 75  # EX_TEMPFAIL of sysexits.h

Failures = Mapping[Place, MailError]  # of delivery/failures
Warn = Callable[[str], None]


class Queued(NamedTuple):
    """A message for the spool."""

    envelope: queue.QueueEnvelope
    blocks: Iterable[bytes]  # LF


Load = NewRecord | ProgramJob[Ran] | Queued  # for an mbox, for a program, for the spool
Goal = tuple[Recipient, tuple[Place, ...]]  # a recipient, and the places of its mail


Queue = Callable[[Queued, Callable[[MailError | None], None]], None]


class Carriers(NamedTuple):
    """The functions that take a load to its places."""

    deliver: Callable[[Delivery], None]
    run: Callable[[ProgramJob[Any]], None]
    warn: Warn
    queue: Queue | None = None


class Handover:
    """Takes one message to its places. *done* is called once, with the places that failed and why."""

    def __init__(self, carriers: Carriers, done: Callable[[Failures], None]) -> None:
        self._carriers = carriers
        self._done = done
        self._failures: dict[Place, MailError] = {}
        self._left = 0

    def start(self, loads: Mapping[tuple[Place, ...], Load]) -> None:
        """Start each load: for one mbox, for one program, or for the spool with all addresses on other
        servers.
        """
        self._left = len(loads) + 1
        for places, load in loads.items():
            if isinstance(load, NewRecord):
                self._carriers.deliver(Delivery(places[0][0], load, partial(self._stored, places)))
            elif isinstance(load, Queued):
                assert self._carriers.queue is not None
                self._carriers.queue(load, partial(self._stored, places))
            else:
                self._carriers.run(load._replace(done=partial(self._ran, places)))
        self._settle(())

    def _stored(self, places: tuple[Place, ...], error: MailError | None) -> None:
        self._settle(places, error and store_failure(error, self._carriers.warn))

    def _ran(self, places: tuple[Place, ...], ran: Ran) -> None:
        self._settle(places, program_failure(places[0], ran, self._carriers.warn))

    def _settle(self, places: tuple[Place, ...], failure: MailError | None = None) -> None:
        if failure is not None:
            self._failures.update(dict.fromkeys(places, failure))
        self._left -= 1
        if not self._left:
            self._done(self._failures)


def store_failure(error: MailError, warn: Warn) -> MailError:
    """Return the failure of a place that could not be written; log its details for an operator."""
    warn(f"message not stored: {error}")
    # The message itself cannot be kept, such as in the queue: another attempt would not help.
    return error if isinstance(error, BadDataError) and error.status else not_stored(error)


def program_failure(pipe: Place, ran: Ran, warn: Warn) -> MailError | None:
    """Return the failure of a recipient's program, None if it accepted the message; log the reason."""
    if not ran.code:
        return None
    warn(f"{pipe[0]}: failed ({ran.code}): {ran.said or 'it said nothing'}")
    if ran.code in (-1, _TEMP_FAIL, 126, 127):  # the last two: the shell found no program
        return TemporaryError("The recipient's program failed, try again later").coded("4.3.0")
    return UnknownRecipientError("The recipient's program refused the message").coded("5.3.0")


def make_loads(
    message: Received, identity: str, trace: str, goals: Sequence[Goal], peer: str
) -> dict[tuple[Place, ...], Load]:
    """Return the load for each place: one, however many recipients' mail goes there."""
    reverse_path = message.envelope.reverse_path
    shared: dict[Place, list[Recipient]] = {}
    for recipient, places in goals:
        for place in places:
            shared.setdefault(place, []).append(recipient)
    loads: dict[tuple[Place, ...], Load] = {}
    elsewhere: dict[Place, Recipient] = {}
    for place, recipients in shared.items():
        if isinstance(place, RelayPlace):
            elsewhere[place] = recipients[0]
            continue
        addresses = [recipient.address for recipient in recipients]
        record = new_record(reverse_path, delivery_fields(reverse_path, addresses) + trace, message.body)
        if isinstance(place, MboxPlace):
            loads[(place,)] = record
        else:
            environment = content_filter.environment(message.envelope, peer, "\n".join(addresses))
            blocks = message_blocks(record)
            loads[(place,)] = ProgramJob(
                place.command, environment, blocks, lambda ran: ran, _ignored, unprivileged()
            )
    if elsewhere:
        loads[tuple(elsewhere)] = _queued(message, identity, trace, elsewhere, peer)
    return loads


def _ignored(_: Ran) -> None:
    """The carrier of the load replaces this function."""


def _queued(
    message: Received, identity: str, trace: str, elsewhere: Mapping[Place, Recipient], peer: str
) -> Queued:
    envelope = message.envelope
    recipients = tuple(
        Recipient(place.address, recipient.notify, recipient.orcpt)
        for place, recipient in elsewhere.items()
        if isinstance(place, RelayPlace)
    )
    kept = queue.QueueEnvelope(
        identity,
        clock.now(),
        envelope.reverse_path,
        recipients,
        needs_utf8=envelope.smtputf8,
        ret=envelope.ret,
        envid=envelope.envid,
        origin=envelope.user or peer,
    )
    return Queued(kept, message_blocks(new_record(envelope.reverse_path, trace, message.body)))
