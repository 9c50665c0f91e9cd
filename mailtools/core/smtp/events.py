"""What an SMTP engine tells: events of the server engine, replies, the envelope. Plain values, no behaviour.

Owns RFC 5321 §4.2 (the form of replies) and RFC 2034/RFC 3463 (enhanced status codes).
"""

from typing import NamedTuple


class Reply(NamedTuple):
    """A reply: its code, its enhanced status code ("" where none belongs), its lines of text."""

    code: int
    enhanced: str
    text: str

    def octets(self) -> bytes:
        """The reply as it goes over the wire; a text of several lines becomes a multiline reply."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if "\n" not in self.text:
            return f"{self.code} {prefix}{self.text}\r\n".encode()
        *lines, last = self.text.split("\n")
        head = "".join([f"{self.code}-{prefix}{line}\r\n" for line in lines])
        return f"{head}{self.code} {prefix}{last}\r\n".encode()

    @property
    def is_positive(self) -> bool:
        """Tell whether it is 2yz or 3yz."""
        return 200 <= self.code < 400

    @property
    def is_completed(self) -> bool:
        """Tell whether it is 2yz: the command did what it is for."""
        return 200 <= self.code < 300

    @property
    def is_transient(self) -> bool:
        """Tell whether it is 4yz: the same again may work later."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        text = self.text.replace("\n", " ")
        return f"{self.code} {self.enhanced} {text}" if self.enhanced else f"{self.code} {text}"


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
