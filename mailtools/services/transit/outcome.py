"""What became of one recipient of one message, from the disk or the wire up to the command."""

from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.smtp.reply import Reply
from mailtools.services.transit.outgoing import Outgoing


class Outcome(NamedTuple):
    """What became of one recipient of one message."""

    message: Outgoing
    recipient: str
    reply: Reply | None  # the reply that decided; None where none came
    error: MailError | None  # None: sent
    remote: str = ""  # the server that said so
    took_dsn: bool = False  # the server reports on delivery itself (RFC 3461)
    queued: str = ""  # the queue id, where it waits in the spool instead
