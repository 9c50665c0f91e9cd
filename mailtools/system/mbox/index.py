"""The index of an mbox: its catalog, kept in ``.mailtools/NAME.index``, so that opening it needs no scan.

The index may be deleted, torn or stale at any time: then the mbox is read again. Other programs append and
rewrite, so the index is used as it is only while device, inode, size and mtime of the mbox are unchanged. If
the mbox grew and a sample of the known records is still in place, only the new records are read. The lock is
held just long enough to learn the length of the mbox: this waits for an append under way and truncates the
torn tail of a killed one, so that half a message never counts as a message.

Knows nothing of users and protocols.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from mailtools.core.errors import BadDataError, CannotWriteError, LockTimeoutError
from mailtools.core.mbox import catalog, scan
from mailtools.core.mbox.catalog import Catalog, CatalogRow
from mailtools.core.mbox.stored import Record
from mailtools.system.mbox import appending
from mailtools.system.mbox.dotlock import MboxLock
from mailtools.system.mbox.mboxfile import MboxFile

_SAMPLES = 16  # records checked after an mbox has grown
_TRIES = 3  # attempts while another program keeps rewriting the mbox
_BLOCK = 1 << 20
_LOOK_AGAIN = 0.01  # seconds, while another program holds the lock
IN_MEMORY = 1 << 20  # octets of a record; a larger one is read in pieces


class Box(NamedTuple):
    """An open mbox and its catalog. *descriptor*: -1 if there is no mbox, which counts as empty."""

    descriptor: int
    catalog: Catalog

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)


def open_box(path: str, patience: float = 10.0) -> Box:
    """Open the mbox at *path* with a current catalog. *patience*: seconds to wait for another program's lock.

    Raises BadDataError if the file is no mbox, CannotWriteError if it cannot be opened, LockTimeoutError.
    """
    deadline = time.monotonic() + patience
    try:
        for _ in range(_TRIES):
            with MboxFile(path) as mbox:
                descriptor = _open(mbox)
                try:
                    found = _current(mbox, descriptor, deadline)
                except BaseException:
                    os.close(descriptor)
                    raise
            if found is not None:
                return Box(descriptor, found)
            os.close(descriptor)
    except FileNotFoundError:
        return Box(-1, Catalog())
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}") from error
    raise LockTimeoutError(f"{path}: another program goes on rewriting it")


class Known(NamedTuple):
    """A catalog, and the mbox that it belongs to as it was then."""

    stamp: bytes
    catalog: Catalog | None


def current(mbox: MboxFile, descriptor: int, there: Known | None = None) -> Catalog:
    """The catalog of an open mbox whose lock is held. Raises BadDataError, OSError.

    *there*: what the caller found before; without it the index is read.
    """
    status = os.fstat(descriptor)
    stamp, known = there if there is not None and _may_fit(there, status) else _load(mbox)
    if known is not None and stamp == _stamp(status):
        return known
    return _read(descriptor, _still_fitting(descriptor, stamp, known), status.st_size)


def _may_fit(there: Known, status: os.stat_result) -> bool:
    """Tell whether *there* is of that file, which has not become shorter."""
    device, inode, size = there.stamp.split(b" ")[:3]
    is_it = (device, inode) == (b"%d" % status.st_dev, b"%d" % status.st_ino)
    return is_it and int(size) <= status.st_size


def known(descriptor: int, found: Catalog) -> Known:
    """*found*, the catalog of an open mbox as it is now, for the next call of `current`."""
    return Known(_stamp(os.fstat(descriptor)), found)


def save(mbox: MboxFile, found: Known) -> None:
    """Save the catalog of an open mbox as its index. Errors are ignored: the next open scans again."""
    if found.catalog is not None:
        _save(mbox, found.stamp, found.catalog)


def _save(mbox: MboxFile, stamp: bytes, found: Catalog) -> None:
    with suppress(OSError):
        # Not synced: the checksum reveals a torn index.
        mbox.state().replace(_name(mbox), found.octets(stamp), durable=False)


def _name(mbox: MboxFile) -> str:
    return f"{mbox.name}.index"


def _load(mbox: MboxFile) -> tuple[bytes, Catalog | None]:
    try:
        descriptor = mbox.state(make=False).open(_name(mbox), os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            return catalog.from_octets(file.read()) or (b"", None)
    except OSError:
        return b"", None


def _open(mbox: MboxFile) -> int:
    """Open the mbox, for writing too if we may. Raises OSError."""
    try:
        return mbox.open(os.O_RDWR)
    except FileNotFoundError:
        raise
    except OSError:  # no permission, or a second name where we run as root
        return mbox.open(os.O_RDONLY)


def _current(mbox: MboxFile, descriptor: int, deadline: float) -> Catalog | None:
    """The current catalog; None if the file was replaced or truncated meanwhile."""
    stamp, known = _load(mbox)
    if known is not None and stamp == _stamp(os.fstat(descriptor)):
        return known
    settled = _settled(mbox, descriptor, deadline)
    if settled is None:
        fitting = _still_fitting(descriptor, stamp, known)
        if len(fitting):
            return fitting  # the records that were complete before another program took the lock
        raise LockTimeoutError(f"{mbox.path}: locked by another program")
    found = _read(descriptor, _still_fitting(descriptor, stamp, known), settled.st_size)
    if os.fstat(descriptor).st_size < settled.st_size or not mbox.is_still(descriptor):
        return None
    _save(mbox, _stamp(settled), found)
    return found


def _settled(mbox: MboxFile, descriptor: int, deadline: float) -> os.stat_result | None:
    """The status of the mbox under its lock; None if another program keeps the lock past *deadline*."""
    lock = MboxLock(descriptor, mbox)
    while True:
        try:
            is_locked = lock.acquire()
        except OSError:  # opened read-only, in a folder without permission: no lock is possible
            return os.fstat(descriptor)
        if is_locked:
            break
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_AGAIN)
    try:
        appending.repair(mbox, descriptor)
        return os.fstat(descriptor)
    finally:
        lock.release()


def find(path: str, start: int, octets: bytes, patience: float = 10.0) -> int:
    """Return the offset of *octets* in the mbox, at or behind offset *start*; -1 if it does not hold them.

    Waits until no append is under way. Raises LockTimeoutError, CannotWriteError.
    """
    try:
        with MboxFile(path) as mbox:
            descriptor = _open(mbox)
            try:
                settled = _settled(mbox, descriptor, time.monotonic() + patience)
                if settled is None:
                    raise LockTimeoutError(f"{path}: locked by another program")
                return _find(descriptor, min(start, settled.st_size), octets)
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}") from error


def _find(descriptor: int, at: int, octets: bytes) -> int:
    while block := os.pread(descriptor, _BLOCK + len(octets), at):
        found = block.find(octets)
        if found >= 0:
            return at + found
        at += _BLOCK
    return -1


def digest(path: str, start: int, length: int) -> str:
    """Return the BLAKE2b digest (16 octets, as hex) of *length* octets at *start*, which are durable then.

    "" if the mbox ends before. Raises CannotWriteError.
    """
    try:
        with MboxFile(path) as mbox:
            descriptor = _open(mbox)
            try:
                return _digest(mbox, descriptor, start, length)
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CannotWriteError(f"{path}: {error.strerror}") from error


def _digest(mbox: MboxFile, descriptor: int, start: int, length: int) -> str:
    from hashlib import blake2b

    found = blake2b(digest_size=16)
    while length and (block := os.pread(descriptor, min(_BLOCK, length), start)):
        found.update(block)
        start, length = start + len(block), length - len(block)
    os.fsync(descriptor)  # who wrote them may have been killed before it could
    mbox.folder.sync()
    return "" if length else found.hexdigest()


def _stamp(status: os.stat_result) -> bytes:
    return b"%d %d %d %d" % (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _still_fitting(descriptor: int, stamp: bytes, known: Catalog | None) -> Catalog:
    """The part of *known* that still fits the mbox, without its last record, which may have grown."""
    if known is None or not len(known):
        return Catalog()
    known.cut(len(known) - 1 if _has_grown(descriptor, stamp, known) else 0)
    return known


def _has_grown(descriptor: int, stamp: bytes, known: Catalog) -> bool:
    """Tell whether the mbox was appended to, and no more, since *known* was made. Raises OSError."""
    status = os.fstat(descriptor)
    device_inode_size = stamp.split(b" ")[:3]
    if device_inode_size[:2] != _stamp(status).split(b" ")[:2]:
        return False
    if device_inode_size[2] == b"%d" % status.st_size or status.st_size < known.end:
        return False  # same length but changed: not an append
    count = len(known)
    samples = {count * step // _SAMPLES for step in range(_SAMPLES)} | {count - 1}
    return all(stands(descriptor, known[number]) for number in samples)


def stands(descriptor: int, row: CatalogRow) -> bool:
    """Tell whether the message of *row* is still at its place, by its digest. Raises OSError."""
    record = record_at(descriptor, row)
    return record is not None and catalog.measured(record)[2] == row.digest


def record_at(descriptor: int, row: CatalogRow) -> Record | None:
    """The record at *row*'s place; None if no record begins there. Raises OSError."""
    if row.end - row.start <= IN_MEMORY:
        return scan.whole_record(os.pread(descriptor, row.end - row.start, row.start))
    try:
        return next(scan.records(reader(descriptor, row.start, row.end)), None)
    except BadDataError:
        return None


def _read(descriptor: int, known: Catalog, end: int) -> Catalog:
    try:
        known.read_on(reader(descriptor, known.end, end), end)
    except BadDataError:
        if not known.end:
            raise
        known.cut(0)
        known.read_on(reader(descriptor, 0, end), end)
    return known


def reader(descriptor: int, start: int, end: int) -> Callable[[int], bytes]:
    """A read function for the octets from *start* to *end*; its argument is the most octets per call."""

    def read(size: int) -> bytes:
        nonlocal start
        octets = os.pread(descriptor, min(size, end - start), start)
        start += len(octets)
        return octets

    return read
