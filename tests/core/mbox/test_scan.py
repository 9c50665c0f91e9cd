"""Records of an mbox out of a stream."""

import mailbox
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError
from mailtools.core.mbox import quoting, scan, stored

Reader = Callable[..., scan.Read]
DATE = b" Thu Aug 22 12:00:00 2002\n"
SIZES = [1, 7, 100, 4096, 1 << 20]


def messages(read: scan.Read, head: int = scan.HEAD) -> list[bytes]:
    return [b"".join(record.message_chunks()) for record in scan.records(read, head)]


def test_records_of_own_files(own: Path, reader: Reader) -> None:
    quoted = messages(reader((own / "quoted.mbox").read_bytes()))
    assert quoted[0].endswith(b"Status: R\n\nFrom the start\n>From twice\n From inside\n> From other\n")
    assert quoted[1:] == [
        b"From: b@example.org\nSubject: empty body\n\n"[20:],
        b"Subject: no final newline\n\nend",
    ]
    assert len(messages(reader((own / "unquoted.mbox").read_bytes()))) == 2
    crlf = messages(reader((own / "mozilla.mbox").read_bytes()))
    assert [message.count(b"\r") for message in crlf] == [0, 0]
    assert crlf[0].endswith(b"\n\nbody\nFrom x\n")
    assert crlf[1].endswith(b"\n\nbody two\n")


@pytest.mark.parametrize("most", SIZES)
@pytest.mark.parametrize("name", ["quoted.mbox", "unquoted.mbox", "mozilla.mbox", "mixed.mbox"])
def test_any_split_of_the_input_gives_the_same(own: Path, reader: Reader, name: str, most: int) -> None:
    octets = (own / name).read_bytes()
    whole = messages(reader(octets))
    assert messages(reader(octets, most)) == whole
    assert messages(reader(octets, most), head=0) == whole
    assert scan.count(reader(octets, most)) == len(whole)
    for head in (0, scan.HEAD):
        chunks = [chunk for record in scan.records(reader(octets, most), head) for chunk in record.chunks()]
        assert b"".join(chunks) == octets


@pytest.mark.parametrize("octets", [b"", b"\n", b"\r\n\n"])
def test_an_empty_mbox(reader: Reader, octets: bytes) -> None:
    assert messages(reader(octets)) == []
    assert scan.count(reader(octets)) == 0


@pytest.mark.parametrize("octets", [b"hello\n", b"From: a\n", b"From", b"\x00From x\n"])
def test_what_is_no_mbox(reader: Reader, octets: bytes) -> None:
    with pytest.raises(BadDataError):
        messages(reader(octets))
    with pytest.raises(BadDataError):
        scan.count(reader(octets))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"From x", [b""]),
        (b"From x\n", [b""]),
        (b"From x\n\n", [b""]),
        (b"From x\nA: b\n\n", [b"A: b\n"]),
        (b"From x\nA: b\n\n\n", [b"A: b\n\n"]),
        (b"From x" + DATE + b"From y" + DATE, [b"", b""]),
        (b"From x" + DATE + b"A: b\nFrom y" + DATE + b"C: d", [b"A: b\n", b"C: d"]),
        (b"\n\nFrom x\nA: b", [b"A: b"]),
        (b"From x\r\nA: b\r\n\r\n\r\n", [b"A: b\n\n"]),
        (b"From x\nA: b\n\nbare\r\n\n", [b"A: b\n\nbare\r\n"]),
    ],
)
def test_the_edges_of_messages(reader: Reader, octets: bytes, expected: list[bytes]) -> None:
    assert messages(reader(octets)) == expected


def test_postmark_number_and_size(reader: Reader) -> None:
    octets = b"From a" + DATE + b"A: b\n\nbody\n\nFrom b" + DATE + b"C: d\n"
    found = [(record.number, record.postmark, record.size()) for record in scan.records(reader(octets))]
    assert found == [(1, b"From a" + DATE[:-1], 11), (2, b"From b" + DATE[:-1], 5)]


@pytest.mark.parametrize(
    "body", [b"x" * 3_000_000, b"line\n>From x\n" * 200_000, b"\n" * 3_000_000, b"\r\n" * 1_500_000]
)
def test_a_large_record(reader: Reader, body: bytes) -> None:
    first = b"From a" + DATE + b"A: b\n\n" + body + b"\n\n"
    octets = first + b"From b" + DATE + b"C: d\n\nend\n\n"
    expected = quoting.unquote(b"A: b\n\n" + body + b"\n")
    for most in (5_000, 1 << 30):
        assert messages(reader(octets, most)) == [expected, b"C: d\n\nend\n"]
        assert [record.size() for record in scan.records(reader(octets, most))] == [len(first) - 33, 10]
        large, small = scan.records(reader(octets, most))  # what is not taken is passed over
        assert (large.whole, small.whole) == (False, True)
        assert b"".join(large.chunks()) == large.head
    assert scan.count(reader(octets)) == 2


def test_a_large_record_with_crlf(reader: Reader) -> None:
    body = b"text\r\n>From x\r\n" * 100_000 + b"y" * 200_000 + b"\r\n"
    octets = b"From a Thu Aug 22 12:00:00 2002\r\nA: b\r\n\r\n" + body + b"\r\n"
    expected = quoting.unquote(b"A: b\n\n" + body.replace(b"\r\n", b"\n"))
    for most in (4_999, 1 << 30):
        assert messages(reader(octets, most)) == [expected]


def test_memory_is_bounded_whatever_the_record_holds() -> None:
    def endless(total: int) -> scan.Read:
        left = [b"From a" + DATE] + [b"x" * (1 << 20)] * (total >> 20)
        left.reverse()
        return lambda size: left.pop() if left else b""

    tracemalloc.start()
    try:
        octets = sum(
            len(chunk) for record in scan.records(endless(1 << 28)) for chunk in record.message_chunks()
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert octets == 1 << 28
    assert peak < 24 << 20


def test_quoting_in_a_mboxrd_file_equals_grep(easy_ham: Path, reader: Reader) -> None:
    octets = easy_ham.read_bytes()
    lines = octets.count(b"\nFrom ") + octets.startswith(b"From ")
    assert lines == 1400
    assert scan.count(reader(octets)) == lines
    assert len(messages(reader(octets))) == lines


def test_the_corpus_reads_as_python_reads_it(easy_ham: Path, reader: Reader) -> None:
    box = mailbox.mbox(easy_ham, create=False)
    theirs = [quoting.unquote(box.get_bytes(key)) for key in box.iterkeys()]
    box.close()
    assert messages(reader(easy_ham.read_bytes())) == theirs


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize(
    "message",
    [
        b"Subject: x\nStatus: RO\n>Status: RO\nX-UID: 5\n\nbody\n",
        b">From x\nSubject: y\n folded\n\n\nbody\n",
        b"\nno header\n\nbody\n",
        b"Subject: only a header\n",
        b"Content-Length: 5\nSubject: x\n\nbody\n",
        b"X: " + b"y" * 9000 + b"\n\nbody\n",
    ],
)
def test_a_header_that_is_read_alone(message: bytes, crlf: bool) -> None:
    octets = b"From x@y Thu Aug 22 12:00:00 2002\n" + message + b"\n"
    octets = octets.replace(b"\n", b"\r\n") if crlf else octets
    whole = scan.whole_record(octets)
    assert whole is not None
    head = stored.header_of(octets[:8192], len(octets))
    if head is None:
        assert message.startswith((b"\n", b"Content-Length", b"X: ", b"Subject: only"))
        return
    shown = whole.message(stored.shown).replace(b"\n", b"\r\n")
    assert shown.startswith(head)
    assert head.endswith(b"\r\n\r\n")
