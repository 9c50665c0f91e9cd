"""A SASL mechanism inside a line protocol: octets as base64 lines, questions to whoever knows the users.

For the servers' halves of AUTH in SMTP (RFC 4954 §4), POP3 (RFC 5034 §4) and IMAP (RFC 9051 §6.2.2): what is
said around it is theirs. Knows no reply, no user and no TLS.
"""

import base64
import binascii
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple, Protocol

from mailtools.core.auth import sasl
from mailtools.core.auth.errors import AuthenticationError, CancelledError, MalformedError

MAX_LINE = sasl.MAX_RESPONSE + 2  # octets, CRLF counted

DONE = "done"
WRONG = "wrong"  # counts as a guess
NOT_NOW = "not now"  # nobody can tell
NOT_OFFERED = "not offered"
MALFORMED = "malformed"
CANCELLED = "cancelled"


class SaslOutcome(NamedTuple):
    """How the dialogue ended: one of the words above."""

    how: str
    user: str = ""
    reason: str = ""  # for the log; to the client a wrong login is a wrong login


class SaslSession(Protocol):
    """What the dialogue needs of the session that it is a part of."""

    @property
    def mechanisms(self) -> Sequence[str]:
        """Those that are offered."""

    bindings: Mapping[str, bytes]

    def challenge(self, line: bytes) -> Generator[None, None, bytes]:
        """Send a challenge, read the response."""

    def consult(self, question: sasl.CheckPassword | sasl.FindKeys) -> Generator[None, None, object]:
        """Ask who knows the users."""


def dialogue(session: SaslSession, argument: bytes) -> Generator[None, None, SaslOutcome]:
    """From ``mechanism [initial]`` to its outcome; raises what `challenge` raises."""
    name, _, rest = argument.partition(b" ")
    mechanism = name.upper().decode("ascii", "replace")
    if mechanism not in session.mechanisms:
        return SaslOutcome(NOT_OFFERED)
    user = ""
    try:
        initial = None if not rest else b"" if rest == b"=" else _decode(rest)
        steps = sasl.MECHANISMS[mechanism](initial, session.bindings)
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
                    return SaslOutcome(NOT_NOW, user)
                assert isinstance(answer, bool | sasl.Found)
                value = answer
            question = steps.send(value)
    except StopIteration as end:
        return SaslOutcome(DONE, end.value.lower())
    except AuthenticationError as error:
        return SaslOutcome(WRONG, user, str(error))
    except MalformedError as error:
        return SaslOutcome(MALFORMED, user, str(error))
    except CancelledError:
        return SaslOutcome(CANCELLED, user)


def masked_argument(argument: bytes) -> bytes:
    """An AUTH command's argument for a transcript: the mechanism, where it is one, and nothing else."""
    mechanism, _, rest = argument.strip(b" ").partition(b" ")
    shown = mechanism if mechanism.upper().decode("latin-1") in sasl.MECHANISMS else b"***"
    return shown + (b" ***" if rest else b"")


def _response(line: bytes) -> bytes:
    if line == b"*":
        raise CancelledError
    return _decode(line)


def _decode(line: bytes) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not base64") from None
