"""What a client is told of a failure, and what an operator is."""

import errno

import pytest

from mailtools.core.errors import (
    BadDataError,
    CannotWriteError,
    DiskFullError,
    LockTimeoutError,
    MailError,
    PolicyError,
    RefusedError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.services.delivery.failures import (
    AliasLoopError,
    BrokenAliasError,
    as_reply,
    explained,
    not_delivered,
    not_stored,
    not_taken,
    worst,
)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (UnknownRecipientError("No such user here").coded("5.1.1"), "550 5.1.1 No such user here"),
        (PolicyError("Relaying denied").coded("5.7.1"), "550 5.7.1 Relaying denied"),
        (RefusedError("Message refused").coded("5.7.1"), "554 5.7.1 Message refused"),
        (UnknownRecipientError("refused").coded("5.3.0"), "554 5.3.0 refused"),
        (BadDataError("Header too large").coded("5.3.4"), "552 5.3.4 Header too large"),
        (BadDataError("Mail loop").coded("5.4.6"), "554 5.4.6 Mail loop"),
        (TemporaryError("later").coded("4.3.0"), "451 4.3.0 later"),
        (BrokenAliasError("alias x: /secret"), "451 4.3.5 An alias here cannot be followed, try again later"),
        (AliasLoopError("a -> b"), "554 5.4.6 The aliases of this recipient lead nowhere"),
    ],
)
def test_replies(error: MailError, reply: str) -> None:
    assert str(as_reply(error)) == reply
    assert not_delivered(error) is error


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (DiskFullError("/root/x: full"), "452 4.3.1 Insufficient system storage"),
        (OSError(errno.EDQUOT, "x", "/root/x"), "452 4.3.1 Insufficient system storage"),
        (LockTimeoutError("/root/x"), "451 4.3.0 Mailbox is locked, try again later"),
        (CannotWriteError("/root/x"), "451 4.3.0 Mailbox cannot be written, try again later"),
        (OSError(errno.EACCES, "x", "/root/x"), "451 4.3.0 Mailbox cannot be written, try again later"),
    ],
)
def test_trouble_with_the_disk_is_temporary_and_tells_no_path(error: MailError | OSError, reply: str) -> None:
    assert str(as_reply(not_stored(error))) == str(as_reply(not_delivered(error))) == reply
    assert isinstance(not_stored(error), TemporaryError)


def test_an_intake_without_room() -> None:
    assert as_reply(not_taken(OSError(errno.EIO, "x"))).code == 452
    loop = BadDataError("loop").coded("5.4.6")
    assert not_taken(loop) is loop


def test_an_operator_is_told_which_alias_it_is() -> None:
    assert explained(BrokenAliasError("alias x: y")) == "alias x: y"
    assert explained(TemporaryError("later")) == "later"


def test_the_worst() -> None:
    later, never = TemporaryError("later"), UnknownRecipientError("never")
    assert worst([never, later]) is later
    assert worst([never]) is never
    assert worst([]) is None
