"""Transcripts: a session as ``C:`` and ``S:`` lines, for people and for tests that read them."""

import os
import sys
from collections.abc import Callable

from mailtools.core.errors import CannotWriteError
from mailtools.system import clock


class Transcript:
    """One session's lines, written when they are whole."""

    def __init__(self, write: Callable[[bytes], object], close: Callable[[], object]) -> None:
        self._write = write
        self._close = close
        self._partial = {b"C: ": b"", b"S: ": b""}

    def client(self, octets: bytes) -> None:
        """What the client sent."""
        self._record(b"C: ", octets)

    def server(self, octets: bytes) -> None:
        """What the server sent."""
        self._record(b"S: ", octets)

    def _record(self, side: bytes, octets: bytes) -> None:
        whole, newline, rest = (self._partial[side] + octets).rpartition(b"\n")
        self._partial[side] = rest
        if newline:
            lines = side + whole.replace(b"\r\n", b"\n").removesuffix(b"\r").replace(b"\n", b"\n" + side)
            self._write(lines + b"\n")

    def close(self) -> None:
        """Write what is left of lines that never ended."""
        for side in self._partial:
            if self._partial[side]:
                self._record(side, b"\n")
        self._close()


def open_transcript(target: str, name: str, again: bool = False) -> Transcript:
    """A transcript on stdout (``-``), in a new file in the folder *target*, or in the file *target*.

    *again*: the file holds our sessions before this one; they stay. Raises CannotWriteError.
    """
    if target == "-":
        out = sys.stdout.buffer
        return Transcript(out.write, out.flush)
    path = target
    if os.path.isdir(target) or target.endswith("/"):
        os.makedirs(target, exist_ok=True)
        path = os.path.join(target, f"{clock.identity()}-{name}.txt")
    try:
        file = open(path, "ab" if again else "wb")  # noqa: SIM115 - it is closed with the session
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}: no transcript can be written") from error
    return Transcript(file.write, file.close)
