"""`sendmail`: recipients that are no addresses, or do not exist.

Nobody can be asked, so the others get the message, and the sender gets a DSN about the rest. Imported only if
a header or an argument has to be parsed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailtools.core.errors import BadDataError, MailError
from mailtools.core.message import address, header, submission
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.schedule import Schedule
from mailtools.services.queue.dsn import Notices, RefusedRecipients

Add = Callable[[QueueEnvelope, Iterable[bytes]], QueueEnvelope]
NO_ADDRESS = "not an address; write local@domain"


class BadAddress(NamedTuple):
    """A recipient that gets nothing, and why. *status*: the enhanced status code (RFC 3463 §3.2)."""

    text: str
    why: str
    status: str = "5.1.3"  # not an address

    def __str__(self) -> str:
        return f"{submission.readable(self.text)[:200]!r}: {self.why}"


def in_header(fields: bytes, complete: Callable[[str], str]) -> tuple[list[str], list[BadAddress]]:
    """Return the recipients of To, Cc and Bcc (or of the Resent fields), and the entries that are none.

    *complete* gives a local name its domain; it raises BadDataError for what is no address.
    """
    good: list[str] = []
    bad: list[BadAddress] = []
    resent = ("Resent-To", "Resent-Cc", "Resent-Bcc")
    is_resent = any(header.value(fields, name) is not None for name in resent)
    for name in resent if is_resent else ("To", "Cc", "Bcc"):
        for value in header.values(fields, name):
            faults = address.faults(value)
            bad += [BadAddress(fault.entry, f"{name}: {fault.why}") for fault in faults]
            for spec in address.addr_specs(value):
                if any(spec in fault.entry for fault in faults):
                    continue  # it may be half of the address that was meant
                try:
                    good.append(complete(spec))
                except BadDataError:
                    bad.append(BadAddress(spec, f"{name}: {NO_ADDRESS}"))
    return good, bad


def as_bad(text: str) -> BadAddress:
    """Return an argument that is no address."""
    return BadAddress(text, NO_ADDRESS)


class About(NamedTuple):
    """The message that the DSN is about."""

    reverse_path: str
    queue_id: str
    envid: str
    fields: bytes  # its header


def tell(bad: Sequence[BadAddress], about: About, notices: Notices, warn: Callable[[str], None]) -> bool:
    """Queue the DSN; return True if it is queued."""
    named = "; ".join(map(str, bad))
    if not about.reverse_path:
        warn(f"{about.queue_id}: not sent to {named}; and nobody to tell: its sender is <>")
        return False
    recipients = [(submission.readable(one.text)[:200], one.why, one.status) for one in bad]
    refused = RefusedRecipients(about.reverse_path, about.queue_id, recipients, about.envid)
    try:
        notices.tell_of_refused(refused, about.fields)
    except MailError as error:  # the message itself is accepted: a failure would have it sent twice
        warn(f"{about.queue_id}: not sent to {named}; the sender could not be told: {error}")
        return False
    return True


def make_notices(add: Add, host: str) -> Notices:
    """Return what queues the DSNs of this host. *add* writes into the spool."""
    return Notices(add, host, Schedule())
