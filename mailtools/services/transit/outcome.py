"""The outcome of one recipient of one message, from the disk or the wire to the command."""

from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.smtp.reply import Reply
from mailtools.services.transit.outgoing import Outgoing


class Outcome(NamedTuple):
    """The outcome of one recipient of one message."""

    message: Outgoing
    recipient: str
    # the reply that decided (for our own mailboxes the one that serve-smtp would give), or None
    reply: Reply | None
    error: MailError | None  # None: sent
    remote: str = ""  # the server that sent the reply
    took_dsn: bool = False  # the server reports on delivery itself (RFC 3461)
    queued: str = ""  # the queue id, if the message is queued
