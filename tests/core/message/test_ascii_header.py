"""core/message/ascii_header: text as encoded words, addresses as they are, everything else octet for octet."""

import email
import email.policy

import pytest

from mailtools.core.errors import BadDataError
from mailtools.core.message import ascii_header


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ("Subject: 会议\n", "Subject", "会议"),
        ("Subject: =?utf-8?q?caf=C3=A9?= und Grüße\n", "Subject", "café und Grüße"),
        ("SUBJECT : Grüße\n\tund mehr\n", "Subject", "Grüße und mehr"),
        ("From: Jürgen Müller <j@x.test>\n", "From", "Jürgen Müller <j@x.test>"),
        ('To: "Müller, Jürgen" <j@x.test>, bob@y.test\n', "To", '"Müller, Jürgen" <j@x.test>, bob@y.test'),
        ("X-Note: naïve\n", "X-Note", "naïve"),
    ],
)
def test_text_is_encoded(fields: str, name: str, value: str) -> None:
    octets = b"Received: by a\n  with b\n" + fields.encode() + b"Date:  now \n\n"
    found = ascii_header.encoded(octets)
    assert found.isascii()
    assert found.startswith(b"Received: by a\n  with b\n")
    assert found.endswith(b"Date:  now \n\n")
    message = email.message_from_bytes(found, policy=email.policy.default)
    assert str(message[name]) == value
    assert all(len(line) <= 78 for line in found.splitlines())


def test_latin_1_is_encoded_too() -> None:
    found = ascii_header.encoded("Subject: Grüße\n".encode("latin-1"))
    assert email.message_from_bytes(found, policy=email.policy.default)["Subject"] == "Grüße"


def test_an_ascii_header_stays() -> None:
    fields = b"Subject:   odd   spaces \nTo: <a@b> <c@d>\nnot a field\n\n"
    assert ascii_header.encoded(fields) == fields


@pytest.mark.parametrize(
    "fields",
    [
        "From: büro@x.test\n", "To: a@b, c@münchen.test\n", "To: Grüße\n", "Cc: Grüße <a@b> c@d\n",
        'Content-Type: text/plain; name="ü"\n', "keine Felder, nur Grüße\n",
    ],
)  # fmt: skip
def test_what_cannot_be_encoded_is_refused(fields: str) -> None:
    with pytest.raises(BadDataError) as caught:
        ascii_header.encoded(fields.encode())
    assert caught.value.status == "5.6.7"
