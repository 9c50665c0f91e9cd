"""The view of one session: sequence numbers, and what the client was told of its mailbox.

Owns RFC 9051 §2.3.1.2 and §7.4: a sequence number changes only when the client is told with EXPUNGE, new
messages are told with EXISTS, flags with FETCH. Another session may remove a message at any time; until
this client is told, the message keeps its number, and nothing can be had of it. Knows no command.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set

from mailtools.core.imap.cursor import SequenceSet
from mailtools.core.imap.grammar import sets
from mailtools.core.mbox.state import ANSWERED, DELETED, DRAFT, FLAGGED, OLD, SEEN
from mailtools.core.mbox.vanished import common
from mailtools.services.imap_server.opened import SharedMailbox

FLAGS = (
    (ANSWERED, b"\\Answered"), (FLAGGED, b"\\Flagged"), (DELETED, b"\\Deleted"), (SEEN, b"\\Seen"),
    (DRAFT, b"\\Draft"),
)  # fmt: skip
BITS = {name: bit for bit, name in FLAGS}
Ranges = Sequence[tuple[int, int]]
_WITH_OLD = bytes(flags for flags in range(256) if flags & OLD)


class View:
    """The messages of *box* by sequence numbers from 1."""

    def __init__(self, box: SharedMailbox, enabled: Set[str] = frozenset()) -> None:
        """*enabled*: the extensions that the client enabled; the set may grow."""
        self.box = box
        self._enabled = enabled
        self.saved: list[int] = []  # UIDs, ascending: what ``$`` means (RFC 5182)
        self._shown: dict[tuple[int, int, bool], bytes] = {}
        with box.lock:
            states = box.states
            self.uids = box.uids  # never changed in place: sessions share it
            self.validity = states.validity
            self._modseq = states.modseq
            self._told_words = len(states.words)
            self.recent = set[int]()
            if states.flags.translate(None, _WITH_OLD):
                rows = zip(self.uids, states.flags, strict=True)
                self.recent = {uid for uid, flags in rows if not flags & OLD}

    @property
    def with_modseq(self) -> bool:
        """Whether the client knows MODSEQ (RFC 7162 §3.1)."""
        return "CONDSTORE" in self._enabled

    @property
    def with_vanished(self) -> bool:
        """Whether the client is told of UIDs that are gone, in place of sequence numbers (RFC 7162 §3.2)."""
        return "QRESYNC" in self._enabled

    def __len__(self) -> int:
        return len(self.uids)

    # -- numbers -------------------------------------------------------------------------------------------

    def chosen(self, ranges: Ranges, by_uid: bool) -> list[tuple[int, int]]:
        """(sequence number, UID) of the messages in *ranges* of sequence numbers or UIDs, ascending."""
        found: list[tuple[int, int]] = []
        for start, end in ranges:
            first = bisect_left(self.uids, start) if by_uid else start - 1
            stop = bisect_left(self.uids, end + 1) if by_uid else min(end, len(self.uids))
            found.extend((number + 1, self.uids[number]) for number in range(max(first, 0), stop))
        return found

    def picked(self, numbers: SequenceSet, by_uid: bool) -> list[tuple[int, int]]:
        """(sequence number, UID) of the messages in a set of a command, ascending."""
        if numbers.is_saved:
            return self.chosen([(uid, uid) for uid in self.saved], True)
        return self.chosen(numbers.ranges(self.largest(by_uid)), by_uid)

    def largest(self, by_uid: bool) -> int:
        """What ``*`` means."""
        return (self.uids[-1] if self.uids else 0) if by_uid else len(self.uids)

    def row(self, uid: int) -> int:
        """The row of the mailbox that has the message; -1 if it is gone."""
        return self.box.states.row_of(uid)

    def rows(self, chosen: Sequence[tuple[int, int]]) -> Sequence[int]:
        """The rows of messages (sequence number, UID); -1 for those that are gone."""
        if self.uids == self.box.states.uids[: len(self.uids)]:
            return [number - 1 for number, _ in chosen]
        return [self.row(uid) for _, uid in chosen]

    def located(self, chosen: list[tuple[int, int]]) -> tuple[Sequence[int], "array[int]", Sequence[int]]:
        """Sequence numbers, UIDs and rows of those messages of *chosen* that are there."""
        rows = self.rows(chosen)
        if -1 in rows:
            there = [(*pair, row) for pair, row in zip(chosen, rows, strict=True) if row >= 0]
            return [n for n, _, _ in there], array("I", [u for _, u, _ in there]), [r for _, _, r in there]
        return [number for number, _ in chosen], array("I", [uid for _, uid in chosen]), rows

    def modseqs(self, chosen: list[tuple[int, int]]) -> list[int]:
        """The modification numbers of those messages of *chosen* that are there."""
        with self.box.lock:
            modseqs = self.box.states.modseqs
            return [modseqs[row] for row in self.located(chosen)[2]]

    def changed_since(self, chosen: list[tuple[int, int]], modseq: int) -> list[tuple[int, int]]:
        """Those messages of *chosen* that changed after *modseq*."""
        with self.box.lock:
            modseqs = self.box.states.modseqs
            rows = zip(chosen, self.rows(chosen), strict=True)
            return [pair for pair, row in rows if row >= 0 and modseqs[row] > modseq]

    # -- flags ---------------------------------------------------------------------------------------------

    def flags(self, uid: int, row: int) -> bytes:
        """The flags of a message as in FETCH, without parentheses."""
        states = self.box.states
        bits, mask, is_recent = states.flags[row], states.masks[row], uid in self.recent
        shown = self._shown.get((bits, mask, is_recent))  # few combinations: half the time of FETCH FLAGS
        if shown is None:
            names = [name for bit, name in FLAGS if bits & bit]
            names += (*states.keywords(row), *([b"\\Recent"] if is_recent else ()))
            shown = self._shown[(bits, mask, is_recent)] = b" ".join(names)
        return shown

    def flag_column(self, uids: Sequence[int], rows: Sequence[int]) -> list[bytes]:
        """The flags of messages, by UID and row."""
        states, shown = self.box.states, self._shown
        if self.recent:
            return [self.flags(uid, row) for uid, row in zip(uids, rows, strict=True)]
        flags, masks = states.flags, states.masks
        return [
            shown.get((flags[row], masks[row], False)) or self.flags(uid, row)
            for uid, row in zip(uids, rows, strict=True)
        ]

    def known_flags(self) -> bytes:
        """All flags that messages of the mailbox have or may get, for FLAGS."""
        return b" ".join((*(name for _, name in FLAGS), *self.box.states.words))

    def new_words(self) -> Iterator[bytes]:
        """The response FLAGS, if there are new keywords (RFC 9051 §7.3.5)."""
        if len(self.box.states.words) != self._told_words:
            self._told_words = len(self.box.states.words)
            yield b"* FLAGS (%b)\r\n" % self.known_flags()

    # -- what is new ---------------------------------------------------------------------------------------

    def news(
        self, may_expunge: bool, silent: Iterable[int] = (), with_uid: bool = False, with_flags: bool = True
    ) -> list[bytes]:
        """Responses about what changed since the last call.

        *may_expunge*: EXPUNGE may be told now (RFC 9051 §7.5.1). *silent*: UIDs whose flags the client knows.
        *with_uid*: FETCH responses have the UID. Without *with_flags* changed flags are told another time.
        """
        with self.box.lock:
            return list(self._news(may_expunge, silent, with_uid, with_flags))

    def _news(
        self, may_expunge: bool, silent: Iterable[int], with_uid: bool, with_flags: bool
    ) -> Iterator[bytes]:
        states = self.box.states
        yield from self.new_words()
        if may_expunge and (len(states) < len(self.uids) or self.uids != states.uids[: len(self.uids)]):
            yield from self._gone()
        last = self.uids[-1] if self.uids else 0
        first_new = bisect_left(states.uids, max(last + 1, 1))
        if with_flags and self._modseq < states.modseq:
            yield from self._changed(set(silent), with_uid)
            self._modseq = states.modseq
        if first_new < len(states):
            new = states.uids[first_new:]
            self.recent.update(
                uid for uid, flags in zip(new, states.flags[first_new:], strict=True) if not flags & OLD
            )
            self.uids = self.uids + new
            if self.uids == self.box.uids:
                self.uids = self.box.uids
            yield b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(self.uids), len(self.recent))

    def _changed(self, known: set[int], with_uid: bool) -> Iterator[bytes]:
        states, told = self.box.states, self._modseq
        for row in [row for row, modseq in enumerate(states.modseqs) if modseq > told]:
            uid = states.uids[row]
            number = bisect_left(self.uids, uid) + 1
            if uid not in known and number <= len(self.uids) and self.uids[number - 1] == uid:
                shown = b"UID %d " % uid if with_uid or self.with_modseq else b""  # RFC 7162 §3.2.4
                modseq = b" MODSEQ (%d)" % states.modseqs[row] if self.with_modseq else b""
                yield b"* %d FETCH (%bFLAGS (%b)%b)\r\n" % (number, shown, self.flags(uid, row), modseq)

    def _gone(self) -> Iterator[bytes]:
        states = self.box.states
        kept, gone = array("I"), list[int]()
        for number, uid in enumerate(self.uids, 1):
            if states.row_of(uid) >= 0:
                kept.append(uid)
                continue
            if not self.with_vanished:
                yield b"* %d EXPUNGE\r\n" % (number - len(gone))
            gone.append(uid)
            self.recent.discard(uid)
        self.uids = kept
        if gone and self.with_vanished:
            yield b"* VANISHED %b\r\n" % ",".join(sets(gone)).encode()

    def vanished(self, modseq: int, ranges: Ranges) -> list[bytes]:
        """The response about those UIDs of *ranges* that were expunged after *modseq*, if there are any."""
        with self.box.lock:
            gone = common(self.box.states.vanished_since(modseq), ranges)
        told = b",".join(b"%d" % first if first == last else b"%d:%d" % (first, last) for first, last in gone)
        return [b"* VANISHED (EARLIER) %b\r\n" % told] if told else []
