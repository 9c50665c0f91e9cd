"""The client's SASL exchange: the octets of a mechanism as base64 lines, for SMTP, POP3 and IMAP.

The protocol's engine finds the challenges and the final reply, and says how a line is sent. This module
knows no reply.
"""

import base64
import binascii
from collections.abc import Callable

from mailtools.core.auth.client import Mechanism
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.engine import RemoteProtocolError

CANCEL = b"*"  # RFC 4954 §4, RFC 5034 §4, RFC 9051 §6.2.2


class Exchange:
    """One login. *send* sends a line; CRLF is not part of it."""

    def __init__(self, steps: Mechanism, send: Callable[[bytes], None]) -> None:
        """Raises ConfigurationError if the credentials cannot be used with this mechanism."""
        self._steps = steps
        self._send = send
        first = next(steps).octets
        # The first response in base64; None if the server begins.
        self.initial = None if first is None else base64.b64encode(first) or b"="
        self._later: bytes | None = None
        self.is_open = True  # challenges may come
        self.note = ""  # why the mechanism gave up, or what the server said about the token it refused

    def hold_back(self) -> None:
        """The command has no room for the initial response: it becomes the answer to the first challenge."""
        if self.initial is not None:
            self._later = b"" if self.initial == b"=" else self.initial
            self.initial = None

    def respond(self, challenge: bytes) -> None:
        """Send the response to *challenge*, or CANCEL if the mechanism gives up: then `note` says why.

        Raises RemoteProtocolError, after CANCEL was sent, if the challenge is malformed.
        """
        try:
            response = self._response(challenge)
        except MalformedError as error:
            self._give_up()
            raise RemoteProtocolError(f"the login failed: {error}") from None
        except AuthenticationError as error:
            self.note = str(error)
            self._give_up()
        else:
            self._send(response)

    def end(self, is_success: bool) -> None:
        """Note the server's final reply.

        Raises RemoteProtocolError for a success that the mechanism does not confirm: with SCRAM a server
        has to prove that it knows the password.
        """
        was_open, self.is_open = self.is_open, False
        if not is_success:
            return
        if not was_open:
            raise RemoteProtocolError("the server says that we are logged in, but we gave up")
        try:
            self._steps.send(None)
        except StopIteration:
            return
        except MalformedError as error:
            raise RemoteProtocolError(f"the login failed: {error}") from None
        raise RemoteProtocolError("the login failed: success before the mechanism is at its end")

    def _give_up(self) -> None:
        self.is_open = False
        self._send(CANCEL)

    def _response(self, challenge: bytes) -> bytes:
        """Return the response in base64. Raises MalformedError, AuthenticationError."""
        try:
            octets = base64.b64decode(challenge.strip(b" "), validate=True)
        except (binascii.Error, ValueError):
            raise MalformedError("a challenge that is not base64") from None
        if self._later is not None:  # this challenge only asks for the initial response
            said, self._later = self._later, None
            return said
        try:
            response = self._steps.send(octets)
        except StopIteration:
            raise MalformedError("a challenge more than the mechanism has") from None
        self.note = response.note or self.note
        return base64.b64encode(response.octets or b"")
