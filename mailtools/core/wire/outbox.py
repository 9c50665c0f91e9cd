"""What a client's engine has to send, and what a transcript shows of it: no secret (promise C3).

Knows no protocol.
"""

import re


class Outbox:
    """Octets to send. `shown`: what `take` returned last, with secrets masked."""

    __slots__ = ("_masked", "_parts", "shown")

    def __init__(self) -> None:
        self.shown = b""
        self._parts: list[bytes] = []
        self._masked: dict[int, bytes] = {}  # by index in `_parts`

    def __bool__(self) -> bool:
        """True if there is something to send."""
        return bool(self._parts)

    def say(self, octets: bytes) -> None:
        """Add *octets*."""
        self._parts.append(octets)

    def say_secretly(self, octets: bytes, shown: bytes) -> None:
        """Add *octets*, of which a transcript shows *shown*."""
        self._masked[len(self._parts)] = shown
        self._parts.append(octets)

    def take(self) -> bytes:
        """Return all octets, each of them once."""
        octets = self.shown = b"".join(self._parts)
        if self._masked:
            self.shown = b"".join([self._masked.get(n, part) for n, part in enumerate(self._parts)])
            self._masked.clear()
        self._parts.clear()
        return octets


class ChallengeMask:
    """Masks a server's challenges, which help to guess passwords. *mark*: how their lines begin."""

    __slots__ = ("_partial", "_pattern")

    def __init__(self, mark: bytes) -> None:
        self._pattern = re.compile(rb"^(%b).+?(?=\r?$)" % mark, re.MULTILINE)
        self._partial = b""  # an incomplete line

    def __call__(self, octets: bytes, is_in_login: bool) -> bytes:
        """Return what a transcript shows of *octets* from the server."""
        if not is_in_login and not self._partial:
            return octets
        whole, newline, self._partial = (self._partial + octets).rpartition(b"\n")
        return self._pattern.sub(rb"\1***", whole) + newline
