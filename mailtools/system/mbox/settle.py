"""Writes states (UIDs, flags, keywords) into the headers of an mbox, so that other programs read them there.

Where every header has a block with enough room, a few octets are written in place. Else the mbox is written
anew, beside it, and renamed: after a kill at any moment the old or the new file is there. The caller holds
the lock; the octets of the messages stay as they are.
"""

import os
from collections.abc import Mapping
from contextlib import suppress

from mailtools.core.mbox import state as state_
from mailtools.core.mbox.catalog import OTHER, Catalog
from mailtools.core.mbox.state import StoredState
from mailtools.system.files import lock
from mailtools.system.files.buffer import write_all
from mailtools.system.mbox import index
from mailtools.system.mbox.mboxfile import MboxFile
from mailtools.system.mbox.rewrite import copy_range, take_over

_HEADER = 1 << 20  # octets in which a header ends; the state of a message with a longer one is not written
_IN_PLACE = 1000  # states; for more, a new file is as fast

Due = Mapping[int, StoredState]  # by record number


def write(mbox: MboxFile, descriptor: int, there: Catalog, due: Due) -> int:
    """Write the states *due* durably and update the catalog *there*; return the descriptor of the mbox.

    It is another one if the mbox was written anew: then the old one must be closed, and the new one is locked
    until it is closed. Raises OSError: then the mbox is as it was, or has some of the states.
    """
    places = _places(descriptor, there, due)
    if places is None:
        descriptor = _write_anew(mbox, descriptor, there, due)
    else:
        for offset, octets in places:
            os.pwrite(descriptor, octets, offset)
        os.fdatasync(descriptor)
    for number, state in due.items():
        there.kinds[number] = OTHER
        there.uids[number], there.flags[number] = state.uid, state.flags
        there.keywords[number] = there.mask(state.keywords)
        if state.base:
            there.base = state.base
    index.save(mbox, index.known(descriptor, there))
    return descriptor


def _places(descriptor: int, there: Catalog, due: Due) -> list[tuple[int, bytes]] | None:
    """(offset, octets) for each state, if all can be written in place."""
    if len(due) > _IN_PLACE:
        return None
    found = []
    for number, state in due.items():
        row = there[number]
        start, header, is_crlf = _header_at(descriptor, row.start, row.end)
        place = None if is_crlf else state_.in_place(header, state)
        if place is None:
            return None
        found.append((start + place[0], place[1]))
    return found


def _header_at(descriptor: int, start: int, end: int) -> tuple[int, bytes, bool]:
    """(offset, octets, whether lines end with CRLF) of the header of a record, between postmark and body."""
    size = 8 << 10
    while True:
        octets = os.pread(descriptor, min(size, end - start), start)
        first = octets.find(b"\n") + 1
        is_crlf = octets.endswith(b"\r\n", 0, first)
        blanks = [octets.find(blank, first - 1) for blank in (b"\n\n", b"\n\r\n")]
        stops = [blank + 1 for blank in blanks if blank >= 0]
        if stops:
            return start + first, octets[first : max(min(stops), first)], is_crlf
        if size >= end - start or size >= _HEADER:
            return start + first, octets[first:] if size >= end - start else b"", is_crlf
        size *= 8


def _write_anew(mbox: MboxFile, descriptor: int, there: Catalog, due: Due) -> int:
    folder = mbox.state()
    new = folder.create(mbox.new_name)
    try:
        lock.take(new)
        take_over(new, os.fstat(descriptor))
        _copy(descriptor, new, there, due)
        os.fsync(new)
        folder.rename(mbox.new_name, mbox.name, mbox.folder)
        mbox.folder.sync()
    except BaseException:
        with suppress(OSError):
            folder.unlink(mbox.new_name)
        os.close(new)
        raise
    return new


def _copy(old: int, new: int, there: Catalog, due: Due) -> None:
    """Copy the mbox with the states *due*, and set the offsets of *there* to those in the new file."""
    starts = [*there.starts, there.end]
    at = grown = following = 0
    for number in sorted(due):
        for passed in range(following, number + 1):
            there.starts[passed] = starts[passed] + grown
        following = number + 1
        start, header, is_crlf = _header_at(old, starts[number], starts[number + 1])
        octets = state_.rewritten(header.replace(b"\r\n", b"\n"), due[number])
        if is_crlf:
            octets = octets.replace(b"\n", b"\r\n")
        copy_range(old, new, at, start)
        write_all(new, octets)
        at = start + len(header)
        grown += len(octets) - len(header)
    copy_range(old, new, at, there.end)
    for passed in range(following, len(there)):
        there.starts[passed] = starts[passed] + grown
    there.end += grown
