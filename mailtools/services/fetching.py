"""One source of `fetch`, from the connection to the goodbye: its mailboxes one after another, then IDLE.

Knows no option. What becomes of one mailbox is services/collect's affair.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailtools.services.collect import Errand, Sink, Watch, collect
from mailtools.services.remote import POP3, Remote, Target, Wishes
from mailtools.system.seen import Seen


class Order(NamedTuple):
    """What is wanted of one source."""

    target: Target
    beside: str  # the mbox or folder that the state is beside
    wishes: Wishes
    sink: Callable[[str], Sink]  # for a mailbox
    patterns: Sequence[str] = ("INBOX",)
    stays: bool = False  # fetch as mail comes
    is_dry: bool = False


def fetch(order: Order, watch: Watch) -> None:
    """Do it. Raises MailError, OSError."""
    seen = Seen(order.beside, order.target.name)
    try:
        remote = open_remote(order.target)
        try:
            _fetch(Errand(remote, seen, order.wishes, watch, order.is_dry), order)
            remote.leave()
        finally:
            remote.close()
    finally:
        seen.close()


def _fetch(errand: Errand, order: Order) -> None:
    mailboxes = errand.remote.mailboxes(order.patterns)
    for mailbox in mailboxes:
        collect(errand, mailbox, order.sink(mailbox))
    while order.stays:
        errand.remote.wait_for_mail()
        collect(errand, mailboxes[-1], order.sink(mailboxes[-1]))


def open_remote(target: Target) -> Remote:
    """Connect and log in. Raises MailError."""
    if target.protocol == POP3:
        from mailtools.services.pop3_remote import Pop3Remote

        return Pop3Remote(target)
    from mailtools.services.imap_remote import ImapRemote

    return ImapRemote(target)
