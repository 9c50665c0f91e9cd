"""`send`: each message to its next hop, or into the queue; and a copy for the sender.

This module does not know where messages come from (services/submission/prepare) or how a connection is
opened.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mailtools.core.errors import (
    BadDataError,
    CannotWriteError,
    ConfigurationError,
    MailError,
    TemporaryError,
)
from mailtools.services.smtp_client.connection import Link
from mailtools.services.smtp_client.sender import LinkCarrier, transfer
from mailtools.services.submission.prepare import Unsendable
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system.files.home import expand

AUTO, ALWAYS, NEVER = "auto", "always", "never"


class Queueing(NamedTuple):
    """When a message is put into the queue, and how the queue sends it."""

    when: str  # AUTO: after a temporary failure; ALWAYS; NEVER
    spool: str
    route: str = ""  # the next hop asked for; "": the routes of the queue run
    tls: str = ""
    account: str = ""
    why_not: str = ""  # a sentence, if the queue could not send it


class Uncopied(NamedTuple):
    """A message that was sent or queued, but of which no copy could be filed."""

    name: str
    error: CannotWriteError


class Carrier(Protocol):
    """Takes messages to one next hop."""

    def put(self, message: Outgoing) -> Iterator[list[Outcome]]:
        """Send *message*; yield outcomes that become known. The last outcome may come with a later call."""

    def drain(self) -> Iterator[list[Outcome]]:
        """Wait for the outcomes that are not known yet."""

    def end(self) -> None:
        """Leave the next hop. To be called after `drain`."""

    def close(self) -> None:
        """Stop at once."""


class Way(NamedTuple):
    """The way of a message: what takes it to its next hop, and when it is queued instead."""

    carrier: Carrier
    queueing: Queueing


class AtOnce:
    """A carrier that knows the outcomes of each message before the next one comes."""

    def __init__(self, deliver: Callable[[Outgoing], list[Outcome]]) -> None:
        self._deliver = deliver

    def put(self, message: Outgoing) -> Iterator[list[Outcome]]:
        """Deliver *message*."""
        yield self._deliver(message)

    def drain(self) -> Iterator[list[Outcome]]:
        """All outcomes are known."""
        return iter(())

    def end(self) -> None:
        """There is nothing to leave."""

    def close(self) -> None:
        """There is nothing to stop."""


def over_links(open_link: Callable[[], Link], partial: bool) -> Carrier:
    """Return a carrier to one server."""
    return LinkCarrier(open_link, partial=partial)


def by_domain(open_link: Callable[[str], Link], partial: bool) -> Carrier:
    """Return a carrier to the servers of the recipients' domains, with a transaction for each domain."""

    def deliver(message: Outgoing) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        for domain, part in _parts(message):
            for its in transfer([part], lambda d=domain: open_link(d), partial=partial):  # type: ignore[misc]
                outcomes.update({outcome.recipient: outcome for outcome in its})
        return [outcomes[r.address]._replace(message=message) for r in message.recipients]

    return AtOnce(deliver)


def _parts(message: Outgoing) -> list[tuple[str, Outgoing]]:
    domains: dict[str, list[int]] = {}
    for number, recipient in enumerate(message.recipients):
        domain = recipient.address.rpartition("@")[2].lower().removesuffix(".")
        domains.setdefault(domain, []).append(number)
    return [
        (domain, message._replace(recipients=tuple(message.recipients[n] for n in numbers)))
        for domain, numbers in domains.items()
    ]


def into_mbox(path: str) -> Carrier:
    """Return a carrier into one mbox, which delivers as serve-smtp does."""
    from mailtools.services.delivery.addressing import Addressing
    from mailtools.services.delivery.blocking import LocalMail
    from mailtools.system.mbox.mailroot import MailRoot

    path = os.path.realpath(expand(path))
    mailboxes = LocalMail(Addressing(MailRoot(os.path.dirname(path)), path), None, lambda _: None)
    return AtOnce(mailboxes.deliver)


def into_queue(queueing: Queueing) -> Carrier:
    """Return a carrier into the spool."""
    return AtOnce(lambda message: _queued(message, (), queueing))


Result = list[Outcome] | Unsendable | Uncopied


def send(
    messages: Iterable[Outgoing | Unsendable],
    way_of: Callable[[Outgoing], Way],
    fcc: str,
    partial: bool,
) -> Iterator[Result]:
    """Send *messages*, each on its way; yield the results of each, in order, as soon as they are known.

    *way_of* raises MailError if the message has no way; messages that follow each other on the same `Way`
    share its connections. *fcc*: an mbox for copies, or "". Raises what *messages* raises, after the
    results of the messages before.
    """
    way: Way | None = None
    waiting = iter(messages)
    try:
        while True:
            try:
                message = next(waiting, None)
            except Exception:
                if way is not None:
                    yield from _results(way, way.carrier.drain(), fcc, partial)
                raise
            found = _way(message, way_of) if message is not None else None
            if way is not None and found is not way:
                yield from _results(way, way.carrier.drain(), fcc, partial)
            if isinstance(found, Unsendable):
                yield found
                continue
            if way is not None and found is not way:
                way.carrier.end()
            if found is None:
                break
            way = found
            assert isinstance(message, Outgoing)
            yield from _results(way, way.carrier.put(message), fcc, partial)
    finally:
        if way is not None:
            way.carrier.close()


def _way(message: Outgoing | Unsendable, way_of: Callable[[Outgoing], Way]) -> Way | Unsendable:
    if isinstance(message, Unsendable):
        return message
    try:
        return way_of(message)
    except MailError as error:
        message.body.close()
        return Unsendable(message.name, type(error)(f"{message.name}: {error}"))


def _results(way: Way, tried: Iterable[list[Outcome]], fcc: str, partial: bool) -> Iterator[Result]:
    """Queue what failed for the moment; file a copy of what was sent or queued."""
    for its in tried:
        outcomes = _kept(its, way.queueing, partial) if way.queueing.when == AUTO else its
        message = outcomes[0].message
        yield outcomes
        if fcc and any(outcome.error is None for outcome in outcomes):
            uncopied = _filed(fcc, message)
            if uncopied is not None:
                yield uncopied
        message.body.close()


def _kept(outcomes: list[Outcome], queueing: Queueing, partial: bool) -> list[Outcome]:
    """Queue the recipients that failed temporarily, unless another one failed permanently for all."""
    later = [o.recipient for o in outcomes if isinstance(o.error, TemporaryError)]
    failed = any(o.error is not None and not isinstance(o.error, TemporaryError) for o in outcomes)
    if not later or (failed and not partial):
        return outcomes
    why_not = queueing.why_not or _without_runner(queueing.spool)
    if why_not:
        return [
            o if o.recipient not in later else o._replace(error=_not_kept(o.error, why_not)) for o in outcomes
        ]
    tried = [o for o in outcomes if o.recipient in later]
    queued = {o.recipient: o for o in _queued(outcomes[0].message, tried, queueing)}
    return [_because(queued[o.recipient], o) if o.recipient in later else o for o in outcomes]


def _without_runner(spool: str) -> str:
    """Return why the queue would not send a message on: no queue run is alive. Else ""."""
    from mailtools.system.spool.spool import Spool

    if Spool(spool).has_runner():
        return ""
    return f"no queue run works on {spool}; start one with: mailtools queue run, or give --queue always"


def _not_kept(error: MailError | None, why: str) -> MailError:
    return TemporaryError(f"{error}; not queued: {why}")


def _because(queued: Outcome, first: Outcome) -> Outcome:
    """Add to a queued recipient's outcome why it was not sent at once."""
    if queued.error is not None:
        return first._replace(error=_not_kept(first.error, str(queued.error)))
    return queued._replace(reply=first.reply, remote=str(first.error))


def _queued(message: Outgoing, tried: Sequence[Outcome], queueing: Queueing) -> list[Outcome]:
    """Queue *message* for all its recipients, or for those who were *tried* without success.

    A recipient that the queue cannot keep is refused alone.
    """
    from mailtools.core.queue import envelope as envelopes

    wanted = {outcome.recipient for outcome in tried} or {one.address for one in message.recipients}
    recipients = [one for one in message.recipients if one.address in wanted]
    if queueing.why_not:
        refusal: MailError = ConfigurationError(f"not queued: {queueing.why_not}")
        return [Outcome(message, one.address, None, refusal) for one in recipients]
    kept = [one.address for one in recipients if envelopes.is_recipient(one)]
    identity, error = _into_spool(message, kept, tried, queueing) if kept else ("", None)
    outcomes = []
    for one in recipients:
        why = error
        if one.address not in kept:
            why = BadDataError(f"{one.address!r}: the queue cannot keep this address").coded("5.1.3")
        outcomes.append(Outcome(message, one.address, None, why, queued="" if why else identity))
    return outcomes


def _into_spool(
    message: Outgoing, addresses: Sequence[str], tried: Sequence[Outcome], queueing: Queueing
) -> tuple[str, MailError | None]:
    """Queue *message* for *addresses*; return its queue id, or the error."""
    from mailtools.services.queue.spooled import into_spool
    from mailtools.system.spool.spool import Spool

    hop = (queueing.route, queueing.tls, queueing.account)
    try:
        return into_spool(Spool(queueing.spool), message, "send", addresses, hop, tried).identity, None
    except (CannotWriteError, BadDataError) as error:
        return "", error


def _filed(path: str, message: Outgoing) -> Uncopied | None:
    """File a copy. A failure is never a TemporaryError: the message would be sent twice."""
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
    append_waiting(os.path.realpath(expand(path)), [record])
