"""Mail for our own mailboxes that does not come through the server: from `sendmail`, `queue run`, a DSN.

The same places, records and outcomes as behind serve-smtp (services/delivery/dispatch), but waited for here
and now.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as queue
from mailtools.core.smtp import grammar
from mailtools.core.smtp.events import Envelope
from mailtools.core.smtp.reply import Reply
from mailtools.services.delivery.addressing import Addressing, RefusedRecipientError
from mailtools.services.delivery.dispatch import (
    Carriers,
    Failures,
    Goal,
    Handover,
    Queued,
    failure,
    make_loads,
    worst,
)
from mailtools.services.smtp_client.connection import failure as refusal
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, whole_lines
from mailtools.services.transit.received import Incoming
from mailtools.system import clock
from mailtools.system.mbox import appending
from mailtools.system.mbox.group_commit import Delivery
from mailtools.system.process.programs import Programs

_STORED = Reply(250, "2.0.0", "Ok: stored")

Add = Callable[[queue.QueueEnvelope, Any], object]  # into the spool; raises MailError


class LocalMail:
    """Delivers to the users of *addressing*; *add* takes what their aliases send elsewhere."""

    def __init__(self, addressing: Addressing, add: Add | None, warn: Callable[[str], None]) -> None:
        self._addressing = addressing
        self._add = add
        self._programs: Programs | None = None
        self._carriers = Carriers(self._store, self._run, warn, self._queue)

    def is_local(self, address: str) -> bool:
        """Tell whether *address* is one of ours: its domain is named as such, or it has none."""
        domain = grammar.split_mailbox(address)[1]
        return not domain or domain in self._addressing.domains

    def deliver(self, message: Outgoing) -> list[Outcome]:
        """Store *message*, wait for it; an outcome for each recipient."""
        places: dict[str, Goal] = {}
        outcomes: dict[str, Outcome] = {}
        for recipient in message.recipients:
            try:
                places[recipient.address] = (recipient, self._addressing.places(recipient.address))
            except RefusedRecipientError as refused:
                outcomes[recipient.address] = _outcome(message, recipient, refused.reply)
            except (MailError, OSError) as error:
                outcomes[recipient.address] = _outcome(message, recipient, failure(error))
        goals = list(places.values())
        if goals:
            replies = self._hand_over(message, goals)
            for (recipient, _), reply in zip(goals, replies, strict=True):
                outcomes[recipient.address] = _outcome(message, recipient, reply)
        return [outcomes[recipient.address] for recipient in message.recipients]

    def _hand_over(self, message: Outgoing, goals: Sequence[Goal]) -> list[Reply]:
        beside = next((p[0] for _, its in goals for p in its), f"{self._addressing.root.path}/")
        envelope = Envelope(message.reverse_path, tuple(r for r, _ in goals), "", "")
        incoming = Incoming(envelope._replace(smtputf8=message.needs_utf8, ret=message.ret), beside)
        incoming.take_lines(message.head.replace(b"\r\n", b"\n"))
        last = b"\n"
        for last in whole_lines(message.body.blocks()):
            incoming.take_lines(last)
        if not last.endswith(b"\n"):
            incoming.take_lines(b"\n")
        incoming.end()
        if incoming.problem is not None:
            return [incoming.problem] * len(goals)
        try:
            return self._settled(incoming, goals)
        finally:
            incoming.body.close()

    def _settled(self, incoming: Incoming, goals: Sequence[Goal]) -> list[Reply]:
        ended = threading.Event()
        failures: Failures = {}

        def done(its: Failures) -> None:
            nonlocal failures
            failures = its
            ended.set()

        loads = make_loads(incoming, clock.identity(), "", goals, "")
        Handover(self._carriers, done).start(loads)
        ended.wait()
        return [worst([failures[p] for p in places if p in failures], _STORED) for _, places in goals]

    # -- carriers ------------------------------------------------------------------------------------------

    def _store(self, delivery: Delivery) -> None:
        error: MailError | None = None
        try:
            appending.append_waiting(delivery.path, [delivery.record])
        except MailError as problem:
            error = problem
        delivery.done(error)

    def _run(self, job: Any) -> None:
        self._programs = self._programs or Programs(lambda call: call())
        self._programs.run(job)

    def _queue(self, queued: Queued, done: Callable[[MailError | None], None]) -> None:
        assert self._add is not None
        try:
            self._add(queued.envelope, queued.blocks)
        except MailError as error:
            done(error)
        else:
            done(None)


def _outcome(message: Outgoing, recipient: Recipient, reply: Reply) -> Outcome:
    error = None if reply.is_completed else refusal("RCPT", reply)
    return Outcome(message, recipient.address, reply, error)
