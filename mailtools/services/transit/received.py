"""A message that a server receives for delivery: its intake into the form of an mbox, and its envelope.

Knows no session and no recipient. The message stays in a buffer until it is complete: a slow client holds
no lock, and no octet of an incomplete message gets into an mbox.
"""

from typing import NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.message import submission
from mailtools.core.smtp.events import Envelope
from mailtools.core.wire import eol
from mailtools.services.transit.intake import MAX_HEADER, IntakePolicy
from mailtools.services.transit.mbox_form import MboxIntake
from mailtools.system.files.buffer import Buffer

# The SMTP engine gives whole lines, and has checked that each ends with CRLF (RFC 5321 §2.3.8).
FROM_SMTP = IntakePolicy(to_lf=eol.to_lf)
FROM_HERE = IntakePolicy()


class Received(NamedTuple):
    """A message for delivery."""

    envelope: Envelope
    body: Buffer  # header and body in mbox form, without our trace fields


class ReceivedIntake(MboxIntake):
    """Refuses also a header that is too large, and a message in a loop (RFC 5321 §6.3)."""

    def __init__(self, policy: IntakePolicy, beside: str) -> None:
        super().__init__(policy, beside)
        self._header_size = 0
        self._hops = 0

    def _check_header(self, lines: bytes, is_whole: bool) -> None:
        """Count the octets and Received fields in some *lines* of the header.

        *is_whole*: these are all of them.

        Raises BadDataError with a text for the client.
        """
        self._header_size += len(lines)
        if self._header_size > MAX_HEADER:
            raise BadDataError(f"Header too large: at most {MAX_HEADER} octets").coded("5.3.4")
        self._hops += submission.hops(lines) if is_whole else _received_fields(lines)
        if self._hops > submission.MAX_HOPS:
            raise BadDataError(f"Mail loop: more than {submission.MAX_HOPS} Received fields").coded("5.4.6")


def _received_fields(lines: bytes) -> int:
    return (b"\n" + lines.lower()).count(b"\nreceived:")
