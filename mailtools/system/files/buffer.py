"""Octets on their way: in memory up to 256 KiB, beyond that in a nameless file.

The file (O_TMPFILE) lies on the filesystem where the octets will end up, has no name that anybody could
guess, and is gone with the process. Spilling at 256 KiB keeps 1,000 sessions within 256 MiB.
"""

import os
from collections.abc import Iterable, Iterator

SPILL_AT = 256 << 10  # octets
_BLOCK = 256 << 10


class Buffer:
    """Octets appended in blocks, and read back in blocks any number of times.

    Who closes a buffer: nobody has to. Its memory and its file are given back with the last reference to it.
    Code that keeps a reference for longer than it needs the octets (a message that was sent, in a loop over
    messages) calls `close`; only the last user may do so, since a closed buffer is empty.
    """

    __slots__ = ("_beside", "_blocks", "_file", "size")

    def __init__(self, beside: str = "") -> None:
        """*beside*: a file on the filesystem where the octets will end up; "": that of temporary files."""
        self.size = 0
        self._beside = beside
        self._blocks: list[bytes] = []
        self._file = -1

    def append(self, octets: bytes) -> None:
        """Add *octets* at the end. Raises OSError where the disk is full."""
        self.size += len(octets)
        if self._file < 0 and self.size <= SPILL_AT:
            self._blocks.append(octets)
            return
        if self._file < 0:
            self._file = _nameless_file(os.path.dirname(self._beside))
            kept, self._blocks = b"".join(self._blocks), []
            write_all(self._file, kept)
        write_all(self._file, octets)

    def blocks(self) -> Iterator[bytes]:
        """All octets from the first, in blocks of at most 256 KiB."""
        if self._file < 0:
            if len(self._blocks) > 1:
                self._blocks = [b"".join(self._blocks)]
            yield from self._blocks
            return
        position = 0
        while block := os.pread(self._file, _BLOCK, position):
            yield block
            position += len(block)

    @property
    def is_in_memory(self) -> bool:
        """Tell whether the octets are in memory; otherwise they are in a file."""
        return self._file < 0

    def close(self) -> None:
        """Give memory and file back. A second call does nothing."""
        self._blocks = []
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


class Measured:
    """Passes blocks on and measures them; a last line without a line end gets one.

    `octets`, `lines` and `is_ascii` hold for all blocks once the iteration is over.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.octets = 0
        self.lines = 0
        self.is_ascii = True

    def __iter__(self) -> Iterator[bytes]:
        last = b"\n"
        for block in self._blocks:
            if block:
                self._measure(block)
                last = block
                yield block
        if not last.endswith(b"\n"):
            self._measure(b"\n")
            yield b"\n"

    def _measure(self, block: bytes) -> None:
        self.octets += len(block)
        self.lines += block.count(b"\n")
        self.is_ascii = self.is_ascii and block.isascii()


def _nameless_file(directory: str) -> int:
    import tempfile  # takes 4 ms to import, and few messages are so large

    place = directory or tempfile.gettempdir()
    try:
        return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):  # a filesystem or a system without O_TMPFILE
        descriptor, name = tempfile.mkstemp(prefix=".mailtools-", dir=place)
        os.unlink(name)
        return descriptor


def write_all(descriptor: int, octets: bytes) -> None:
    """Write all of *octets*, however few the kernel takes at a time. Raises OSError."""
    done = os.write(descriptor, octets)
    if done < len(octets):
        view = memoryview(octets)
        while done < len(octets):
            done += os.write(descriptor, view[done:])
