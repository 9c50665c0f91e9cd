"""What the server engine tells: its events, the envelope. Plain values, no behaviour.

A question waits for an answer: `reply` says it in so many words, `proceed` lets the command go its way.
"""

from typing import NamedTuple

from mailtools.core.auth.sasl import CheckPassword, FindKeys, LoginFailed
from mailtools.core.message.recipient import Recipient


class Envelope(NamedTuple):
    """All that a mail transaction says beside the message."""

    reverse_path: str  # "" is the null reverse-path <>
    recipients: tuple[Recipient, ...]
    protocol: str  # the "with" keyword of Received: SMTP, ESMTPSA, UTF8SMTP ... (RFC 3848, RFC 6531 §4.3)
    helo: str
    body: str = ""  # "", "7BIT" or "8BITMIME"
    smtputf8: bool = False
    ret: str = ""  # RFC 3461 §4.3: "", FULL or HDRS
    envid: str = ""  # RFC 3461 §4.4, in xtext
    user: str = ""  # who logged in


class Connected(NamedTuple):
    """A question: does the server greet or turn away (220, 421, 554)?"""


class Hello(NamedTuple):
    """A question: the client said HELO, EHLO or LHLO; `proceed` answers it."""

    name: str


class LoggedIn(NamedTuple):
    """AUTH succeeded."""

    user: str


class MailFrom(NamedTuple):
    """A question: is this reverse-path welcome?"""

    reverse_path: str
    size: int  # as declared, octets; 0 where it was not


class RcptTo(NamedTuple):
    """A question: is this forward-path ours?"""

    recipient: str


class MessageStart(NamedTuple):
    """A question: DATA or the first BDAT; after `proceed` chunks follow."""

    envelope: Envelope


class MessageChunk(NamedTuple):
    """Whole lines of the message: CRLF, dots unstuffed."""

    octets: bytes


class MessageEnd(NamedTuple):
    """A question: all chunks came; is the message stored? In LMTP `reply_each` answers for each recipient."""


class MessageAborted(NamedTuple):
    """The message is not to be had, because it broke a rule or the client went away: forget its chunks."""

    reason: str


class Verify(NamedTuple):
    """VRFY was asked (and answered 252)."""

    argument: str


class Quit(NamedTuple):
    """A question: the client takes its leave; `proceed` answers it."""


class Closed(NamedTuple):
    """The session is over: QUIT, too many errors, or the client's end of file."""


Event = (
    Connected
    | Hello
    | CheckPassword
    | FindKeys
    | LoggedIn
    | LoginFailed
    | MailFrom
    | RcptTo
    | MessageStart
    | MessageChunk
    | MessageEnd
    | MessageAborted
    | Verify
    | Quit
    | Closed
)
