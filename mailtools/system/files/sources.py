"""Sources: reads files and stdin, compressed or not.

A compressed format is recognised by its first octets, not by the file's name, so that stdin works too. This
module does not know what the octets mean.

Invariants: reading is in blocks and nothing is mapped, because a mapped file that another program truncates
would kill the process; nothing is written; memory is bounded for any compressed file.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, Any

from mailtools.core.errors import BadDataError, ConfigurationError, MissingInputError

STDIN = "-"
_MAGIC = 6  # octets that identify a format
_ZST_PIECE = 1 << 11


class Source:
    """An open source: ``read(size)`` returns at most *size* octets, b"" at the end. A context manager.

    Raises MissingInputError if there is no such file, BadDataError if its compression is broken,
    ConfigurationError if a format needs an extra, OSError from the disk.
    """

    def __init__(self, name: str, progress: Callable[[int], None] | None = None) -> None:
        self.name = "standard input" if name == STDIN else name
        self._file: Any = None
        self._progress = progress
        raw = self._open(name)
        self.read: Callable[[int], bytes] = raw
        first = raw(1 << 16)
        while first and len(first) < _MAGIC and (more := raw(_MAGIC)):
            first += more
        opener = _opener(first)
        if opener:
            packed = io.BufferedReader(_Raw(first, raw), 1 << 16)
            self.read = self._guarded(self._start(opener, packed))
        elif first:
            self.read = _after(first, raw)

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, name: str) -> Callable[[int], bytes]:
        if name == STDIN:
            stream = sys.stdin.buffer
            # read1 returns the available octets instead of waiting for a full block of a pipe.
            return self._watched(getattr(stream, "read1", stream.read))
        try:
            self._file = open(name, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        except FileNotFoundError as error:
            raise MissingInputError("no such file") from error
        except IsADirectoryError as error:
            raise BadDataError("a directory; name the mbox files in it") from error
        return self._watched(self._file.read)

    def _watched(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        progress = self._progress
        if progress is None:
            return read

        def watched(size: int) -> bytes:
            octets = read(size)
            progress(len(octets))
            return octets

        return watched

    def _start(self, opener: "_Opener", packed: IO[bytes]) -> Callable[[int], bytes]:
        try:
            return opener(packed)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "zstandard compression needs an extra: pip install 'mailtools[zst]'"
            ) from error

    def _guarded(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        import zlib
        from lzma import LZMAError

        def guarded(size: int) -> bytes:
            try:
                return read(size)
            except (EOFError, zlib.error, LZMAError) as error:
                raise BadDataError(f"the compressed data is cut off or damaged ({error})") from error
            except OSError as error:
                if error.errno is None:  # raised by bz2 and gzip for damaged data
                    raise BadDataError(f"the compressed data is damaged ({error})") from error
                raise
            except Exception as error:
                if type(error).__name__ == "ZstdError":
                    raise BadDataError(f"the compressed data is damaged ({error})") from error
                raise

        return guarded


def size_of(names: list[str]) -> int | None:
    """Octets of all files together as stored, compressed or not; None if one is no regular file."""
    total = 0
    for name in names:
        if name == STDIN or not os.path.isfile(name):
            return None
        total += os.path.getsize(name)
    return total


def stdin_is_terminal() -> bool:
    """Whether reading stdin would wait for a person's typing."""
    return sys.stdin is not None and sys.stdin.isatty()


_Opener = Callable[[IO[bytes]], Callable[[int], bytes]]


def _gzip(packed: IO[bytes]) -> Callable[[int], bytes]:
    import gzip

    return gzip.GzipFile(fileobj=packed).read1


def _bz2(packed: IO[bytes]) -> Callable[[int], bytes]:
    import bz2

    return bz2.BZ2File(packed).read1


def _xz(packed: IO[bytes]) -> Callable[[int], bytes]:
    import lzma

    return lzma.LZMAFile(packed).read1


def _zst(packed: IO[bytes]) -> Callable[[int], bytes]:
    import zstandard

    def frames() -> Iterator[bytes]:
        # Small pieces, because one octet may inflate to 32 KiB. zstandard's own reader does not report a
        # truncated stream.
        frame = None
        while piece := packed.read(_ZST_PIECE):
            while piece:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
        if frame is not None:
            raise EOFError("the last frame does not end")

    octets = filter(None, frames())
    return lambda size: next(octets, b"")


_FORMATS: tuple[tuple[bytes, _Opener], ...] = (
    (b"\x1f\x8b", _gzip),
    (b"BZh", _bz2),
    (b"\xfd7zXZ\x00", _xz),
    (b"\x28\xb5\x2f\xfd", _zst),
)


def _opener(first: bytes) -> _Opener | None:
    return next((opener for magic, opener in _FORMATS if first.startswith(magic)), None)


def _after(first: bytes, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A read function that returns *first*, then the octets of *read*."""
    waiting = [first]

    def joined(size: int) -> bytes:
        return waiting.pop() if waiting else read(size)

    return joined


class _Raw(io.RawIOBase):
    """Wraps a read function as a raw file, for the decompressors; *first* was read already."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self._read = _after(first, read)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        octets = self._rest or self._read(len(buffer))
        given, self._rest = octets[: len(buffer)], octets[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def spill(chunks: Iterable[bytes]) -> IO[bytes]:
    """Write *chunks* to an unnamed temporary file and rewind it: for data too large for memory."""
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller keeps it
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
    return file
