"""Which UIDs were expunged, and when: what RFC 7162 §3.2.6 lets a client learn later.

A record of ranges of UIDs, each with the modification number of its expunge, in the order of these numbers.
It is bounded: the oldest ranges are forgotten, and `floor` is the highest number of those. Knows no message.
"""

from array import array
from collections.abc import Iterable, Sequence

MOST = 1000  # ranges

Range = tuple[int, int]  # first and last UID


class Vanished:
    """Expunged UIDs. Nothing is known of expunges up to the modification number *floor*."""

    __slots__ = ("firsts", "floor", "lasts", "modseqs")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.firsts = array("I")
        self.lasts = array("I")
        self.modseqs = array("Q")

    def __len__(self) -> int:
        return len(self.firsts)

    def add(self, ranges: Iterable[Range], modseq: int) -> None:
        """Note that *ranges* were expunged with *modseq*, which is higher than those before."""
        for first, last in ranges:
            self.firsts.append(first)
            self.lasts.append(last)
            self.modseqs.append(modseq)
        if len(self) > MOST:
            count = len(self) - MOST // 2
            self.floor = self.modseqs[count - 1]
            del self.firsts[:count], self.lasts[:count], self.modseqs[:count]

    def since(self, modseq: int) -> list[Range] | None:
        """The ranges expunged after *modseq*, ascending; None if some of them are forgotten."""
        if modseq < self.floor:
            return None
        found = zip(self.firsts, self.lasts, self.modseqs, strict=True)
        return sorted((first, last) for first, last, number in found if number > modseq)

    def columns(self) -> Sequence["array[int]"]:
        """The columns as a file keeps them."""
        return self.firsts, self.lasts, self.modseqs


def common(some: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """What two ascending lists of ranges have in common, ascending."""
    found: list[Range] = []
    at = 0
    for first, last in some:
        while at < len(others) and others[at][1] < first:
            at += 1
        number = at
        while number < len(others) and others[number][0] <= last:
            found.append((max(first, others[number][0]), min(last, others[number][1])))
            number += 1
        at = max(number - 1, at)
    return found


def runs(uids: Sequence[int], kept: set[int]) -> list[Range]:
    """The ranges of those of *uids* whose rows are not in *kept*; none spans a UID of these."""
    found: list[Range] = []
    before = -2  # the row of the last one found
    for row, uid in enumerate(uids):
        if row not in kept:
            first = found.pop()[0] if row == before + 1 else uid
            found.append((first, uid))
            before = row
    return found


def gaps(uids: Iterable[int], following: int) -> list[Range]:
    """The ranges of UIDs from 1 to before *following* that are not among *uids*, which ascend."""
    found = []
    last = 0
    for uid in (*uids, following):
        if uid > last + 1:
            found.append((last + 1, uid - 1))
        last = uid
    return found
