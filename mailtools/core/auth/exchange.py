"""A login from the client's side: a mechanism's octets as base64, for whichever protocol carries them.

Knows no reply: whether a challenge came, and what the verdict is, the protocol's engine tells.
"""

import base64
import binascii

from mailtools.core.auth.client import Mechanism
from mailtools.core.auth.errors import MalformedError

CANCEL = b"*"


class Exchange:
    """One login. *initial*: the first response in base64, None where the server begins."""

    def __init__(self, steps: Mechanism) -> None:
        """Raises ConfigurationError where the credentials cannot be said with this mechanism."""
        self._steps = steps
        first = next(steps).octets
        self.initial = None if first is None else base64.b64encode(first) or b"="
        self._later: bytes | None = None
        self.note = ""  # what the server said about a token it refused

    def hold_back(self) -> None:
        """The initial response was not sent with the command: it answers the first challenge."""
        if self.initial is not None:
            self._later = b"" if self.initial == b"=" else self.initial
            self.initial = None

    def respond(self, challenge: bytes) -> bytes:
        """What to say to a challenge; after MalformedError and AuthenticationError that is CANCEL."""
        try:
            octets = base64.b64decode(challenge.strip(b" "), validate=True)
        except (binascii.Error, ValueError):
            raise MalformedError("a challenge that is not base64") from None
        if self._later is not None:  # this challenge only asks for what the command had no room for
            said, self._later = self._later, None
            return said
        try:
            response = self._steps.send(octets)
        except StopIteration:
            raise MalformedError("a challenge more than the mechanism has") from None
        self.note = response.note or self.note
        return base64.b64encode(response.octets or b"")

    def succeeded(self) -> None:
        """The server says that we are in. Raises MalformedError where the mechanism does not bear it out."""
        try:
            self._steps.send(None)
        except StopIteration:
            return
        raise MalformedError("success before the mechanism is at its end")
