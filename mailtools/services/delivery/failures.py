"""Why a message or a recipient is refused here: errors whose text a client may be told.

Every error of this room has an enhanced status code (RFC 3463). Its class says whether another attempt may
help (TemporaryError). The log tells operators more, and so does `explained`. `as_reply` is for the edge of
SMTP: the reply for an error.
"""

from collections.abc import Iterable

from mailtools.core.errors import (
    DiskFullError,
    LockTimeoutError,
    MailError,
    PolicyError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.core.smtp.reply import Reply
from mailtools.system.files.durable import NO_ROOM

_CODES = {"4.3.1": 452, "5.1.1": 550, "5.3.4": 552}  # RFC 5321 §4.2.3; others are 451 and 554


class BrokenAliasError(TemporaryError):
    """An alias cannot be followed. It can be mended here, so the sender should keep the message."""

    status = "4.3.5"

    def __init__(self, why: str) -> None:
        super().__init__("An alias here cannot be followed, try again later")
        self.why = why


class AliasLoopError(UnknownRecipientError):
    """Aliases lead to each other and to no user."""

    status = "5.4.6"

    def __init__(self, why: str) -> None:
        super().__init__("The aliases of this recipient lead nowhere")
        self.why = why


def explained(error: MailError) -> str:
    """Return what operators are told of *error*: for aliases more than clients are told."""
    return error.why if isinstance(error, BrokenAliasError | AliasLoopError) else str(error)


def not_taken(error: MailError | OSError) -> MailError:
    """Return the failure of a message whose intake raised *error* (transit/received): an OSError is a full
    disk.
    """
    return _disk_full() if isinstance(error, OSError) else error


def not_stored(error: MailError | OSError) -> MailError:
    """Return the failure of a recipient whose mail could not be stored because of *error*.

    It is always temporary: the cause may be mended. It contains no paths.
    """
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return _disk_full()
    if isinstance(error, LockTimeoutError):
        return TemporaryError("Mailbox is locked, try again later").coded("4.3.0")
    return TemporaryError("Mailbox cannot be written, try again later").coded("4.3.0")


def not_delivered(error: MailError | OSError) -> MailError:
    """Return the failure of a recipient for whom `Addressing.places` raised *error*."""
    return error if isinstance(error, MailError) and error.status else not_stored(error)


def worst(failures: Iterable[MailError]) -> MailError | None:
    """Return the failure to report of several: a temporary one if there is one, because another attempt may
    help.
    """
    found = list(failures)
    return next((one for one in found if isinstance(one, TemporaryError)), found[0] if found else None)


def as_reply(error: MailError) -> Reply:
    """Return the SMTP reply for a failure of this room."""
    usual = 451 if isinstance(error, TemporaryError) else 550 if isinstance(error, PolicyError) else 554
    return Reply(_CODES.get(error.status, usual), error.status, str(error))


def _disk_full() -> TemporaryError:
    return TemporaryError("Insufficient system storage").coded("4.3.1")
