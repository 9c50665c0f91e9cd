"""core/imap/utf7: mailbox names in modified UTF-7, with the examples of RFC 3501 section 5.1.3."""

import pytest

from mailtools.core.imap import utf7


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("INBOX", b"INBOX"),
        ("", b""),
        ("a&b", b"a&-b"),
        ("&", b"&-"),
        ("~peter/mail/\u53f0\u5317/\u65e5\u672c\u8a9e", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("Entw\u00fcrfe", b"Entw&APw-rfe"),
        ("\U0001f4e7", b"&2D3c5w-"),
        ("a\r\nb\0", b"a&AA0ACg-b&AAA-"),  # no line end is ever sent
    ],
)
def test_names_on_the_wire_and_back(name: str, octets: bytes) -> None:
    assert utf7.encode(name) == octets.decode()
    assert utf7.decode(octets) == name


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"a&b", "a&b"),  # the run does not end
        (b"a&!-b", "a&!-b"),
        (b"&A-", "&A-"),  # half a character
        (b"&2D0-", "&2D0-"),  # half a surrogate pair
        (b"&AAAA-", "&AAAA-"),
        ("Entw\u00fcrfe".encode(), "Entw\u00fcrfe"),
        (b"caf\xe9", "caf\udce9"),
    ],
)
def test_what_is_no_modified_utf_7_stays_as_it_is(octets: bytes, name: str) -> None:
    assert utf7.decode(octets) == name
