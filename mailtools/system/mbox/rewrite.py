"""Removes messages from an mbox: after a kill at any moment the old or the new file is there, never a part.

The remaining records are copied under the lock into a new file, which is synced and replaces the old one by
one rename. Owner, mode and messages appended meanwhile are kept. Programs that have the old file open can
continue to read it.
"""

import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from mailtools.core.errors import LockTimeoutError
from mailtools.core.mbox.catalog import OTHER, Catalog
from mailtools.system.files import lock
from mailtools.system.files.buffer import write_all
from mailtools.system.files.durable import write_error
from mailtools.system.mbox import appending, index
from mailtools.system.mbox.dotlock import MboxLock
from mailtools.system.mbox.mboxfile import MboxFile

_BLOCK = 1 << 20
_LOOK_AGAIN = 0.01
_HEADER = 64 << 10  # octets in which the first message's X-IMAPbase stands
_IMAP_BASE = re.compile(rb"(?i)\n(X-IMAP(?:base)?:[^\n]*\n)")


def remove(path: str, seen: Catalog, numbers: Collection[int], patience: float = 30.0) -> None:
    """Remove the records *numbers* (from 0) of the catalog *seen* from the mbox at *path*, durably.

    Each record is found by its digest, even if another program moved it; a missing record is ignored.
    *patience*: seconds. Raises LockTimeoutError, BadDataError, CannotWriteError: then the mbox is unchanged.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            with MboxFile(path) as mbox:
                if _removed(mbox, seen, numbers):
                    return
        except FileNotFoundError:
            return
        except OSError as error:
            raise write_error(path, error, "nothing was removed") from error
        if time.monotonic() > deadline:
            raise LockTimeoutError(f"{path}: locked by another program")
        time.sleep(_LOOK_AGAIN)


def _removed(mbox: MboxFile, seen: Catalog, numbers: Collection[int]) -> bool:
    """Remove the records under the lock; False if the caller must try again."""
    new = -1
    descriptor = mbox.open(os.O_RDWR)
    try:
        both = MboxLock(descriptor, mbox)
        if not both.acquire():
            return False
        try:
            if not mbox.is_still(descriptor):
                return False
            appending.repair(mbox, descriptor)
            there = index.current(mbox, descriptor)
            victims = _found_again(there, seen, numbers)
            if victims:
                new = _replace(mbox, descriptor, there, victims)
        finally:
            both.release()
            if new >= 0:
                os.close(new)
    finally:
        os.close(descriptor)
    return True


def _found_again(there: Catalog, seen: Catalog, numbers: Collection[int]) -> set[int]:
    """The numbers in the catalog *there* of the records *numbers* of *seen*."""
    known = {number: copy for number, copy in there.copies.items() if number < len(seen)}
    if there.digests[: len(seen.digests)] == seen.digests and known == seen.copies:
        return set(numbers)  # only new mail was appended
    names = seen.names()
    wanted = {names[number] for number in numbers}
    return {number for number, name in enumerate(there.names()) if name in wanted}


def _replace(mbox: MboxFile, descriptor: int, there: Catalog, victims: set[int]) -> int:
    """Replace the mbox by one without *victims*; return the descriptor of the new file.

    It is locked until it is closed. Without this lock another process could have the new file, and take our
    dotlock for a stale one, before we release it.
    """
    kept = [number for number in range(len(there)) if number not in victims]
    base = _imap_base(descriptor, there) if 0 in victims and kept else b""
    folder = mbox.state()
    new = folder.create(mbox.new_name)
    try:
        lock.take(new)
        take_over(new, os.fstat(descriptor))
        found = _copy(descriptor, new, there, kept, base)
        os.fsync(new)
        folder.rename(mbox.new_name, mbox.name, mbox.folder)
        mbox.folder.sync()
        index.save(mbox, index.known(new, found))
    except BaseException:
        with suppress(OSError):
            folder.unlink(mbox.new_name)
        os.close(new)
        raise
    return new


def take_over(new: int, old: os.stat_result) -> None:
    """Give the file *new* owner and mode of the *old* one."""
    with suppress(PermissionError):
        os.fchown(new, old.st_uid, old.st_gid)
    os.fchmod(new, old.st_mode & 0o777)


def _imap_base(descriptor: int, there: Catalog) -> bytes:
    """The X-IMAPbase field, by which other programs recognise the mbox; the first message must keep it."""
    row = there[0]
    head = os.pread(descriptor, min(_HEADER, row.end - row.start), row.start).partition(b"\n\n")[0] + b"\n"
    match = _IMAP_BASE.search(head)
    return match[1] if match else b""


def _copy(old: int, new: int, there: Catalog, kept: Sequence[int], base: bytes) -> Catalog:
    """Copy the records *kept* and return their catalog; *base*: a field to add to the first header.

    What stands before the first record, such as the folder data of Pine, is copied too.
    """
    found = Catalog()
    position = there[0].start
    write_all(new, os.pread(old, position, 0))
    for number in kept:
        row = there[number]
        found.add(position, row.size, row.kind, row.digest, there.state(number))
        position += row.end - row.start
        if base and number == kept[0]:
            found.kinds[0] = OTHER
            position += len(base)
    found.end = position
    found.copies = {at: there.copies[number] for at, number in enumerate(kept) if number in there.copies}
    for start, end in _ranges(there, kept):
        at = start
        if base and start == there[kept[0]].start:
            line = os.pread(old, _HEADER, start).partition(b"\n")[0] + b"\n"
            write_all(new, line + base)
            at += len(line)
        copy_range(old, new, at, end)
    return found


def copy_range(old: int, new: int, start: int, end: int) -> None:
    """Append the octets from *start* to *end* of the file *old* to *new*."""
    while start < end and (block := os.pread(old, min(_BLOCK, end - start), start)):
        write_all(new, block)
        start += len(block)


def _ranges(there: Catalog, kept: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, end) octet ranges of the records *kept* in the old file, adjacent ones joined."""
    begin = end = -1
    for number in kept:
        row = there[number]
        if row.start != end:
            if end > begin:
                yield begin, end
            begin = row.start
        end = row.end
    if end > begin:
        yield begin, end
