"""core/imap/bodystructure: what a message is made of, as IMAP tells it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.imap.bodystructure import body, bodystructure
from mailtools.core.imap.sections import Section, extract
from mailtools.core.message import mime
from tests.imap_responses import check_body, parsed

PLAIN = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" '


def told(message: bytes) -> Any:
    """The BODYSTRUCTURE, checked with BODY; each part of it is one that can be fetched, and has its size."""
    structure, short = parsed(bodystructure(message)), parsed(body(message))
    check_body(structure, True)
    check_body(short, False)
    parts = mime.parse(message)
    for path, size in sizes(structure):
        octets = extract(message, parts, Section(path))
        assert octets is not None, path
        assert len(octets) == size
        assert extract(message, parts, Section(path, "MIME")) is not None
    return structure


def sizes(root: Any) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the number and the size of each part of a structure, as a client counts (RFC 9051 §6.4.5.1)."""
    todo: list[tuple[tuple[int, ...], Any, bool]] = [((), root, True)]
    while todo:
        path, value, is_whole = todo.pop()
        if isinstance(value[0], tuple):
            count = next(n for n, item in enumerate(value) if not isinstance(item, tuple))
            todo += [((*path, n), kid, False) for n, kid in enumerate(value[:count], 1)]
            continue
        if is_whole:
            path = (*path, 1)
        yield path, value[6]
        if value[:2] == (b"message", b"rfc822"):
            todo.append((path, value[8], True))


def test_the_examples_of_the_rfc() -> None:
    """RFC 9051 §7.5.2: a text, and a text with an attachment."""
    text = b"x" * 60 + b"\r\n"
    message = b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n" + text * 36
    assert body(message) == b'("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 2232 36)'
    mixed = (
        b'MIME-Version: 1.0\r\nContent-Type: MULTIPART/MIXED; BOUNDARY="b"\r\n\r\npreamble\r\n--b\r\n'
        b"\r\n" + text * 2 + b"\r\n--b\r\n"
        b'Content-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME="cc.diff"\r\n'
        b"Content-ID: <960723163407.20117h@cac.washington.edu>\r\nContent-Description: Compiler diff\r\n"
        b"Content-Transfer-Encoding: BASE64\r\n\r\nYWJj\r\n\r\n--b--\r\nepilogue\r\n"
    )
    assert body(mixed) == (
        b"(" + PLAIN + b'124 2)("text" "plain" ("charset" "US-ASCII" "name" "cc.diff") '
        b'"<960723163407.20117h@cac.washington.edu>" "Compiler diff" "base64" 6 1) "mixed")'
    )
    assert bodystructure(mixed).endswith(b'6 1 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)')


def test_extension_data() -> None:
    message = (
        b'Content-Type: image/png; name*0=a; name*1=b; q="a\\"b"\r\n'
        b"Content-MD5: Q2hlY2s=\r\nContent-Disposition: Attachment;\r\n filename*=utf-8''%e2%82%ac\r\n"
        b"Content-Language: en, (nothing) de-AT\r\nContent-Location: http://a.test/\r\n b\r\n\r\nabc"
    )
    assert bodystructure(message) == (
        b'("image" "png" ("name*0" "a" "name*1" "b" "q" "a\\"b") NIL NIL "7bit" 3 "Q2hlY2s=" '
        b'("attachment" ("filename*" "utf-8\'\'%e2%82%ac")) ("en" "de-AT") "http://a.test/ b")'
    )
    assert body(message) == (b'("image" "png" ("name*0" "a" "name*1" "b" "q" "a\\"b") NIL NIL "7bit" 3)')


def test_a_message_in_a_multipart() -> None:
    inner = (
        b"From: a@b\r\nSubject: in\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"
        b"--i\r\n\r\n1\r\n--i\r\nContent-Type: text/html\r\n\r\n<b>\r\n2\r\n--i--"
    )
    message = (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"
        + inner
        + b"\r\n--o--\r\n"
    )
    author = b'((NIL NIL "a" "b"))'
    assert body(message) == (
        b'(("message" "rfc822" NIL NIL NIL "7bit" %d (NIL "in" %b %b %b NIL NIL NIL NIL NIL) (%b'
        b'("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 6 1) "alternative") 12) "mixed")'
        % (len(inner), author, author, author, PLAIN + b"1 0)")
    )
    told(message)


def test_the_parts_of_a_digest_are_messages() -> None:
    message = (
        b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: 1\r\n\r\nx\r\n"
        b"--d\r\nContent-Type: text/plain\r\n\r\ny\r\n--d--\r\n"
    )
    nothing = b" ".join([b"NIL"] * 8)
    assert body(message) == (
        b'(("message" "rfc822" NIL NIL NIL "7bit" 15 (NIL "1" %b) %b1 0) 2)%b1 0) "digest")'
        % (nothing, PLAIN, PLAIN)
    )


@pytest.mark.parametrize(
    ("message", "structure"),
    [
        (b"", PLAIN + b"0 0)"),
        (b"\r\n", PLAIN + b"0 0)"),
        (b"Subject: x\r\n", PLAIN + b"0 0)"),
        (b"no header\r\n", PLAIN + b"11 1)"),
        (b"Subject: x\n\na\nb", PLAIN + b"3 1)"),
        (b"Content-Type: pdf\r\n\r\n", PLAIN + b"0 0)"),
        (b"Content-Type: multipart/mixed\r\n\r\nx\r\n", b"(" + PLAIN + b'3 1) "mixed")'),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"(" + PLAIN + b'0 0) "mixed")'),
        # the end of the multipart is missing
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n",
            b"(" + PLAIN + b'3 1) "mixed")',
        ),
        (
            b"Content-Type: message/rfc822\r\n\r\n",
            b'("message" "rfc822" NIL NIL NIL "7bit" 0 (' + b" ".join([b"NIL"] * 10) + b") " + PLAIN + b"0 0) 0)",
        ),
        (
            b'Content-Type: text/plain; name="a\0\xe9"\r\nContent-ID: "\\\r\r\n\r\n',
            b'("text" "plain" ("name" {3}\r\na\x80\xe9 "charset" "us-ascii") "\\"\\\\" NIL "7bit" 0 0)',
        ),
    ],
)  # fmt: skip
def test_short_and_broken_messages(message: bytes, structure: bytes) -> None:
    assert body(message) == structure
    told(message)


def test_a_uuencoded_file_is_no_part() -> None:
    message = b"Subject: x\r\n\r\nbegin 644 a\r\n#86)C\r\n`\r\nend\r\n"
    assert len(mime.parse(message)) == 2
    assert body(message) == PLAIN + b"%d 4)" % (len(message) - 14)


_PIECES = [
    *(b"Content-Type: ", b"multipart/mixed; boundary=a\r\n", b"multipart/digest; boundary=b\r\n"),
    *(b"message/rfc822\r\n", b"text/html; charset=\xff\r\n", b"\r\n\r\n", b"\n", b"\r\n--a\r\n", b"--b\n"),
    *(b"--a--", b"\r\n--b--\r\n", b"begin 644 x\n`\nend\n", b"Content-Disposition: ", b"a; b=c; d", b"\0"),
    *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Language: ,a b,", b"Content-ID:", b'"', b"(", b";"),
    *(b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"\xef\xbb\xbf"),
]


@given(st.lists(st.sampled_from(_PIECES) | st.binary(max_size=5), max_size=30).map(b"".join))
def test_any_octets_give_a_structure(message: bytes) -> None:
    told(message)
    told(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + message)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "message",
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000,
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(10_000)
        ),
        b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" * 10_000,
        b"Content-Type: x/y" + b"; a=b" * 1_000_000 + b"\r\n\r\n",
        b"Content-Language: " + b"a," * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_large_structures_take_no_quadratic_time(message: bytes) -> None:
    started = time.process_time()
    check_body(parsed(bodystructure(message)), True)
    assert time.process_time() - started < 10
