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
        (b"Content-Type: nonsense\n\nx", [("1", "application/octet-stream")]),
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
