"""core/imap/envelope: what a header says, as IMAP tells it."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.imap.envelope import MOST_ADDRESSES, envelope
from tests.imap_responses import check_envelope, parsed

FIELDS = (
    *("date", "subject", "from", "sender", "reply_to", "to", "cc", "bcc", "in_reply_to", "message_id"),
)  # fmt: skip


def told(header: bytes) -> dict[str, Any]:
    value = parsed(envelope(header))
    check_envelope(value)
    return dict(zip(FIELDS, value, strict=True))


def to(value: bytes) -> Any:
    return told(b"To: " + value + b"\r\n\r\n")["to"]


def test_the_example_of_the_rfc() -> None:
    """RFC 9051 §8."""
    header = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
        b"From: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\r\n"
        b"To: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\r\n"
        b"MIME-Version: 1.0\r\n\r\n"
    )
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert envelope(header) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
        + b" ".join((gray, gray, gray))
        + b' ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.ed>")'
    )


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"bob@x (Bob)", [(b"Bob", None, b"bob", b"x")]),
        (b'"Smith, J. \\"jr\\"" <j@x>', [(b'Smith, J. "jr"', None, b"j", b"x")]),
        (b"=?utf-8?q?a=2C_b?= <c@d>", [(b"=?utf-8?q?a=2C_b?=", None, b"c", b"d")]),
        (b"<@a,@b:c@d>", [(None, b"@a,@b", b"c", b"d")]),
        (b'"a b"@c, "a\\"@b"@c', [(None, None, b"a b", b"c"), (None, None, b'a"@b', b"c")]),
        (b'a."b c"@d, ""@e', [(None, None, b"a.b c", b"d"), (None, None, b"", b"e")]),
        (b"u@[127.0.0.1]", [(None, None, b"u", b"[127.0.0.1]")]),
        (b"J\xf6rg\xa0\x85 <j@x>", [(b"J\xf6rg\xa0\x85", None, b"j", b"x")]),
        (b"root", [(None, None, b"root", b"MISSING_DOMAIN")]),
        (b"Bob <>", [(b"Bob", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")]),
        (b"Bob Smith", [(b"Bob Smith", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")]),
        (b"a@b,\r\n\t,c@d", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b'"open <a@b>, c@d', [(b"open", None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"a\0b <c@d>", [(b"a b", None, b"c", b"d")]),
    ],
)
def test_mailboxes(value: bytes, members: list[tuple[bytes | None, ...]]) -> None:
    assert to(value) == tuple(members)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"undisclosed-recipients:;", [b"undisclosed-recipients", None]),
        (b'"A, b": c@d, e@f;, g@h', [b"A, b", b"c", b"e", None, b"g"]),
        (b"A: b@c", [b"A", b"b", None]),
        (b"A: b@c, B: d@e; f@g", [b"A", b"b", None, b"B", b"d", None, b"f"]),
        (b"A: b@c;, B: Bob <d@e>;", [b"A", b"b", None, b"B", b"d", None]),
        (b":a@b; c@d", [b"a", b"c"]),
        (b"A: B: c@d;", [b"B", b"c", None]),
    ],
)
def test_groups(value: bytes, members: list[bytes | None]) -> None:
    assert [mailbox for _, _, mailbox, _ in to(value)] == members


@pytest.mark.parametrize("value", [b"", b",,", b"(only a comment)", b";"])
def test_an_empty_list_is_nil(value: bytes) -> None:
    assert to(value) is None


def test_sender_and_reply_to_are_the_author_where_they_are_absent_or_empty() -> None:
    found = told(b"From: a@b\nSender:\nReply-To: c@d\n\n")
    assert found["sender"] == found["from"] == ((None, None, b"a", b"b"),)
    assert found["reply_to"] == ((None, None, b"c", b"d"),)


def test_values_are_unfolded_octets() -> None:
    found = told(b'SUBJECT: a\r\n \tb "c\\" \r\nDate:\r\nIn-Reply-To: <\xe9\0\r>\r\nsubject: second\r\n')
    assert found["subject"] == b'a \tb "c\\"'
    assert found["date"] == b""
    assert found["in_reply_to"] == b"<\xe9\x80\r>"
    assert found["message_id"] is None


@pytest.mark.parametrize("header", [b"", b"\r\n", b"no header\r\n", b"\xef\xbb\xbf\r\n", b":\n"])
def test_without_a_header_all_is_nil(header: bytes) -> None:
    assert set(told(header).values()) == {None}


def test_a_byte_order_mark_hides_no_field() -> None:
    assert told(b"\xef\xbb\xbfSubject: x\n\n")["subject"] == b"x"


@given(
    st.lists(
        st.sampled_from(
            [b"From:", b"To:", b"\r\nCc: ", b"\n", b"\r", b"Subject:", b"\0", b"\xff", b"Sender:"]
        )
        | st.binary(max_size=4)
        | st.text('a@<>,:;"\\()[]. \r\n', max_size=12).map(str.encode)
    ).map(b"".join)
)
def test_any_octets_give_an_envelope(header: bytes) -> None:
    told(header)
    to(header)


def test_the_addresses_of_a_field_are_limited() -> None:
    members = to(b", ".join([b"a@b"] * 1_000_000))
    assert len(members) == MOST_ADDRESSES
    assert set(members) == {(None, None, b"a", b"b")}
    assert len(to(b"g: " + b", ".join([b"a@b"] * 20_000))) == MOST_ADDRESSES + 1


def test_the_address_at_the_limit_is_not_cut() -> None:
    address = b"a" * 200 + b"@example.org"
    members = to(b",".join([address] * 5000))
    assert 2000 < len(members) < 5000
    assert set(members) == {(None, None, b"a" * 200, b"example.org")}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "value",
    [b'"', b"(", b"a ", b"a@b:", b"<", b"a:", b"a;", b'"a"', b"\\", b"[", b"a@", b"=?"],
)
def test_a_large_list_takes_no_quadratic_time(value: bytes) -> None:
    started = time.process_time()
    to(value * (2_000_000 // len(value)))
    assert time.process_time() - started < 10


@pytest.mark.usefixtures("untraced")
def test_colons_behind_a_domain_take_no_quadratic_time() -> None:
    started = time.process_time()
    to(b"a " * 100_000 + b"@b " + b":" * 250_000)
    assert time.process_time() - started < 10
