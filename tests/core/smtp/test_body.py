"""The octets of a message, whatever pieces they come in."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.smtp.body import BodyReader


def chunks(
    octets: bytes, cuts: list[int], max_size: int = 1000, max_line: int = 100
) -> tuple[bytes, BodyReader]:
    body = BodyReader(max_size, max_line)
    edges = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    passed = b""
    for start, end in pairwise(edges):
        if body.problem is None:
            passed += body.take_octets(octets[start:end])
    if body.problem is None:
        passed += body.end()
    return passed, body


LINES = st.lists(
    st.sampled_from([b"a\r\n", b"\r\n", b".\r\n", b"xyz", b"\n", b"\r", b"x" * 120]), max_size=10
)


@given(LINES.map(b"".join), st.lists(st.integers(0, 500), max_size=8))
def test_pieces_make_no_difference(octets: bytes, cuts: list[int]) -> None:
    whole, first = chunks(octets, [])
    split, second = chunks(octets, cuts)
    assert (first.problem is None) == (second.problem is None)
    if first.problem is None:
        assert split == whole == (octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n")


def test_limits() -> None:
    assert chunks(b"x" * 99 + b"\r\n", [50])[1].problem is not None
    assert chunks(b"x" * 98 + b"\r\n", [50])[1].problem is None
    assert chunks(b"x" * 98, [])[0] == b"x" * 98 + b"\r\n"
    for cuts in ([], [10, 20, 990]):
        problem = chunks(b"abcd\r\n" * 200, cuts)[1].problem
        assert problem is not None
        assert problem.code == 552


def test_a_line_that_is_not_yet_whole_counts() -> None:
    body = BodyReader(50, 1000)
    body.take_octets(b"x" * 60)
    assert body.problem is not None
    assert body.problem.code == 552


def test_bare_line_ends_are_refused() -> None:
    for octets in (b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"\n\r\n"):
        problem = chunks(octets, [])[1].problem
        assert problem is not None
        assert problem.enhanced == "5.6.0"
