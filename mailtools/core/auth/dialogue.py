"""The server's SASL exchange in a line protocol: base64 lines, and questions to the session about users.

For AUTH in SMTP (RFC 4954 §4) and POP3 (RFC 5034 §4), and AUTHENTICATE in IMAP (RFC 9051 §6.2.2). The
protocol gives the prompt and answers the outcome. This module knows no reply, no user and no TLS.
"""

import base64
import binascii
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from mailtools.core.auth import sasl
from mailtools.core.auth.errors import AuthenticationError, CancelledError, MalformedError
from mailtools.core.wire.conversation import Conversation
from mailtools.core.wire.reader import BareNewlineError, LineTooLongError

MAX_LINE = sasl.MAX_RESPONSE + 2  # octets, with CRLF

DONE = "done"
WRONG = "wrong"  # counts as a guess
NOT_NOW = "not now"  # nobody can check the login at the moment
NOT_OFFERED = "not offered"
MALFORMED = "malformed"
BROKEN_LINE = "broken line"  # a response that is too long or has a bare LF
CANCELLED = "cancelled"


class SaslOutcome(NamedTuple):
    """The result of an exchange."""

    how: str  # one of the words above
    user: str = ""
    reason: str = ""  # for the log, and for the client if it is MALFORMED

    @property
    def is_client_fault(self) -> bool:
        """True if a correct client would not have caused this; it counts as an error of the session."""
        return self.how in (NOT_OFFERED, MALFORMED, BROKEN_LINE)


def exchange(
    conversation: Conversation,
    mechanisms: Sequence[str],
    prompt: bytes,
    argument: bytes,
    known: Mapping[str, sasl.NewMechanism] = sasl.MECHANISMS,
) -> Generator[None, None, SaslOutcome]:
    """Run the mechanism that *argument* (``mechanism [initial response]``) names.

    *mechanisms*: those that are offered, all of them *known*. *prompt*: what stands before the base64 of a
    challenge.
    """
    name, _, rest = argument.partition(b" ")
    mechanism = name.upper().decode("ascii", "replace")
    if mechanism not in mechanisms:
        return SaslOutcome(NOT_OFFERED)
    user = ""
    try:
        # "=" is an initial response of no octets (RFC 4954 §4, RFC 5034 §4).
        initial = None if not rest else b"" if rest == b"=" else _decode(rest)
        steps = known[mechanism](initial, conversation.bindings)
        step = next(steps)
        while True:
            value: sasl.MechanismAnswer | None
            if isinstance(step, sasl.Challenge):
                line = prompt + base64.b64encode(step.octets) + b"\r\n"
                value = _response((yield from conversation.read_response(line, MAX_LINE)))
            elif isinstance(step, sasl.CheckPassword):
                user = step.name
                value = yield from conversation.ask(step)
            else:
                user = step.name
                value = yield from conversation.ask(step)
            if value is None:
                return SaslOutcome(NOT_NOW, user)
            step = steps.send(value)
    except StopIteration as end:
        return SaslOutcome(DONE, end.value.lower())
    except AuthenticationError as error:
        return SaslOutcome(WRONG, user, str(error))
    except MalformedError as error:
        return SaslOutcome(MALFORMED, user, str(error))
    except (LineTooLongError, BareNewlineError):
        return SaslOutcome(BROKEN_LINE, user)
    except CancelledError:
        return SaslOutcome(CANCELLED, user)


_SHOWN = sasl.MECHANISMS.keys() | sasl.ANYBODY.keys()


def masked_argument(argument: bytes) -> bytes:
    """Return the argument of AUTH as a transcript may show it: only the mechanism, if it is one."""
    mechanism, _, rest = argument.strip(b" ").partition(b" ")
    shown = mechanism if mechanism.upper().decode("latin-1") in _SHOWN else b"***"
    return shown + (b" ***" if rest else b"")


def _response(line: bytes) -> bytes:
    """Decode a response. Raises CancelledError (a line of "*"), MalformedError."""
    if line == b"*":
        raise CancelledError
    return _decode(line)


def _decode(line: bytes) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not base64") from None
