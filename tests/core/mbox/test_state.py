"""core/mbox/state: the fields in which an mbox keeps the state of a message, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.mbox import state
from mailtools.core.mbox.state import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    LARGEST_UID,
    OLD,
    SEEN,
    StoredBase,
    StoredState,
)  # fmt: skip

HEADER = b"From: ann@a.test\nSubject: x\n"
DOVECOT = HEADER + (
    b"X-IMAPbase: 1795792033 0000000007 $Junk\nX-UID: 1\nStatus: RO\nX-Status: AF\n"
    b"X-Keywords: $Junk                                                  \nContent-Length: 69\n"
)
words = st.lists(st.sampled_from([b"$Junk", b"work", b"a:b", b"x" * 30]), unique=True).map(tuple)
bases = st.builds(StoredBase, st.integers(1, 2**32 - 1), st.integers(0, LARGEST_UID), words)
states = st.builds(StoredState, st.integers(0, LARGEST_UID), st.integers(0, 63), words, st.none() | bases)


def test_what_dovecot_wrote() -> None:
    found = state.parse(DOVECOT)
    base = StoredBase(1795792033, 7, (b"$Junk",))
    assert found == StoredState(1, SEEN | OLD | ANSWERED | FLAGGED, (b"$Junk",), base)
    assert state.parse(DOVECOT.replace(b"\n", b"\r\n")) == found


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Status: R\n", StoredState(0, SEEN)),
        (b"status: O\nx-status: D\n", StoredState(0, OLD | DELETED)),
        (b"X-Status: T\n", StoredState(0, DRAFT)),
        (b"X-UID: 4294967295\n", StoredState()),
        (b"X-UID: 99999999999999999999\n", StoredState()),
        (b"X-UID: -1\n", StoredState()),
        (b"X-UID: 7 \n", StoredState(7)),
        (b"X-Keywords: (a) b b \xff ok\n", StoredState(0, 0, (b"b", b"ok"))),
        (b"X-IMAPbase: 4294967295 4294967295\n", StoredState()),
        (b"X-IMAPbase: 0 1\n", StoredState()),
        (b"X-IMAPbase: 5\n", StoredState()),
        (b"X-IMAPbase: 5 6 a b\n", StoredState(0, 0, (), StoredBase(5, 6, (b"a", b"b")))),
        (b"X-Status-Other: F\nXStatus: F\n", StoredState()),
        (b"", StoredState()),
    ],
)
def test_what_is_believed(header: bytes, expected: StoredState) -> None:
    assert state.parse(HEADER + header) == expected
    assert state.parse(header + HEADER) == expected


@given(states)
def test_what_is_written_is_read(wanted: StoredState) -> None:
    assert state.parse(state.rewritten(HEADER, wanted)) == wanted


@given(states, states)
def test_a_header_is_rewritten_and_the_rest_stays(first: StoredState, second: StoredState) -> None:
    written = state.rewritten(state.rewritten(HEADER, first), second)
    assert written == state.rewritten(HEADER, second)
    assert written.startswith(HEADER)


@given(states, states)
def test_in_place_or_not_at_all(first: StoredState, second: StoredState) -> None:
    header = state.rewritten(HEADER, first) + b"X-Other: y\n"
    place = state.in_place(header, second)
    if place is None:
        assert len(state.render(second).rstrip()) + 1 > len(state.render(first))
        return
    offset, octets = place
    written = header[:offset] + octets + header[offset + len(octets) :]
    assert len(written) == len(header)
    assert state.parse(written) == second
    assert written.endswith(b"X-Other: y\n")


@pytest.mark.parametrize(
    "header", [HEADER, HEADER + b"Status: RO\n", b"Status: R\n" + HEADER + b"X-UID: 5\n", b""]
)
def test_without_one_block_that_has_room_nothing_is_written_in_place(header: bytes) -> None:
    assert state.in_place(header, StoredState(5, SEEN | FLAGGED, (b"$Junk",))) is None


@given(st.binary(max_size=400))
def test_no_octets_raise(octets: bytes) -> None:
    state.parse(octets)
    state.in_place(octets, StoredState(1))
    state.rewritten(octets, StoredState(1))
