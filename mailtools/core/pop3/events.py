"""The events of the POP3 server's engine. A question needs an answer before the engine continues."""

from dataclasses import dataclass
from typing import NamedTuple

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.wire.conversation import Block, NextBlock


class MaildropSize(NamedTuple):
    """The messages of a maildrop that are not marked as deleted, and their octets as RETR sends them."""

    messages: int
    octets: int


class Refusal(NamedTuple):
    """The answer to a command that cannot be executed, with its response code (RFC 2449 §8, RFC 3206)."""

    text: str
    code: str = ""  # such as SYS/TEMP


@dataclass(slots=True)
class BannerWanted(Question[str]):
    """A question: what is the banner for APOP ("" for none)? The greeting contains it."""


@dataclass(slots=True)
class MaildropWanted(Question[MaildropSize | Refusal]):
    """A question: may *user* open the maildrop?"""

    user: str


@dataclass(slots=True)
class Stat(Question[MaildropSize]):
    """A question: how large is the maildrop?"""


@dataclass(slots=True)
class ListAll(Question[bytes]):
    """A question: what are the lines of LIST, or of UIDL with *names*?"""

    names: bool


@dataclass(slots=True)
class ListOne(Question[str | Refusal]):
    """A question: what is the line of LIST, or of UIDL with *names*, about message *number* (from 1)?"""

    number: int
    names: bool


class Retrieved(NamedTuple):
    """A message: its size in octets, without added dots, and its first block."""

    size: int
    block: Block
    is_dotless: bool = False  # True if no line begins with a dot; a search takes 0.1 of the time of a RETR


@dataclass(slots=True)
class Retrieve(Question[Retrieved | Refusal]):
    """A question: what is message *number* (from 1)? `NextBlock` asks for its further blocks."""

    number: int


@dataclass(slots=True)
class Delete(Question[Refusal | None]):
    """A question: mark message *number* (from 1) as deleted."""

    number: int


@dataclass(slots=True)
class Reset(Question[MaildropSize]):
    """A question: remove all marks. What is the size then?"""


@dataclass(slots=True)
class Update(Question[Refusal | None]):
    """A question: remove the marked messages durably and close the maildrop."""


class MaildropClosed(NamedTuple):
    """The session ended, however that came: close the maildrop, remove nothing."""

    fault: str = ""  # why a message was not sent whole, for the log


Event = (
    BannerWanted | CheckDigest | CheckPassword | FindKeys | MaildropWanted | LoginFailed | Stat | ListAll
    | ListOne | Retrieve | NextBlock | Delete | Reset | Update | MaildropClosed
)  # fmt: skip
