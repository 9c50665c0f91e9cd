"""What the server engine tells: its events, the envelope. Plain values, no behaviour."""

from typing import NamedTuple


class Envelope(NamedTuple):
    """All that a mail transaction says beside the message."""

    reverse_path: str  # "" is the null reverse-path <>
    recipients: tuple[str, ...]
    protocol: str  # the "with" keyword of Received: SMTP, ESMTP, UTF8SMTP (RFC 3848, RFC 6531 §4.3)
    helo: str
    body: str  # "", "7BIT" or "8BITMIME"
    smtputf8: bool


class Connected(NamedTuple):
    """A question: does the server greet or turn away (220, 421, 554)?"""


class Hello(NamedTuple):
    """The client said HELO or EHLO."""

    name: str


class MailFrom(NamedTuple):
    """A question: is this reverse-path welcome?"""

    reverse_path: str
    size: int  # as declared, octets; 0 where it was not


class RcptTo(NamedTuple):
    """A question: is this forward-path ours?"""

    recipient: str


class MessageStart(NamedTuple):
    """DATA was accepted; chunks follow."""

    envelope: Envelope


class MessageChunk(NamedTuple):
    """Whole lines of the message: CRLF, dots unstuffed."""

    octets: bytes


class MessageEnd(NamedTuple):
    """A question: all chunks came; is the message stored?"""


class MessageAborted(NamedTuple):
    """The message is not to be had, because it broke a rule or the client went away: forget its chunks."""

    reason: str


class Verify(NamedTuple):
    """VRFY was asked (and answered 252)."""

    argument: str


class Closed(NamedTuple):
    """The session is over: QUIT, too many errors, or the client's end of file."""


Event = (
    Connected
    | Hello
    | MailFrom
    | RcptTo
    | MessageStart
    | MessageChunk
    | MessageEnd
    | MessageAborted
    | Verify
    | Closed
)
