"""Trace fields: Received, Return-Path, Delivered-To."""

import pytest

from mailtools.core.message import trace
from mailtools.core.message.trace import Stamp

STAMP = Stamp("client.example", "192.0.2.1", "mx.example", "ESMTP", "id1", "Thu, 22 Aug 2002 12:00:00 +0000")


def test_received_says_from_whom_by_whom_how_and_when() -> None:
    assert trace.received(STAMP, "bob@example.net") == (
        "Received: from client.example ([192.0.2.1])\n"
        "\tby mx.example (mailtools) with ESMTP id id1\n"
        "\tfor <bob@example.net>;\n"
        "\tThu, 22 Aug 2002 12:00:00 +0000\n"
    )


def test_several_recipients_are_not_shown_to_each_other() -> None:
    assert "for <" not in trace.received(STAMP, "")


@pytest.mark.parametrize(
    ("peer", "clause"),
    [("192.0.2.1", " ([192.0.2.1])\n"), ("2001:db8::1", " ([IPv6:2001:db8::1])\n"), ("", "\n")],
)
def test_the_address_of_the_client_is_a_literal(peer: str, clause: str) -> None:
    assert trace.received(STAMP._replace(peer=peer), "").startswith(f"Received: from client.example{clause}")


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("a\r\nBcc: x", "a??Bcc:?x"),
        ("a (by b); c", "a??by?b???c"),
        ("grüße", "gr??e"),
    ],
)
def test_the_name_that_a_client_chose_cannot_end_its_clause(helo: str, shown: str) -> None:
    field = trace.received(STAMP._replace(helo=helo, peer=""), "")
    assert field.startswith(f"Received: from {shown}\n\tby ")


def test_a_submitted_message_names_the_user() -> None:
    assert trace.submitted(1000, "mx.example", "id1", "today") == (
        "Received: by mx.example (mailtools, from userid 1000)\n\tid id1; today\n"
    )


def test_delivery_adds_the_reverse_path_and_each_recipient() -> None:
    assert trace.delivery_fields("ann@x", ["bob@y", "carol@y"]) == (
        "Return-Path: <ann@x>\nDelivered-To: bob@y\nDelivered-To: carol@y\n"
    )
    assert trace.delivery_fields("", []) == "Return-Path: <>\n"
