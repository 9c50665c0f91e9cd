"""Transcripts: a session as ``C:`` and ``S:`` lines, for people and for tests that read them.

The protocol's engine masks secrets before octets come here (promise C3). A file has the octets as they
are; on a terminal control and bidi characters are made visible (promise C1).
"""

import os
import sys
from collections.abc import Callable

from mailtools.core.errors import CannotWriteError
from mailtools.system import clock

_LONGEST = 64 << 10  # octets of a line that are kept until it is complete


class Transcript:
    """The lines of one session, written when they are complete. All methods raise OSError."""

    def __init__(self, write: Callable[[bytes], object], close: Callable[[], object]) -> None:
        self._write = write
        self._close = close
        self._partial = {b"C: ": b"", b"S: ": b""}

    def client(self, octets: bytes) -> None:
        """Write what the client sent."""
        self._record(b"C: ", octets)

    def server(self, octets: bytes) -> None:
        """Write what the server sent."""
        self._record(b"S: ", octets)

    def remark(self, text: str) -> None:
        """Write a remark, which neither side said."""
        self._write(f"# {text}\n".encode())

    def _record(self, side: bytes, octets: bytes) -> None:
        whole, newline, rest = (self._partial[side] + octets).rpartition(b"\n")
        if len(rest) > _LONGEST:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._partial[side] = rest
        if newline:
            lines = side + whole.replace(b"\r\n", b"\n").removesuffix(b"\r").replace(b"\n", b"\n" + side)
            self._write(lines + b"\n")

    def close(self) -> None:
        """Write the incomplete lines and close."""
        for side in self._partial:
            if self._partial[side]:
                self._record(side, b"\n")
        self._close()


def open_transcript(target: str, name: str, again: bool = False) -> Transcript:
    """Open a transcript on stdout (``-``), in a new file in the folder *target*, or in the file *target*.

    *again*: append to the file, which has earlier sessions of this process. Raises CannotWriteError.
    """
    if target == "-":
        out = sys.stdout.buffer
        shown = _visible if sys.stdout.isatty() else bytes

        def write(octets: bytes) -> None:
            out.write(shown(octets))
            out.flush()

        return Transcript(write, lambda: None)
    path = target
    if os.path.isdir(target) or target.endswith("/"):
        os.makedirs(target, exist_ok=True)
        path = os.path.join(target, f"{clock.identity()}-{name}.txt")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if again else os.O_TRUNC)
        # a transcript contains whole messages
        file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}: no transcript can be written") from error
    return Transcript(file.write, file.close)


def _visible(octets: bytes) -> bytes:
    """Return lines for a terminal, which the other side's octets must not control."""
    from mailtools.core.wire.visible import visible_lines

    return visible_lines(octets.decode("utf-8", "backslashreplace")).encode()
