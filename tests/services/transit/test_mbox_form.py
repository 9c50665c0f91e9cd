"""Records as an mbox holds them, and the message in them as it was."""

from mailtools.services.transit import mbox_form
from mailtools.services.transit.mbox_form import (
    MboxIntake,
    fetched_record,
    message_blocks,
    new_record,
    record_blocks,
)

MESSAGE = b"Status: RO\n>From: x\n\nFrom here\n>From there\n"


def intake_of(*blocks: bytes, in_header: bool = True) -> MboxIntake:
    intake = MboxIntake(in_header=in_header)
    for block in blocks:
        intake.take(block)
    intake.end()
    return intake


def test_a_record_there_and_back() -> None:
    record = new_record("a@b.example", "Delivered-To: c\n", intake_of(MESSAGE).body, 0)
    assert b"".join(record_blocks(record)) == (
        b"From a@b.example Thu Jan  1 00:00:00 1970\nDelivered-To: c\n"
        b">Status: RO\n>From: x\n\n>From here\n>>From there\n\n"
    )
    assert b"".join(message_blocks(record)) == b"Delivered-To: c\n" + MESSAGE


def test_a_body_alone_has_no_state_fields() -> None:
    body = intake_of(b"Status: RO\nFrom here", in_header=False).body
    assert b"".join(body.blocks()) == b"Status: RO\n>From here\n"


def test_a_long_header_line_hides_no_field_and_makes_none() -> None:
    long = b"X: " + b"y" * 200_000
    octets = long + b"Status: no\nStatus: yes\n\nStatus: body\n"
    pieces = [octets[n : n + 70_000] for n in range(0, len(octets), 70_000)]
    assert b"".join(intake_of(*pieces).body.blocks()) == octets.replace(b"\nStatus: yes", b"\n>Status: yes")
    assert mbox_form.stored(octets) == octets.replace(b"\nStatus: yes", b"\n>Status: yes")


def test_the_sender_of_a_fetched_message() -> None:
    for header, sender in (
        (b"Return-Path: <a@b.example>\n", b"a@b.example"),
        (b"X: y\nReturn-Path: <a@b.example>\nFrom: c@d\n", b"a@b.example"),
        (b"From: C <c@d.example>\n", b"c@d.example"),
        (b"X: y\n", b"MAILER-DAEMON"),
    ):
        assert fetched_record(intake_of(header + b"\n").body, 0).head.split()[1] == sender
