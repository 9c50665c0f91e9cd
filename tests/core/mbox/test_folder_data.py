"""The first record of an mbox of UW-IMAP, Pine and Alpine is no message: it is shown and counted nowhere."""

from collections.abc import Callable

import pytest

from mailtools.core.mbox import scan
from tests.boxes import FOLDER_DATA

ONE = b"From ann@a.test Thu Aug 22 12:00:00 2002\nFrom: ann@a.test\nSubject: one\n\nhello\n\n"
TWO = b"From bob@a.test Thu Aug 22 12:00:01 2002\nFrom: bob@a.test\nSubject: two\n\nhello\n\n"
Reader = Callable[..., Callable[[int], bytes]]


@pytest.mark.parametrize("most", [7, 1 << 20])
@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("messages", [b"", ONE, ONE + TWO, ONE * 1000])
def test_it_is_no_record(reader: Reader, messages: bytes, crlf: bool, most: int) -> None:
    octets = FOLDER_DATA + messages
    if crlf:
        octets, messages = octets.replace(b"\n", b"\r\n"), messages.replace(b"\n", b"\r\n")
    found = [(record.number, record.head) for record in scan.records(reader(octets, most))]
    assert b"".join(head for _, head in found) == messages
    assert [n for n, _ in found] == list(range(1, len(found) + 1))
    assert scan.count(reader(octets, most)) == len(found)
    places = [(offset, record.head) for offset, record in scan.located(reader(octets, most))]
    assert all(octets[offset:].startswith(head) for offset, head in places)


@pytest.mark.parametrize(
    "octets",
    [
        ONE + FOLDER_DATA,  # not the first
        FOLDER_DATA.replace(b"X-IMAP:", b">X-IMAP:"),  # a message from outside, as it is stored
        FOLDER_DATA.replace(b"X-IMAP:", b"X-Other:"),
        FOLDER_DATA.replace(b"DON'T DELETE", b"Re: DON'T DELETE"),
        FOLDER_DATA.replace(b"From MAILER-DAEMON", b"From ann@a.test"),
        FOLDER_DATA.replace(b"values.\n", b"values.\n" * 2000),
        b"From MAILER-DAEMON Fri Nov 27 15:00:19 2026\nX: y\n\n" + FOLDER_DATA.partition(b"\n")[2],
    ],
)
def test_what_only_looks_like_it_is_a_message(reader: Reader, octets: bytes) -> None:
    assert scan.count(reader(octets)) == (2 if octets.startswith(ONE) else 1)
    assert b"".join(record.head for record in scan.records(reader(octets))) == octets


def test_a_part_of_an_mbox_has_none(reader: Reader) -> None:
    assert len(list(scan.located(reader(FOLDER_DATA + ONE), is_start=False))) == 2


def test_its_keywords_may_be_many(reader: Reader) -> None:
    octets = FOLDER_DATA.replace(b"0000000000\n", b"0000000000" + b" keyword" * 500 + b"\n") + ONE
    assert [record.head for record in scan.records(reader(octets))] == [ONE]
