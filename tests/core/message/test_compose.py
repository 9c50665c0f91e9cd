"""Composing: what Python's email package reads in the octets is what went in."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.message import compose, mime
from mailtools.core.message.address import Address
from mailtools.core.message.compose import Attachment, Draft

ME = (Address("Bob", "bob@example.org"),)
ANN = (Address("", "ann@example.org"),)
DATE = "Thu, 22 Aug 2002 12:00:00 +0200"
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200)
BODY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=500)


def octets_of(**values: Any) -> bytes:
    draft = Draft(**{"from_": ME, "to": ANN} | values)
    return compose.compose(draft, DATE, "<1@example.org>", "abc")


def message_of(octets: bytes) -> EmailMessage:
    message = message_from_bytes(octets, policy=policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert not part.defects
    return message


def test_a_plain_message_octet_for_octet() -> None:
    octets = octets_of(
        cc=(Address("C, D", "c@d.e"),), bcc=(Address("", "x@y.z"),), reply_to=(Address("", "r@s.t"),),
        subject="hi", headers=(("X-A", "b"), ("X-Empty", "")), text="hello\r\nworld",
    )  # fmt: skip
    assert octets == (
        b"Date: Thu, 22 Aug 2002 12:00:00 +0200\nFrom: Bob <bob@example.org>\nTo: ann@example.org\n"
        b'Cc: "C, D" <c@d.e>\nBcc: x@y.z\nReply-To: r@s.t\nSubject: hi\nMessage-ID: <1@example.org>\nX-A: b\n'
        b'MIME-Version: 1.0\nContent-Type: text/plain; charset="us-ascii"\nContent-Transfer-Encoding: 7bit\n\n'
        b"hello\nworld\n"
    )


def test_an_empty_message() -> None:
    message = message_of(octets_of())
    assert message["Subject"] is None
    assert not message.get_content().strip()


@given(
    subject=TEXT,
    text=BODY,
    html=BODY,
    files=st.lists(
        st.tuples(TEXT, st.sampled_from(["image/png", "text/plain"]), st.binary(max_size=300)), max_size=3
    ),
)
def test_everything_comes_back(
    subject: str, text: str, html: str, files: list[tuple[str, str, bytes]]
) -> None:
    octets = octets_of(
        subject=subject, text=text, html=html, attachments=[Attachment(*file) for file in files]
    )
    assert octets.isascii()
    assert octets.endswith(b"\n")
    assert max(map(len, octets.split(b"\n"))) <= 998
    message = message_of(octets)
    assert str(message["Subject"] or "") == subject.strip(" ")
    plain = text if not text or text.endswith("\n") else text + "\n"
    parts = mime.parse(octets)
    leaves = [part for part in parts if not part.is_multipart]
    assert leaves[0].text() == (plain or ("" if len(leaves) > 1 else "\n")) or not text
    if html:
        assert leaves[1].type == "text/html"
        assert leaves[1].content() == (html if html.endswith("\n") else html + "\n").encode()
    attached = leaves[1 + bool(html) :]
    assert [(part.filename, part.type, part.content()) for part in attached] == files
    in_python = list(message.iter_attachments()) if files else []
    assert [part.get_payload(decode=True) for part in in_python] == [file[2] for file in files]


def test_the_shape_of_alternatives_and_attachments() -> None:
    file = Attachment("a.bin", "application/octet-stream", b"\0")
    types = [
        part.get_content_type()
        for part in message_of(octets_of(text="a", html="<p>a", attachments=[file])).walk()
    ]
    assert types == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/octet-stream"
    ]  # fmt: skip


def test_no_content_ends_its_part() -> None:
    evil = "--=_abc-1\n--=_abc-1--\n--=_abc-1x--\n"
    inner = Attachment("m.eml", "message/rfc822", b"A: b\n\n" + evil.encode())
    message = message_of(octets_of(text=evil, attachments=[inner]))
    text, attached = message.iter_parts()
    assert text.get_content() == evil  # type: ignore[attr-defined]
    assert attached.get_content().get_content() == evil  # type: ignore[attr-defined]


def test_a_message_is_attached_as_it_is() -> None:
    original = b"From: a@b\nSubject: \xe9\n\n--x\n\nlast line without end"
    octets = octets_of(attachments=[Attachment("m.eml", "message/rfc822", original)])
    assert original in octets
    part = mime.parse(octets)[2]
    assert (part.type, part.encoding, part.content()) == ("message/rfc822", "8bit", original)


def test_a_message_that_cannot_go_so_is_a_file() -> None:
    original = b"From: a@b\n\nbare \r\n"
    part = mime.parse(octets_of(attachments=[Attachment("m.eml", "message/rfc822", original)]))[2]
    assert (part.type, part.content()) == ("application/octet-stream", original)


def test_text_files_keep_charset_and_octets() -> None:
    files = [
        Attachment("a", "text/x-diff", "ä\n".encode(), "utf-8"),
        Attachment("b", "text/plain", b"a\r\nb", "us-ascii"),
        Attachment("c", "text/plain", b"no end", "us-ascii"),
    ]
    parts = mime.parse(octets_of(attachments=files))[2:]
    assert [(part.type, part.content(), part.params["charset"]) for part in parts] == [
        (file.type, file.octets, file.charset) for file in files
    ]


def test_fields_of_ones_own() -> None:
    message = message_of(
        octets_of(
            headers=[
                ("Message-ID", "<mine@x>"),
                ("date", "Fri, 23 Aug 2002 12:00:00 +0200"),
                ("Sender", "Jörg <j@x.org>"),
            ]
        )
    )
    assert message["Message-ID"] == "<mine@x>"
    assert message["Date"].datetime.day == 23
    assert message["Sender"].address.display_name == "Jörg"
    assert len(message.get_all("Date", [])) == 1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Content-Type", "text/html", "made from the draft"),
        ("content-anything", "x", "made from the draft"),
        ("MIME-Version", "2", "made from the draft"),
        ("To", "a@b", "made from the draft"),
        ("X Y", "x", "not the name of a header field"),
        ("", "x", "not the name of a header field"),
        ("X-A", "a\nBcc: b@c", "control character"),
        ("In-Reply-To", "ä", "not a message id"),
        ("Sender", "nobody", "not an address"),
    ],
)
def test_fields_that_cannot_be(name: str, value: str, why: str) -> None:
    with pytest.raises(BadDataError, match=why):
        octets_of(headers=[(name, value)])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"from_": ()}, "one writer"),
        ({"from_": ME + ANN}, "one writer"),
        ({"subject": "a\nb"}, "control character"),
        ({"to": (Address("", "root"),)}, "not an address"),
        ({"headers": [("References", "<a@b>"), ("references", "<c@d>")]}, "stands twice"),
        ({"attachments": [Attachment("x", "text/plain\nX: y", b"")]}, "not the type of a file"),
        ({"attachments": [Attachment("x", "multipart/mixed", b"")]}, "not the type of a file"),
    ],
)
def test_drafts_that_cannot_be(values: dict[str, Any], why: str) -> None:
    with pytest.raises(BadDataError, match=why):
        octets_of(**values)


def test_mailboxes_that_a_person_wrote() -> None:
    assert compose.mailboxes("To", 'Ann <a@b.c>, "D, E" <d@e.f>, x@y.z') == (
        ("Ann", "a@b.c"), ("D, E", "d@e.f"), ("", "x@y.z")
    )  # fmt: skip
    assert compose.mailboxes("To", "friends: a@b.c, d@e.f;") == (("", "a@b.c"), ("", "d@e.f"))
    assert compose.mailboxes("To", " , ") == ()


@pytest.mark.parametrize("text", ["root", "Ann <>", "a@b.c, nobody", "a@b.c\nBcc: d@e.f", "()"])
def test_mailboxes_that_are_none(text: str) -> None:
    with pytest.raises(BadDataError, match="To: "):
        compose.mailboxes("To", text)
