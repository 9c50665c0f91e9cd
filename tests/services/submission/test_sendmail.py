"""Octets of any kind, however they are cut, become a message."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.services.submission.sendmail import read_message
from mailtools.services.transit.intake import MAX_HEADER


def taken(blocks: list[bytes], until_dot: bool = False) -> bytes:
    message = read_message(iter(blocks), until_dot=until_dot)
    octets = message.fields + b"\n" + b"".join(message.body.blocks())
    message.body.close()
    return octets


@pytest.mark.parametrize(
    ("octets", "until_dot", "found"),
    [
        (b"A: b\r\n\r\nc\r\nd\r\n", False, b"A: b\n\nc\nd\n"),
        (b"A: b\n\n10%\r20%\rdone\n", False, b"A: b\n\n10%\n20%\ndone\n"),
        (b"A: b\n\nc\r", False, b"A: b\n\nc\n"),
        (b"A: b\n\nc", False, b"A: b\n\nc\n"),
        (b"hello: \n", False, b"hello: \n\n"),
        (b"", False, b"\n"),
        (b"A: b\n\nc\n.\nd\n", False, b"A: b\n\nc\n.\nd\n"),
        (b"A: b\n\nc\n.\nd\n", True, b"A: b\n\nc\n"),
        (b"A: b\r\n\r\nc\r\n.\r\nd\r\n", True, b"A: b\n\nc\n"),
        (b".\nA: b\n", True, b"\n"),
        (b"A: b\n\nc\n..\n .\n. \n.d\n", True, b"A: b\n\nc\n..\n .\n. \n.d\n"),
        (b"A: b\n\nc\n.", True, b"A: b\n\nc\n"),
        (b"A: b\n\n.\n.\n", True, b"A: b\n\n"),
    ],
)
def test_a_message_however_it_is_cut(octets: bytes, until_dot: bool, found: bytes) -> None:
    assert taken([octets], until_dot) == found
    assert taken([octets[n : n + 1] for n in range(len(octets))], until_dot) == found


PIECES = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"A: b\n", b"From x\n"]), max_size=12).map(
    b"".join
)


@given(PIECES, st.lists(st.integers(0, 60)), st.booleans())
def test_cuts_change_nothing(octets: bytes, cuts: list[int], until_dot: bool) -> None:
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    blocks = [octets[a:b] for a, b in itertools.pairwise(places)]
    assert taken(blocks, until_dot) == taken([octets], until_dot)
    assert b"\r" not in taken(blocks, until_dot)


def test_nothing_is_read_behind_the_dot() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"A: b\n\nc\n."
        yield b"\nrest"
        raise AssertionError("read on")

    assert read_message(blocks(), until_dot=True).fields == b"A: b\n"


def test_a_large_message_lies_in_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    line = b"x" * 99 + b"\n"
    message = read_message([b"A: b\n\n", *[line] * 10000], str(tmp_path / "beside"))
    assert not message.body.is_in_memory
    assert b"".join(message.body.blocks()) == line * 10000
    message.body.close()


@pytest.mark.parametrize("octets", [b"A: b\n\nc\0", b"A: \0b\n"])
def test_a_nul_is_refused(octets: bytes) -> None:
    with pytest.raises(BadDataError, match="NUL"):
        taken([octets])


def test_an_endless_header_is_refused() -> None:
    with pytest.raises(BadDataError, match="larger"):
        taken([b"A: b\n" * 1000] * (MAX_HEADER // 5000 + 2))
    text = b"no header\n" * (MAX_HEADER // 10 + 10)
    assert taken([text]) == b"\n" + text
