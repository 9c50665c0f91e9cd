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

    Yields None if more octets are needed. A block that does not end with a line end is a piece of a line of
    more than *limit* octets: so memory stays bounded. If *reader* takes lines that end with LF, so do the
    blocks; but the message ends with CRLF "." CRLF in any case.
    """
    line_end = b"\n" if reader.takes_lf else b"\r\n"
    at_line_start = True  # after CRLF
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
        at = octets.rfind(line_end)
        cut = at + len(line_end) if at >= 0 else 0
        if cut:
            at_line_start = octets.endswith(b"\r\n", 0, cut)
        elif len(octets) > limit:
            cut = len(octets) - octets.endswith(b"\r")
            at_line_start = False
        if cut:
            reader.octets = octets[cut:]
            yield octets[:cut]
        searched = max(0, len(reader.octets) - 4)
        yield None
