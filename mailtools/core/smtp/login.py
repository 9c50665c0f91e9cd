"""AUTH: a SASL mechanism inside SMTP, from the command to its reply.

Carries a mechanism's octets as base64 lines, and its questions to whoever knows the users. Knows no user and
no TLS. Owns RFC 4954 §4 (form, initial response, cancel, replies).

Invariant: every login that fails is answered with the same words, whatever made it fail.
"""

import base64
import binascii
from collections.abc import Generator, Mapping
from typing import NamedTuple, Protocol

from mailtools.core.auth import sasl
from mailtools.core.auth.errors import AuthenticationError, CancelledError, MalformedError
from mailtools.core.smtp.grammar import SyntaxProblemError
from mailtools.core.smtp.reply import Reply

MAX_LINE = sasl.MAX_RESPONSE + 2  # octets, CRLF counted

_DONE = Reply(235, "2.7.0", "Authentication successful")
_WRONG = Reply(535, "5.7.8", "Authentication credentials invalid")
_NOT_NOW = Reply(454, "4.7.0", "Temporary authentication failure")


class Outcome(NamedTuple):
    """How the dialogue ended."""

    reply: Reply
    user: str = ""
    is_done: bool = False
    is_wrong: bool = False  # counts as a guess
    reason: str = ""  # for the log


class Session(Protocol):
    """What the dialogue needs of the session that it is a part of."""

    mechanisms: tuple[str, ...]
    bindings: Mapping[str, bytes]

    def challenge(self, line: bytes) -> Generator[None, None, bytes]:
        """Send a challenge, read the response."""

    def consult(self, question: sasl.CheckPassword | sasl.FindKeys) -> Generator[None, None, object]:
        """Ask who knows the users."""


def dialogue(session: Session, argument: bytes) -> Generator[None, None, Outcome]:
    """From ``AUTH mechanism [initial]`` to its outcome. Raises SyntaxProblemError for a bad command."""
    name, _, rest = argument.partition(b" ")
    mechanism = name.upper().decode("ascii", "replace")
    if mechanism not in session.mechanisms:
        raise SyntaxProblemError(504, "5.5.4", "Mechanism not offered")
    initial = None if not rest else b"" if rest == b"=" else _decode(rest)
    user = ""
    steps = sasl.MECHANISMS[mechanism](initial, session.bindings)
    try:
        question = next(steps)
        while True:
            value: sasl.Answer
            if isinstance(question, sasl.Challenge):
                line = yield from session.challenge(base64.b64encode(question.octets))
                value = _response(line)
            else:
                user = question.name
                answer = yield from session.consult(question)
                if answer is None:
                    return Outcome(_NOT_NOW, user)
                assert isinstance(answer, bool | sasl.Found)
                value = answer
            question = steps.send(value)
    except StopIteration as end:
        return Outcome(_DONE, end.value.lower(), is_done=True)
    except AuthenticationError as error:
        return Outcome(_WRONG, user, is_wrong=True, reason=str(error))
    except MalformedError as error:
        raise SyntaxProblemError(501, "5.5.2", f"Bad response: {error}") from None
    except CancelledError:
        return Outcome(Reply(501, "5.7.0", "Authentication cancelled"), user)


def masked(line: bytes, is_auth: bool, is_known: bool, after_auth: bool) -> bytes:
    """A command line for a transcript: whatever can be a part of a login, well or badly said, is ``***``.

    is_auth, is_known: what command it is; after_auth: the last known command was AUTH.
    """
    if is_auth:
        mechanism, _, rest = line.partition(b" ")[2].strip(b" ").partition(b" ")
        shown = mechanism if mechanism.upper().decode("latin-1") in sasl.MECHANISMS else b"***"
        return b"AUTH " + shown + (b" ***\r\n" if rest else b"\r\n")
    if not is_known and (after_auth or b"AUTH" in line.upper()):
        return b"***\r\n"
    return line + b"\r\n"


def _response(line: bytes) -> bytes:
    if line == b"*":
        raise CancelledError
    return _decode(line)


def _decode(line: bytes) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise SyntaxProblemError(501, "5.5.2", "Not base64") from None
