"""``--filter``: a program that gets each message before it is stored, and may change, refuse or drop it.

Its exit code is the verdict, as in sysexits.h. If the program fails, the client is told to try again, so
that no message is lost.
"""

from typing import NamedTuple

from mailtools.core.errors import MailError, RefusedError, TemporaryError
from mailtools.core.smtp.events import Envelope
from mailtools.services.delivery.failures import as_reply, not_taken
from mailtools.services.transit.intake import LONG_LINE, IntakePolicy
from mailtools.services.transit.received import Received, ReceivedIntake
from mailtools.system.files.buffer import Buffer
from mailtools.system.process.programs import Ran

_OK, _UNAVAILABLE, _TEMP_FAIL, _NO_PERMISSION, _DROP = 0, 69, 75, 77, 99
_PRINTED = IntakePolicy(
    bare_cr="it printed a CR that is no part of a line end",
    long_line=f"it printed a line of more than {LONG_LINE} octets",
    drops_postmark=True,  # the postmark that procmail and formail print
)


class Verdict(NamedTuple):
    """A filter's verdict. Without *message* and *error* the message is dropped."""

    message: Received | None = None  # as the filter changed it
    error: MailError | None = None  # for the client
    warning: str = ""  # for the operator


def environment(envelope: Envelope, peer: str, recipients: str) -> dict[str, str]:
    """Return the environment variables that describe the envelope, with the names of Postfix's local(8)."""
    return {
        "SENDER": envelope.reverse_path,
        "RECIPIENT": recipients,
        "CLIENT_ADDRESS": peer,
        "CLIENT_HELO": envelope.helo,
        "SASL_USERNAME": envelope.user,
    }


def judge(ran: Ran, envelope: Envelope, beside: str) -> Verdict:
    """Return the verdict of a filter that ran. *beside*: a path on the filesystem of the message's place."""
    if ran.code == _OK:
        return _changed(ran.output, envelope, beside)
    if ran.code == _TEMP_FAIL:
        return Verdict(error=TemporaryError("Not now, try again later").coded("4.7.1"))
    if ran.code in (_UNAVAILABLE, _NO_PERMISSION):
        return Verdict(error=RefusedError("Message refused").coded("5.7.1"))
    if ran.code == _DROP:
        return Verdict()
    return _failed(f" ({ran.code}): {ran.said or 'it said nothing'}")


def _failed(why: str) -> Verdict:
    text = "The message could not be examined, try again later"
    return Verdict(error=TemporaryError(text).coded("4.3.0"), warning=f"the filter failed{why}")


def _changed(output: Buffer, envelope: Envelope, beside: str) -> Verdict:
    intake = ReceivedIntake(_PRINTED, beside)
    try:
        for block in output.blocks():
            intake.take(block)
        intake.end()
    except (MailError, OSError) as error:
        problem = not_taken(error)
        said = f"what it printed cannot be stored: {as_reply(problem)}" if problem.status else str(problem)
        return _failed(f": {said}")
    if not intake.body.size:
        return _failed(": it printed nothing; to drop a message it exits with 99")
    return Verdict(Received(envelope, intake.body))
