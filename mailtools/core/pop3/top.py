"""TOP (RFC 1939 §7): the header of a message and the first lines of its body, out of a message in blocks."""

from mailtools.core.wire.dots import Stuffer


class Top:
    """Passes on the header, the empty line and so many lines of the body, with the dots added."""

    __slots__ = ("_lines", "_stuff", "_tail")

    def __init__(self, lines: int) -> None:
        self._lines = lines  # of the body that are still to be sent
        self._stuff = Stuffer()
        self._tail: bytes | None = b"\r\n"  # the last octets of the header; None within the body

    def __call__(self, block: bytes) -> bytes | None:
        """Return what is to be sent of *block*, or None if enough was sent before it."""
        body_at = 0
        if self._tail is not None:
            found = (self._tail + block).find(b"\r\n\r\n")
            if found < 0:
                self._tail = (self._tail + block)[-3:]
                return self._stuff(block)
            body_at = found + 4 - len(self._tail)
            self._tail = None
        elif not self._lines:
            return None
        body = block[body_at:]
        there = body.count(b"\n")
        if there >= self._lines:
            body = body[: len(body) - len(body.split(b"\n", self._lines)[-1])]
        self._lines = max(0, self._lines - there)
        return self._stuff(block[:body_at] + body)
