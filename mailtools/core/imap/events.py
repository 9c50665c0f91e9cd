"""The events of the IMAP server's engine. A question needs an answer before the engine continues."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.imap import commands


class ImapRefusal(NamedTuple):
    """The answer to what cannot be done, with its response code (RFC 5530)."""

    text: str
    code: str = ""


class CommandOutcome(NamedTuple):
    """The result of a command: OK, NO or BAD, a text and a response code."""

    status: str
    text: str
    code: str = ""
    untagged: Iterator[bytes] | tuple[bytes, ...] = ()  # whole responses, sent before the result
    is_raw: bool = False  # they may hold NUL, which else stands for the tag


@dataclass(slots=True)
class UserWanted(Question[ImapRefusal | None]):
    """A question: may *user*, who has logged in, have mailboxes?"""

    user: str


@dataclass(slots=True)
class Execute(Question[CommandOutcome]):
    """A question: execute *command*."""

    command: commands.Command


class MoreWanted(Question[bytes | CommandOutcome | None]):
    """A question: what are the next responses of the command under way? None: there are no more.

    An outcome takes the place of the one that was given: the command failed behind whole responses.
    """

    __slots__ = ()


@dataclass(slots=True)
class AppendStart(Question[ImapRefusal | None]):
    """A question: may a message of *size* octets be appended? Its octets follow as `AppendChunk`.

    *is_further*: it belongs to the one before; both are stored, or none.
    """

    command: commands.AppendMessage
    size: int
    is_further: bool = False


class AppendChunk(NamedTuple):
    """Octets of the message that is being appended."""

    octets: bytes


class AppendEnd(Question[CommandOutcome]):
    """A question: the messages are complete; are they stored?"""

    __slots__ = ()


class IdleBegun(NamedTuple):
    """The client waits for news: `ImapServerEngine.push` sends them."""


class IdleEnded(Question[None]):
    """A question: the client waits no longer; was it told all that was found for it?"""

    __slots__ = ()


class SessionEnded(NamedTuple):
    """The session ended, however that came."""


Event = (
    CheckDigest | CheckPassword | FindKeys | LoginFailed | UserWanted | Execute | MoreWanted | AppendStart
    | AppendChunk | AppendEnd | IdleBegun | IdleEnded | SessionEnded
)  # fmt: skip
