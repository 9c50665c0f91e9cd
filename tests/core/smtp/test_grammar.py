"""The grammar of commands, its character classes over all octets."""

import pytest

from mailtools.core.smtp import grammar
from mailtools.core.smtp.grammar import SyntaxProblemError

ATEXT = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")
LET_DIG = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@pytest.mark.parametrize("octet", range(128))
def test_local_parts_and_domains_over_all_octets(octet: int) -> None:
    char = chr(octet)
    assert grammar.is_mailbox(f"a{char}b@c") == (octet in ATEXT | {ord(".")})
    assert grammar.is_mailbox(f"{char}@c") == (octet in ATEXT)
    assert grammar.is_mailbox(f"a@b{char}c") == (octet in LET_DIG | set(b"-."))
    assert grammar.is_mailbox(f"a@{char}") == (octet in LET_DIG)
    assert grammar.is_mailbox(f'"{char}"@c') == (32 <= octet < 127 and char not in '"\\')


@pytest.mark.parametrize("octet", range(256))
def test_helo_over_all_octets(octet: int) -> None:
    try:
        grammar.parse_helo(b"a" + bytes([octet]) + b"b")
        taken = True
    except SyntaxProblemError:
        taken = False
    assert taken == (octet >= 32 and octet != 127)


@pytest.mark.parametrize("octet", range(256))
def test_no_control_and_no_broken_text_gets_into_a_path(octet: int) -> None:
    argument = b"FROM:<a" + bytes([octet]) + b"@b>"
    try:
        mailbox, _ = grammar.parse_path_command(argument, "FROM")
    except SyntaxProblemError:
        assert octet not in ATEXT
    else:
        assert octet in ATEXT | {ord(".")}
        assert mailbox == ('"a."@b' if octet == ord(".") else argument[6:-1].decode())


@pytest.mark.parametrize("char", ["\x80", "\x9f", "\u2028", "\u2029"])
def test_controls_that_hide_in_utf8(char: str) -> None:
    with pytest.raises(SyntaxProblemError):
        grammar.parse_path_command(f"FROM:<a{char}@b>".encode(), "FROM")
    assert not grammar.is_mailbox(f"a{char}@b")


@pytest.mark.parametrize(
    ("argument", "mailbox", "parameters"),
    [
        (b"FROM:<>", "", {}),
        (b"from: <a@b>", "a@b", {}),
        (b"FROM:<@x,@y.z:a@b> SIZE=1", "a@b", {"SIZE": "1"}),
        (b'FROM:<"a>b"@c> body=8bitmime smtputf8', '"a>b"@c', {"BODY": "8bitmime", "SMTPUTF8": None}),
        (b"FROM:<a@[IPv6:::1]>", "a@[IPv6:::1]", {}),
        ("FROM:<ä@ö.ü>".encode(), "ä@ö.ü", {}),
    ],
)
def test_paths(argument: bytes, mailbox: str, parameters: dict[str, str | None]) -> None:
    assert grammar.parse_path_command(argument, "FROM") == (mailbox, parameters)


@pytest.mark.parametrize("value", [None, "", "-1", "+1", "1_0", "1e3", "0x10", "\u0661", " 1", "1" * 21])
def test_sizes_are_ascii_digits(value: str | None) -> None:
    with pytest.raises(SyntaxProblemError):
        grammar.parse_size(value)


@pytest.mark.parametrize(
    ("mailbox", "parts"),
    [
        ("Bob@Example.NET.", ("Bob", "example.net")),
        ('"a b\\"c"@x', ('a b"c', "x")),
        ("postmaster", ("postmaster", "")),
        ('"a@b"@c', ("a@b", "c")),
    ],
)
def test_split(mailbox: str, parts: tuple[str, str]) -> None:
    assert grammar.split_mailbox(mailbox) == parts


@pytest.mark.parametrize(
    "text", ["<@" + "a.a-" * 900 + "!>", "<" + "@a," * 1200 + "x>", '<"' + "\\a" * 1800 + ">"]
)
def test_bad_paths_take_linear_time(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        grammar.parse_path_command(b"FROM:" + text.encode(), "FROM")


@pytest.mark.parametrize(
    ("argument", "mailbox"),
    [
        (b"FROM:a@b", "a@b"),
        (b"FROM: a@b", "a@b"),
        (b'FROM:"a b"@c', '"a b"@c'),
        (b"FROM:<a..b@c>", '"a..b"@c'),
        (b"FROM:.a@c", '".a"@c'),
        (b"FROM:<...a...@c>", '"...a..."@c'),
        (b"FROM:<root>", "root"),
        (b"FROM:<Postmaster>", "postmaster"),
        ("FROM:<ä..ö@c>".encode(), '"ä..ö"@c'),
    ],
)
def test_what_many_clients_write_is_taken_in_the_strict_form(argument: bytes, mailbox: str) -> None:
    found, parameters = grammar.parse_path_command(argument + b" SIZE=1", "FROM")
    assert (found, parameters) == (mailbox, {"SIZE": "1"})
    assert "@" not in found or grammar.is_mailbox(found)


@pytest.mark.parametrize(
    "argument",
    [b"FROM:a", b"FROM:root", b"FROM:<a%b>", b"FROM:<a!b>", b"FROM:<..@b>", b"FROM:a@b>", b"FROM:<a@b",
     b"FROM:a@b@c", b"FROM:a..b", b"FROM:", b"FROM:a@b,SIZE=1", b"FROM:<a..b>@c", b"FROM:@a:b@c"],
)  # fmt: skip
def test_what_is_no_address_in_any_form(argument: bytes) -> None:
    with pytest.raises(SyntaxProblemError):
        grammar.parse_path_command(argument, "FROM")


def test_a_name_is_printable_ascii_whatever_the_client_says() -> None:
    assert grammar.parse_helo("my pc \u2028\x85 \udc41".encode(errors="surrogatepass")) == "my pc ? ?"
    assert grammar.parse_helo(b"\xff[1]") == "?[1]"
