"""A message as it comes in: chunks turned into the mbox's form one by one, and given back as they were.

Knows no session and no recipient. Memory: a message of more than 256 KiB lies in a nameless file beside the
mailboxes, quoted as it came: a slow client holds no lock, an aborted message leaves no octet.
"""

from collections.abc import Iterator
from itertools import chain

from mailtools.core.mbox import quoting, scan
from mailtools.core.mbox.record import SEPARATOR, make_postmark
from mailtools.core.smtp.events import Envelope
from mailtools.core.smtp.reply import Reply
from mailtools.core.wire import eol
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer

MAX_HEADER = 256 << 10  # octets; a message whose header is larger is refused
MAX_HOPS = 100  # Received fields; RFC 5321 §6.3
DISK_FULL = Reply(452, "4.3.1", "Insufficient system storage")
_HEADER_TOO_LARGE = Reply(552, "5.3.4", f"Header too large: at most {MAX_HEADER} octets")
_LOOP = Reply(554, "5.4.6", f"Mail loop: more than {MAX_HOPS} Received fields")


class Incoming:
    """One message, on its way into a `Buffer` that spills beside the file *beside*."""

    def __init__(self, envelope: Envelope, beside: str) -> None:
        self.envelope = envelope
        self.body = Buffer(beside)
        self.problem: Reply | None = None
        # The header is gathered whole: the mbox's own fields in it are quoted (core/mbox/quoting).
        self._header: bytearray | None = bytearray()

    def take(self, chunk: bytes) -> None:
        """Add whole CRLF lines."""
        self.take_lines(eol.to_lf(chunk))

    def take_lines(self, lines: bytes) -> None:
        """Add whole LF lines; once there is a problem they are passed over."""
        if self.problem is not None:
            return
        if self._header is not None:
            searched = max(0, len(self._header) - 1)
            self._header += lines
            end = 0 if self._header.startswith(b"\n") else self._header.find(b"\n\n", searched) + 1
            if not end and not self._header.startswith(b"\n"):
                if len(self._header) > MAX_HEADER:
                    self._header = None
                    self._fail(_HEADER_TOO_LARGE)
                return
            lines = self._leave_header(end)
        self._append(quoting.quote(lines))

    def end(self) -> None:
        """The message is whole; a header without a body is one too."""
        if self._header is not None and self.problem is None:
            self._append(quoting.quote(self._leave_header(len(self._header))))

    def _leave_header(self, end: int) -> bytes:
        assert self._header is not None
        octets = bytes(self._header)
        self._header = None
        header = octets[:end]
        if len(header) > MAX_HEADER:
            self._fail(_HEADER_TOO_LARGE)
        elif _hops(header) > MAX_HOPS:
            self._fail(_LOOP)
        return quoting.quote_state(header) + octets[end:]

    def _append(self, lines: bytes) -> None:
        if self.problem is None:
            try:
                self.body.append(lines)
            except OSError:
                self._fail(DISK_FULL)

    def _fail(self, problem: Reply) -> None:
        self.problem = problem
        self.body.close()


def _hops(header: bytes) -> int:
    """How many Received fields there are: each server that a message passed adds one."""
    if header.count(b"\n") <= MAX_HOPS:
        return 0
    lower = header.lower()
    return lower.count(b"\nreceived:") + lower.startswith(b"received:")


def stored_blocks(envelope: Envelope, head: str, body: Buffer) -> Iterator[bytes]:
    """A message as it lies in an mbox: postmark, *head* (trace fields, LF), quoted, a blank line after it."""
    postmark = make_postmark(envelope.reverse_path, clock.asctime(int(clock.now())))
    return chain([postmark + head.encode()], body.blocks(), [SEPARATOR])


def message_blocks(envelope: Envelope, head: str, body: Buffer) -> Iterator[bytes]:
    """The message alone, LF, unquoted, *head* before it."""
    stored = stored_blocks(envelope, head, body)
    return next(scan.records(lambda _: next(stored, b""))).message_chunks()
