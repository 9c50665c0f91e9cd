"""Messages as a person reads them."""

from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError
from mailtools.services.filters import render


def test_rendered(own: Path) -> None:
    assert render.rendered((own / "nested.eml").read_bytes()) == (
        "Date: Wed, 7 Jan 2026 12:00:00 +0000\nFrom: Alice <alice@example.org>\n"
        "To: bob@example.org\nSubject: Nested\n\n"
        "Plain text.\n\n-------- attached message, part 3 --------\nFrom: Carol <carol@example.org>\n"
        "Subject: Inside\n\nFirst of the inner message.\n\n[2] pünkt.png, image/png, 93 octets\n"
        "[3] message/rfc822, 230 octets\n[3.2] notes.txt, text/plain, 6 octets\n"
        "[1.2] text/html, 24 octets, another form\n"
    )


def test_html_is_rendered_where_there_is_nothing_else(own: Path) -> None:
    text = render.text_of((own / "html-only.eml").read_bytes())
    assert text == "Only today\n\nCafé & tea [1]\n\n* one\n* two\n\n[1] https://shop.example/?a=1&b=2\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.eml", "Café crème, a long line.\n"),
        ("chinese.eml", "大家好，\n\n明天上午十点在三楼会议室开会。\n"),
        ("broken.eml", "The boundary never comes.\n"),
        ("eight-bit.eml", "ça va, 8 bits, no MIME.\n"),
    ],
)
def test_text(own: Path, name: str, text: str) -> None:
    assert render.text_of((own / name).read_bytes()) == text


def test_part_content(own: Path) -> None:
    message = (own / "nested.eml").read_bytes()
    assert render.part_content(message, "1.1") == b"Plain text."
    assert render.part_content(message, "3.2") == b"Notes."
    assert render.part_content(message, "3").startswith(b"From: Carol")
    with pytest.raises(BadDataError, match=r"no part 1\.3; there are 1\.1, 1\.2"):
        render.part_content(message, "1.3")


def test_all_headers_are_decoded(own: Path) -> None:
    lines = render.all_headers((own / "words.eml").read_bytes()).splitlines()
    assert "From: Jürgen Müller <juergen@example.org>" in lines
    assert len(lines) == 7


def test_as_json(own: Path) -> None:
    found = render.as_json((own / "nested.eml").read_bytes())
    assert found["headers"][0] == ["From", "Alice <alice@example.org>"]
    assert [file["part"] for file in found["attachments"]] == ["2", "3", "3.2"]


def test_a_field_is_one_line_whatever_is_encoded_in_it() -> None:
    message = b"Subject: =?utf-8?q?a=0AFrom=3A_boss=40x?=\nFrom: a@b\n\ntext\n"
    text = render.rendered(message)
    assert [line for line in text.split("\n") if line.startswith("From")] == ["From: a@b"]
    assert render.as_json(message)["headers"][0] == ["Subject", "a\u240aFrom: boss@x"]


def test_raw_octets_of_a_header_are_of_the_body_s_charset() -> None:
    message = b"Subject: \xf0\xd2\xc9\nContent-Type: text/plain; charset=koi8-r\n\n\xf0\n"
    assert "Subject: При" in render.rendered(message)
    assert render.as_json(message)["headers"][0][1] == "При"


def test_an_attached_message_has_its_own_heading_and_an_end() -> None:
    message = (
        b"Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n"
        b"From: x@y\nSubject: inner\n\ntheirs\n--b\n\nmine\n--b--\n"
    )
    text = render.text_of(message)
    assert text.index("attached message, part 1") < text.index("Subject: inner") < text.index("theirs")
    assert text.index("theirs") < text.index("end of the attached message") < text.index("mine")
