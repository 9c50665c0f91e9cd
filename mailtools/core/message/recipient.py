"""One recipient of an envelope: its forward-path and the delivery status notifications requested for it.

SMTP sessions, messages on their way and the queue all use this one class.
"""

from mailtools.core.lean import NamedTuple


class Recipient(NamedTuple):
    """A forward-path and its DSN parameters (RFC 3461 §4)."""

    address: str
    notify: str = ""  # "", NEVER, or some of SUCCESS,FAILURE,DELAY (RFC 3461 §4.1)
    orcpt: str = ""  # the original recipient: address type and xtext (RFC 3461 §4.2)
