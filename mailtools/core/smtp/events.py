"""The events of the SMTP server's engine, and the envelope.

A question needs an answer before the engine continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailtools.core.auth.sasl import CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp.reply import Reply


class Envelope(NamedTuple):
    """What a mail transaction says besides the message."""

    reverse_path: str  # "" is the null reverse-path <>
    recipients: tuple[Recipient, ...]
    protocol: str  # the "with" keyword of Received: SMTP, ESMTPSA, UTF8SMTP ... (RFC 3848, RFC 6531 §4.3)
    helo: str
    body: str = ""  # "", "7BIT" or "8BITMIME"
    smtputf8: bool = False
    ret: str = ""  # RFC 3461 §4.3: "", FULL or HDRS
    envid: str = ""  # RFC 3461 §4.4, in xtext
    user: str = ""  # the user who logged in


# The answer None to a question means that the command goes on, and the engine replies; a Reply refuses it.


@dataclass(slots=True)
class Connected(Question[Reply]):
    """A question: what is the greeting (220), or the refusal (421, 554)?"""


@dataclass(slots=True)
class Hello(Question[Reply | None]):
    """A question: may the client go on after its HELO, EHLO or LHLO?"""

    name: str


class LoggedIn(NamedTuple):
    """AUTH succeeded."""

    user: str


@dataclass(slots=True)
class MailFrom(Question[Reply]):
    """A question: is mail with this reverse-path accepted?"""

    reverse_path: str
    size: int  # octets, as the client declared them; 0 if it did not


@dataclass(slots=True)
class RcptTo(Question[Reply]):
    """A question: is mail for this recipient accepted?"""

    recipient: str


@dataclass(slots=True)
class MessageStart(Question[Reply | None]):
    """A question: may the message of DATA or the first BDAT follow?"""

    envelope: Envelope


class MessageChunk(NamedTuple):
    """Whole lines of the message: CRLF, dots unstuffed."""

    octets: bytes


@dataclass(slots=True)
class MessageEnd(Question[Sequence[Reply]]):
    """A question: all chunks came; is the message stored?

    The answer is one reply; in LMTP one for each recipient, in the order of the RCPTs (RFC 2033 §4.2).
    """


class MessageAborted(NamedTuple):
    """The message broke a rule or the client went away: discard its chunks."""

    reason: str


class Verify(NamedTuple):
    """The client sent VRFY; the engine answered 252."""

    argument: str


@dataclass(slots=True)
class Quit(Question[Reply | None]):
    """A question: may the client end the session?"""


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
