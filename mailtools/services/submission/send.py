"""What `send` does with a message: to its next hop, else into the queue; and a copy for the sender.

Knows how messages go, not where they come from (services/submission/prepare) and not how a connection is
made.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError, ConfigurationError, MailError, TemporaryError
from mailtools.services.smtp_client.connection import Link
from mailtools.services.smtp_client.transaction import transfer
from mailtools.services.submission.prepare import Unsendable
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing

AUTO, ALWAYS, NEVER = "auto", "always", "never"

Carry = Callable[[Iterable[Outgoing]], Iterator[list[Outcome]]]


class Queueing(NamedTuple):
    """When a message goes into the spool, and how it is to go on from there."""

    when: str  # AUTO: after a temporary failure; ALWAYS; NEVER
    spool: str
    route: str = ""  # the next hop asked for; "": as the queue's runner is told
    tls: str = ""
    account: str = ""
    why_not: str = ""  # a sentence, where the queue could not send it on


class Uncopied(NamedTuple):
    """A message that went, as its outcomes tell, but of which no copy could be filed."""

    name: str
    error: CannotWriteError


def over_links(open_link: Callable[[], Link], partial: bool) -> Carry:
    """Carry over one server."""
    return lambda messages: transfer(messages, open_link, partial=partial)


def by_domain(open_link: Callable[[str], Link], partial: bool) -> Carry:
    """Carry to the servers of the recipients' domains: a transaction for each domain."""

    def carry(messages: Iterable[Outgoing]) -> Iterator[list[Outcome]]:
        for message in messages:
            outcomes: dict[str, Outcome] = {}
            for domain, part in _parts(message):
                for its in transfer([part], lambda d=domain: open_link(d), partial=partial):  # type: ignore[misc]
                    outcomes.update({outcome.recipient: outcome for outcome in its})
            yield [outcomes[r.address]._replace(message=message) for r in message.recipients]

    return carry


def _parts(message: Outgoing) -> list[tuple[str, Outgoing]]:
    domains: dict[str, list[int]] = {}
    for number, recipient in enumerate(message.recipients):
        domain = recipient.address.rpartition("@")[2].lower().removesuffix(".")
        domains.setdefault(domain, []).append(number)
    return [
        (domain, message._replace(recipients=tuple(message.recipients[n] for n in numbers)))
        for domain, numbers in domains.items()
    ]


def into_mbox(path: str) -> Carry:
    """Carry into one mbox, as final delivery would."""
    from mailtools.services.delivery.addressing import Addressing
    from mailtools.services.delivery.blocking import LocalMail
    from mailtools.system.mbox.mailroot import MailRoot

    path = os.path.realpath(os.path.expanduser(path))
    mailboxes = LocalMail(Addressing(MailRoot(os.path.dirname(path)), path), None, lambda _: None)
    return lambda messages: (mailboxes.deliver(message) for message in messages)


def send(
    messages: Iterable[Outgoing | Unsendable], carry: Carry, queueing: Queueing, fcc: str, partial: bool
) -> Iterator[list[Outcome] | Unsendable | Uncopied]:
    """Send *messages*; yield what became of each, as it is known. *fcc*: an mbox for copies, or ""."""
    begun: deque[Outgoing | Unsendable] = deque()  # the next one is looked at while one is under way

    def sendable() -> Iterator[Outgoing]:
        for message in messages:
            begun.append(message)
            if isinstance(message, Outgoing):
                yield message

    def unsendable() -> Iterator[Unsendable]:
        while begun and isinstance(found := begun[0], Unsendable):
            begun.popleft()
            yield found

    if queueing.when == ALWAYS:
        results: Iterator[list[Outcome]] = (_queued(message, (), queueing) for message in sendable())
    else:
        results = carry(sendable())
    for tried in results:
        yield from unsendable()
        begun.popleft()
        outcomes = _kept(tried, queueing, partial) if queueing.when == AUTO else tried
        message = outcomes[0].message
        yield outcomes
        if fcc and any(outcome.error is None for outcome in outcomes):
            uncopied = _filed(fcc, message)
            if uncopied is not None:
                yield uncopied
        message.body.close()
    yield from unsendable()


def _kept(outcomes: list[Outcome], queueing: Queueing, partial: bool) -> list[Outcome]:
    """Outcomes, with those that failed for now in the queue; but not where one failed for good for all."""
    later = [o.recipient for o in outcomes if isinstance(o.error, TemporaryError)]
    failed = any(o.error is not None and not isinstance(o.error, TemporaryError) for o in outcomes)
    if not later or (failed and not partial):
        return outcomes
    if queueing.why_not:
        return [
            o if o.recipient not in later else o._replace(error=_not_kept(o.error, queueing.why_not))
            for o in outcomes
        ]
    queued = {o.recipient: o for o in _queued(outcomes[0].message, later, queueing)}
    return [_because(queued[o.recipient], o) if o.recipient in later else o for o in outcomes]


def _not_kept(error: MailError | None, why: str) -> MailError:
    return TemporaryError(f"{error}; not queued: {why}")


def _because(queued: Outcome, first: Outcome) -> Outcome:
    """A queued recipient tells why it did not go at once."""
    if queued.error is not None:
        return first._replace(error=_not_kept(first.error, str(queued.error)))
    return queued._replace(reply=first.reply, remote=str(first.error))


def _queued(message: Outgoing, only: Sequence[str], queueing: Queueing) -> list[Outcome]:
    from mailtools.services.queue.spooled import into_spool
    from mailtools.system.spool.spool import Spool

    recipients = only or [recipient.address for recipient in message.recipients]
    if queueing.why_not:
        refusal = ConfigurationError(f"not queued: {queueing.why_not}")
        return [Outcome(message, recipient, None, refusal) for recipient in recipients]
    try:
        hop = (queueing.route, queueing.tls, queueing.account)
        kept = into_spool(Spool(queueing.spool), message, "send", recipients, hop)
    except CannotWriteError as error:
        return [Outcome(message, recipient, None, error) for recipient in recipients]
    return [Outcome(message, recipient, None, None, queued=kept.identity) for recipient in recipients]


def _filed(path: str, message: Outgoing) -> Uncopied | None:
    """File a copy. What keeps it from being written is never temporary: who tries again sends twice."""
    try:
        file_copy(path, message)
    except (MailError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        text = f"{message.name}: it went, but no copy could be filed in {path}: {why}; do not send it again"
        return Uncopied(message.name, CannotWriteError(text))
    return None


def file_copy(path: str, message: Outgoing) -> None:
    """Append *message* to the mbox *path*, with the Bcc that nobody else sees. Raises CannotWriteError."""
    from mailtools.services.transit.mbox_form import MboxIntake, new_record
    from mailtools.system.mbox.appending import append_waiting

    intake = MboxIntake(beside=path)
    intake.take(message.head[:-2] + message.bcc + b"\r\n")
    for block in message.body.blocks():
        intake.take(block)
    intake.end()
    record = new_record(message.reverse_path, "", intake.body)
    append_waiting(os.path.realpath(os.path.expanduser(path)), [record])
