"""``--filter``: a program that sees each message before it is stored, and may change, refuse or drop it.

Its exit code is the verdict, sysexits.h's way. Whatever goes wrong with it is our affair, not the sender's:
the client is told to try again, so that no message is lost.
"""

from itertools import chain
from typing import NamedTuple

from mailtools.core.smtp.events import Envelope
from mailtools.core.smtp.reply import Reply
from mailtools.services.transit.received import Incoming
from mailtools.system.files.buffer import Buffer
from mailtools.system.process.programs import Ran

_OK, _UNAVAILABLE, _TEMP_FAIL, _NO_PERMISSION, _DROP = 0, 69, 75, 77, 99
_TRY_AGAIN = Reply(451, "4.7.1", "Not now, try again later")
_REFUSED = Reply(554, "5.7.1", "Message refused")
DROPPED = Reply(250, "2.0.0", "Ok")
_LONGEST_LINE = 64 << 10  # octets, as at the door
_FAILED = Reply(451, "4.3.0", "The message could not be examined, try again later")


class Verdict(NamedTuple):
    """What becomes of a message: it goes on, changed, or is answered at once."""

    message: Incoming | None
    reply: Reply | None = None
    warning: str = ""  # for the operator


def environment(envelope: Envelope, peer: str, recipients: str) -> dict[str, str]:
    """What a program is told of the envelope, by the names that Postfix's local(8) uses."""
    return {
        "SENDER": envelope.reverse_path,
        "RECIPIENT": recipients,
        "CLIENT_ADDRESS": peer,
        "CLIENT_HELO": envelope.helo,
        "SASL_USERNAME": envelope.user,
    }


def judge(ran: Ran, envelope: Envelope, beside: str) -> Verdict:
    """The verdict of a filter that ran; takes its output over and closes it."""
    try:
        if ran.code == _OK:
            return _changed(ran.output, envelope, beside)
        if ran.code == _TEMP_FAIL:
            return Verdict(None, _TRY_AGAIN)
        if ran.code in (_UNAVAILABLE, _NO_PERMISSION):
            return Verdict(None, _REFUSED)
        if ran.code == _DROP:
            return Verdict(None, DROPPED)
        return Verdict(None, _FAILED, f"the filter failed ({ran.code}): {ran.said or 'it said nothing'}")
    finally:
        ran.output.close()


def _changed(output: Buffer, envelope: Envelope, beside: str) -> Verdict:
    message = Incoming(envelope, beside)
    problem = _take(message, output)
    message.end()
    if not problem and message.problem is not None:
        problem = f"what it printed cannot be stored: {message.problem}"
    if not problem and not message.body.size:
        problem = "it printed nothing; to drop a message it exits with 99"
    if problem:
        message.body.close()
        return Verdict(None, _FAILED, f"the filter failed: {problem}")
    return Verdict(message)


def _take(message: Incoming, output: Buffer) -> str:
    """Take a filter's output over; what is wrong with it, or ""."""
    rest = b""
    is_first = True
    for block in chain(output.blocks(), (b"",)):
        is_last = not block
        lines, newline, rest = (rest + block).rpartition(b"\n")
        lines = _unix_lines(lines + newline + (rest + b"\n" if is_last and rest else b""))
        if is_first and lines.startswith(b"From "):  # a postmark, as procmail and formail print one
            lines = lines.partition(b"\n")[2]
        is_first = is_first and not lines
        if b"\r" in lines:
            return "it printed a CR that is no part of a line end"
        if len(rest) > _LONGEST_LINE:
            return f"it printed a line of more than {_LONGEST_LINE} octets"
        message.take_lines(lines)
    return ""


def _unix_lines(lines: bytes) -> bytes:
    return lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines
