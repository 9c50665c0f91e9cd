"""A message read from a program on this host: octets of any kind in, header and body out, bounded in memory.

Knows no envelope. A message of more than 256 KiB lies in a nameless file (system/files/buffer).
"""

from collections.abc import Iterable, Iterator

from mailtools.core.errors import BadDataError
from mailtools.core.lean import NamedTuple
from mailtools.core.message import submission
from mailtools.system.files.buffer import Buffer

MAX_HEADER = 256 << 10  # octets


class Message(NamedTuple):
    """A message as read: LF."""

    fields: bytes  # its header, without the empty line
    body: Buffer  # whole lines


def read_message(blocks: Iterable[bytes], beside: str = "", until_dot: bool = False) -> Message:
    """The message in *blocks*; with *until_dot* a line of one dot ends it, and no more is read.

    CRLF becomes LF, and so does a CR alone in the body, which no server would take: progress bars in the
    mail of cron jobs are full of them. Raises BadDataError, OSError.
    """
    lines = _lf(blocks)
    if until_dot:
        lines = _until_dot(lines)
    octets = b""
    for block in lines:
        octets = octets + block if octets else block
        if len(octets) > MAX_HEADER:
            break
    fields, start = submission.split(octets)
    if len(fields) > MAX_HEADER or (start == len(octets) > MAX_HEADER):
        raise BadDataError(f"the header is larger than {MAX_HEADER} octets; not sent")
    body = Buffer(beside)
    try:
        last = _keep(body, octets[start:]) or b"\n"
        for block in lines:
            last = _keep(body, block) or last
        if not last.endswith(b"\n"):
            body.append(b"\n")
    except BaseException:
        body.close()
        raise
    return Message(fields, body)


def _keep(body: Buffer, octets: bytes) -> bytes:
    if b"\r" in octets:
        octets = octets.replace(b"\r", b"\n")
    if octets:
        body.append(octets)
    return octets


def _lf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """CRLF as LF, wherever the blocks are cut. Raises BadDataError for a NUL."""
    held = b""
    for block in blocks:
        if b"\0" in block:
            raise BadDataError("the message holds a NUL, which mail cannot carry; encode it, or take it out")
        octets, held = held + block if held else block, b""
        if b"\r" in octets:
            if octets.endswith(b"\r"):
                octets, held = octets[:-1], b"\r"
            octets = octets.replace(b"\r\n", b"\n")
        if octets:
            yield octets
    if held:
        yield held


def _until_dot(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """What stands before the first line of one dot."""
    held = b"\n"  # before the first line
    is_first = True
    for block in blocks:
        text = held + block
        end = text.find(b"\n.\n")
        keep = 2 if text.endswith(b"\n.") else 1 if text.endswith(b"\n") else 0
        out, held = (
            (text[: end + 1], b"") if end >= 0 else (text[: len(text) - keep], text[len(text) - keep :])
        )
        if is_first and out:
            out, is_first = out[1:], False
        if out:
            yield out
        if end >= 0:
            return
    held = held.removesuffix(b".") if held == b"\n." else held
    if held[is_first:]:
        yield held[is_first:]
