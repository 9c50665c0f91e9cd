"""Delivers to our own mailboxes and waits: for `sendmail`, `queue run` and DSNs.

Places, records and failures are the same as for serve-smtp (services/delivery/dispatch), but each place is
finished before the next one begins.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as queue
from mailtools.core.smtp import grammar
from mailtools.core.smtp.events import Envelope
from mailtools.core.smtp.reply import Reply
from mailtools.services.delivery.addressing import Addressing, Place
from mailtools.services.delivery.dispatch import (
    Goal,
    Load,
    Queued,
    make_loads,
    program_failure,
    store_failure,
)
from mailtools.services.delivery.failures import as_reply, not_delivered, not_taken, worst
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.services.transit.received import FROM_HERE, Received, ReceivedIntake
from mailtools.system import clock
from mailtools.system.mbox import appending
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.process.programs import Programs

_STORED = Reply(250, "2.0.0", "Ok: stored")

Add = Callable[[queue.QueueEnvelope, Any], object]  # writes into the spool; raises MailError


class LocalMail:
    """Delivers to the users of *addressing*. *add* takes mail that their aliases send to other servers."""

    def __init__(self, addressing: Addressing, add: Add | None, warn: Callable[[str], None]) -> None:
        self._addressing = addressing
        self._add = add
        self._warn = warn

    def is_local(self, address: str) -> bool:
        """Return True if the domain of *address* is named as ours, or missing."""
        domain = grammar.split_mailbox(address)[1]
        return not domain or domain in self._addressing.domains

    def deliver(self, message: Outgoing) -> list[Outcome]:
        """Store *message* in all its places; return an outcome for each recipient, in their order."""
        goals: list[Goal] = []
        failures: dict[str, MailError | None] = {}  # by recipient
        for recipient in message.recipients:
            try:
                goals.append((recipient, self._addressing.places(recipient.address)))
            except (MailError, OSError) as error:
                failures[recipient.address] = not_delivered(error)
        if goals:
            failures |= self._deliver(message, goals)
        return [_outcome(message, recipient, failures[recipient.address]) for recipient in message.recipients]

    def _deliver(self, message: Outgoing, goals: Sequence[Goal]) -> dict[str, MailError | None]:
        try:
            received = self._received(message, goals)
        except (MailError, OSError) as error:
            return dict.fromkeys([recipient.address for recipient, _ in goals], not_taken(error))
        failed: dict[Place, MailError] = {}
        for places, load in make_loads(received, clock.identity(), "", goals, "").items():
            failure = self._carry(places, load)
            if failure is not None:
                failed.update(dict.fromkeys(places, failure))
        return {
            recipient.address: worst(failed[place] for place in places if place in failed)
            for recipient, places in goals
        }

    def _received(self, message: Outgoing, goals: Sequence[Goal]) -> Received:
        """Return *message* in the form of an mbox. Raises BadDataError, OSError."""
        beside = next((p[0] for _, its in goals for p in its), f"{self._addressing.root.path}/")
        intake = ReceivedIntake(FROM_HERE, beside)
        intake.take(message.head)
        for block in message.body.blocks():
            intake.take(block)
        intake.end()
        envelope = Envelope(message.reverse_path, tuple(recipient for recipient, _ in goals), "", "")
        envelope = envelope._replace(smtputf8=message.needs_utf8, ret=message.ret)
        return Received(envelope, intake.body)

    def _carry(self, places: tuple[Place, ...], load: Load) -> MailError | None:
        """Take one load to its places; return None, or why that failed."""
        try:
            if isinstance(load, NewRecord):
                appending.append_waiting(places[0][0], [load])
            elif isinstance(load, Queued):
                assert self._add is not None
                self._add(load.envelope, load.blocks)
            else:
                return program_failure(places[0], Programs(lambda call: call()).ran(load), self._warn)
        except MailError as error:
            return store_failure(error, self._warn)
        return None


def _outcome(message: Outgoing, recipient: Recipient, failure: MailError | None) -> Outcome:
    """Return the outcome, with the reply that serve-smtp would give."""
    return Outcome(message, recipient.address, as_reply(failure) if failure else _STORED, failure)
