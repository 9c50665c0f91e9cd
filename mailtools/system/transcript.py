"""Transcripts: a session as ``C:`` and ``S:`` lines, for people and for tests that read them.

Secrets are masked (promise C3): what the client says from AUTH on until the server's verdict is ``***``.
"""

import os
import re
import sys
from collections.abc import Callable

from mailtools.core.errors import CannotWriteError
from mailtools.system import clock

_AUTH = re.compile(rb"(AUTH +[^ ]+)( .+)?", re.IGNORECASE)


class Transcript:
    """One session's lines, written when they are whole."""

    def __init__(self, write: Callable[[bytes], object], close: Callable[[], object]) -> None:
        self._write = write
        self._close = close
        self._partial = {b"C: ": b"", b"S: ": b""}
        self._is_login = False
        self._is_message = False

    def client(self, octets: bytes) -> None:
        """What the client sent."""
        self._record(b"C: ", octets)

    def server(self, octets: bytes) -> None:
        """What the server sent."""
        self._record(b"S: ", octets)

    def remark(self, text: str) -> None:
        """Something that neither side said."""
        self._write(f"# {text}\n".encode())

    def _record(self, side: bytes, octets: bytes) -> None:
        whole, newline, rest = (self._partial[side] + octets).rpartition(b"\n")
        self._partial[side] = rest
        if newline:
            lines = whole.replace(b"\r\n", b"\n").removesuffix(b"\r")
            if side == b"S: ":
                self._follow(lines)
            elif self._is_login or (not self._is_message and b"AUTH" in lines.upper()):
                lines = b"\n".join([self._masked(line) for line in lines.split(b"\n")])
            self._write(side + lines.replace(b"\n", b"\n" + side) + b"\n")

    def _follow(self, lines: bytes) -> None:
        """What the server's last line means for what the client says next."""
        last = lines[lines.rfind(b"\n") + 1 :]
        self._is_message = last.startswith(b"354")
        self._is_login = self._is_login and last.startswith(b"334")

    def _masked(self, line: bytes) -> bytes:
        if self._is_login:
            return line if line == b"*" else b"***"
        match = _AUTH.fullmatch(line)
        if match is None:
            return line
        self._is_login = True
        return match[1] + (b" ***" if match[2] else b"")

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
        file = open(path, "ab" if again else "wb", buffering=0)  # noqa: SIM115 - it is closed with the session
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}: no transcript can be written") from error
    return Transcript(file.write, file.close)
