"""Gives a message of `sendmail` to a server of this host, which delivers it or sends it on.

Ordinary users can neither write to the mailboxes of others nor to the server's queue: its socket is their way
in. Each recipient gets the server's own answer.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mailtools.core.errors import MailError, TemporaryError
from mailtools.core.smtp import route as routes
from mailtools.services.access import IMPLICIT, OPPORTUNISTIC, Access
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import SmtpTarget
from mailtools.services.smtp_client.sender import transfer
from mailtools.services.submission.refused import BadAddress
from mailtools.services.transit.outgoing import Outgoing

_TIMEOUT = 60.0  # seconds without progress; the server is near
_NO_REASON = "5.0.0"  # RFC 3463: no more is known


class SubmitAnswer(NamedTuple):
    """The server's answer about recipients that did not get the message."""

    later: Mapping[str, MailError]  # it may take the message for these later
    refused: Sequence[BadAddress]  # it never will


def submit(route: str, message: Outgoing, helo: str) -> SubmitAnswer:
    """Give *message* to the server at *route*. Raises MailError if it refuses all recipients for good."""
    way = routes.parse(route)
    tls = IMPLICIT if way.scheme == "smtps" else OPPORTUNISTIC
    target = SmtpTarget(way, Access(tls, timeout=_TIMEOUT), helo=helo)
    later: dict[str, MailError] = {}
    refused: list[BadAddress] = []
    problem: MailError | None = None
    for outcomes in transfer([message], lambda: open_link(target), partial=True):
        for its in outcomes:
            if isinstance(its.error, TemporaryError):
                later[its.recipient] = its.error
            elif its.error is not None:
                problem = problem or its.error
                status = its.reply.enhanced if its.reply else its.error.status
                refused.append(BadAddress(its.recipient, str(its.error), status or _NO_REASON))
    if problem is not None and len(refused) == len(message.recipients):
        raise problem
    return SubmitAnswer(later, refused)
