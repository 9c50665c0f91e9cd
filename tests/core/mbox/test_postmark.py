"""Which "From " lines are postmarks."""

import pytest

from mailtools.core.mbox.postmark import LOOK, is_postmark

DATED = [
    b"From MAILER-DAEMON Thu Aug 22 12:00:00 2002",
    b"From a@b  Thu Aug  2 12:00:00 2002\r",
    b"From a@b Thu Aug 22 12:00 2002",
    b"From a@b Thu Aug 22 12:00:00 EDT 2002",
    b"From a@b Thu Aug 22 12:00:00 MET DST 2002",
    b"From a@b Thu Aug 22 12:00:00 2002 +0200",
    b"From 1234@xxx Thu Aug 22 12:00:00 +0000 2024",
    b"From a@b Thu Aug 22 12:00:00 02",
    b"From joe at example.com  Thu Aug 22 12:00:00 2002",
    b"From - Thu Aug 22 12:00:00 2002",
    b"From Thu Aug 22 12:00:00 2002",
    b'From "a b"@c Thu Aug 22 12:00:00 2002',
    b"From a@b Thu, 22 Aug 2002 12:00:00 +0100",
    b"From a@b 22 Aug 2002 12:00",
    b"From a@b 2002-08-22T12:00:00+02:00",
    b"From a@b 2002-08-22 12:00:00",
    b"From uucp Thu Aug 22 12:00:00 2002 remote from host",
]
TEXT = [
    b"From here on we speak plainly",
    b"From what I heard on Thu Aug 22 12:00:00 2002 it was fine",
    b"From Monday to Friday",
    b"From 12:00 on",
    b"From ",
    b"From -",
    b"From a@b " + b"x" * 2000 + b" Thu Aug 22 12:00:00 2002",
]


@pytest.mark.parametrize("line", DATED)
@pytest.mark.parametrize("before", [b"", b"text\n", b"text\n\n"])
@pytest.mark.parametrize("behind", [b"", b"\n", b"\ntext\n", b"\nA: b\n"])
def test_a_dated_line_is_one_wherever_it_stands(line: bytes, before: bytes, behind: bytes) -> None:
    assert is_postmark(before + line + behind, len(before)) is True


@pytest.mark.parametrize("line", TEXT)
@pytest.mark.parametrize("behind", [b"", b"\n", b"\nmore text\n", b"\n\nA: b\n"])
def test_text_is_none(line: bytes, behind: bytes) -> None:
    assert is_postmark(b"text\n\n" + line + behind, 6) is False


@pytest.mark.parametrize(
    "line",
    [
        b"From x@y",
        b"From x",
        b"From x@y\r",
        b"From x@y jeu. ao\xc3\xbbt 22 2002",
        b"From root am 22. August 12:00 2002",
    ],
)
def test_an_undated_line_needs_an_empty_line_and_a_field(line: bytes) -> None:
    assert is_postmark(b"t\n\n" + line + b"\nSubject: x\n", 3) is True
    assert is_postmark(b"t\r\n\r\n" + line + b"\nSubject: x\n", 5) is True
    assert is_postmark(b"t\n" + line + b"\nSubject: x\n", 2) is False
    assert is_postmark(b"t\n\n" + line + b"\nno field\n", 3) is False
    assert is_postmark(b"t\n\n" + line + b"\nPhone: 555\n", 3) is False


@pytest.mark.parametrize(
    "line",
    [b"From the desk of Bob", b"From the desk of Bob, 2002", b"From x@y we heard", b"From: x"],
)
@pytest.mark.parametrize("field", [b"Phone: 555-1234", b"Subject: a lunch", b"PS: hello", b"X-Note: x"])
def test_a_heading_in_a_text_is_none(line: bytes, field: bytes) -> None:
    assert is_postmark(b"t\n\n" + line + b"\n" + field + b"\n", 3) is False


@pytest.mark.parametrize("name", [b"Subject", b"x-mailer", b"RETURN-PATH", b"List-Id", b"Organisation"])
def test_any_usual_field_may_follow(name: bytes) -> None:
    assert is_postmark(b"t\n\nFrom x@y\n" + name + b" : x\n", 3) is True


@pytest.mark.parametrize("line", [b"From ", b"From \r", b"From - ", b"From -\r"])
def test_mozillas_bare_line_needs_a_field(line: bytes) -> None:
    assert is_postmark(b"t\n" + line + b"\nX-Mozilla-Status: 0001\n", 2) is True
    assert is_postmark(b"t\n" + line + b"\ntext\n", 2) is False


def test_it_asks_for_more_where_it_cannot_tell() -> None:
    assert is_postmark(b"\n\nFrom x@y Thu Aug", 2, whole=False) is None
    assert is_postmark(b"\n\nFrom x@y\nSubj", 2, whole=False) is None
    assert is_postmark(b"\n\nFrom x@y\nSubj", 2, whole=True) is False
    assert is_postmark(b"\n\nFrom " + b"x" * LOOK, 2, whole=False) is False
    assert is_postmark(b"\n\nFrom x\n" + b"x" * LOOK, 2, whole=False) is False
