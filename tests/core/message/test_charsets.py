"""core/message/charsets: labels, octets that are wrong in their charset, Japanese of Windows."""

import pytest

from mailtools.core.message import charsets


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("utf-8", "utf_8"), ("UTF8", "utf_8"), ("\"utf-8\"", "utf_8"), ("unicode-1-1-utf-8", "utf_8"),
        ("iso-8859-1", "cp1252"), ("ISO_8859-1:1987", "cp1252"), ("l1", "cp1252"), ("ansi_x3.4-1968", "cp1252"),
        ("iso-8859-9", "cp1254"), ("latin5", "cp1254"), ("iso-8859-11", "cp874"), ("tis-620", "cp874"),
        ("koi8-u", "koi8_u"), ("koi8-ru", "koi8_u"), ("x-mac-cyrillic", "mac_cyrillic"), ("cp866", "cp866"),
        ("gb2312", "gb18030"), ("gb_2312-80", "gb18030"), ("big5", "cp950"), ("big5-hkscs", "big5hkscs"),
        ("shift-jis", "cp932"), ("windows-31j", "cp932"), ("ks_c_5601-1987", "cp949"), ("windows-949", "cp949"),
        ("euc-kr", "cp949"), ("iso-2022-jp", "iso2022_jp_ext"), ("visual", "iso8859_8"), ("logical", "iso8859_8"),
        ("windows-1251", "cp1251"), ("x-cp1251", "cp1251"), ("iso-ir-101", "iso8859_2"), ("hz-gb-2312", "hz"),
        ("punycode", None), ("zlib", None), ("../x", None), ("", None), ("x-unknown", None),
    ],
)  # fmt: skip
def test_labels(label: str, codec: str | None) -> None:
    assert charsets.codec(label) == codec


def test_every_codec_exists() -> None:
    for name in set(charsets._CODECS.values()):
        b"a".decode(name, "replace")


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        ("€uro ü".encode(), "euc-kr", "€uro ü"),
        ("é".encode(), "us-ascii", "é"),
        (b"\xe9", "us-ascii", "é"),
        (b"\xe9", "utf-8", "\ufffd"),
        (b"\x80", "iso-8859-1", "€"),
        ("ｱ①㈱日本".encode("cp932"), "shift_jis", "ｱ①㈱日本"),
        (b"\x1b$B-!-jF|K\\\x1b(B abc", "iso-2022-jp", "①㈱日本 abc"),
        (b"\x1b(I1\x1b(B", "iso-2022-jp", "ｱ"),
        (b"\x1b$B-!", "iso-2022-jp", "①"),
        (b"x\x1b$B-", "iso-2022-jp", "x"),
        (b"\x1b$B\xff\xfe\x1b", "iso-2022-jp", "?"),
    ],
)
def test_octets_that_are_wrong_in_their_charset(octets: bytes, charset: str, text: str) -> None:
    assert charsets.decode(octets, charset).replace("\x1b", "") == text


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [(b"\xe9", "", "é"), (b"\xe9", "koi8-r", "И"), ("é".encode(), "koi8-r", "é"), (b"\xe9", "utf-8", "é")],
)
def test_raw_octets(octets: bytes, charset: str, text: str) -> None:
    assert charsets.decode_raw(octets, charset) == text


@pytest.mark.usefixtures("untraced")
def test_japanese_takes_linear_time() -> None:
    charsets.decode(b"\x1b$B-!\x1b" * 300_000, "iso-2022-jp")
