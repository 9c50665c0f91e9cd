"""The states of all messages of a mailbox as its users see them: UIDs, flags, keywords, modification numbers.

The mbox itself keeps states too (core/mbox/state), and other programs change them there. So each row also
remembers what the mbox said when it was last looked at: what differs now was changed by another program and
counts; what we changed and have not written yet counts too. A message is recognised by its digest and copy
number (core/mbox/catalog), wherever it stands; so it keeps its UID when the mbox is rewritten.

Owns UIDs as RFC 9051 §2.3.1.1 wants them: ascending in the order of the mbox, and never used again; where
that cannot be kept, the mailbox gets a new UIDVALIDITY. Knows no file: `octets` and `lines` are kept by
system/mbox/state_file.
"""

import re
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailtools.core.mbox.catalog import DIGEST, Catalog, unmask
from mailtools.core.mbox.state import LARGEST_UID, MOST_KEYWORDS, StoredBase, StoredState
from mailtools.core.mbox.vanished import Range, Vanished, gaps, runs

_MAGIC = b"mailtools states 2\n"
_FORMER = b"mailtools states 1\n"  # it knew nothing of what had vanished
_LAST_LINE = re.compile(rb"^\. [^\n]*\n", re.MULTILINE)  # of a group of the journal


class Merged(NamedTuple):
    """What a merge did."""

    is_rebuilt: bool = False  # rows went, moved, or have other UIDs: lines of a journal cannot say it
    added: int = 0  # rows at the end
    changed: tuple[int, ...] = ()  # rows whose flags another program changed


class States:
    """One row per message, in the order of the mbox."""

    __slots__ = (
        "copies", "digests", "flags", "masks", "modseq", "modseqs", "seen_flags", "seen_masks", "uid_next",
        "uids", "validity", "vanished", "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.validity = 0  # UIDVALIDITY; 0: the mailbox has none yet
        self.uid_next = 1
        self.modseq = 1  # the highest of the mailbox
        self.vanished = Vanished()  # what was expunged
        self.words: list[bytes] = []  # keywords; bit n of a mask stands for words[n]
        self._clear()

    def _clear(self) -> None:
        self.digests = bytearray()
        self.copies: dict[int, int] = {}  # as in `Catalog`
        self.uids = array("I")
        self.flags = bytearray()  # bits of core/mbox/state
        self.masks = array("Q")
        self.modseqs = array("Q")
        self.seen_flags = bytearray()  # what the mbox said
        self.seen_masks = array("Q")

    def __len__(self) -> int:
        return len(self.uids)

    def row_of(self, uid: int) -> int:
        """The row of *uid*; -1 if there is no such message."""
        row = bisect_left(self.uids, uid)
        return row if row < len(self.uids) and self.uids[row] == uid else -1

    def keywords(self, row: int) -> tuple[bytes, ...]:
        """The keywords of the message in *row*."""
        return tuple(unmask(self.masks[row], self.words))

    def mask(self, words: Iterable[bytes]) -> int:
        """The bits of keywords; a new one gets the next bit. One for which no bit is left is left out."""
        mask = 0
        for word in words:
            if word not in self.words and len(self.words) < MOST_KEYWORDS:
                self.words.append(word)
            if word in self.words:
                mask |= 1 << self.words.index(word)
        return mask

    def change(self, row: int, flags: int, mask: int) -> bool:
        """Set flags and keywords of *row*; False if they are as they were."""
        if (flags, mask) == (self.flags[row], self.masks[row]):
            return False
        self.modseq += 1
        self.flags[row], self.masks[row], self.modseqs[row] = flags, mask, self.modseq
        return True

    def vanished_since(self, modseq: int) -> list[Range]:
        """Ranges of UIDs that were expunged after *modseq*, ascending.

        All UIDs that are not there, if it is not known which (RFC 7162 §3.2.7 permits more than asked for).
        """
        found = self.vanished.since(modseq)
        return gaps(self.uids, self.uid_next) if found is None else found

    # -- what the mbox says ----------------------------------------------------------------------------------

    def merge(self, catalog: Catalog, new_validity: Callable[[], int], first_modseq: int = 1) -> Merged:
        """Take over what the mbox says now. *new_validity* gives a new UIDVALIDITY.

        *first_modseq* is where modification numbers begin if the states of a mailbox were lost and its UIDs
        are those of its mbox: a client may know higher numbers than 1 with this UIDVALIDITY, and would take
        changes for old ones. Microseconds since the epoch are higher than any number given before, for
        numbers rise more slowly than one in a microsecond (unless the clock was set back meanwhile).
        """
        if not self.validity:
            return self._begin(catalog, new_validity, first_modseq)
        if catalog.base and catalog.base.validity == self.validity:
            self.uid_next = max(self.uid_next, catalog.base.last + 1)
        count = len(self)
        known = {number: copy for number, copy in catalog.copies.items() if number < count}
        if catalog.digests[: len(self.digests)] == self.digests and known == self.copies:
            changed = self._take_flags(catalog)
            self._add(catalog, count)
            merged = Merged(False, len(catalog) - count, changed)
        else:
            self._rebuild(catalog)
            merged = Merged(True)
        if self.uid_next > LARGEST_UID:
            self._renumber(max(new_validity(), self.validity + 1))
            merged = Merged(True)
        return merged

    def _begin(self, catalog: Catalog, new_validity: Callable[[], int], first_modseq: int) -> Merged:
        """The first look at a mailbox: believe the UIDs of the mbox if they can be right, all of them."""
        base = catalog.base
        is_known = base is not None and _are_right(catalog.uids, base.last)
        if is_known:
            self.modseq = max(self.modseq, first_modseq)
        self._add(catalog, 0)
        self.vanished = Vanished(self.modseq)
        if base and is_known:
            self.validity = base.validity
            self.uids = array("I", catalog.uids)
            following = base.last + 1
            for row, uid in enumerate(self.uids):  # those that another program appended have none yet
                if not uid:
                    self.uids[row] = following
                    following += 1
            self.uid_next = following
            if following <= LARGEST_UID:
                return Merged(True)
        self._renumber(max(new_validity(), base.validity + 1 if base else 0))
        return Merged(True)

    def _renumber(self, validity: int) -> None:
        self.validity = validity & 0xFFFF_FFFF or 1
        self.uids = array("I", range(1, len(self) + 1))
        self.uid_next = len(self) + 1
        self.modseq += 1
        self.modseqs = array("Q", [self.modseq]) * len(self)
        self.vanished = Vanished(self.modseq)

    def _add(self, catalog: Catalog, first: int) -> None:
        """Add the rows of *catalog* from *first* on, with new UIDs. Their flags are those of the mbox."""
        if first == len(catalog):
            return
        masks = self._translated(catalog, first)
        self.modseq += 1
        for number in range(first, len(catalog)):
            self._append(catalog, number, self._new_uid(catalog, number), masks[number - first])

    def _append(self, catalog: Catalog, number: int, uid: int, mask: int) -> None:
        if number in catalog.copies:
            self.copies[len(self.uids)] = catalog.copies[number]
        self.digests += catalog.digest(number)
        self.uids.append(uid)
        self.flags.append(catalog.flags[number])
        self.masks.append(mask)
        self.modseqs.append(self.modseq)
        self.seen_flags.append(catalog.flags[number])
        self.seen_masks.append(mask)

    def _new_uid(self, catalog: Catalog, number: int) -> int:
        """The UID of a new row: its own in the mbox, if another server of this UIDVALIDITY gave it."""
        own = catalog.uids[number]
        is_ours = bool(catalog.base) and catalog.base is not None and catalog.base.validity == self.validity
        last = self.uids[-1] if self.uids else 0
        uid = own if is_ours and max(last, self.uid_next - 1) < own else self.uid_next
        self.uid_next = uid + 1
        return uid

    def _translated(self, catalog: Catalog, first: int) -> Sequence[int]:
        """The masks of *catalog* from row *first* on, with our bits."""
        masks = catalog.keywords[first:]
        if catalog.words == self.words[: len(catalog.words)] or not any(masks):
            return masks
        return [self.mask(unmask(mask, catalog.words)) if mask else 0 for mask in masks]

    def _take_flags(self, catalog: Catalog) -> tuple[int, ...]:
        """Take over flags that another program changed; return the rows."""
        count = len(self)
        masks = self._translated(catalog, 0)[:count]
        if catalog.flags[:count] == self.seen_flags and masks == self.seen_masks:
            return ()
        changed = []
        for row in range(count):
            flags, mask = catalog.flags[row], masks[row]
            if (flags, mask) != (self.seen_flags[row], self.seen_masks[row]):
                theirs, their_words = flags ^ self.seen_flags[row], mask ^ self.seen_masks[row]
                self.seen_flags[row], self.seen_masks[row] = flags, mask
                flags = self.flags[row] & ~theirs | flags & theirs
                mask = self.masks[row] & ~their_words | mask & their_words
                self.change(row, flags, mask)
                changed.append(row)
        return tuple(changed)

    def _rebuild(self, catalog: Catalog) -> None:
        """Give each record of *catalog* the row that its message had, as far as UIDs then ascend."""
        old = States()
        for name in self.__slots__:
            setattr(old, name, getattr(self, name))
        rows = {(old._digest(row), old.copies.get(row, 1)): row for row in range(len(old))}
        self._clear()
        masks = self._translated(catalog, 0)
        self.modseq += 1
        last = 0
        kept: list[tuple[int, int]] = []  # (row, old row)
        for number in range(len(catalog)):
            row = rows.get((catalog.digest(number), catalog.copies.get(number, 1)), -1)
            is_kept = row >= 0 and old.uids[row] > last
            last = old.uids[row] if is_kept else self._new_uid(catalog, number)
            self._append(catalog, number, last, masks[number])
            if is_kept:
                kept.append((number, row))
        for number, row in kept:
            self.flags[number], self.masks[number] = old.flags[row], old.masks[row]
            self.modseqs[number] = old.modseqs[row]
            self.seen_flags[number], self.seen_masks[number] = old.seen_flags[row], old.seen_masks[row]
        self.vanished.add(runs(old.uids, {row for _, row in kept}), self.modseq)
        self._take_flags(catalog)

    def _digest(self, row: int) -> bytes:
        return bytes(self.digests[row * DIGEST : (row + 1) * DIGEST])

    # -- what the mbox should say ----------------------------------------------------------------------------

    def due(self, catalog: Catalog) -> dict[int, StoredState]:
        """By record number of *catalog*, which was merged: states that its mbox does not have yet."""
        masks = self._translated(catalog, 0)
        due = {}
        if (catalog.uids, catalog.flags) != (self.uids, self.flags) or list(masks) != list(self.masks):
            for row in range(len(self)):
                ours = (self.uids[row], self.flags[row], self.masks[row])
                if ours != (catalog.uids[row], catalog.flags[row], masks[row]):
                    due[row] = self.stored(row)
        if len(self) and catalog.base != (self.validity, self.uid_next - 1, tuple(self.words)):
            due[0] = self.stored(0)
        return due

    def stored(self, row: int) -> StoredState:
        """The state of *row* as the mbox should have it."""
        base = StoredBase(self.validity, self.uid_next - 1, tuple(self.words)) if row == 0 else None
        return StoredState(self.uids[row], self.flags[row], self.keywords(row), base)

    def was_stored(self, rows: Iterable[int]) -> None:
        """Note that the mbox has the states of *rows*."""
        for row in rows:
            self.seen_flags[row], self.seen_masks[row] = self.flags[row], self.masks[row]

    def might_repeat(self, catalog: Catalog) -> bool:
        """Tell whether a UID would be given again if these states were lost.

        The mbox has our UIDVALIDITY, and a message is gone that had a UID above the last one noted there.
        """
        base = catalog.base
        if base is None or base.validity != self.validity or self.uid_next - 1 <= base.last:
            return False
        return len(self) - bisect_right(self.uids, base.last) < self.uid_next - 1 - base.last

    # -- octets ----------------------------------------------------------------------------------------------

    def octets(self, generation: bytes) -> bytes:
        """All rows as the octets of a file. *generation*: one word that names its journal."""
        copies = array("Q", [value for pair in self.copies.items() for value in pair])
        columns = b"".join(bytes(column) for column in self._columns(copies))
        numbers = (
            self.validity,
            self.uid_next,
            self.modseq,
            len(self),
            len(self.copies),
            zlib.crc32(columns),
            self.vanished.floor,
            len(self.vanished),
        )
        head = b" ".join((generation, *(b"%d" % number for number in numbers), *self.words))
        return _MAGIC + head + b"\n" + columns

    def _columns(self, copies: "array[int]") -> Sequence["array[int] | bytearray"]:
        return (
            self.digests, copies, self.uids, self.flags, self.masks, self.modseqs, self.seen_flags,
            self.seen_masks, *self.vanished.columns(),
        )  # fmt: skip


def from_octets(octets: bytes) -> tuple[bytes, States] | None:
    """(generation, states); None if *octets* are torn or of another version."""
    is_former = octets.startswith(_FORMER)
    if not (is_former or octets.startswith(_MAGIC)):
        return None
    head, _, columns = octets[len(_MAGIC) :].partition(b"\n")
    generation, *words = head.split(b" ")
    states = States()
    try:
        states.validity, states.uid_next, states.modseq, count, copies, checksum = map(int, words[:6])
        floor, ranges = (states.modseq, 0) if is_former else map(int, words[6:8])
    except ValueError:
        return None
    states.vanished = Vanished(floor)
    states.words = words[6 if is_former else 8 :]
    pairs = array("Q")
    lengths = (DIGEST * count, 2 * copies, count, count, count, count, count, count, ranges, ranges, ranges)
    at = 0
    for column, length in zip(states._columns(pairs), lengths, strict=True):
        size = length * (column.itemsize if isinstance(column, array) else 1)
        piece = columns[at : at + size]
        if len(piece) != size:
            return None
        column.frombytes(piece) if isinstance(column, array) else column.extend(piece)
        at += size
    if at != len(columns) or zlib.crc32(columns) != checksum:
        return None
    states.copies = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return generation, states


def _are_right(uids: Sequence[int], last: int) -> bool:
    """Tell whether UIDs ascend, up to *last*, and are missing at the end only."""
    before, is_missing = 0, False
    for uid in uids:
        if uid and (is_missing or not before < uid <= last):
            return False
        is_missing = is_missing or not uid
        before = uid or before
    return True


# -- lines of a journal ------------------------------------------------------------------------------------


def lines(states: States, first: int, rows: Iterable[int]) -> bytes:
    """The rows from *first* on, which are new, and those of *rows*, which changed, as lines of a journal."""
    found = [b"w %b" % b" ".join(states.words)] if states.words else []
    for row in range(first, len(states)):
        digest = states._digest(row).hex().encode()
        found.append(b"+ %b %d %b" % (digest, states.copies.get(row, 1), _values(states, row)))
    found += [b"= %b" % _values(states, row) for row in rows if row < first]
    found.append(b". %d %d %d\n" % (states.validity, states.uid_next, states.modseq))
    return b"\n".join(found)


def _values(states: States, row: int) -> bytes:
    return b"%d %d %d %d %d %d" % (
        states.uids[row], states.flags[row], states.masks[row], states.modseqs[row], states.seen_flags[row],
        states.seen_masks[row],
    )  # fmt: skip


def replay(states: States, octets: bytes) -> int:
    """Apply the lines of a journal, up to the last group that is whole; return its end in *octets*."""
    end = 0
    for last in _LAST_LINE.finditer(octets):
        _apply(states, octets[end : last.end()])
        end = last.end()
    return end


def _apply(states: States, group: bytes) -> None:
    for line in group.splitlines():
        kind, _, rest = line.partition(b" ")
        words = rest.split(b" ")
        if kind == b"w":
            states.words = words
        elif kind == b"+":
            row = len(states)
            states.digests += bytes.fromhex(words[0].decode())
            if words[1] != b"1":
                states.copies[row] = int(words[1])
            uid, flags, mask, modseq, seen_flags, seen_mask = map(int, words[2:])
            states.uids.append(uid)
            for column, value in (
                (states.flags, flags), (states.masks, mask), (states.modseqs, modseq),
                (states.seen_flags, seen_flags), (states.seen_masks, seen_mask),
            ):  # fmt: skip
                column.append(value)
        elif kind == b"=":
            uid, flags, mask, modseq, seen_flags, seen_mask = map(int, words)
            row = states.row_of(uid)
            if row >= 0:
                states.flags[row], states.masks[row], states.modseqs[row] = flags, mask, modseq
                states.seen_flags[row], states.seen_masks[row] = seen_flags, seen_mask
        elif kind == b".":
            states.validity, states.uid_next, states.modseq = map(int, words)
