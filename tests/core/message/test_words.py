"""Encoded words, charsets, parameters."""

import base64

import pytest

from mailtools.core.message import charsets, parameters, words


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?iso-8859-1?q?a=E9_b?=", "aé b"),
        (b"x =?utf-8?b?w6k=?= y", "x é y"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        (b"=?utf-8?q?a?=  =?iso-8859-1?q?=E9?=", "aé"),
        (b"=?utf-8*en?q?a?=", "a"),
        (b"=?x-unknown?q?=C3=A9?=", "é"),
        (b"=?us-ascii?q?=E9?=", "é"),
        (b"=?gb2312?b?" + b64("会议".encode("gb18030")) + b"?=", "会议"),
        (b"=?iso-2022-jp?b?" + b64("日本".encode("iso-2022-jp")) + b"?=", "日本"),
        (b"=?utf-8?b?w6k?=", "é"),  # padding missing
        (b"=?utf-8?b?!?=", ""),
        (b"=?utf-8?q?=C3?=", "\ufffd"),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
        (b"=?utf-8?q?what?_=C3=A9?=", "what? é"),
        (b"=?utf-8?q?a=3D?==?utf-8?q?b?=", "a=b"),
        (b"=?utf-8?b?YQ==?= =?utf-8?b?Yg==?=", "ab"),
        (b"=?koi8-u?q?=A4?= =?windows-949?b?" + b64("한글".encode("cp949")) + b"?=", "є한글"),
        (b"=?utf-8?q?a=0AFrom=20x=0D=1B=5B2J=E2=80=AE?=", "a\u240aFrom x\u240d\u241b[2J<U+202E>"),
        (b"a\tb", "a b"),
        (b"raw \x00 octet", "raw \u2400 octet"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "café"),
        (b"\x80\x81", "€\ufffd"),
        (b"=?punycode?q?a-b?= =?unicode_escape?q?=5Cu0041?=", "a-b\\u0041"),
        (b"=?zlib?q?x?= =?../../x?q?y?= =?\x00?q?z?=", "xyz"),
    ],
)
def test_decode(value: bytes, text: str) -> None:
    assert words.decode(value) == text


def test_a_letter_cut_in_two_words_is_joined() -> None:
    octets = "你好世界".encode()
    value = b" ".join(b"=?utf-8?B?" + b64(piece) + b"?=" for piece in (octets[:4], octets[4:7], octets[7:]))
    assert words.decode(value) == "你好世界"


def test_no_lone_surrogates() -> None:
    words.decode(b"=?utf-7?q?+2AA-?=").encode()
    charsets.decode(b"\x00\xd8a\x00", "utf-16-le").encode()


@pytest.mark.parametrize("value", [b"=?a?q?", b"=?utf-8?q?x?= ", b"=?", b"=?a*", b"=?a?b?=", b"="])
def test_floods_take_linear_time(value: bytes) -> None:
    words.decode(value * (1_000_000 // len(value)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'Text/HTML; Charset="utf-8" ; x = y', ("text/html", {"charset": "utf-8", "x": "y"})),
        (b"a/b; filename*=iso-8859-1'en'%A3%20rates", ("a/b", {"filename": "£ rates"})),
        (
            b"attachment; filename*1=\"b;c.txt\"; filename*0*=utf-8''%e4%bd%a0",
            ("attachment", {"filename": "你b;c.txt"}),
        ),
        (b"a/b; name==?utf-8?b?5L2g?=", ("a/b", {"name": "你"})),
        (b'a/b; name="a\\"b"', ("a/b", {"name": 'a"b'})),
        (b'a/b; name="open', ("a/b", {"name": '"open'})),
        (b"text/plain (a comment; x=y); charset=(c) utf-8 (d)", ("text/plain", {"charset": "utf-8"})),
        (b"text/plain(comment)", ("text/plain", {})),
        (b'"text/html" ; charset=utf-8', ("text/html", {"charset": "utf-8"})),
        (b"text / html", ("text/html", {})),
        (b"text/html charset=utf-8", ("text/html", {"charset": "utf-8"})),
        (b'text/html; charset="utf-8" name=x.txt', ("text/html", {"charset": "utf-8", "name": "x.txt"})),
        (b"text/html; charset=utf-8 boundary=b", ("text/html", {"charset": "utf-8", "boundary": "b"})),
        (b"attachment; filename=a file (1).pdf", ("attachment", {"filename": "a file (1).pdf"})),
        (b'attachment; filename="C:\\dir\\a.txt"', ("attachment", {"filename": "C:\\dir\\a.txt"})),
        (b'attachment; filename="a\\\\b"', ("attachment", {"filename": "a\\b"})),
        (b"attachment; filename==?utf-8?q?a=0Ab?=", ("attachment", {"filename": "a\u240ab"})),
        (b"attachment; filename*=utf-8''a%0d%0ab", ("attachment", {"filename": "a\u240d\u240ab"})),
        (b"a/b;;; =x; y", ("a/b", {})),
        (b"", ("", {})),
    ],
)
def test_parameters(value: bytes, expected: tuple[str, dict[str, str]]) -> None:
    assert parameters.parse(value) == expected


def test_base64_takes_what_it_can() -> None:
    assert words.base64(b"YWJj\nZA") == b"abcd"
    assert words.base64(b"YWJjZA==\nfooter") == b"abcd\nfooter"
    assert words.base64(b"YWJjZA==\n-- \nlist footer = x\n") == b"abcd\n-- \nlist footer = x\n"
    assert words.base64(b"YQ==YmM=ZGVm") == b"abcdef"
    assert words.base64(b"YQ==\nYmM=\n\n") == b"abc"
    assert words.base64(b"YWJj!*ZGVm\xff\n") == b"abcdef"
    assert words.base64(b"=") == b""
    assert words.base64(b"YQ==\n" * 200_000 + b"foot er") == b"a" * 200_000 + b"\nfoot er"  # linear time
    assert words.base64(b"==YWJj") == b"abc"
    assert words.base64(b"Y") == b""
