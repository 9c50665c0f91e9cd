"""Transparency: the dots before lines of a message, and the line of one dot that ends it.

For SMTP (RFC 5321 §4.5.2) and POP3 (RFC 1939 §3). Works on whole buffers of whole CRLF lines. Only CRLF "."
CRLF ends a message; LF "." LF and its kin are never looked for, so they can smuggle nothing
(CVE-2023-51764).
"""

from collections.abc import Generator

from mailtools.core.wire.reader import Reader


def stuff(octets: bytes) -> bytes:
    """Add a dot before each line that begins with one. *octets*: canonical, from a line's begin."""
    if octets[:1] == b".":
        octets = b"." + octets
    return octets.replace(b"\n.", b"\n..") if b"\n." in octets else octets


def unstuff(octets: bytes) -> bytes:
    """Take the first dot of each line that begins with one. *octets*: canonical, from a line's begin."""
    if octets[:1] == b".":
        octets = octets[1:]
    return octets.replace(b"\n.", b"\n") if b"\n." in octets else octets


def read_dotted(reader: Reader, limit: int) -> Generator[bytes | None, None, None]:
    """Read a message up to its last line ".", dots still stuffed, in blocks of whole lines as they come.

    Yields None where octets run short. A block that does not end with CRLF is a piece of a line of more
    than *limit* octets: memory stays bounded whatever comes.
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
