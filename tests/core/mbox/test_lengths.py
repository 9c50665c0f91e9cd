"""Mboxes in which messages say their length (mboxcl2): From lines of a body are not quoted, and part nothing."""

from collections.abc import Callable

import pytest

from mailtools.core.mbox import scan
from mailtools.core.mbox.catalog import Catalog
from mailtools.core.mbox.stored import shown

Reader = Callable[..., Callable[[int], bytes]]
POSTMARK = b"From ann@a.test Thu Aug 22 12:00:00 2002\n"
BODY = b"hello\n\nFrom bob@a.test Thu Aug 22 12:00:01 2002\nSubject: quoted by nobody\n\n>From here on\nend\n"
PLAIN = POSTMARK + b"Subject: plain\n\n>From quoted\n\n"


def lengthy(body: bytes, length: int | None = None, more: bytes = b"") -> bytes:
    size = len(body) if length is None else length
    return POSTMARK + b"Subject: long\nContent-Length: %d\n%b\n" % (size, more) + body


def messages(octets: bytes, read: Callable[[int], bytes]) -> list[bytes]:
    found = list(scan.records(read))
    assert b"".join(record.head for record in found) == octets
    return [record.message(shown) for record in found]


@pytest.mark.parametrize("most", [1, 50, 1 << 20])
@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_the_length_says_where_a_message_ends(reader: Reader, most: int, crlf: bool, last: bool) -> None:
    octets = lengthy(BODY) + b"\n" + (b"" if last else PLAIN)
    if crlf:
        size = len(BODY) + BODY.count(b"\n")
        octets = (lengthy(BODY, size) + b"\n" + (b"" if last else PLAIN)).replace(b"\n", b"\r\n")
    expected = [b"Subject: long\n\n" + BODY] + ([] if last else [b"Subject: plain\n\nFrom quoted\n"])
    assert messages(octets, reader(octets, most)) == expected
    assert scan.count(reader(octets, most)) == len(expected)


@pytest.mark.parametrize("blanks", [0, 1, 2])
def test_the_empty_line_may_be_counted_or_not(reader: Reader, blanks: int) -> None:
    octets = lengthy(BODY + b"\n\n"[: 2 - blanks]) + b"\n\n"[:blanks] + PLAIN
    assert len(messages(octets, reader(octets))) == 2


@pytest.mark.parametrize("wrong", [-2, 2, 5, -len(BODY), 10**9, 10**17, len(PLAIN) - 2])
def test_a_length_that_is_wrong_is_not_believed(reader: Reader, wrong: int) -> None:
    octets = lengthy(BODY, len(BODY) + wrong) + b"\n" + PLAIN
    assert [m.partition(b"\n")[0] for m in messages(octets, reader(octets))] == [
        b"Subject: long", b"Subject: quoted by nobody", b"Subject: plain",
    ]  # fmt: skip


def test_a_sender_cannot_hide_the_next_message(reader: Reader) -> None:
    """In an mbox of ours a field of a sender is quoted."""
    victim = PLAIN
    octets = lengthy(b"mine\n\n" + victim).replace(b"Content-Length", b">Content-Length") + PLAIN
    assert len(messages(octets, reader(octets))) == 3


def test_messages_with_and_without_length_and_a_large_one(reader: Reader) -> None:
    large = b"x" * 70 + b"\n"
    parts = [
        PLAIN,
        lengthy(BODY) + b"\n",
        PLAIN,
        lengthy(large * 20_000) + b"\n",
        lengthy(BODY) + b"\n",
        PLAIN,
    ]
    octets = b"".join(parts)
    found = [record.size() for record in scan.records(reader(octets, 1 << 16))]
    assert len(found) == len(parts)
    assert scan.count(reader(octets, 1 << 16)) == len(parts)


def test_a_record_that_is_read_alone_is_the_same_message(reader: Reader) -> None:
    octets = PLAIN + lengthy(BODY) + b"\n" + PLAIN
    catalog = Catalog()
    catalog.read_on(reader(octets), len(octets))
    for number, record in enumerate(scan.records(reader(octets))):
        row = catalog[number]
        alone = scan.whole_record(octets[row.start : row.end])
        assert alone is not None
        assert alone.message(shown) == record.message(shown)


def test_a_header_without_end(reader: Reader) -> None:
    octets = POSTMARK + b"Content-Length: 5\n" + b"X: y\n" * 30_000 + PLAIN
    assert scan.count(reader(octets)) == 2
