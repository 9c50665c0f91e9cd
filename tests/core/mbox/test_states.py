"""core/mbox/states: UIDs that ascend and are never used again, and flags that two sides change."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.mbox import states
from mailtools.core.mbox.catalog import PLAIN, Catalog
from mailtools.core.mbox.state import FLAGGED, LARGEST_UID, SEEN, StoredBase, StoredState
from mailtools.core.mbox.states import States


def catalog(*rows: "tuple[int, StoredState] | int") -> Catalog:
    """An mbox of messages 0, 1, … with what their headers say."""
    found = Catalog()
    last: dict[bytes, int] = {}
    for row in rows:
        number, said = row if isinstance(row, tuple) else (row, StoredState())
        digest = number.to_bytes(16, "big")
        last[digest] = copy = last.get(digest, 0) + 1
        if copy > 1:
            found.copies[len(found)] = copy
        found.add(100 * len(found), 90, PLAIN, digest, said)
        found.end = 100 * len(found)
    return found


def merged(*mboxes: Catalog, validity: int = 1000) -> States:
    found = States()
    for mbox in mboxes:
        found.merge(mbox, lambda: validity)
    return found


def said(*uids: int, last: int, validity: int = 77, flags: int = 0) -> list[tuple[int, StoredState]]:
    return [
        (n, StoredState(uid, flags, (), StoredBase(validity, last) if not n else None))
        for n, uid in enumerate(uids)
    ]


def test_a_new_mailbox() -> None:
    found = merged(catalog(0, 1, 2))
    assert (found.validity, list(found.uids), found.uid_next) == (1000, [1, 2, 3], 4)


def test_the_uids_of_another_server_are_kept() -> None:
    found = merged(catalog(*said(3, 9, 0, last=12, flags=SEEN)))
    assert (found.validity, list(found.uids), found.uid_next) == (77, [3, 9, 13], 14)
    assert list(found.flags) == [SEEN] * 3


@pytest.mark.parametrize(
    ("uids", "last"),
    [((3, 2), 9), ((3, 3), 9), ((0, 3), 9), ((3, 0, 4), 9), ((3, 9), 5), ((3, LARGEST_UID, 0), LARGEST_UID)],
)
def test_uids_that_cannot_be_right_get_a_new_validity(uids: Sequence[int], last: int) -> None:
    found = merged(catalog(*said(*uids, last=last)))
    assert (found.validity, list(found.uids)) == (1000, list(range(1, len(uids) + 1)))
    assert merged(catalog(*said(*uids, last=last, validity=5000))).validity == 5001


def test_new_messages_and_removed_ones() -> None:
    found = merged(catalog(0, 1, 2), catalog(0, 1, 2, 3), catalog(0, 2, 3), catalog(0, 2, 3, 4))
    assert list(found.uids) == [1, 3, 4, 5]
    assert list(merged(catalog(0, 1), catalog(), catalog(0)).uids) == [3]


def test_another_order_gives_new_uids_so_that_they_ascend() -> None:
    found = merged(catalog(0, 1, 2), catalog(2, 0, 1))
    assert list(found.uids) == [3, 4, 5]
    found = merged(catalog(0, 1, 2), catalog(0, 9, 1, 2))
    assert list(found.uids) == [1, 4, 5, 6]


def test_copies_are_told_apart() -> None:
    found = merged(catalog(5, 5, 5))
    mbox = catalog(5, 5)
    mbox.copies = {0: 2, 1: 3}  # the first is gone
    found.merge(mbox, lambda: 1)
    assert list(found.uids) == [2, 3]


def test_uids_do_not_run_out() -> None:
    found = merged(catalog(0, 1))
    found.uid_next = LARGEST_UID + 1
    found.merge(catalog(0, 1, 2), lambda: 500)
    assert (found.validity, list(found.uids), found.uid_next) == (1001, [1, 2, 3], 4)


def test_flags_of_both_sides() -> None:
    found = merged(catalog(0, 1))
    found.change(0, SEEN, found.mask([b"ours"]))
    before = found.modseq
    found.merge(catalog((0, StoredState(0, FLAGGED, (b"theirs",))), 1), lambda: 1)
    assert (found.flags[0], set(found.keywords(0))) == (SEEN | FLAGGED, {b"ours", b"theirs"})
    assert found.modseqs[0] > before
    found.merge(catalog(0, 1), lambda: 1)  # and taken back
    assert (found.flags[0], found.keywords(0)) == (SEEN, (b"ours",))
    assert not found.merge(catalog(0, 1), lambda: 1).changed


def test_what_the_mbox_does_not_have_yet() -> None:
    found = merged(catalog(0, 1))
    found.change(1, SEEN, 0)
    due = found.due(catalog(0, 1))
    assert due == {0: StoredState(1, 0, (), StoredBase(1000, 2)), 1: StoredState(2, SEEN)}
    written = catalog(*due.items())
    assert not found.due(written)
    found.was_stored(due)
    assert not found.merge(written, lambda: 1).changed
    assert list(found.flags) == [0, SEEN]


NUMBERS = st.lists(st.integers(0, 6), max_size=6)


@settings(max_examples=300)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_uids_ascend_and_mean_one_message_for_ever(mboxes: list[list[int]]) -> None:
    found = States()
    meant: dict[int, int] = {}
    for numbers in mboxes:
        found.merge(catalog(*numbers), lambda: 1)
        assert len(found) == len(numbers)
        assert list(found.uids) == sorted(set(found.uids))
        assert not found.uids or found.uids[-1] < found.uid_next
        for uid, number in zip(found.uids, numbers, strict=True):
            assert meant.setdefault(uid, number) == number


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(NUMBERS, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 63)), max_size=3)), max_size=5
    )
)
def test_octets_and_the_journal_give_the_same_states(
    steps: list[tuple[list[int], list[tuple[int, int]]]],
) -> None:
    found = States()
    copy: States | None = None
    for numbers, changes in steps:
        result = found.merge(catalog(*numbers), lambda: 1)
        rows = []
        for row, flags in changes:
            if row < len(found) and found.change(row, flags, found.mask([b"w%d" % (flags % 3)])):
                rows.append(row)
        if copy is None or result.is_rebuilt:
            read = states.from_octets(found.octets(b"gen"))
            assert read is not None
            assert read[0] == b"gen"
            copy = read[1]
        else:
            journal = states.lines(found, len(found) - result.added, [*result.changed, *rows])
            assert states.replay(copy, journal + b"= 1 2 3\n+ torn") == len(journal)
        for name in set(States.__slots__) - {"vanished"}:
            assert getattr(copy, name) == getattr(found, name), name
        assert copy.vanished.floor == found.vanished.floor
        assert copy.vanished.columns() == found.vanished.columns()


@given(st.binary(max_size=300))
def test_torn_octets_are_no_states(octets: bytes) -> None:
    assert states.from_octets(octets) is None
    whole = merged(catalog(0, 1, 2)).octets(b"g")
    for cut in (1, 20, len(whole) // 2, len(whole) - 1):
        assert states.from_octets(whole[:cut]) is None
    assert states.from_octets(whole[:-1] + bytes([whole[-1] ^ 1])) is None


def test_lost_states_begin_with_higher_modification_numbers() -> None:
    found = States()
    found.merge(catalog(*said(3, 9, last=12)), lambda: 1, 5000)
    assert (found.validity, found.modseq, list(found.modseqs)) == (77, 5001, [5001, 5001])
    assert found.vanished_since(4000) == [(1, 2), (4, 8), (10, 12)]
    assert found.vanished_since(5001) == []


def test_modification_numbers_of_a_new_mailbox_are_small() -> None:
    found = States()
    found.merge(catalog(0, 1), lambda: 1, 5000)
    assert found.modseq < 10
    assert set(found.modseqs) == {found.modseq}


def test_what_vanished_is_known_with_the_time_of_it() -> None:
    found = merged(catalog(0, 1, 2, 3, 4))
    before = found.modseq
    found.merge(catalog(0, 3, 4), lambda: 1)
    between = found.modseq
    assert between > before
    found.merge(catalog(0, 3), lambda: 1)
    assert found.modseq > between
    assert found.vanished_since(before) == [(2, 3), (5, 5)]
    assert found.vanished_since(between) == [(5, 5)]
    read = states.from_octets(found.octets(b"g"))
    assert read is not None
    assert read[1].vanished_since(before) == [(2, 3), (5, 5)]
    assert read[1].vanished_since(0) == [(2, 3), (5, 5)]


def test_a_message_in_another_place_vanishes_and_is_new() -> None:
    found = merged(catalog(0, 1, 2))
    before = found.modseq
    found.merge(catalog(2, 0, 1), lambda: 1)
    assert found.vanished_since(before) == [(1, 2)]
    assert found.modseqs[1] > before


def test_a_file_of_the_former_version_is_read() -> None:
    found = merged(catalog(0, 1, 2))
    octets = found.octets(b"g")
    head, _, columns = octets.partition(b"\n")[2].partition(b"\n")
    words = head.split(b" ")
    former = b"mailtools states 1\n" + b" ".join(words[:7] + words[9:]) + b"\n" + columns
    read = states.from_octets(former)
    assert read is not None
    assert list(read[1].uids) == [1, 2, 3]
    assert read[1].vanished.floor == read[1].modseq == found.modseq
