"""A message as programs hand it in becomes one that can be sent."""

import email
import email.policy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.message import submission
from mailtools.core.message.submission import SubmissionStamps

STAMPS = SubmissionStamps(
    "root@host.example", "Cron", "host.example", "Mon, 23 Nov 2026 14:44:13 +0000", "<1@host.example>"
)


@pytest.mark.parametrize(
    ("octets", "fields", "body"),
    [
        (b"Subject: a\n\nb\n", b"Subject: a\n", b"b\n"),
        (b"Subject: a\n\n\nb\n", b"Subject: a\n", b"\nb\n"),
        (b"\nb: c\n", b"", b"b: c\n"),
        (b"hello\nSubject: a\n", b"", b"hello\nSubject: a\n"),  # cron's `echo hello`
        (b"Subject: a\nhello: not\nthis\nTo: x\n", b"Subject: a\nhello: not\n", b"this\nTo: x\n"),
        (b"Subject: a\n b\n\tc\n\nd", b"Subject: a\n b\n\tc\n", b"d"),
        (b" leading\n", b"", b" leading\n"),
        (b"Subject : a\n\n", b"Subject : a\n", b""),
        (b"Subject: a", b"Subject: a\n", b""),
        (b"Subject: a\n b", b"Subject: a\n b\n", b""),
        (b"", b"", b""),
        (b"Subject: a\rBcc: x\n\nb\rc", b"Subject: a Bcc: x\n", b"b\rc"),  # no field out of a value
        (b"From bob Thu Aug 22 12:00:00 2002\nSubject: a\n\nb", b"Subject: a\n", b"b"),
        (b"From bob Thu Aug 22 12:00:00 2002\nhello\n", b"", b"hello\n"),
        (b"From bob@x\n>From ann@y\nSubject: a\n\nb", b"Subject: a\n", b"b"),
        (b"From here on\nwe are alone\n", b"", b"From here on\nwe are alone\n"),
        (b"From : bob\n\nb", b"From : bob\n", b"b"),
        (b"From: bob\n\nb", b"From: bob\n", b"b"),
    ],
)
def test_the_header_ends_at_the_first_line_that_is_no_field(
    octets: bytes, fields: bytes, body: bytes
) -> None:
    found, start = submission.split(octets)
    assert (found, octets[start:]) == (fields, body)


def test_what_is_missing_is_added() -> None:
    assert submission.complete(b"Subject: a\n", STAMPS) == (
        b"Subject: a\nFrom: Cron <root@host.example>\nDate: Mon, 23 Nov 2026 14:44:13 +0000\n"
        b"Message-ID: <1@host.example>\n"
    )


def test_what_is_there_stays() -> None:
    fields = b"FROM : a@b\ndate: x\nMessage-Id: y\nSubject: Bcc: c\n bcc: d\n"
    assert submission.complete(fields, STAMPS) == fields


def test_nobody_learns_of_blind_copies_and_nobody_sets_the_return_path() -> None:
    fields = b"From: a@b\nBcc: c@d,\n e@f\nDate: x\nresent-bcc:g\nMessage-ID: y\nBCC : h\nReturn-Path: <i>\n"
    assert submission.complete(fields, STAMPS) == b"From: a@b\nDate: x\nMessage-ID: y\n"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"From: root@host.example\n"),
        ("Bob Builder", b"From: Bob Builder <root@host.example>\n"),
        ('Bob "B" O\'Hara, Jr.', b'From: "Bob \\"B\\" O\'Hara, Jr." <root@host.example>\n'),
        ("Bob\nBcc: eve@x", b'From: "Bob Bcc: eve@x" <root@host.example>\n'),
        ("Jörg", b"From: =?utf-8?q?J=C3=B6rg?= <root@host.example>\n"),
    ],
)
def test_a_full_name(name: str, field: bytes) -> None:
    found = submission.complete(b"", STAMPS._replace(full_name=name)).partition(b"Date:")[0]
    assert found.lower() == field.lower()


@pytest.mark.parametrize(
    ("value", "qualified"),
    [
        (b"root", b"root@host.example"),
        (b"root (Cron Daemon)", b"root@host.example (Cron Daemon)"),
        (b"Root <root>", b"Root <root@host.example>"),
        (b"a@b, root", b"a@b, root@host.example"),
        (b"root,\n\tbob", b"root@host.example,\n\tbob@host.example"),
        (b'"root, a@b" <bob>', b'"root, a@b" <bob@host.example>'),
        (b"root (me, myself) , ann", b"root@host.example (me, myself) , ann@host.example"),
        (b"<>", b"<>"),
        (b"two words", b"two words"),
        (b"undisclosed-recipients:;", b"undisclosed-recipients:;"),
        (b"friends: bob;", b"friends: bob;"),
        (b'"quoted"', b'"quoted"'),
        (b"(only a comment)", b"(only a comment)"),
        (b"", b""),
        (b"bob <root", b"bob <root"),
        (b"a@b, c@d", b"a@b, c@d"),
    ],
)
def test_a_name_gets_its_domain_and_all_else_stays(value: bytes, qualified: bytes) -> None:
    before = b"Subject: root\nTo: %b\nX-To: root\n"
    assert submission.qualify(before % value, "host.example") == before % qualified


def test_the_fields_of_addresses() -> None:
    fields = b"".join(b"%b: root\n" % name for name in submission._OF_ADDRESSES)
    assert submission.qualify(fields, "x") == fields.replace(b"root", b"root@x")


@pytest.mark.parametrize("separator", [b", ", b",", b" , "])
def test_a_list_that_grows_too_long_is_folded_between_addresses(separator: bytes) -> None:
    names = [b"user%02d" % number for number in range(90)]
    names[40] = b'"a, b" <user40> (x, y)'
    value = separator.join(names)
    assert len(value) < 998
    found = submission.qualify(b"To: %s\nSubject: x\n" % value, "host.example.org")
    assert max(map(len, found.split(b"\n"))) <= 998
    qualified = re.sub(rb"(user[0-9]{2})", rb"\1@host.example.org", value)
    unfolded = found.replace(b"\n ", b" ")
    assert unfolded.replace(b", ", b",") == (b"To: %s\nSubject: x\n" % qualified).replace(b", ", b",")


def test_a_list_that_stays_short_is_not_folded() -> None:
    fields = b"To: one, two,\n\tthree\nSubject: x\n"
    assert (
        submission.qualify(fields, "h.test") == b"To: one@h.test, two@h.test,\n\tthree@h.test\nSubject: x\n"
    )


def test_hops() -> None:
    assert submission.hops(b"Received: x\n" * 101) == 101
    assert submission.hops(b"X: y\n" * 100 + b"received: x\n" * 3) == 3


HEADERS = st.lists(
    st.sampled_from(
        [b"Subject: a\n", b"To: root\n", b" folded, root\n", b"From ", b">From x\n", b"\n", b"text\n", b"Bcc: x\n",
         b"Cc: \"", b"(", b"<", b"@", b"\r", b"\xff", b":", b",", b"Date:"]
    )
).map(b"".join)  # fmt: skip


@given(HEADERS | st.binary(max_size=200))
def test_any_octets_give_a_header_and_a_body(octets: bytes) -> None:
    fields, start = submission.split(octets)
    assert 0 <= start <= len(octets)
    assert b"\r" not in fields
    assert b"\n\n" not in fields
    assert not fields or fields.endswith(b"\n")
    done = submission.complete(fields, STAMPS)
    assert done.endswith(b"\n")
    spaced = re.search(rb"^[!-9;-~]+[ \t]+:", done, re.MULTILINE)  # obsolete, which that parser does not know
    if b"\0" not in done and not spaced:  # the parser of the standard library agrees where it ends
        parsed = email.message_from_bytes(done + b"\nbody", policy=email.policy.compat32)
        assert parsed["Date"] is not None
        assert parsed["Bcc"] is None


@pytest.mark.parametrize(
    "octets", [b'To: "' * 60000, b"To: " + b"(" * 250000, b"a" * 250000, b"To: " + b"a," * 120000]
)
def test_hostile_headers_take_linear_time(octets: bytes) -> None:
    fields, _ = submission.split(octets)
    assert submission.complete(fields, STAMPS)
