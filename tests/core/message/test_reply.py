"""Replies and forwards: to whom, on which thread, quoting what."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.mbox import scan
from mailtools.core.message import compose, mime, reply
from mailtools.core.message.address import Address

ME = Address("Bob", "bob@example.org")
ORIGINAL = b"""From: Ann Smith <ann@example.org>
To: Bob <BOB@example.org>, carol@example.org
Cc: Dan <dan@example.org>, ann@example.org, dan@EXAMPLE.org
Subject: lunch
Date: Thu, 22 Aug 2002 12:00:00 +0200
Message-ID: <3@example.org>
References: <1@example.org>
 <2@example.org>

Where?
> Here?

--\x20
Ann
"""


def edited(*changes: tuple[bytes, bytes]) -> bytes:
    octets = ORIGINAL
    for old, new in changes:
        assert old in octets
        octets = octets.replace(old, new)
    return octets


def test_a_reply() -> None:
    draft = reply.reply(ORIGINAL, ME)
    assert draft.from_ == (ME,)
    assert draft.to == (Address("Ann Smith", "ann@example.org"),)
    assert draft.cc == ()
    assert draft.subject == "Re: lunch"
    assert draft.headers == (
        ("In-Reply-To", "<3@example.org>"),
        ("References", "<1@example.org> <2@example.org> <3@example.org>"),
    )
    assert draft.text == ("On Thu, 22 Aug 2002 12:00:00 +0200, Ann Smith wrote:\n> Where?\n>> Here?\n\n")


def test_a_reply_to_all_goes_to_each_once_and_not_to_me() -> None:
    draft = reply.reply(ORIGINAL, ME, True)
    assert [one.spec for one in draft.to] == ["ann@example.org"]
    assert [one.spec for one in draft.cc] == ["carol@example.org", "dan@example.org"]
    other = reply.reply(ORIGINAL, ME, True, ["Carol@Example.org"])
    assert [one.spec for one in other.cc] == ["dan@example.org"]


def test_reply_to_is_honoured() -> None:
    octets = edited((b"Subject", b'Reply-To: list@example.org, "A, B" <ab@example.org>\nSubject'))
    assert [one.spec for one in reply.reply(octets, ME).to] == ["list@example.org", "ab@example.org"]
    useless = edited((b"Subject", b"Reply-To: nobody\nSubject"))
    assert [one.spec for one in reply.reply(useless, ME).to] == ["ann@example.org"]


def test_an_answer_to_oneself_goes_to_those_it_went_to() -> None:
    me = Address("", "ann@example.org")
    assert [one.spec for one in reply.reply(ORIGINAL, me).to] == ["BOB@example.org", "carol@example.org"]
    draft = reply.reply(ORIGINAL, me, True)
    assert [one.spec for one in draft.cc] == ["dan@example.org"]


def test_nowhere_to_reply_to() -> None:
    with pytest.raises(BadDataError, match="no address to reply to"):
        reply.reply(b"Subject: x\n\ntext", ME)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("lunch", "Re: lunch"),
        ("Re: lunch", "Re: lunch"),
        ("RE: Aw: re[2]: lunch", "Re: lunch"),
        ("Re:lunch", "Re: lunch"),
        ("Regarding: lunch", "Re: Regarding: lunch"),
        ("", "Re:"),
        ("=?utf-8?q?Re=3A_gr=C3=BCn?=", "Re: grün"),
        ("=?utf-8?q?a=0D=0ABcc:_x@y.z?=", "Re: a\u240d\u240aBcc: x@y.z"),
    ],
)
def test_re_stands_once(before: str, after: str) -> None:
    draft = reply.reply(edited((b"lunch", before.encode())), ME)
    assert draft.subject == after


def test_threading_without_references() -> None:
    references = b"References: <1@example.org>\n <2@example.org>\n"
    parent = edited((references, b"In-Reply-To: <0@x>\n"))
    assert reply.reply(parent, ME).headers[1] == ("References", "<0@x> <3@example.org>")
    two = edited((references, b"In-Reply-To: <0@x> of <9@x>\n"))
    assert reply.reply(two, ME).headers[1] == ("References", "<3@example.org>")
    no_id = edited((b"Message-ID: <3@example.org>\n", b""))
    assert reply.reply(no_id, ME).headers == ()


def test_references_do_not_grow_without_end() -> None:
    many = b" ".join(b"<%d@x>" % number for number in range(100_000))
    octets = edited((b"<1@example.org>\n <2@example.org>", many))
    ids = reply.reply(octets, ME).headers[1][1].split()
    assert ids == ["<0@x>", *(f"<{number}@x>" for number in range(99_982, 100_000)), "<3@example.org>"]


def test_what_is_endless_is_cut() -> None:
    octets = edited((b"lunch", b"\xc3\xa9" * 1_000_000), (b"Ann Smith", b"n" * 1_000_000))
    draft = reply.reply(octets, ME)
    assert draft.subject == "Re: " + "é" * 1000
    assert draft.to == (Address("n" * 200, "ann@example.org"),)


def test_quoting() -> None:
    assert reply.quoted("a\n\n\nb\n> c\n>> d\n \n") == "> a\n>\n>\n> b\n>> c\n>>> d\n"
    assert reply.quoted("") == ""
    assert reply.quoted("-- \nonly a signature") == ""
    assert reply.quoted("a\n--\nb") == "> a\n> --\n> b\n"


def test_html_and_foreign_charsets_are_quoted_as_text() -> None:
    html = b"From: a@b.c\nContent-Type: text/html; charset=iso-8859-1\n\n<p>gr\xfcn<script>x</script>"
    assert "> grün\n" in reply.reply(html, ME).text
    greek = b"From: a@b.c\nContent-Type: text/plain; charset=iso-8859-7\n\n\xe1\xe2\n"
    assert "> αβ\n" in reply.reply(greek, ME).text


def test_controls_of_a_stranger_reach_no_draft() -> None:
    evil = b"From: =?utf-8?q?x=1B=5B2J=0ABcc=3A_y?= <a@b.c>\n\n\x1b[2Jtext\x00\n"
    draft = reply.reply(evil, ME)
    assert draft.to == (Address("x\u241b[2J\u240aBcc: y", "a@b.c"),)
    assert draft.text == "x\u241b[2J\u240aBcc: y wrote:\n> [2Jtext\n\n"


def test_the_words_of_an_attached_message_are_not_quoted_as_the_writer_s() -> None:
    message = (
        b"From: a@b.c\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nmine\n--x\n"
        b"Content-Type: message/rfc822\n\nFrom: other@b.c\n\ntheirs\n--x--\n"
    )
    assert "mine" in reply.reply(message, ME).text
    assert "theirs" not in reply.reply(message, ME).text


def test_a_forward_is_the_message_itself() -> None:
    draft = reply.forward(ORIGINAL, ME)
    assert draft.subject == "Fwd: lunch"
    assert reply.forward(edited((b"lunch", b"FW: Fwd: lunch")), ME).subject == "Fwd: lunch"
    octets = compose.compose(draft._replace(to=(ME,)), "Thu, 22 Aug 2002 12:00:00 +0200", "<9@x>", "abc")
    parts = mime.parse(octets)
    assert [part.type for part in parts[:3]] == ["multipart/mixed", "text/plain", "message/rfc822"]
    assert parts[2].content() == ORIGINAL


@given(st.binary(max_size=2000))
def test_any_octets_can_be_answered_or_are_refused(octets: bytes) -> None:
    for to_all in (False, True):
        try:
            draft = reply.reply(b"From: a@b.c\n" + octets, ME, to_all)
        except BadDataError:
            continue
        compose.compose(draft, "Thu, 22 Aug 2002 12:00:00 +0200", "<9@x>", "abc")
    draft = reply.forward(octets, ME)._replace(to=(ME,))
    compose.compose(draft, "Thu, 22 Aug 2002 12:00:00 +0200", "<9@x>", "abc")


def test_the_mail_of_lists_can_be_answered(
    easy_ham: Path, reader: Callable[..., Callable[[int], bytes]]
) -> None:
    for record in scan.records(reader(easy_ham.read_bytes())):
        draft = reply.reply(record.message(), ME, True)
        octets = compose.compose(draft, "Thu, 22 Aug 2002 12:00:00 +0200", "<9@x>", "abc")
        assert octets.isascii()
        assert max(map(len, octets.split(b"\n"))) <= 998
        assert draft.subject.startswith("Re:")
        assert draft.headers


def test_the_hostile_ones_too(own: Path) -> None:
    for path in own.glob("*.eml"):
        draft = reply.reply(path.read_bytes().replace(b"\r\n", b"\n"), ME, True)
        compose.compose(draft, "Thu, 22 Aug 2002 12:00:00 +0200", "<9@x>", "abc")
