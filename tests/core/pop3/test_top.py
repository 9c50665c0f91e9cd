"""core/pop3/top: the header and the first lines, however the message is cut into blocks."""

import pytest

from mailtools.core.pop3.top import Top


def sent(message: bytes, lines: int, size: int) -> tuple[bytes, int]:
    """What TOP sends of *message* in blocks of *size* octets, and how many blocks it took."""
    top = Top(lines)
    out = []
    for at in range(0, len(message), size):
        piece = top(message[at : at + size])
        if piece is None:
            return b"".join(out), at // size
        out.append(piece)
    return b"".join(out), -(-len(message) // size)


@pytest.mark.parametrize(
    ("lines", "shown_lines"),
    [(0, b""), (1, b"1\r\n"), (2, b"1\r\n2\r\n"), (3, b"1\r\n2\r\n3"), (9, b"1\r\n2\r\n3")],
)
@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_the_header_and_so_many_lines(lines: int, shown_lines: bytes, piece: int) -> None:
    message = b"A: b\r\nC: d\r\n\r\n1\r\n2\r\n3"
    assert sent(message, lines, piece)[0] == b"A: b\r\nC: d\r\n\r\n" + shown_lines


def test_a_message_without_body_or_without_header() -> None:
    assert sent(b"A: b\r\n", 5, 100)[0] == b"A: b\r\n"
    assert sent(b"\r\nbody\r\n", 0, 100)[0] == b"\r\n"


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 100])
def test_dots_are_added_in_header_and_body(piece: int) -> None:
    message = b".A: b\r\n\r\n.\r\n..x\r\n.y\r\n"
    assert sent(message, 2, piece)[0] == b"..A: b\r\n\r\n..\r\n...x\r\n"


def test_no_more_blocks_are_read_than_needed() -> None:
    message = b"A: b\r\n\r\n" + b"line\r\n" * 1000
    octets, blocks = sent(message, 1, 8)
    assert octets == b"A: b\r\n\r\nline\r\n"
    assert blocks == 2
