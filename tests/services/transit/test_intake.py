"""Octets cut anywhere come out as whole lines; what a policy refuses is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.services.transit.intake import LONG_LINE, MAX_HEADER, Intake, IntakePolicy

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"A: b\n", b"From x\n"]), max_size=12)


def taken(policy: IntakePolicy, *blocks: bytes) -> Intake:
    intake = Intake(policy)
    for block in blocks:
        intake.take(block)
    intake.end()
    return intake


def body(intake: Intake) -> bytes:
    return b"".join(intake.body.blocks())


@given(PIECES.map(b"".join), st.lists(st.integers(0, 60)), st.booleans(), st.booleans(), st.booleans())
def test_cuts_change_nothing(
    octets: bytes, cuts: list[int], drops_postmark: bool, until_dot: bool, cr_ends_line: bool
) -> None:
    policy = IntakePolicy(
        drops_postmark=drops_postmark, until_dot=until_dot, cr_ends_line=cr_ends_line, measures=True
    )
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    one = taken(policy, octets)
    other = taken(policy, *[octets[a:b] for a, b in itertools.pairwise(places)])
    assert (one.header, body(one), one.lines, one.ends_with_newline) == (
        other.header, body(other), other.lines, other.ends_with_newline,
    )  # fmt: skip
    assert not (cr_ends_line and b"\r" in body(one))
    assert one.lines == body(one).count(b"\n")
    assert one.ends_with_newline == (body(one)[-1:] in (b"", b"\n"))


def test_header_and_body_and_what_is_told_of_them() -> None:
    intake = taken(IntakePolicy(measures=True), b"A: b\r\nC: d\r\n\r\n", b"e\r\n\xe4\r\n", b"x" * 999)
    assert intake.header == b"A: b\nC: d\n"
    assert body(intake) == b"e\n\xe4\n" + b"x" * 999
    assert (intake.lines, intake.is_ascii, intake.ends_with_newline) == (2, False, False)
    assert not intake.has_long_line  # with CRLF it would have one octet too many
    assert taken(IntakePolicy(measures=True), b"\n" + b"x" * 999 + b"\n").has_long_line


def test_a_message_that_ends_within_its_header() -> None:
    intake = taken(IntakePolicy(), b"A: b")
    assert (intake.header, body(intake), intake.ends_with_newline) == (b"A: b\n", b"", True)


@pytest.mark.parametrize("octets", [b"A: b\0\n\nc\n", b"A: b\n\nc\0", b"A: b\n\nc\rd\n", b"\r", b"a\r\r\n"])
def test_refusals(octets: bytes) -> None:
    with pytest.raises(BadDataError, match=r"^no$"):
        taken(IntakePolicy(nul="no", bare_cr="no"), octets)
    assert taken(IntakePolicy(), octets)


def test_a_long_line_is_handed_on_or_refused() -> None:
    intake = Intake(IntakePolicy())
    intake.take(b"\n")
    for _ in range(3):
        intake.take(b"x" * LONG_LINE)
    assert intake.body.size > LONG_LINE
    with pytest.raises(BadDataError, match="too long"):
        taken(IntakePolicy(long_line="too long"), b"\n", b"x" * (LONG_LINE + 1))
    assert taken(IntakePolicy(long_line="too long"), b"\n", b"x" * LONG_LINE)


def test_a_crlf_cut_within_a_long_line_stays_a_line_end() -> None:
    assert body(taken(IntakePolicy(bare_cr="no"), b"\n", b"x" * LONG_LINE + b"y\r", b"\nz\n")).endswith(
        b"y\nz\n"
    )


@pytest.mark.parametrize("piece", [1000, 1 << 16, MAX_HEADER * 2])
def test_the_limit_of_a_header(piece: int) -> None:
    line = b"X: " + b"y" * 996 + b"\n"
    fits = line * (MAX_HEADER // 1000)
    for octets in (fits + b"\n" + line * 1000, fits):
        intake = taken(
            IntakePolicy(large_header="no"), *[octets[n : n + piece] for n in range(0, len(octets), piece)]
        )
        assert intake.header == fits
    octets = fits + line + b"\n" + line
    with pytest.raises(BadDataError, match=r"^no$"):
        taken(IntakePolicy(large_header="no"), *[octets[n : n + piece] for n in range(0, len(octets), piece)])
