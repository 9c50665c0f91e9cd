"""Rows, order, counts, and copies."""

import email.header
import email.utils
import mailbox
from pathlib import Path

import pytest

from mailtools.core.message import date
from mailtools.services.filters import listing, query, threads


def fail(name: str, error: Exception) -> None:
    raise error


def rows(source: Path) -> list[listing.ListRow]:
    return list(map(listing.row, listing.selected([str(source)], None, listing.ROW_FIELDS, fail)))


def copied(*sources: Path, expression: str = "") -> bytes:
    predicate = query.parse(expression, 0) if expression else None
    return b"".join(listing.cat(listing.selected([str(source) for source in sources], predicate, (), fail)))


def test_rows(own: Path) -> None:
    found = rows(own / "mixed.mbox")
    assert [row.number for row in found] == list(range(1, 9))
    assert [row.sender for row in found][:4] == ["Jürgen Müller", "王小明", "Alice", "Shop"]
    assert found[0].subject == "你好世界 and  two words"
    assert found[0].clock == (2026, 1, 5, 9, 30, 0, 60)
    assert found[4].clock == (2026, 1, 5, 13, 0, 0, 0), "a date that says nothing: the postmark's"
    assert [set(row.flags) for row in found][1:4] == [{"read"}, {"answered", "flagged"}, {"read", "answered"}]


def test_numbers_go_on_over_sources(own: Path) -> None:
    names = [str(own / "quoted.mbox"), str(own / "unquoted.mbox")]
    assert [entry.number for entry in listing.selected(names, None, (), fail)] == [1, 2, 3, 4, 5]


def test_a_source_that_fails_does_not_stop_the_others(own: Path) -> None:
    failed = []
    names = [str(own / "words.eml"), str(own / "quoted.mbox"), "/nowhere/at/all"]
    found = list(listing.selected(names, None, (), lambda name, error: failed.append(name)))
    assert len(found) == 3
    assert failed == [names[0], names[2]]


@pytest.mark.parametrize(
    ("by", "reverse", "expected"),
    [
        ("date", False, [5, 1, 2, 3, 4, 7, 8, 6]),
        ("size", True, [7, 3, 4, 1, 2, 5, 8, 6]),
        ("from", False, [3, 8, 1, 7, 6, 4, 5, 2]),
        (None, True, [8, 7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_order(own: Path, by: str | None, reverse: bool, expected: list[int]) -> None:
    found = listing.order(rows(own / "mixed.mbox"), by, reverse)
    if by == "date":
        moments = [date.seconds(row.clock, True) for row in found if row.clock]
        assert moments == sorted(moments)
    elif by == "size":
        assert [row.size for row in found] == sorted((row.size for row in found), reverse=True)
    else:
        assert [row.number for row in found] == expected
    assert sorted(row.number for row in found) == list(range(1, 9))


def test_threads(own: Path) -> None:
    fields = (*listing.ROW_FIELDS, *threads.THREAD_FIELDS)
    entries = listing.selected([str(own / "mixed.mbox")], None, fields, fail)
    found = [(row.number, row.depth) for row in threads.in_threads(entries, listing.row, None, False)]
    assert found == [(1, 0), (3, 1), (2, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)]


def test_threads_of_circles_and_chains(tmp_path: Path) -> None:
    mbox = tmp_path / "circle.mbox"
    fields = (*listing.ROW_FIELDS, *threads.THREAD_FIELDS)
    count = 20_000
    mbox.write_text(
        "".join(
            f"From x\nMessage-ID: <{number}@x>\nReferences: <{(number + 1) % count}@x>\n\n\n"
            for number in range(count)
        )
    )
    entries = listing.selected([str(mbox)], None, fields, fail)
    found = list(threads.in_threads(entries, listing.row, None, False))
    assert sorted(row.number for row in found) == list(range(1, count + 1))
    assert sorted(row.depth for row in found) == list(range(count))


def test_count(own: Path) -> None:
    names = [str(own / "mixed.mbox"), str(own / "quoted.mbox")]
    assert list(listing.count(names, None, fail)) == [(names[0], 8), (names[1], 3)]
    assert list(listing.count(names, query.parse("is:unread", 0), fail)) == [(names[0], 5), (names[1], 3)]


def test_cat_is_octet_for_octet(own: Path) -> None:
    for name in ("mixed.mbox", "quoted.mbox", "mozilla.mbox", "unquoted.mbox"):
        assert copied(own / name) == (own / name).read_bytes()


def test_cat_of_a_source_without_end_stays_an_mbox(own: Path) -> None:
    quoted = (own / "quoted.mbox").read_bytes()
    mixed = (own / "mixed.mbox").read_bytes()
    assert copied(own / "quoted.mbox", own / "mixed.mbox") == quoted + b"\n\n" + mixed
    assert copied(own / "mixed.mbox", own / "quoted.mbox") == mixed + quoted


def test_cat_takes_records_as_they_stand(own: Path) -> None:
    octets = (own / "quoted.mbox").read_bytes()
    assert (
        copied(own / "quoted.mbox", expression="subject:empty")
        == octets[octets.index(b"From b@") : octets.index(b"From c@")]
    )


def test_a_large_record_is_searched_and_still_copied(tmp_path: Path) -> None:
    mbox = tmp_path / "large.mbox"
    date = b" Thu Aug 22 12:00:00 2002\n"
    body = b"filler line\n" * 200_000
    octets = (
        b"From a"
        + date
        + b"Subject: big\n\n"
        + body
        + b"needle\n\nFrom b"
        + date
        + b"Subject: small\n\nneedle\n\n"
    )
    mbox.write_bytes(octets)
    assert copied(mbox, expression="body:needle") == octets
    assert copied(mbox, expression="body:needle larger:1M") == octets[: octets.index(b"From b")]
    assert copied(mbox, expression="smaller:1M") == octets[octets.index(b"From b") :]


def test_the_corpus_as_python_decodes_it(easy_ham: Path) -> None:
    box = mailbox.mbox(easy_ham, create=False)
    theirs = []
    for message in box:
        subject = message["subject"] or ""
        name, spec = email.utils.parseaddr(str(message["from"] or ""))
        theirs.append(
            (_decoded(subject), _decoded(name) or spec, email.utils.parsedate_tz(message["date"] or ""))
        )
    box.close()
    differences = []
    for row, (subject, sender, parsed) in zip(rows(easy_ham), theirs, strict=True):
        ours = (" ".join(row.subject.split()), " ".join(row.sender.split()))
        if "\ufffd" in subject + sender or not sender:
            continue  # raw 8-bit octets, which Python does not guess at
        if ours != (" ".join(subject.split()), " ".join(sender.split())):
            differences.append((row.number, ours, subject, sender))
        assert parsed is None or row.clock is not None
        if parsed and row.clock:
            assert date.seconds(row.clock, True) == email.utils.mktime_tz(parsed)
    assert differences == []


def _decoded(value: object) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(str(value))))
    except (LookupError, UnicodeDecodeError):
        return "\ufffd"
