"""Facts: what SORT, THREAD and SEARCH compare."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.imap.facts import facts, from_octets, to_octets


def test_an_ordinary_header() -> None:
    found = facts(
        b"Date: Thu, 22 Aug 2002 23:30:00 -0300\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b'From: "Ann B" <ann@x.test>\r\nTo: bob@x.test, carol@x.test\r\nCc: Dave <d.ave@x.test>\r\n'
        b"Message-ID: <1@x.test>\r\nReferences: <a@x> <b@x>\r\nIn-Reply-To: <c@x>\r\n\r\n"
    )
    assert (found.sent, found.day) == (1030069800, 11921)
    assert found.subject == "Grüße"
    assert (found.from_mailbox, found.to_mailbox, found.cc_mailbox) == ("ann", "bob", "d.ave")
    assert (found.from_shown, found.to_shown) == ("Ann B", "bob@x.test")
    assert found.to == "bob@x.test, carol@x.test"
    assert (found.message_id, found.references) == ("<1@x.test>", ("<a@x>", "<b@x>"))


def test_without_references_in_reply_to_counts() -> None:
    assert facts(b"In-Reply-To: your mail <c@x> <d@x>\r\n\r\n").references == ("<c@x>",)


def test_names_in_any_case_and_fields_that_come_twice() -> None:
    found = facts(b"SUBJECT: a\r\nTo: one@x.test\r\nTo: two@x.test\r\nmessage-id: <1@x>\r\n\r\n")
    assert found.subject == "a"
    assert found.to == "one@x.test, two@x.test"
    assert found.to_mailbox == "one"
    assert found.message_id == "<1@x>"


def test_an_id_in_quotes_is_the_same_id() -> None:
    assert facts(b'Message-ID: <"a"@x>\r\n\r\n').message_id == "<a@x>"


@pytest.mark.parametrize("header", [b"", b"\r\n", b"no field\r\n", b"Subject: a\0b\r\nDate: never\r\n\r\n"])
def test_any_octets_give_facts(header: bytes) -> None:
    found = facts(header)
    assert found.sent is None
    assert from_octets(to_octets(found)) == found


@given(st.binary(max_size=300), st.sampled_from([b"Subject", b"From", b"Message-ID", b"References", b"Date"]))
def test_octets_and_back(value: bytes, name: bytes) -> None:
    found = facts(name + b": " + value + b"\r\n\r\n")
    octets = to_octets(found)
    assert octets.count(b"\n") == 1
    assert from_octets(octets) == found
