"""Header blocks: where they end, what fields say, taking fields out."""

import pytest

from mailtools.core.message import header

HEAD = b"From: a@b\nBCC: x@y,\n z@w\nSubject : hello\n there\nbcc:q@r\n\n"


@pytest.mark.parametrize(
    ("octets", "offset"),
    [
        (b"A: b\n\nbody", 6),
        (b"A: b\r\n\r\nbody", 8),
        (b"A: b\n\r\nbody\n\nmore", 7),
        (b"A: b\r\n\r\nbody\n\nmore", 8),
        (b"\nbody", 1),
        (b"\r\nbody", 2),
        (b"A: b", 4),
        (b"", 0),
        (b"no header at all\n\ntext", 0),
        (b">From x\nA: b\n\nbody", 14),
        (b"A: b\nbroken line\nC: d\n\nbody", 23),
    ],
)
def test_body_offset(octets: bytes, offset: int) -> None:
    assert header.body_offset(octets) == offset


def test_body_offset_keeps_to_its_range() -> None:
    octets = b"xx\n\nA: b\n\nyy"
    assert header.body_offset(octets, 4, 9) == 9
    assert header.body_offset(octets, 4) == 10


def test_values_are_unfolded_in_any_case_and_order() -> None:
    assert header.values(HEAD, "Bcc") == [b"x@y, z@w", b"q@r"]
    assert header.value(HEAD, "subject") == b"hello there"
    assert header.value(HEAD, "To") is None
    assert header.value(b"X-To: a\n", "To") is None


def test_values_of_crlf() -> None:
    assert header.values(b"To: a,\r\n\tb\r\nCc: c\r\n\r\n", "to") == [b"a,\tb"]


def test_remove_leaves_every_other_octet() -> None:
    assert header.remove(HEAD, "Bcc") == b"From: a@b\nSubject : hello\n there\n\n"
    assert header.remove(HEAD, "bcc", "from") == b"Subject : hello\n there\n\n"
    assert header.remove(HEAD, "X-None") == HEAD
    crlf = b"Bcc: a\r\n\tb\r\nX: \xff\x00\r\n"
    assert header.remove(crlf, "Bcc") == b"X: \xff\x00\r\n"
    assert header.remove(b"A: b\nBcc: c", "Bcc") == b"A: b\n"


def test_fields_tile_the_header() -> None:
    found = [(name, HEAD[start:end]) for name, start, _, end in header.fields(HEAD[:-1])]
    assert b"".join(field for _, field in found) == HEAD[:-1]
    assert [name for name, _ in found] == [b"from", b"bcc", b"subject", b"bcc"]


def test_fields_pass_over_what_is_none() -> None:
    assert [name for name, *_ in header.fields(b"oops\n\xff\xfe: x\nA: b\n")] == [b"a"]


def test_picker_finds_all_in_one_pass() -> None:
    octets = b"From x\n" + HEAD + b"Date: not in the header\n"
    pick = header.Picker("subject", "date", "bcc").pick
    assert pick(octets, 6, len(octets)) == ([b"hello there", None, b"x@y, z@w"], 7 + len(HEAD))


def test_lines_of_white_space_before_the_header() -> None:
    octets = b"\n  \nSubject: x\n\nbody"
    assert header.Picker("Subject").pick(octets, 0, len(octets))[0] == [b"x"]
    assert header.value(octets[1:], "Subject") == b"x"


def test_picker_stops_at_its_end_and_takes_the_first() -> None:
    octets = b"\nA: 1\nA: 2\nB: 3\r\n\r\nB: 4"
    assert header.Picker("a", "b").pick(octets, 0, len(octets)) == ([b"1", b"3"], 19)
    assert header.Picker("a", "b").pick(octets, 0, 12) == ([b"1", None], 12)


def test_picker_of_a_message_without_header() -> None:
    octets = b"From x\njust text\n\nSubject: no\n"
    assert header.Picker("subject").pick(octets, 6, len(octets)) == ([None], 7)


@pytest.mark.usefixtures("untraced")
def test_hostile_headers_take_linear_time() -> None:
    many = b"To: a@b\n" * 100_000
    assert len(header.values(many, "to")) == 100_000
    assert header.remove(many + b"X: y\n", "to") == b"X: y\n"
    folded = b"To: a\n" + b" b\n" * 1_000_000 + b"X: y\n\n"
    assert header.remove(folded, "To") == b"X: y\n\n"
    assert header.Picker("x").pick(b"\n" + folded, 0, len(folded) + 1)[0] == [b"y"]


@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (b"A: b\n\nbody", b"body"),
        (b"A: b\nHello,\nthis is text\n\nmore", b"Hello,\nthis is text\n\nmore"),
        (b"A: b\nHello\n\nmore", b"Hello\n\nmore"),
        (b"A: b\nHello", b"Hello"),
        (b"A: b\r\nHello, you\r\n\r\nmore", b"Hello, you\r\n\r\nmore"),
        (b"A: b\nodd line\nC: d\n\nbody", b"body"),
        (b"A: b\n>From x\nC: d\n\nbody", b"body"),
        (b"A: b\n  \nbody\n\nmore", b"body\n\nmore"),
        (b"A: b\n\t\r\nbody", b"body"),
        (b"A: b\n \nC: d\n\nbody", b"body"),
        (b"A: b\n \n and folded\nC: d\n\nbody", b"body"),
        (b"A: b\n folded\n\nbody", b"body"),
        (b"A: b\n", b""),
        (b"", b""),
        (b"no header\n\ntext", b"no header\n\ntext"),
        (b"  \n \t\r\nA: b\nC: d\n\nx", b"x"),
        (b"  \nno field\nA: b\n\nx", b"  \nno field\nA: b\n\nx"),
    ],
)
def test_text_does_not_vanish_in_the_header(octets: bytes, body: bytes) -> None:
    assert octets[header.reading_offset(octets) :] == body


@pytest.mark.parametrize("line", [b"odd\n", b"A: b\nodd\n", b" \n", b"A: b\n \n", b"\n x"])
def test_reading_takes_linear_time(line: bytes) -> None:
    header.reading_offset(b"A: b\n" + line * (1_000_000 // len(line)))
