"""The part tree, and what parts hold."""

import email
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from mailtools.core.message import mime

MIXED = b"Content-Type: multipart/mixed; boundary=b\n\n"


def shape(message: bytes) -> list[tuple[str, str]]:
    return [(part.number, part.type) for part in mime.parse(message)]


def test_nested(own: Path) -> None:
    message = (own / "nested.eml").read_bytes()
    assert shape(message) == [
        ("", "multipart/mixed"), ("1", "multipart/alternative"), ("1.1", "text/plain"), ("1.2", "text/html"),
        ("2", "image/png"), ("3", "message/rfc822"), ("3", "multipart/mixed"), ("3.1", "text/plain"),
        ("3.2", "text/plain"),
    ]  # fmt: skip
    parts = mime.parse(message)
    assert parts[4].filename == "pünkt.png"
    assert parts[4].content().startswith(b"\x89PNG")
    assert [part.content() for part in mime.readable(parts)] == [
        b"Plain text.",
        b"First of the inner message.",
    ]
    assert [part.number for part in mime.attachments(parts)] == ["2", "3", "3.2"]


def test_crlf_gives_the_same_tree(own: Path) -> None:
    message = (own / "nested.eml").read_bytes()
    crlf = message.replace(b"\n", b"\r\n")
    assert shape(crlf) == shape(message)
    for ours, theirs in zip(mime.parse(message), mime.parse(crlf), strict=True):
        undone = theirs.encoding == "base64"
        assert (theirs.content() if undone else theirs.content().replace(b"\r\n", b"\n")) == ours.content()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", [("1", "text/plain")]),
        (b"Content-Type: nonsense\n\nx", [("1", "text/plain")]),
        (b"Content-Type: text/plain>\n\nx", [("1", "text/plain")]),
        (b"Content-Type: <html>\n\nx", [("1", "text/plain")]),
        (b"Content-Type: pdf; name=x.pdf\n\nx", [("1", "application/octet-stream")]),
        (b"Content-Type: multipart/mixed\n\nx", [("1", "multipart/mixed")]),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx", [("", "multipart/mixed")]),
        (b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nt\n--b--\n",
         [("", "multipart/digest"), ("1", "message/rfc822"), ("1.1", "text/plain")]),
        (b"Content-Type: message/rfc822\n\nA: x\n\nt", [("1", "message/rfc822"), ("1.1", "text/plain")]),
        (MIXED
         + b"--b\n\n1\n--b--x\n--b  \n\n2\n--b--\n--b\n\n3",
         [("", "multipart/mixed"), ("1", "text/plain"), ("2", "text/plain")]),
    ],
)  # fmt: skip
def test_shapes(message: bytes, expected: list[tuple[str, str]]) -> None:
    assert shape(message) == expected


def test_an_outer_delimiter_closes_the_inner_parts() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\n\ninner\n--a\n\nouter\n--a--\n"
    )
    parts = mime.parse(message)
    assert [(part.number, part.content()) for part in parts[2:]] == [("1.1", b"inner"), ("2", b"outer")]


def test_a_body_that_begins_with_dashes() -> None:
    (part,) = mime.parse(b"Subject: x\n\n-----BEGIN-----\n")
    assert part.content() == b"-----BEGIN-----\n"


@pytest.mark.parametrize(
    ("encoding", "octets", "content"),
    [
        ("base64", b"YWJj\r\nZGVm\r\n", b"abcdef"),
        ("base64", b"YWJ*jZ", b"abc"),
        ("quoted-printable", b"a=3Db=\nc= \nd=XX\n", b"a=bcd=XX\n"),
        ("8bit", b"\xff\x00", b"\xff\x00"),
        ("nonsense", b"x=3D", b"x=3D"),
    ],
)
def test_decode_transfer(encoding: str, octets: bytes, content: bytes) -> None:
    assert mime.decode_transfer(octets, encoding) == content


def test_depth_and_parts_are_bounded() -> None:
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (i, i) for i in range(100_000)
    )
    assert len(mime.parse(deep)) == mime.MAX_DEPTH + 1
    letters = b"Content-Type: message/rfc822\n\n" * 100_000
    assert len(mime.parse(letters)) == mime.MAX_DEPTH + 1
    wide = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 100_000
    assert len(mime.parse(wide)) == mime.MAX_PARTS


@pytest.mark.parametrize(
    "line", [b"--b\nx", b"\n--", b"--b\n", b"--b--\n", b'--b\nContent-Type: a/b; x="\\"\n']
)
def test_floods_take_linear_time(line: bytes) -> None:
    mime.parse(b"Content-Type: multipart/mixed; boundary=b\n\n" + line * (2_000_000 // len(line)))


def test_the_corpus_reads_as_python_reads_it(easy_ham: Path, reader: Callable[..., scan.Read]) -> None:
    for record in scan.records(reader(easy_ham.read_bytes())):
        message = record.message()
        theirs = [part for part in email.message_from_bytes(message).walk() if not part.is_multipart()]
        ours = [
            part for part in mime.parse(message) if not part.is_multipart and part.type != "message/rfc822"
        ]
        if any(part.type == "message/delivery-status" for part in ours):
            continue  # Python takes its blocks of fields for messages
        assert [part.get_content_type() for part in theirs] == [part.type for part in ours]
        for part, own in zip(theirs, ours, strict=True):
            assert part.get_payload(decode=True) == own.content(), record.number
            assert (part.get_filename() or "") == own.filename


# -- every part is shown or listed ----------------------------------------------------------------------------------

ALTERNATIVE = b"Content-Type: multipart/alternative; boundary=b\n\n"


def part(kind: bytes, body: bytes = b"x", boundary: bytes = b"b") -> bytes:
    return b"--%b\nContent-Type: %b\n\n%b\n" % (boundary, kind, body)


@pytest.mark.parametrize(
    ("message", "shown", "listed", "others"),
    [
        (MIXED + part(b"text/plain") + part(b"text/calendar"), ["1"], ["2"], []),
        (MIXED + part(b"text/plain") + part(b"text/rfc822-headers"), ["1"], ["2"], []),
        (MIXED + part(b"text/plain; name=x.txt") + part(b"text/x-patch"), ["1"], ["2"], []),
        (MIXED + part(b"text/plain\nContent-Disposition: attachment"), [], ["1"], []),
        (MIXED + part(b"message/delivery-status") + part(b"message/partial"), [], ["1", "2"], []),
        (ALTERNATIVE + part(b"text/plain") + part(b"text/html"), ["1"], [], ["2"]),
        (ALTERNATIVE + part(b"text/plain", b" \n\t") + part(b"text/html"), ["2"], [], ["1"]),
        (
            ALTERNATIVE + part(b"text/plain", b"") + part(b"text/html") + part(b"text/calendar"),
            ["2"],
            [],
            ["1", "3"],
        ),
        (ALTERNATIVE + part(b"text/plain", b" ") + part(b"image/png"), ["1"], [], ["2"]),
        (b"Content-Type: text/calendar\n\nx", [], ["1"], []),
        (b"Content-Type: text/plain; name=x\nContent-Disposition: attachment\n\nx", ["1"], [], []),
    ],
)
def test_every_leaf_is_shown_or_listed(
    message: bytes, shown: list[str], listed: list[str], others: list[str]
) -> None:
    parts = mime.parse(message)
    assert [p.number for p in mime.readable(parts)] == shown
    assert [p.number for p in mime.attachments(parts)] == listed
    assert [p.number for p in mime.alternatives(parts)] == others


@pytest.mark.parametrize("length", [1, 70, 257, 1000, 4000])
def test_boundaries_of_any_length(length: int) -> None:
    boundary = b"b" * length
    message = (
        b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n" + part(b"text/plain", b"x", boundary)
    )
    assert [p.content() for p in mime.parse(message)[1:]] == [b"x\n"]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (b'"base64"', b"abc"),
        (b"base64 (comment)", b"abc"),
        (b"(c) Base64", b"abc"),
        (b"base64;", b"abc"),
        (b"x-uue", b""),
    ],
)
def test_transfer_encodings_as_they_are_written(value: bytes, content: bytes) -> None:
    (only,) = mime.parse(b"Content-Transfer-Encoding: " + value + b"\n\nYWJj\n")
    assert only.content() == content


def test_words_behind_the_padding_of_base64_do_not_keep_it_from_being_decoded() -> None:
    octets = b"ecO2dMOkIHZhYW4uCg== ignored\n"
    assert mime.decode_transfer(octets, "base64") == "yötä vaan.\n".encode() + b" ignored\n"


def test_words_declared_as_base64_are_not_lost() -> None:
    text = b"These are words and no base64.\nTwo lines of them.\n"
    assert mime.decode_transfer(text, "base64") == text


@pytest.mark.parametrize("message", [b"\xef\xbb\xbfSubject: x\nContent-Type: text/html\n\n<b>y</b>"])
def test_a_byte_order_mark_before_the_header(message: bytes) -> None:
    (only,) = mime.parse(message)
    assert (only.type, only.content()) == ("text/html", b"<b>y</b>")
    assert mime.head_of(message).startswith(b"Subject: x\n")


def test_who_holds_a_part() -> None:
    message = (
        MIXED
        + b"--b\n\nouter\n--b\nContent-Type: message/rfc822\n\nSubject: in\nContent-Type: multipart/mixed; boundary=c\n\n"
        b"--c\n\ninner\n--c--\n--b--\n"
    )
    parts = mime.parse(message)
    holders = {p.content(): p.message for p in mime.readable(parts)}
    assert holders[b"outer"] is None
    assert holders[b"inner"] is parts[2]
    assert parts[2].header().startswith(b"Subject: in\n")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n\nx",
        b"A: b\r\n\r\nx",
        b"no header",
        b"A: b\ntext",
        b"\xef\xbb\xbfA: b\n\nx",
        b"A: b\n--x\nB: c\n\nx",
    ],
)
def test_body_of(message: bytes) -> None:
    assert mime.body_of(message) == mime.parse(message)[0].body
