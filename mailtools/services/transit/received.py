"""A message that a server takes for delivery: its intake into the form of an mbox, and its envelope.

Knows no session and no recipient. A slow client holds no lock, and a message that the client cuts leaves no
octet in an mbox: the message lies in a buffer until it is whole.
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
    """Also refuses a header that is too large, and a message that goes in circles (RFC 5321 §6.3)."""

    def __init__(self, policy: IntakePolicy, beside: str) -> None:
        super().__init__(policy, beside)
        self._header_size = 0
        self._hops = 0

    def _check_header(self, lines: bytes, is_whole: bool) -> None:
        """Count the octets and the Received fields of some *lines* of the header; *is_whole*: all of them.

        Raises BadDataError, in words that the client may be told.
        """
        self._header_size += len(lines)
        if self._header_size > MAX_HEADER:
            raise BadDataError(f"Header too large: at most {MAX_HEADER} octets").coded("5.3.4")
        self._hops += submission.hops(lines) if is_whole else _received_fields(lines)
        if self._hops > submission.MAX_HOPS:
            raise BadDataError(f"Mail loop: more than {submission.MAX_HOPS} Received fields").coded("5.4.6")


def _received_fields(lines: bytes) -> int:
    return (b"\n" + lines.lower()).count(b"\nreceived:")
