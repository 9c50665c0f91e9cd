"""Line ends: what is canonical, both conversions, lines that are too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.wire import eol

LINES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc"]), max_size=12).map(b"".join)


@pytest.mark.parametrize(
    ("octets", "canonical"),
    [
        (b"", True),
        (b"a", True),
        (b"a\r\n", True),
        (b"\r\n\r\n", True),
        (b"a\n", False),
        (b"a\r", False),
        (b"a\rb\r\n", False),
        (b"\n\r", False),
        (b"a\r\r\n", False),
        (b"a\r\n\n", False),
    ],
)
def test_only_crlf_is_canonical(octets: bytes, canonical: bool) -> None:
    assert eol.is_canonical(octets) is canonical


@given(LINES)
def test_canonical_means_that_both_conversions_cancel_each_other(octets: bytes) -> None:
    bare = octets.replace(b"\r\n", b"")
    assert eol.is_canonical(octets) is (b"\r" not in bare and b"\n" not in bare)
    if eol.is_canonical(octets):
        assert b"\r" not in eol.to_lf(octets)
        assert eol.to_crlf(eol.to_lf(octets)) == octets


@given(LINES, st.integers(1, 6))
def test_a_line_is_too_long_if_it_has_more_octets_than_the_limit_with_its_end(
    octets: bytes, limit: int
) -> None:
    assert eol.has_line_over(octets, limit) is any(
        len(line) > limit for line in octets.replace(b"\r", b"x").splitlines(keepends=True)
    )


@given(st.lists(st.binary(max_size=5) | st.sampled_from([b"\r", b"\n", b"\r\n", b"a"]), max_size=8))
def test_line_ends_are_converted_however_they_are_cut(blocks: list[bytes]) -> None:
    convert = eol.ToCrlf()
    whole = b"".join(blocks)
    assert b"".join(map(convert, blocks)) == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
