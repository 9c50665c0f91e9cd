"""core/imap/strings: quoted strings, literals, atoms, dates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.imap.strings import astring, internal_date, literal, nstring, string
from tests.imap_responses import parsed


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"NIL"),
        (b"", b'""'),
        (b"NIL", b'"NIL"'),
        (b"a b", b'"a b"'),
        (b"a\tb", b'"a\tb"'),
        (rb"say \"x", rb'"say \\\"x"'),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"a\x7f", b"{2}\r\na\x7f"),
        (b"caf\xc3\xa9", b"{5}\r\ncaf\xc3\xa9"),
        (b"a\0b", b"{3}\r\na\x80b"),
        (b"x" * 999, b'"' + b"x" * 999 + b'"'),
        (b"x" * 1000, b"{1000}\r\n" + b"x" * 1000),
    ],
)
def test_nstring(value: bytes | None, written: bytes) -> None:
    assert nstring(value) == written


def test_only_well_formed_utf8_is_quoted() -> None:
    assert nstring(b'caf\xc3\xa9 "x"', utf8=True) == b'"caf\xc3\xa9 \\"x\\""'
    assert string(b"caf\xe9", utf8=True) == b"{4}\r\ncaf\xe9"
    assert string(b"\xc3\xa9\n", utf8=True) == b"{3}\r\n\xc3\xa9\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"INBOX", b"INBOX"),
        (b"a/b]", b"a/b]"),
        (b"", b'""'),
        (b"nil", b'"nil"'),
        (b"a b", b'"a b"'),
        (b"a%", b'"a%"'),
        (b"a\\", b'"a\\\\"'),
        (b"\xe9", b"{1}\r\n\xe9"),
    ],
)
def test_astring(value: bytes, written: bytes) -> None:
    assert astring(value) == written


def test_nul_stays_only_in_a_binary_literal() -> None:
    assert literal(b"a\0", binary=True) == b"~{2}\r\na\0"
    assert literal(b"ab", binary=True) == b"{2}\r\nab"
    assert literal(b"a\0") == b"{2}\r\na\x80"


@given(st.binary(max_size=1200) | st.text(' "\\{}()\r\n', max_size=20).map(str.encode))
def test_any_octets_are_one_string(value: bytes) -> None:
    assert parsed(string(value)) == value.replace(b"\0", b"\x80")


@pytest.mark.parametrize(
    ("seconds", "zone", "written"),
    [
        (837571465, 0, b'"17-Jul-1996 02:44:25 +0000"'),
        (837571465.9, -420, b'"16-Jul-1996 19:44:25 -0700"'),
        (0, 330, b'" 1-Jan-1970 05:30:00 +0530"'),
        (-1, 0, b'"31-Dec-1969 23:59:59 +0000"'),
        (float("inf"), 0, b'"30-Dec-9999 23:59:59 +0000"'),
        (float("-inf"), -60, b'" 1-Jan-0001 23:00:00 -0100"'),
    ],
)
def test_internal_date(seconds: float, zone: int, written: bytes) -> None:
    assert internal_date(seconds, zone) == written
