"""Octets made from messages, kept by UID: ``.mailtools/NAME.KIND``, so that a message is read for them once.

The file only grows: groups of values are appended, each with the UIDs and lengths of its values and a
checksum. It may be deleted, torn or stale at any time: then values are missing and are made again. It names
the UIDVALIDITY that its UIDs belong to. Several processes append to one file, under a lock of that file.

Knows nothing of what the octets mean. Speed: 100,000 values of 35 MB are opened in 20 ms, most of it the
checksum, and returned at 2 million a second if they are asked for in their order.
"""

import fcntl
import os
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress

from mailtools.system.files.buffer import write_all
from mailtools.system.mbox.mboxfile import MboxFile

_MAGIC = b"mailtools cache 1\n"
_HEAD = struct.Struct("<QI")  # behind the magic: UIDVALIDITY, version of the values
_GROUP = struct.Struct("<IQI")  # number of values, their octets, checksum of what follows
_START = len(_MAGIC) + _HEAD.size


class CacheFile:
    """The values of one *kind* (a file name ending) for the mbox at *path*.

    *version*: of the values; those of another version count as missing. All errors of the disk are taken as
    missing values: nothing here raises.
    """

    def __init__(self, path: str, kind: str, version: int) -> None:
        self._path = path
        self._kind = kind
        self._version = version
        self._descriptor = -1
        self._forget(0)

    def _forget(self, validity: int) -> None:
        self.close()
        self._validity = validity
        self._end = 0  # octets of the file that are known
        self._uids = array("I")  # ascending
        self._starts = array("Q")
        self._ends = array("Q")

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def values(self, validity: int, uids: "array[int]") -> list[bytes | None]:
        """The values of *uids* (ascending); None for those that are missing."""
        with suppress(OSError):
            self._open(validity)
            if self._descriptor >= 0:
                return self._read(uids)
        return [None] * len(uids)

    def _read(self, uids: "array[int]") -> list[bytes | None]:
        first = bisect_left(self._uids, uids[0]) if uids else 0
        stop = first + len(uids)
        if self._uids[first:stop] != uids:
            self._take_news()
            first = bisect_left(self._uids, uids[0])
            stop = first + len(uids)
        if self._uids[first:stop] == uids:
            return self._slices(self._starts[first:stop], self._ends[first:stop])
        found: list[bytes | None] = []
        for uid in uids:
            at = bisect_left(self._uids, uid)
            is_known = at < len(self._uids) and self._uids[at] == uid
            found += self._slices(self._starts[at : at + 1], self._ends[at : at + 1]) if is_known else [None]
        return found

    def _slices(self, starts: "array[int]", ends: "array[int]") -> list[bytes | None]:
        if not starts:
            return []
        begin, size = starts[0], ends[-1] - starts[0]
        if starts[0] == min(starts) and ends[-1] == max(ends) and size <= 2 * _sum(starts, ends) + 4096:
            octets = os.pread(self._descriptor, size, begin)
            if len(octets) == size:
                return [octets[start - begin : end - begin] for start, end in zip(starts, ends, strict=True)]
        return [
            os.pread(self._descriptor, end - start, start) for start, end in zip(starts, ends, strict=True)
        ]

    def add(self, validity: int, uids: "array[int]", values: Sequence[bytes]) -> None:
        """Keep *values* of *uids* (ascending)."""
        lengths = array("I", map(len, values))
        body = uids.tobytes() + lengths.tobytes() + b"".join(values)
        octets = _GROUP.pack(len(uids), len(body) - 8 * len(uids), zlib.crc32(body)) + body
        with suppress(OSError):
            self._open(validity, make=True)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                self._take_news()
                os.ftruncate(self._descriptor, self._end)  # a group that a killed process left
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
                write_all(self._descriptor, octets)
                self._take_news()
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    # -- the file --------------------------------------------------------------------------------------------

    def _open(self, validity: int, make: bool = False) -> None:
        if self._validity != validity:
            self._forget(validity)
        if self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink:
            return
        self._forget(validity)
        head = _MAGIC + _HEAD.pack(validity, self._version)
        with MboxFile(self._path, make=False) as mbox:
            name = f"{mbox.name}.{self._kind}"
            with suppress(FileNotFoundError):
                descriptor = mbox.state(make=False).open(name, os.O_RDWR)
                if os.pread(descriptor, len(head), 0) == head:
                    self._descriptor = descriptor
                else:
                    os.close(descriptor)
            if self._descriptor < 0 and make:
                mbox.state().replace(name, head, durable=False)
                self._descriptor = mbox.state().open(name, os.O_RDWR)
        self._end = _START
        if self._descriptor >= 0:
            self._take_news()

    def _take_news(self) -> None:
        """Learn of the groups that were appended since."""
        size = os.fstat(self._descriptor).st_size
        while self._end + _GROUP.size <= size:
            count, length, checksum = _GROUP.unpack(os.pread(self._descriptor, _GROUP.size, self._end))
            start = self._end + _GROUP.size
            if start + 8 * count + length > size:
                return
            body = os.pread(self._descriptor, 8 * count + length, start)
            if len(body) != 8 * count + length or zlib.crc32(body) != checksum:
                return
            uids, lengths = array("I"), array("I")
            uids.frombytes(body[: 4 * count])
            lengths.frombytes(body[4 * count : 8 * count])
            self._take(uids, lengths, start + 8 * count)
            self._end = start + len(body)

    def _take(self, uids: "array[int]", lengths: "array[int]", at: int) -> None:
        is_in_order = not self._uids or not uids or uids[0] > self._uids[-1]
        for length in lengths:
            self._starts.append(at)
            at += length
            self._ends.append(at)
        self._uids += uids
        if not is_in_order:  # the last value of a UID counts
            rows = dict(zip(self._uids, zip(self._starts, self._ends, strict=True), strict=True))
            self._uids = array("I", sorted(rows))
            self._starts = array("Q", [rows[uid][0] for uid in self._uids])
            self._ends = array("Q", [rows[uid][1] for uid in self._uids])


def _sum(starts: "array[int]", ends: "array[int]") -> int:
    return sum(ends) - sum(starts)
