"""What every delivery to our own mailboxes begins and ends with: places, the form of an mbox, outcomes.

Shared by deliveries that wait (services/delivery/blocking) and those of an event loop
(services/delivery/background).
"""

from collections.abc import Mapping, Sequence

from mailtools.core.errors import MailError
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp import grammar
from mailtools.core.smtp.events import Envelope
from mailtools.core.smtp.reply import Reply
from mailtools.services.delivery.addressing import Addressing
from mailtools.services.delivery.dispatch import Goal
from mailtools.services.delivery.failures import as_reply, not_delivered
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.services.transit.received import FROM_HERE, Received, ReceivedIntake

_STORED = Reply(250, "2.0.0", "Ok: stored")


def is_local(addressing: Addressing, address: str) -> bool:
    """Return True if the domain of *address* is named as ours, or missing."""
    domain = grammar.split_mailbox(address)[1]
    return not domain or domain in addressing.domains


def goals_of(addressing: Addressing, message: Outgoing) -> tuple[list[Goal], dict[str, MailError]]:
    """Return the places of each recipient, and for the others why there are none, by address."""
    goals: list[Goal] = []
    failures: dict[str, MailError] = {}
    for recipient in message.recipients:
        try:
            goals.append((recipient, addressing.places(recipient.address)))
        except (MailError, OSError) as error:
            failures[recipient.address] = not_delivered(error)
    return goals, failures


def received_of(addressing: Addressing, message: Outgoing, goals: Sequence[Goal]) -> Received:
    """Return *message* in the form of an mbox. Raises BadDataError, OSError."""
    beside = next((p[0] for _, its in goals for p in its), f"{addressing.root.path}/")
    intake = ReceivedIntake(FROM_HERE, beside)
    intake.take(message.head)
    for block in message.body.blocks():
        intake.take(block)
    intake.end()
    envelope = Envelope(message.reverse_path, tuple(recipient for recipient, _ in goals), "", "")
    envelope = envelope._replace(smtputf8=message.needs_utf8, ret=message.ret)
    return Received(envelope, intake.body)


def outcomes_of(message: Outgoing, failures: Mapping[str, MailError | None]) -> list[Outcome]:
    """Return an outcome for each recipient, in their order, with the reply that serve-smtp would give.

    *failures*: by address; None for an address whose mail is stored.
    """
    return [_outcome(message, recipient, failures[recipient.address]) for recipient in message.recipients]


def _outcome(message: Outgoing, recipient: Recipient, failure: MailError | None) -> Outcome:
    return Outcome(message, recipient.address, as_reply(failure) if failure else _STORED, failure)
