"""core/imap/sections: BODY[...] and BINARY[...]."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import CommandError
from mailtools.core.imap.sections import Section, SectionError, decoded, extract, parse_section, partial
from mailtools.core.message import mime

HEAD = b"From: a@b\r\nReceived: one\r\n\ttwo\r\nSUBJECT : s\r\nreceived: three\r\nContent-Type: "
INNER = b"Subject: in\r\nX: y\r\n\r\ninner\r\n"
MESSAGE = (
    HEAD + b"multipart/mixed; boundary=o\r\n\r\npreamble\r\n--o\r\n\r\none\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--o\r\n"
    b"Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAGFiYw==\r\n--o--\r\nepilogue\r\n"
)


def get(text: bytes, message: bytes = MESSAGE) -> bytes | None:
    section = parse_section(text)
    found = extract(message, None, section)
    assert found == extract(message, mime.parse(message), section)
    return found


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (b"", Section()),
        (b"text", Section((), "TEXT")),
        (b"1.2.30", Section((1, 2, 30))),
        (b"4294967295.MIME", Section((4294967295,), "MIME")),
        (b"1.header", Section((1,), "HEADER")),
        (b"HEADER.FIELDS (a B-c)", Section((), "HEADER.FIELDS", (b"a", b"B-c"))),
        (b'2.Header.Fields.Not (")" a] "q\\"")', Section((2,), "HEADER.FIELDS.NOT", (b")", b"a]", b'q"'))),
    ],
)
def test_parse_section(text: bytes, section: Section) -> None:
    assert parse_section(text) == section


@pytest.mark.parametrize(
    "text",
    [
        *(b"0", b"01", b"1.", b".1", b"1..2", b"1.0", b"-1", b"12345678901", b"1x", b"1TEXT", b"1.2 ", b" 1"),
        *(b"MIME", b"HEADERS", b"HEADER.FIELDS", b"HEADER.FIELDS ()", b"HEADER.FIELDS (a", b"TEXT.1", b"1\n"),
        *(b"HEADER.FIELDS(a)", b"HEADER.FIELDS (a  b)", b"HEADER.FIELDS (a )", b"HEADER.FIELDS ((a))"),
        *(b'HEADER.FIELDS ("a)', b"HEADER.FIELDS (a\xe9)", b"HEADER.FIELDS (a) x", b"\xff", b"\0"),
        *(b".".join([b"1"] * 1000), b"1" * 100_000, b"HEADER.FIELDS (" + b'"a" ' * 100_000),
    ],
)
def test_what_is_no_section(text: bytes) -> None:
    with pytest.raises(SectionError) as raised:
        parse_section(text)
    assert isinstance(raised.value, CommandError)


@given(st.binary(max_size=20) | st.text('12.HEADRFILST.NOM ()"\\', max_size=30).map(str.encode))
def test_any_octets_are_a_section_or_none(text: bytes) -> None:
    try:
        section = parse_section(text)
    except SectionError:
        return
    extract(MESSAGE, None, section)


def test_the_whole_its_header_and_its_text() -> None:
    header, text = get(b"HEADER"), get(b"TEXT")
    assert header == HEAD + b"multipart/mixed; boundary=o\r\n\r\n"
    assert text is not None
    assert header + text == get(b"") == MESSAGE


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (b"1", b"one"),
        (b"1.MIME", b"\r\n"),
        (b"1.HEADER", None),
        (b"1.TEXT", None),
        (b"2", INNER),
        (b"2.MIME", b"Content-Type: message/rfc822\r\n\r\n"),
        (b"2.HEADER", b"Subject: in\r\nX: y\r\n\r\n"),
        (b"2.TEXT", b"inner\r\n"),
        (b"2.1", b"inner\r\n"),
        (b"2.1.MIME", b"Subject: in\r\nX: y\r\n\r\n"),
        (b"2.HEADER.FIELDS (x)", b"X: y\r\n\r\n"),
        (b"2.HEADER.FIELDS.NOT (x)", b"Subject: in\r\n\r\n"),
        (b"2.2", None),
        (b"3", b"AGFiYw=="),
        (b"4", None),
        (b"3.HEADER.FIELDS (x)", None),
    ],
)
def test_parts(text: bytes, octets: bytes | None) -> None:
    assert get(text) == octets


def test_part_1_of_a_message_that_is_no_multipart_is_its_body() -> None:
    assert get(b"1", INNER) == get(b"TEXT", INNER) == b"inner\r\n"
    assert get(b"1.MIME", INNER) == get(b"HEADER", INNER)
    assert get(b"2", INNER) is None


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (b"RECEIVED", b"Received: one\r\n\ttwo\r\nreceived: three\r\n\r\n"),
        (b"subject From", b"From: a@b\r\nSUBJECT : s\r\n\r\n"),
        (b"absent", b"\r\n"),
        (b'"From:" "" "(.*"', b"\r\n"),
        (b"Fro", b"\r\n"),
    ],
)
def test_header_fields(text: bytes, octets: bytes) -> None:
    assert get(b"HEADER.FIELDS (%b)" % text) == octets


def test_header_fields_not() -> None:
    assert get(b"HEADER.FIELDS.NOT (RECEIVED Content-Type)") == b"From: a@b\r\nSUBJECT : s\r\n\r\n"
    assert get(b'HEADER.FIELDS.NOT ("")') == get(b"HEADER")


@pytest.mark.parametrize(
    ("message", "fields", "others"),
    [
        (b"", b"\r\n", b"\r\n"),
        (b"\r\n", b"\r\n", b"\r\n"),
        (b"no header", b"\r\n", b"\r\n"),
        (b"A: b", b"A: b\r\n\r\n", b"\r\n"),
        (b"B: c\r\nA: b\r\n", b"A: b\r\n\r\n", b"B: c\r\n\r\n"),
        (b"A: b\n c\nB: d\n\nA: x\n", b"A: b\n c\n\r\n", b"B: d\n\n"),
        (b"A: b\r\nno field\r\nB: c\r\n\r\n", b"A: b\r\n\r\n", b"no field\r\nB: c\r\n\r\n"),
    ],
)
def test_the_empty_line_is_always_there(message: bytes, fields: bytes, others: bytes) -> None:
    assert get(b"HEADER.FIELDS (a)", message) == fields
    assert get(b"HEADER.FIELDS.NOT (a)", message) == others


@given(
    st.lists(
        st.sampled_from([b"A: b\r\n", b"a:c\n", b"B: x\r\n", b" folded\r\n", b"\r\n", b"--\r\n", b"--x\r\n"])
        | st.binary(max_size=3)
    ).map(b"".join)
)
def test_header_and_text_are_the_message(message: bytes) -> None:
    header, text = get(b"HEADER", message), get(b"TEXT", message)
    assert header is not None
    assert text is not None
    assert header + text == message
    assert text == message[mime.parse(message)[0].body :]
    fields, others = get(b"HEADER.FIELDS (a)", message), get(b"HEADER.FIELDS.NOT (a)", message)
    assert fields is not None
    assert others is not None
    assert fields.endswith(b"\r\n")
    assert others.endswith(b"\n")
    assert 0 <= len(fields) + len(others) - len(header) <= 8


def test_partial() -> None:
    assert partial(b"abcdef", 2, 3) == b"cde"
    assert partial(b"abcdef", 5, 100) == b"f"
    assert partial(b"abcdef", 6, 1) == b""


def test_decoded() -> None:
    assert decoded(MESSAGE, Section((3,))) == b"\0abc"
    assert decoded(MESSAGE, Section((1,)), mime.parse(MESSAGE)) == b"one"
    assert decoded(MESSAGE, Section()) == MESSAGE
    assert decoded(MESSAGE, Section((9,))) is None
    head = b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\n"
    assert decoded(head + b"a=3D=\r\nb\r\n", Section((1,))) == b"a=b\r\n"


def test_decoded_refuses_what_is_not_known() -> None:
    with pytest.raises(ValueError, match=r"^unknown-cte$"):
        decoded(b"Content-Transfer-Encoding: x-zip\r\n\r\nabc", Section((1,)))
    with pytest.raises(SectionError):
        decoded(MESSAGE, Section((1,), "MIME"))


def test_a_multipart_has_no_encoding_of_its_own() -> None:
    text = b"--i\r\n\r\nYQ==\r\n--i--"
    kind = b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n"
    message = (
        kind % b"o" + b"--o\r\nContent-Transfer-Encoding: base64\r\n" + kind % b"i" + text + b"\r\n--o--"
    )
    assert decoded(message, Section((1,))) == text


@pytest.mark.usefixtures("untraced")
def test_a_large_header_takes_no_quadratic_time() -> None:
    message = b"A: b\r\n" * 500_000 + b"B: " + b"<x@y>\r\n " * 500_000 + b"\r\n\r\n"
    started = time.process_time()
    assert len(get(b"HEADER.FIELDS (a)", message) or b"") == 3_000_002
    assert len(get(b"HEADER.FIELDS.NOT (a c)", message) or b"") > 4_000_000
    assert time.process_time() - started < 20
