"""DSNs: what programs find in them, and that nothing anybody said breaks them."""

import email
import email.policy
import re
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.message import recode
from mailtools.core.queue.dsn import Notice, RecipientReport, build

FAILED = RecipientReport(
    recipient="bob@example.org",
    original="rfc822;Bob+2Btag@example.org",
    action="failed",
    status="5.1.1",
    remote="mx.example.org",
    diagnostic="550 5.1.1 no\nsuch user",
    is_reply=True,
    last_attempt=1700000000,
    retry_until=0,
)
DELAYED = FAILED._replace(
    recipient="eve@example.org", original="", action="delayed", status="4.4.1", remote="",
    diagnostic="mx.example.org does not answer", is_reply=False, retry_until=1700086400,
)  # fmt: skip
NOTICE = Notice(
    host="mail.example.net",
    reverse_path="ann@example.com",
    envid="QQ+2B314159",
    arrived=1699990000,
    queue_id="0abc",
    reports=(FAILED,),
    full=True,
    date="Tue, 14 Nov 2023 22:13:20 +0000",
    message_id="<0def@mail.example.net>",
    boundary="=_0123",
)
ORIGINAL = b"From: ann@example.com\nSubject: hi\nMessage-ID: <1@example.com>\n\nhello\n"

GOLDEN = b"""\
From: Mail Delivery System <MAILER-DAEMON@mail.example.net>
To: <ann@example.com>
Subject: Undelivered mail: hi
Date: Tue, 14 Nov 2023 22:13:20 +0000
Message-ID: <0def@mail.example.net>
In-Reply-To: <1@example.com>
References: <1@example.com>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="=_0123"

--=_0123
Content-Type: text/plain; charset=us-ascii
Content-Description: What happened
Content-Transfer-Encoding: 7bit

This is the mail server at mail.example.net.

Your message could not be delivered to:

  <bob@example.org>
    mx.example.org said: 550 5.1.1 no such user

It will not be tried again. Please check the address; what the other server
answered, above, tells why.

Its number here is 0abc. A report for programs is attached, and so is the
message or its header.

--=_0123
Content-Type: message/delivery-status

Original-Envelope-Id: QQ+314159
Reporting-MTA: dns; mail.example.net
Arrival-Date: Tue, 14 Nov 2023 19:26:40 +0000
X-Mailtools-Queue-ID: 0abc

Original-Recipient: rfc822; Bob+tag@example.org
Final-Recipient: rfc822; bob@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 no such user
Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000

--=_0123
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

From: ann@example.com
Subject: hi
Message-ID: <1@example.com>

hello

--=_0123--
"""


def parts(octets: bytes) -> list[Message]:
    """The parts of a DSN that is well-formed."""
    message = email.message_from_bytes(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert not message.defects
    payload = message.get_payload()
    assert isinstance(payload, list)
    assert [part.get_content_type() for part in payload[:2]] == ["text/plain", "message/delivery-status"]
    assert all(len(line) <= 998 for line in octets.split(b"\n"))
    assert b"\r" not in octets and b"\0" not in octets
    return payload  # type: ignore[return-value]


def status(octets: bytes) -> list[Message]:
    """The blocks of fields: of the message, then of each recipient."""
    blocks = parts(octets)[1].get_payload()
    assert isinstance(blocks, list)
    return [block for block in blocks if block.keys()]  # type: ignore[union-attr]


def human(octets: bytes) -> str:
    """The text for people."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return next(message.iter_parts()).get_content()  # type: ignore[union-attr, no-any-return]


def about(*reports: RecipientReport, **more: object) -> Notice:
    return NOTICE._replace(reports=reports or (FAILED,), **more)  # type: ignore[arg-type]


def test_a_whole_one() -> None:
    assert build(NOTICE, ORIGINAL, True) == GOLDEN


# -- what is in it -------------------------------------------------------------------------------------------


def test_only_the_header_where_more_is_not_asked_for_or_not_there() -> None:
    for notice, is_whole in ((about(full=False), True), (NOTICE, False)):
        returned = parts(build(notice, ORIGINAL, is_whole))[2]
        assert returned.get_content_type() == "text/rfc822-headers"
        assert returned.get_payload() == ORIGINAL.removesuffix(b"hello\n").decode()


def test_nothing_is_returned_of_a_message_that_is_gone() -> None:
    octets = build(NOTICE, b"", False)
    assert len(parts(octets)) == 2
    assert "the message could not be attached" in human(octets).replace("\n", " ")
    assert b"\nSubject: Undelivered mail\n" in octets


def test_each_recipient_with_its_own_answer_and_alike_ones_together() -> None:
    other = FAILED._replace(recipient="carol@example.org")
    third = FAILED._replace(recipient="dan@example.org", diagnostic="552 5.2.2 full", status="5.2.2")
    octets = build(about(FAILED, other, third), ORIGINAL, True)
    assert (
        "  <bob@example.org>\n  <carol@example.org>\n    mx.example.org said: 550 5.1.1 no such user\n\n"
        "  <dan@example.org>\n    mx.example.org said: 552 5.2.2 full\n"
    ) in human(octets)
    assert [block["Final-Recipient"] for block in status(octets)[1:]] == [
        f"rfc822; {name}@example.org" for name in ("bob", "carol", "dan")
    ]
    assert [block["Status"] for block in status(octets)[1:]] == ["5.1.1", "5.1.1", "5.2.2"]


def test_a_delay_tells_until_when() -> None:
    octets = build(about(DELAYED), ORIGINAL, True)
    assert "tried again until Wed, 15 Nov 2023 22:13:20 +0000" in human(octets).replace("\n", " ")
    assert "what happened: mx.example.org does not answer" in human(octets)
    block = status(octets)[1]
    assert block["Will-Retry-Until"] == "Wed, 15 Nov 2023 22:13:20 +0000"
    assert block["Diagnostic-Code"] == "x-mailtools; mx.example.org does not answer"
    assert block["Remote-MTA"] is None
    assert email.message_from_bytes(octets)["Subject"] == "Delayed mail: hi"


def test_success_of_both_kinds_in_one() -> None:
    relayed = FAILED._replace(action="relayed", status="2.0.0", diagnostic="250 ok")
    here = FAILED._replace(action="delivered", status="2.1.5", remote="", recipient="eve@example.com")
    octets = build(about(relayed, here), ORIGINAL, False)
    text = human(octets)
    assert text.index("has been delivered to") < text.index("<eve@") < text.index("handed on for")
    assert "no reports of its own" in text.replace("\n", " ")
    assert "said" not in text
    assert [block["Action"] for block in status(octets)[1:]] == ["relayed", "delivered"]
    assert b"Diagnostic-Code" not in octets


def test_a_list_of_people() -> None:
    expanded = FAILED._replace(action="expanded", status="2.1.5", remote="", diagnostic="")
    octets = build(about(expanded), ORIGINAL, False)
    assert "everybody on the list at:\n\n  <bob@example.org>\n" in human(octets)
    assert email.message_from_bytes(octets)["Subject"] == "Delivered mail: hi"
    block = status(octets)[1]
    assert (block["Action"], block["Status"]) == ("expanded", "2.1.5")


def test_advice_about_answers_only_where_there_is_one() -> None:
    assert "other server" not in human(
        build(about(FAILED._replace(is_reply=False, remote="")), ORIGINAL, True)
    )


@pytest.mark.parametrize(
    ("action", "code"), [("failed", "5.0.0"), ("delayed", "4.0.0"), ("relayed", "2.0.0")]
)
@pytest.mark.parametrize("wrong", ["", "5", "5.1.1 x", "9.9.9", "5.1.1\nAction: delivered", "5.1.1111"])
def test_a_status_that_is_none(action: str, code: str, wrong: str) -> None:
    block = status(build(about(FAILED._replace(action=action, status=wrong)), ORIGINAL, True))[1]
    assert (block["Status"], block["Action"]) == (code, action)


def test_the_text_is_wrapped_at_spaces() -> None:
    report = FAILED._replace(diagnostic="550 " + "several words " * 20 + "x" * 100 + " and the end")
    lines = human(build(about(report), ORIGINAL, True)).split("\n")
    assert all(len(line) <= 76 or " " not in line.strip() for line in lines)
    assert "      several words" in "\n".join(lines)
    assert "x" * 100 in " ".join(lines)


def test_many_recipients_are_all_in_the_report_and_some_in_the_text() -> None:
    octets = build(about(*[FAILED._replace(recipient=f"u{n}@x.org") for n in range(1000)]), ORIGINAL, True)
    assert len(status(octets)) == 1001
    assert "  <u499@x.org>\n" in human(octets)
    assert "<u500@x.org>" not in human(octets)
    assert "and 500 more" in human(octets)


# -- other letters -------------------------------------------------------------------------------------------


def test_an_address_beyond_ascii() -> None:
    report = FAILED._replace(recipient="bü+ro@例え.jp", original="utf-8;b\\x{FC}+2Bro@x.jp")
    octets = build(about(report), ORIGINAL, True)
    assert octets.isascii()
    assert "  <bü+ro@例え.jp>\n" in human(octets)
    block = status(octets)[1]
    assert block["Final-Recipient"] == "utf-8; b\\x{FC}\\x{2B}ro@\\x{4F8B}\\x{3048}.jp"
    assert block["Original-Recipient"] == "utf-8; b\\x{FC}+ro@x.jp"


def test_a_sender_beyond_ascii_is_the_only_thing_that_is() -> None:
    octets = build(about(reverse_path="büro@例え.jp"), ORIGINAL, True)
    lines = [line for line in octets.split(b"\n") if not line.isascii()]
    assert lines == ["To: <büro@例え.jp>".encode()]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("ann", "ann"),
        ('"a b"@x', '<"a b"@x>'),
        ("x" * 2000 + "@x", "undisclosed-recipients:;"),
        ("a@b@c", "undisclosed-recipients:;"),
        ("a,b@c", "undisclosed-recipients:;"),
    ],
)
def test_the_one_who_is_told(path: str, field: str) -> None:
    assert email.message_from_bytes(build(about(reverse_path=path), ORIGINAL, True))["To"] == field


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?q?_all?=", "Undelivered mail: Grüße all"),
        ("Grüße".encode(), "Undelivered mail: Grüße"),
        (b"Gr\xfc\xdfe", "Undelivered mail: Grüße"),
        (b"a\n folded one", "Undelivered mail: a folded one"),
        (b"=?utf-8?q?two=0ABcc:_x=00y=1B?=", "Undelivered mail: two\u240aBcc: x\u2400y\u241b"),
        (b"=?utf-8?q?=E2=80=AEturned?=", "Undelivered mail: <U+202E>turned"),
        (b"", "Undelivered mail"),
        (b"long " * 50, f"Undelivered mail: {'long ' * 19}l ..."),
    ],
)
def test_the_subject_can_be_read(subject: bytes, text: str) -> None:
    octets = build(NOTICE, b"Subject: " + subject + b"\n\nx\n", False)
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message["Subject"] == text
    assert re.search(rb"(?m)^Subject: ([!-~]| |\n )+$", octets)
    assert message["Bcc"] is None


# -- what is returned ----------------------------------------------------------------------------------------


def test_an_original_without_a_last_line_end() -> None:
    for original in (ORIGINAL[:-1], ORIGINAL, ORIGINAL[:20], b"x", b"\n", b"\n\nx"):
        octets = build(NOTICE, original, True)
        assert b"\n\n" + original + b"\n--=_0123--\n" in octets
        assert len(parts(octets)) == 3


@pytest.mark.parametrize("subject", [b"\xc3\xa9", b"\xe9"])
def test_a_header_of_8_bits_is_returned_in_7(subject: bytes) -> None:
    head = b"Subject: " + subject + b"\nX: y\n\n"
    octets = build(about(full=False), head + b"body\n", True)
    assert octets.isascii()
    returned = parts(octets)[2]
    assert returned.get_payload(decode=True) == head
    assert returned.get_param("charset") == ("utf-8" if subject == b"\xc3\xa9" else "unknown-8bit")


@pytest.mark.parametrize(
    ("original", "kind"),
    [
        (ORIGINAL + b"\xe9\n", "message/rfc822"),
        ("Subject: é\n\nbody é\n".encode(), "message/global"),
        (b"Subject: \xe9\n\nbody\n", "text/rfc822-headers"),
        (ORIGINAL + b"a\rb\n", "text/rfc822-headers"),
        (ORIGINAL + b"a\0b\n", "text/rfc822-headers"),
        (b"Subject: a\rb\n\n", "text/rfc822-headers"),
    ],
)
def test_how_a_whole_message_is_returned(original: bytes, kind: str) -> None:
    octets = build(NOTICE, original, True)
    assert f"\nContent-Type: {kind}" in octets.decode("latin-1")
    assert b"\r" not in octets and b"\0" not in octets
    assert octets[: octets.index(b"\n\n")].isascii()
    assert recode.to_7bit(octets).isascii()


def test_what_holds_8_bits_says_so() -> None:
    for original, encoding in ((ORIGINAL, None), (ORIGINAL + b"\xe9\n", "8bit")):
        octets = build(NOTICE, original, True)
        assert email.message_from_bytes(octets)["Content-Transfer-Encoding"] == encoding
        recoded = email.message_from_bytes(recode.to_7bit(octets))
        assert recoded["Content-Transfer-Encoding"] == (encoding and "7bit")


def test_of_a_message_over_a_megabyte_the_header_is_returned() -> None:
    for octets, kind in ((1 << 20, "message/rfc822"), ((1 << 20) + 1, "text/rfc822-headers")):
        original = ORIGINAL + b"x" * 9 + b"\n" * (octets - len(ORIGINAL) - 9)
        assert len(original) == octets
        assert parts(build(NOTICE, original, True))[2].get_content_type() == kind


def test_a_header_that_is_too_large_is_cut_between_lines() -> None:
    head = b"Subject: x\n" + b"X-Pad: 0123456789\n" * 20_000 + b"\n"
    octets = build(NOTICE, head, False)
    assert 60_000 < len(octets) < 70_000
    returned = parts(octets)[2].get_payload()
    assert head.decode().startswith(returned) and returned.endswith("9\n")  # type: ignore[union-attr, arg-type]


# -- nothing breaks it ---------------------------------------------------------------------------------------


def test_no_part_holds_the_boundary() -> None:
    original = ORIGINAL + b"--=_0123\n\n--=_0123--\n--=_0123_\n"
    octets = build(NOTICE, original, True)
    assert len(parts(octets)) == 3
    assert parts(octets)[2].get_payload(0).as_bytes() == original  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("original", "field"),
    [
        ("rfc822;a+0D+0AAction:+20delivered", "rfc822; a+0D+0AAction:+20delivered"),
        ("rfc822;a+00", "rfc822; a+00"),
        ("rfc822;+20a", "rfc822; +20a"),
        ("rfc822;a+E9", "rfc822; a+E9"),
        ("rfc822;a+zz", "rfc822; a+zz"),
        ("rfc822;a;b", "rfc822; a;b"),
        ("x\nAction: delivered;a", None),
        ("rfc822;" + "a" * 5000, None),
        ("rfc822;a\nb", None),
        (";a", None),
        ("rfc822;", None),
        ("rfc822", None),
    ],
)
def test_an_original_recipient_and_an_envid_that_are_hostile(original: str, field: str | None) -> None:
    octets = build(
        about(FAILED._replace(original=original), envid=original.partition(";")[2]), ORIGINAL, True
    )
    message, recipient = status(octets)
    assert (recipient["Original-Recipient"], recipient["Action"]) == (field, "failed")
    if field:
        assert message["Original-Envelope-Id"] == field.partition("; ")[2]


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.sampled_from('\r\n\0\t :;-=_0123<>"\\é会\u2028\u202e\x1b\ud800'), max_size=60),
    st.sampled_from(["x" * 3000, "é" * 3000, " " * 3000, "--=_0123", "\n\nAction: delivered\n\n"]),
)
REPORTS = st.builds(
    RecipientReport,
    TEXTS, TEXTS, st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]), TEXTS, TEXTS, TEXTS,
    st.booleans(), st.integers(0, 10**10), st.integers(0, 10**10),
)  # fmt: skip


@given(st.lists(REPORTS, min_size=1, max_size=4), TEXTS, TEXTS, TEXTS, st.binary(max_size=200), st.booleans())
def test_no_text_breaks_the_structure(
    reports: list[RecipientReport], path: str, envid: str, queue_id: str, original: bytes, is_whole: bool
) -> None:
    notice = about(*reports, reverse_path=path, envid=envid, queue_id=queue_id)
    octets = build(notice, original, is_whole)
    message = email.message_from_bytes(octets)
    assert set(message.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
        "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    assert len(parts(octets)) == 2 + bool(original)
    first, *rest = status(octets)
    assert first["Reporting-MTA"] == "dns; mail.example.net"
    assert [block["Action"] for block in rest] == [report.action for report in reports]
    for block in (first, *rest):
        assert len(set(block.keys())) == len(block.keys())
        assert all(str(value).isprintable() and str(value).isascii() for value in block.values())
    text = human(octets)
    assert text.replace("\n", "").isprintable()
