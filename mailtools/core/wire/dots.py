"""Transparency: the dots added before lines of a message, and the line of one dot that ends it.

For SMTP (RFC 5321 §4.5.2) and POP3 (RFC 1939 §3). Only CRLF "." CRLF ends a message. LF "." LF and the like
are never looked for, so nobody can smuggle a second message with them (CVE-2023-51764).
"""

from collections.abc import Generator

from mailtools.core.wire.reader import Reader


class Stuffer:
    """Adds the dots to a message that comes in blocks, which need not begin at a line."""

    __slots__ = ("begins_line",)

    def __init__(self) -> None:
        self.begins_line = True  # the next octets stand at the begin of a line

    def __call__(self, block: bytes) -> bytes:
        """Return *block* with a dot added before each line that begins with one."""
        stuffed = block.replace(b"\n.", b"\n..") if b"\n." in block else block
        if self.begins_line and block.startswith(b"."):
            stuffed = b"." + stuffed
        if block:
            self.begins_line = block.endswith(b"\n")
        return stuffed


def unstuff(octets: bytes) -> bytes:
    """Remove the first dot of each line that begins with one. *octets*: whole CRLF lines."""
    if octets[:1] == b".":
        octets = octets[1:]
    return octets.replace(b"\n.", b"\n") if b"\n." in octets else octets


def read_dotted(reader: Reader, limit: int) -> Generator[bytes | None, None, None]:
    """Read a message up to the line "." that ends it; yield blocks of whole lines, dots still stuffed.

    Yields None if more octets are needed. A block that does not end with CRLF is a piece of a line of more
    than *limit* octets: so memory stays bounded.
    """
    at_line_start = True
    searched = 0
    while True:
        octets = reader.octets
        if at_line_start and octets.startswith(b".\r\n"):
            reader.octets = octets[3:]
            return
        end = octets.find(b"\r\n.\r\n", searched)
        if end >= 0:
            reader.octets = octets[end + 5 :]
            yield octets[: end + 2]
            return
        cut = octets.rfind(b"\r\n") + 2
        at_line_start = cut >= 2 or at_line_start
        if cut < 2 and len(octets) > limit:
            cut = len(octets) - octets.endswith(b"\r")
            at_line_start = False
        if cut >= 2:
            reader.octets = octets[cut:]
            yield octets[:cut]
        searched = max(0, len(reader.octets) - 4)
        yield None
