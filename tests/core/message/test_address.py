"""Address lists, as they should be and as they are."""

import pytest

from mailtools.core.message.address import (
    END,
    GROUP,
    MAILBOX,
    Member,
    addr_specs,
    addresses,
    author,
    faults,
    first_name,
    members,
)

CASES = [
    ("Bob <bob@x.org>, alice@y.org", [("Bob", "bob@x.org"), ("", "alice@y.org")]),
    (r'"Smith, John; \"jr\"" <j@x>', [('Smith, John; "jr"', "j@x")]),
    ('A group: a@b, "x y"@c, Joe <d@e>;, f@g', [("", "a@b"), ("", '"x y"@c'), ("Joe", "d@e"), ("", "f@g")]),
    ("undisclosed-recipients:;", []),
    ("<@a,@b:c@d>", [("", "c@d")]),
    (r"Pete(A nice \) chap) <pete(his account)@silly.test(his host)>", [("Pete", "pete@silly.test")]),
    ("joe@x (Joe (the) Smith)", [("Joe (the) Smith", "joe@x")]),
    ("bob @ x . com", [("", "bob@x.com")]),
    ("J. R. Smith <j@x>", [("J. R. Smith", "j@x")]),
    ("名字 <用户@例子.中国>", [("名字", "用户@例子.中国")]),
    ("=?utf-8?q?a=2C_b?= <c@d>, e@f", [("a, b", "c@d"), ("", "e@f")]),
    ("user@[127.0.0.1], u@[IPv6:::1]", [("", "user@[127.0.0.1]"), ("", "u@[IPv6:::1]")]),
    ('"a.b"@c, "a b"@c, "a\\"b"@d, ""@e', [("", "a.b@c"), ("", '"a b"@c'), ("", '"a\\"b"@d'), ("", '""@e')]),
    ('"Joe\r\n Q" <a@\r\n b>,\r\n\tc@d', [("Joe Q", "a@b"), ("", "c@d")]),
    ('"a@b" <c@d>', [("a@b", "c@d")]),
    # broken ones
    ("Bob <bob@x", [("Bob", "bob@x")]),
    ("Bob <bob@x, al@y", [("Bob", "bob@x"), ("", "al@y")]),
    ('"unclosed <bob@x>, al@y', [("unclosed", "bob@x"), ("", "al@y")]),
    ("(open <bob@x>, al@y", [("open", "bob@x"), ("", "al@y")]),
    ("bob@x.com <bob@x.com>", [("bob@x.com", "bob@x.com")]),
    ("Bob <<bob@x>>", [("Bob", "bob@x")]),
    ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
    ("bob@x alice@y", [("", "bob@x"), ("", "alice@y")]),
    ("undisclosed recipients", [("undisclosed recipients", "")]),
    ("Bob <>", [("Bob", "")]),
    ("root", [("", "root")]),
    (" ,, ,a@b,", [("", "a@b")]),
    ("", []),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_addresses(value: str, expected: list[tuple[str, str]]) -> None:
    assert addresses(value) == expected
    assert addresses(value.encode()) == expected


def test_octets_that_are_no_utf8() -> None:
    assert addresses(b"Andr\xe9 <a@b>") == [("André", "a@b")]


def test_addr_specs_leave_out_what_is_none() -> None:
    assert addr_specs("Bob <>, A <a@b>, nobody at all") == ["a@b"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"Bob <b@x>, c@d", "Bob"),
        (b"b@x", "b@x"),
        (b"=?utf-8?q?Bj=C3=B6rn?= <b@x>", "Björn"),
        (b"Shop: <b@x>;", "b@x"),
        (b";", ";"),
        (b"x" * 5000, "x" * 2000),
    ],
)
def test_first_name(value: bytes, name: str) -> None:
    assert first_name(value) == name


@pytest.mark.parametrize(
    ("value", "name", "spec"),
    [
        (b"bob at x.org (Bob)", "Bob", "bob@x.org"),
        (b"bob at x.org", "", "bob@x.org"),
        (b"bob at home (Bob)", "Bob", ""),
        (b"Bob at x.org again", "Bob at x.org again", ""),
        (b"Someone, Else <a@b>", "Else", "a@b"),
        (b"root, Bob <b@c>, d@e", "Bob", "b@c"),
        (b"root (Cron)", "Cron", "root"),
        (b"undisclosed-recipients:;", "", ""),
        (b"", "", ""),
    ],
)
def test_the_name_and_the_address_are_of_one_mailbox(value: bytes, name: str, spec: str) -> None:
    assert author(value) == (name, spec)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "value",
    [
        "<",
        "(",
        ")",
        '"',
        '"\\',
        '" \\" ',
        "a:",
        "@",
        "a@",
        "[",
        "(,",
        "a. ",
        "a ",
        '"a@b,',
        '<"',
        "<@a,",
        "\\",
        '"\\",',
    ],
)
def test_a_million_octets_of_anything_take_linear_time(value: str) -> None:
    addresses(value * (1_000_000 // len(value)))


@pytest.mark.usefixtures("untraced")
def test_mixed_floods_take_linear_time() -> None:
    addresses("(" * 300_000 + ")" * 300_000)
    addresses('<"' + '"' * 300_000 + "," * 300_000)
    addresses('"' + '\\",' * 300_000)


@pytest.mark.usefixtures("untraced")
def test_a_million_addresses() -> None:
    assert len(addresses("Bob <b@x>,\r\n " * 1_000_000)) == 1_000_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@x, Bob <b@x>, team: c@x, d@x;, (e) e@x,", []),
        ("undisclosed-recipients:;", []),
        ("<@r1,@r2:u@h>, root", []),
        ("<bob@x> <carol@x>", ["<bob@x> <carol@x>: a comma is missing behind >"]),
        ("a@x, Bob <b@x> c@x, d@x", ["Bob <b@x> c@x: a comma is missing behind >"]),
        ("a@x b@x, c@x", ["a@x b@x: a comma, or <> around the address, is missing"]),
        ("Bob Smith b@x", ["Bob Smith b@x: a comma, or <> around the address, is missing"]),
        ("Bob <>, a@x", ["Bob <>: no address between < and >"]),
        ("<a b@x>", ["<a b@x>: no address between < and >"]),
    ],
)
def test_entries_that_are_not_one_mailbox_are_told(value: str, expected: list[str]) -> None:
    assert [f"{fault.entry}: {fault.why}" for fault in faults(value)] == expected
    assert [f"{fault.entry}: {fault.why}" for fault in faults(value.encode())] == expected


def test_members_are_the_octets_of_the_field() -> None:
    value = b'=?utf-8?q?x?= <@a,\r\n @b:c@d>, "My, group": e\xe9@f, "g h"@i;, j@k'
    assert members(value, 100) == [
        Member(MAILBOX, b"=?utf-8?q?x?=", b"@a,@b", b"c@d"),
        Member(GROUP, b"My, group"),
        Member(MAILBOX, b"", b"", b"e\xe9@f"),
        Member(MAILBOX, b"", b"", b'"g h"@i'),
        Member(END),
        Member(MAILBOX, b"", b"", b"j@k"),
    ]


def test_members_are_limited() -> None:
    assert members(b"a@b, c@d, e@f", 2) == members(b"a@b c@d e@f", 2) == members(b"a@b, c@d", 3)
    assert members(b"g: a@b, c@d;", 2) == [Member(GROUP, b"g"), Member(MAILBOX, spec=b"a@b"), Member(END)]
