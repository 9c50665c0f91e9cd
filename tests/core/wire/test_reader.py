"""Lines: CRLF ends one, nothing else does, and none is held beyond its limit."""

import pytest

from mailtools.core.wire.reader import BareNewlineError, LineTooLongError, Reader


def read(reader: Reader, limit: int = 100) -> bytes | None:
    """The next line, or None where octets run short."""
    try:
        next(reader.read_line(limit))
    except StopIteration as line:
        return bytes(line.value)
    return None


def test_lines() -> None:
    reader = Reader()
    reader.feed(b"one\r\n\r\ntw")
    assert read(reader) == b"one"
    assert read(reader) == b""
    assert read(reader) is None
    reader.feed(b"o\r\n")
    assert read(reader) == b"two"


@pytest.mark.parametrize("octet", [octet for octet in range(256) if octet != 10])
def test_no_other_octet_ends_a_line(octet: int) -> None:
    reader = Reader()
    reader.feed(b"a" + bytes([octet]) + b"b\r\n")
    assert read(reader) == b"a" + bytes([octet]) + b"b"


def test_a_bare_lf_is_told_once_and_its_line_is_skipped() -> None:
    reader = Reader()
    reader.feed(b"one\ntwo\nthree\r\nfour\r\n")
    with pytest.raises(BareNewlineError):
        read(reader)
    assert read(reader) == b"four"


def test_a_bare_lf_ends_a_line_if_the_reader_takes_it() -> None:
    reader = Reader(takes_lf=True)
    reader.feed(b"one\n\ntwo\r\nx\rx\n" + b"y" * 2000 + b"\nthree\n")
    assert [read(reader) for _ in range(4)] == [b"one", b"", b"two", b"x\rx"]
    with pytest.raises(LineTooLongError):
        read(reader)
    assert read(reader) == b"three"


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_line_without_end_is_not_held(piece: int) -> None:
    reader = Reader()
    line = reader.read_line(50)
    with pytest.raises(LineTooLongError):
        for _ in range(1000):
            reader.feed(b"x" * piece)
            next(line)
    rest = reader.read_line(50)
    for _ in range(100):
        reader.feed(b"y" * 1000)
        next(rest)
        assert len(reader.octets) <= 1
    reader.feed(b"\r\nnext\r\n")
    with pytest.raises(StopIteration) as end:
        next(rest)
    assert end.value.value == b"next"


def test_a_line_at_its_limit() -> None:
    reader = Reader()
    reader.feed(b"x" * 8 + b"\r\n" + b"y" * 10 + b"\r\nok\r\n")
    assert read(reader, 10) == b"x" * 8
    with pytest.raises(LineTooLongError):
        read(reader, 10)
    assert read(reader, 10) == b"ok"
