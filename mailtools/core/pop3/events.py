"""What the server's engine of POP3 tells its session. Questions want an answer before parsing goes on."""

from typing import NamedTuple

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed


class BannerWanted(NamedTuple):
    """A question: what is the banner for APOP ("" for none)? The greeting goes out with it."""


class MaildropWanted(NamedTuple):
    """A question: may *user* have the maildrop? Answer with its Size, or with a Refusal."""

    user: str


class MaildropSize(NamedTuple):
    """How much there is: messages, and octets as RETR gives them."""

    messages: int
    octets: int


class Refusal(NamedTuple):
    """What cannot be, with its response code (RFC 2449 §8, RFC 3206), such as SYS/TEMP."""

    text: str
    code: str = ""


class Stat(NamedTuple):
    """A question: how much is there that is not marked? Answer with Size."""


class List(NamedTuple):
    """A question: octets, or names, of one message (from 1) or all (0).

    Answer with a text, all of its lines, or a Refusal.
    """

    number: int
    names: bool


class Retrieve(NamedTuple):
    """A question: message *number*, or its header and the first *lines* of its body.

    Answer with (octets announced, blocks with the dots stuffed), or a Refusal.
    """

    number: int
    lines: int | None = None


class Delete(NamedTuple):
    """A question: mark message *number*. Answer with "" or a Refusal."""

    number: int


class Reset(NamedTuple):
    """A question: take all marks back; answer with Size."""


class Update(NamedTuple):
    """A question: remove what is marked, durably, and let the maildrop go. Answer with "" or a Refusal."""


class MaildropClosed(NamedTuple):
    """The end, however it came: let the maildrop go, remove nothing."""

    fault: str = ""  # why an answer was cut, for the log


Event = (
    BannerWanted | CheckDigest | CheckPassword | FindKeys | MaildropWanted | LoginFailed | Stat | List
    | Retrieve | Delete | Reset | Update | MaildropClosed
)  # fmt: skip
