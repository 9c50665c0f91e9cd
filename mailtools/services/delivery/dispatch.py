"""A message on its way to all its places: mboxes, programs, the spool; each recipient learns how it went.

Knows no session: places and contents in, one outcome for each place out, when all are done. What is for other
servers is one entry in the spool, whatever the number of its recipients.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from mailtools.core.errors import DiskFullError, LockTimeoutError, MailError
from mailtools.core.mbox.record import make_postmark
from mailtools.core.message.recipient import Recipient
from mailtools.core.message.trace import delivery_fields
from mailtools.core.queue import envelope as queue
from mailtools.core.smtp.reply import Reply
from mailtools.services.delivery import content_filter
from mailtools.services.delivery.addressing import MboxPlace, PipePlace, Place, RelayPlace
from mailtools.services.transit.received import DISK_FULL, Incoming, message_blocks
from mailtools.system import clock
from mailtools.system.files.durable import NO_ROOM
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.group_commit import Delivery
from mailtools.system.process.programs import ProgramJob, Ran

_TEMP_FAIL = 75  # EX_TEMPFAIL of sysexits.h
_COMMAND_REFUSED = Reply(554, "5.3.0", "The recipient's program refused the message")
_COMMAND_FAILED = Reply(451, "4.3.0", "The recipient's program failed, try again later")

Failures = Mapping[Place, Reply]


class Queued(NamedTuple):
    """A message for the spool."""

    envelope: queue.QueueEnvelope
    blocks: Iterable[bytes]  # LF


Load = NewRecord | ProgramJob[Ran] | Queued  # for an mbox, for a program, for the spool
Goal = tuple[Recipient, tuple[Place, ...]]  # a recipient, and where its mail goes


Queue = Callable[[Queued, Callable[[MailError | None], None]], None]


class Carriers(NamedTuple):
    """Who takes a message to its places."""

    deliver: Callable[[Delivery], None]
    run: Callable[[ProgramJob[Any]], None]
    warn: Callable[[str], None]
    queue: Queue | None = None


class Handover:
    """One message's way. *done* is called once with the places that failed, and what to say of each."""

    def __init__(self, carriers: Carriers, done: Callable[[Failures], None]) -> None:
        self._carriers = carriers
        self._done = done
        self._failures: dict[Place, Reply] = {}
        self._left = 0

    def start(self, loads: Mapping[tuple[Place, ...], Load]) -> None:
        """Take each load to its places: one mbox, one program, or the spool for all that are elsewhere."""
        self._left = len(loads) + 1
        for places, load in loads.items():
            if isinstance(load, NewRecord):
                self._carriers.deliver(Delivery(places[0][0], load, partial(self._stored, places)))
            elif isinstance(load, Queued):
                assert self._carriers.queue is not None
                self._carriers.queue(load, partial(self._stored, places))
            else:
                self._carriers.run(load._replace(done=partial(self._ran, places[0])))
        self._settle()

    def _stored(self, places: tuple[Place, ...], error: MailError | None) -> None:
        if error is not None:
            self._carriers.warn(f"message not stored: {error}")
            self._failures.update(dict.fromkeys(places, failure(error)))
        self._settle()

    def _ran(self, pipe: Place, ran: Ran) -> None:
        if ran.code:
            self._carriers.warn(f"{pipe[0]}: failed ({ran.code}): {ran.said or 'it said nothing'}")
            is_temporary = ran.code in (-1, _TEMP_FAIL, 126, 127)  # the last two: the shell found no program
            self._failures[pipe] = _COMMAND_FAILED if is_temporary else _COMMAND_REFUSED
        self._settle()

    def _settle(self) -> None:
        self._left -= 1
        if not self._left:
            self._done(self._failures)


def make_loads(
    message: Incoming, identity: str, trace: str, goals: Sequence[Goal], peer: str
) -> dict[tuple[Place, ...], Load]:
    """What is taken where: each place once, however many recipients' mail goes there."""
    reverse_path = message.envelope.reverse_path
    postmark = make_postmark(reverse_path, clock.asctime(int(clock.now())))
    shared: dict[Place, list[Recipient]] = {}
    for recipient, places in goals:
        for place in places:
            shared.setdefault(place, []).append(recipient)
    loads: dict[tuple[Place, ...], Load] = {}
    elsewhere: dict[Place, Recipient] = {}
    for place, recipients in shared.items():
        addresses = [recipient.address for recipient in recipients]
        head = delivery_fields(reverse_path, addresses) + trace
        if isinstance(place, MboxPlace):
            loads[(place,)] = NewRecord(postmark + head.encode(), message.body)
        elif isinstance(place, PipePlace):
            loads[(place,)] = _program(place, message, head, addresses, peer)
        else:
            elsewhere[place] = recipients[0]
    if elsewhere:
        loads[tuple(elsewhere)] = _queued(message, identity, trace, elsewhere, peer)
    return loads


def _program(
    pipe: PipePlace, message: Incoming, head: str, recipients: list[str], peer: str
) -> "ProgramJob[Ran]":
    environment = content_filter.environment(message.envelope, peer, "\n".join(recipients))
    blocks = message_blocks(message.envelope, head, message.body)
    return ProgramJob(pipe.command, environment, blocks, _closed, lambda _: None)


def _closed(ran: Ran) -> Ran:
    """What a recipient's program prints is for nobody."""
    ran.output.close()
    return ran


def _queued(
    message: Incoming, identity: str, trace: str, elsewhere: Mapping[Place, Recipient], peer: str
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
    return Queued(kept, message_blocks(envelope, trace, message.body))


def worst(refusals: list[Reply], otherwise: Reply) -> Reply:
    """The one to say of several: to try again may help; *otherwise* where there is none."""
    return next((reply for reply in refusals if reply.is_transient), refusals[0]) if refusals else otherwise


def failure(error: Exception) -> Reply:
    """What the client is told: everything that stopped us may be mended, so it shall try again."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return DISK_FULL
    if isinstance(error, LockTimeoutError):
        return Reply(451, "4.3.0", "Mailbox is locked, try again later")
    return Reply(451, "4.3.0", "Mailbox cannot be written, try again later")
