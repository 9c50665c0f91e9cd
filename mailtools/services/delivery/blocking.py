"""Delivers to our own mailboxes and waits: for `send` and `sendmail`.

Places, records and failures are the same as for serve-smtp (services/delivery/dispatch), but each place is
finished before the next one begins.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.queue import envelope as queue
from mailtools.services.delivery import local
from mailtools.services.delivery.addressing import Addressing, Place
from mailtools.services.delivery.dispatch import (
    Goal,
    Load,
    Queued,
    make_loads,
    program_failure,
    store_failure,
)
from mailtools.services.delivery.failures import not_taken, worst
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system import clock
from mailtools.system.mbox import appending
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.process.programs import Programs

Add = Callable[[queue.QueueEnvelope, Any], object]  # writes into the spool; raises MailError


class LocalMail:
    """Delivers to the users of *addressing*. *add* takes mail that their aliases send to other servers."""

    def __init__(self, addressing: Addressing, add: Add | None, warn: Callable[[str], None]) -> None:
        self._addressing = addressing
        self._add = add
        self._warn = warn

    def deliver(self, message: Outgoing) -> list[Outcome]:
        """Store *message* in all its places; return an outcome for each recipient, in their order."""
        goals, failures = local.goals_of(self._addressing, message)
        stored = self._deliver(message, goals) if goals else {}
        return local.outcomes_of(message, failures | stored)

    def _deliver(self, message: Outgoing, goals: Sequence[Goal]) -> dict[str, MailError | None]:
        try:
            received = local.received_of(self._addressing, message, goals)
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
