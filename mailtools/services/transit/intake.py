"""The intake of a message: octets come in, cut anywhere; whole lines with LF line ends come out.

Every message passes through an `Intake`. The caller's `IntakePolicy` says what a message may contain.
`Intake` keeps header and body apart, for messages that are sent on; transit/mbox_form.MboxIntake writes
both in the form of an mbox. Knows no envelope and no protocol.

Memory is bounded: a header of at most `MAX_HEADER` octets, one line of at most `LONG_LINE` octets, and a
body that is moved to a nameless file when it is larger than 256 KiB (system/files/buffer).

Speed: octets are searched and converted in whole blocks, never line by line.
"""

from collections.abc import Callable

from mailtools.core.errors import BadDataError
from mailtools.core.lean import NamedTuple
from mailtools.system.files.buffer import Buffer

MAX_HEADER = 1 << 20  # octets; `send`, `sendmail` and `serve-smtp` refuse a message with a larger header
LONG_LINE = 64 << 10  # octets; pieces of a longer line are passed on before the line is complete
MAX_LINE = 998  # octets without CRLF (RFC 5321 §4.5.3.1.6)


def unix_lines(octets: bytes) -> bytes:
    """Convert CRLF to LF; a bare CR stays."""
    return octets.replace(b"\r\n", b"\n") if b"\r" in octets else octets


def at_empty_line(octets: bytes) -> tuple[bytes, int]:
    """Split a message (LF) at its first empty line; return the header and the offset of the body."""
    if octets.startswith(b"\n"):
        return b"", 1
    end = octets.find(b"\n\n") + 1
    return (octets[:end], end + 1) if end else (octets, len(octets))


class IntakePolicy(NamedTuple):
    """What a message may contain, and how its lines are read.

    The first four are sentences. A message that contains what one of them names is refused with a
    BadDataError of that text; "" permits it.
    """

    nul: str = ""
    bare_cr: str = ""  # a bare CR
    large_header: str = ""  # a header of more than `MAX_HEADER` octets
    long_line: str = ""  # a line of more than `LONG_LINE` octets
    to_lf: Callable[[bytes], bytes] = unix_lines  # converts whole lines
    # a "From " line at the beginning is no part of the message, as in sendmail(8)
    drops_postmark: bool = False
    until_dot: bool = False  # a line of one dot ends the message
    cr_ends_line: bool = False  # a bare CR in the body becomes a line end
    measures: bool = False  # find `lines`, `is_ascii` and `has_long_line`
    split: Callable[[bytes], tuple[bytes, int]] = at_empty_line  # splits header and body; see `Intake.header`


class Intake:
    """The intake of one message, with header and body apart."""

    def __init__(self, policy: IntakePolicy, beside: str = "") -> None:
        """*beside*: a path on the filesystem of the message's place."""
        self.policy = policy
        self.body = Buffer(beside)  # LF, without the empty line before it
        self.header = b""  # LF, whole lines
        self.lines = 0  # LFs in the body
        self.is_ascii = True  # the body
        self.has_long_line = False  # a line of more than `MAX_LINE` octets, in header or body
        self.ends_with_newline = True  # the body; an empty one too
        self.is_ended = False  # a line of one dot came: later octets are ignored
        self._rest = b""  # an incomplete line
        self._in_line = False  # a part of a long line was passed on, and its end is still to come
        self._is_first = True
        self._header: bytearray | None = bytearray()  # the header so far; None: the header is complete

    def take(self, octets: bytes) -> None:
        """Add octets, cut anywhere. Raises BadDataError, and OSError if the disk is full."""
        if self._rest:
            octets = self._rest + octets
        cut = octets.rfind(b"\n") + 1
        if len(octets) - cut > LONG_LINE:
            if self.policy.long_line:
                raise BadDataError(self.policy.long_line)
            cut = len(octets) - octets.endswith(b"\r")  # the LF of a CRLF may come with the next block
        self._rest = octets[cut:]
        if cut:
            self._pass_on(octets[:cut])

    def end(self) -> None:
        """Note that the message is complete. Raises as `take`."""
        rest, self._rest = self._rest, b""
        if rest:
            self._pass_on(rest)
        self._finish()

    def _pass_on(self, octets: bytes) -> None:
        """Check and convert *octets*: whole lines, except pieces of a long line and the last line."""
        policy = self.policy
        if policy.nul and b"\0" in octets:
            raise BadDataError(policy.nul)
        lines = policy.to_lf(octets)
        if policy.bare_cr and b"\r" in lines:
            raise BadDataError(policy.bare_cr)
        if self._is_first:
            self._is_first = False
            if policy.drops_postmark and lines.startswith(b"From "):
                lines = lines.partition(b"\n")[2]
        if policy.until_dot:
            lines = self._before_dot(lines)
        if policy.measures and not self.has_long_line:
            from mailtools.core.wire import eol  # `sendmail` does not measure, and its start-up counts

            self.has_long_line = eol.has_line_over(lines, MAX_LINE + 1)
        if lines:
            self._take_lines(lines)
            self._in_line = not lines.endswith(b"\n")

    def _before_dot(self, lines: bytes) -> bytes:
        if self.is_ended:
            return b""
        before = b"x" if self._in_line else b"\n"
        searched = b"%b%b" % (before, lines)
        end = searched.find(b"\n.\n")
        if end < 0 and searched.endswith(b"\n."):  # the last line of the message, without a line end
            end = len(searched) - 2
        self.is_ended = end >= 0
        return lines[:end] if self.is_ended else lines

    def _take_lines(self, lines: bytes) -> None:
        """Gather the header, then keep the body. *lines*: LF."""
        if self._header is None:
            self._keep(lines)
            return
        searched = max(0, len(self._header) - 1)
        self._header += lines
        has_empty_line = self._header.startswith(b"\n") or self._header.find(b"\n\n", searched) >= 0
        if has_empty_line or len(self._header) > MAX_HEADER:
            self._leave_header()

    def _leave_header(self) -> None:
        assert self._header is not None
        octets = bytes(self._header)
        self._header = None
        self.header, start = self.policy.split(octets)
        is_cut = start == len(octets)  # a header that ends with these lines may continue
        if len(self.header) > MAX_HEADER or (is_cut and start > MAX_HEADER):
            raise BadDataError(self.policy.large_header)
        if start < len(octets):
            self._keep(octets[start:])

    def _keep(self, lines: bytes) -> None:
        if self.policy.cr_ends_line and b"\r" in lines:
            lines = lines.replace(b"\r", b"\n")
        if self.policy.measures:
            self.lines += lines.count(b"\n")
            self.is_ascii = self.is_ascii and lines.isascii()
        self.ends_with_newline = lines.endswith(b"\n")
        self.body.append(lines)

    def _finish(self) -> None:
        if self._header is not None:
            self._leave_header()
        if self.header and not self.header.endswith(b"\n"):  # the message ends within its header
            self.header += b"\n"
