"""Sources: reads files and stdin, compressed or not.

A compressed format is recognised by its first octets, not by the file's name, so that stdin works too. This
module does not know what the octets mean.

Invariants: reading is in blocks and nothing is mapped, because a mapped file that another program truncates
would kill the process; nothing is written; memory is bounded for any compressed file.
"""

import errno
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
_PIECE = 1 << 14  # octets of compressed data read at once
_INFLATED = 1 << 18  # octets inflated at once


class Source:
    """An open source: ``read(size)`` returns at most *size* octets, b"" at the end. A context manager.

    Raises MissingInputError if there is no such file, BadDataError if its compression is broken,
    ConfigurationError if a format needs an extra, OSError from the disk. Compressed data that is cut off is
    broken; for a source that *may_be_cut*, its end is the end of the octets, and leaving raises OSError.
    """

    def __init__(
        self, name: str, progress: Callable[[int], None] | None = None, may_be_cut: bool = False
    ) -> None:
        self.name = "standard input" if name == STDIN else name
        self._file: Any = None
        self._progress = progress
        self._broken: BadDataError | None = None
        self._may_be_cut = may_be_cut
        self._cut = ""  # why the octets end too early; told when all that came before is read
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
        if self._cut and error is None:
            raise OSError(errno.EIO, self._cut)

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
            if self._broken:
                raise self._broken  # again: the decompressor would say that the data has ended
            try:
                return b"" if self._cut else read(size)
            except EOFError as error:
                if self._may_be_cut:
                    self._cut = f"the compressed data is cut off: {error}; what came before it was read"
                    return b""
                raise self._as_broken("cut off or damaged", error) from error
            except (zlib.error, LZMAError) as error:
                raise self._as_broken("cut off or damaged", error) from error
            except OSError as error:
                if error.errno is None:  # raised by bz2 and gzip for damaged data
                    raise self._as_broken("damaged", error) from error
                raise
            except Exception as error:
                if type(error).__name__ == "ZstdError":
                    raise self._as_broken("damaged", error) from error
                raise

        return guarded

    def _as_broken(self, how: str, error: Exception) -> BadDataError:
        self._broken = BadDataError(f"the compressed data is {how} ({error})")
        return self._broken


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


def _pieces(packed: IO[bytes], make: Callable[[], Any]) -> Iterator[bytes]:
    """Inflate *packed*, at most `_INFLATED` octets at a time.

    *make*: a decompressor of bz2's or lzma's interface.

    Raises EOFError at the end of data that is cut off: what came before it was given.
    """
    engine = None
    while piece := packed.read(_PIECE):
        while piece or (engine is not None and not engine.needs_input):
            if engine is None:
                if not piece.strip(b"\0"):  # padding of a tape or a download
                    break
                engine = make()
            yield engine.decompress(piece, _INFLATED)
            piece = b""
            if engine.eof:
                piece, engine = engine.unused_data, None
    if engine is not None:
        raise EOFError("the data does not end")


def _steadily(pieces: Iterator[bytes]) -> Callable[[int], bytes]:
    octets = filter(None, pieces)
    return lambda size: next(octets, b"")


class _Gunzip:
    """zlib's decompressor, with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        import zlib

        self._engine = zlib.decompressobj(31)  # a gzip header, and its check

    def decompress(self, octets: bytes, most: int) -> bytes:
        """Inflate at most *most* octets."""
        return self._engine.decompress(self._engine.unconsumed_tail + octets, most)

    @property
    def needs_input(self) -> bool:
        """True if all input is used."""
        return not self._engine.unconsumed_tail

    @property
    def eof(self) -> bool:
        """True at the end of a member."""
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""
        return self._engine.unused_data


def _gzip(packed: IO[bytes]) -> Callable[[int], bytes]:
    return _steadily(_pieces(packed, _Gunzip))


def _bz2(packed: IO[bytes]) -> Callable[[int], bytes]:
    import bz2

    return _steadily(_pieces(packed, bz2.BZ2Decompressor))


def _xz(packed: IO[bytes]) -> Callable[[int], bytes]:
    import lzma

    return _steadily(_pieces(packed, lzma.LZMADecompressor))


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
