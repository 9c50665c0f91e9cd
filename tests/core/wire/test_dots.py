"""core/wire/dots: the dots of a message in blocks, whatever the cuts."""

import pytest

from mailtools.core.wire import dots
from mailtools.core.wire.dots import Stuffer
from mailtools.core.wire.reader import Reader

MESSAGE = b".\r\n..\r\na.b\r\n.x\r\n\r\n.last without end"
STUFFED = b"..\r\n...\r\na.b\r\n..x\r\n\r\n..last without end"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_stuffing_does_not_depend_on_the_cuts(size: int) -> None:
    stuff = Stuffer()
    pieces = [MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size)]
    assert b"".join(stuff(piece) for piece in pieces) == STUFFED


def test_an_empty_block_changes_nothing() -> None:
    stuff = Stuffer()
    assert (
        stuff(b"") + stuff(b".a") + stuff(b"") + stuff(b".b\r\n") + stuff(b"") + stuff(b".c")
        == b"..a.b\r\n..c"
    )
    assert not stuff.begins_line


def test_unstuff_takes_one_dot_of_each_line() -> None:
    assert dots.unstuff(STUFFED) == MESSAGE


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"])
def test_only_crlf_dot_crlf_ends_a_message(end: bytes) -> None:
    reader = Reader()
    reader.feed(b"text" + end + b"QUIT\r\n.\r\nNOOP\r\n")
    assert b"".join(block for block in dots.read_dotted(reader, 1000) if block) == b"text" + end + b"QUIT\r\n"
    assert reader.octets == b"NOOP\r\n"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"])
def test_only_crlf_dot_crlf_ends_a_message_of_bare_lfs_too(end: bytes) -> None:
    reader = Reader(takes_lf=True)
    found = []
    steps = dots.read_dotted(reader, 1000)
    for octet in b"text" + end + b"QUIT\r\n.\r\nNOOP\r\n":
        reader.feed(bytes([octet]))
        found += [block for block in [next(steps, b"")] if block]
    assert b"".join(found) == b"text" + end + b"QUIT\r\n"
    assert reader.octets == b"NOOP\r\n"


def test_a_line_without_end_comes_in_pieces() -> None:
    reader = Reader()
    steps = dots.read_dotted(reader, 10)
    for _ in range(5):
        reader.feed(b"x" * 20)
        assert next(steps) == b"x" * 20
        assert next(steps) is None
    assert reader.size == 0
