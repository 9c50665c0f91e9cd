"""core/message/uuencode: files in a text, and as a transfer encoding."""

from binascii import b2a_uu

import pytest

from mailtools.core.message import mime, uuencode
from mailtools.services.filters import render


def encoded(octets: bytes, name: bytes = b"a.bin") -> bytes:
    lines = b"".join(b2a_uu(octets[at : at + 45]) for at in range(0, len(octets), 45))
    return b"begin 644 %b\n%b`\nend\n" % (name, lines)


FILE = bytes(range(256)) * 3


@pytest.mark.parametrize("name", uuencode.NAMES)
@pytest.mark.parametrize("octets", [b"", b"x", FILE])
def test_as_a_transfer_encoding(name: str, octets: bytes) -> None:
    assert mime.decode_transfer(encoded(octets), name) == octets
    assert mime.decode_transfer(encoded(octets).replace(b"\n", b"\r\n"), name) == octets


def test_files_in_a_text_are_parts_of_it() -> None:
    message = (
        b"Subject: x\n\nbefore\n"
        + encoded(FILE)
        + b"between\n"
        + encoded(b"two", b"\xc3\xa9.txt")
        + b"after\n"
    )
    parts = mime.parse(message)
    assert [(p.number, p.type, p.filename) for p in parts[1:]] == [
        ("1.1", "application/octet-stream", "a.bin"), ("1.2", "application/octet-stream", "é.txt"),
    ]  # fmt: skip
    assert [p.content() for p in parts[1:]] == [FILE, b"two"]
    assert parts[0].text() == "before\n[a.bin: part 1.1]\nbetween\n[é.txt: part 1.2]\nafter\n"
    assert [p.number for p in mime.attachments(parts)] == ["1.1", "1.2"]
    assert render.part_content(message, "1.1") == FILE


@pytest.mark.parametrize(
    "text",
    [
        b"begin 644 x\nno end here\n",
        b"begin the day\n#\nend\n",
        b"begin 644 \n`\nend\n",
        b"  begin 644 x\n`\nend\n",
    ],
)
def test_what_is_no_file_is_text(text: bytes) -> None:
    assert uuencode.find(text) == []
    (part,) = mime.parse(b"A: b\n\n" + text)
    assert part.text().encode() == text


@pytest.mark.parametrize("piece", [b"begin 644 x\n", b"M" + b"A" * 60 + b"\n", b"begin 644 x\n#\n", b"end\n"])
def test_floods_take_linear_time(piece: bytes) -> None:
    octets = piece * (1_000_000 // len(piece))
    uuencode.find(octets)
    uuencode.decode(octets)


def test_a_file_does_not_grow() -> None:
    """A line of one octet may say that it has 45: all of them together are no more than what was sent."""
    octets = b"begin 644 x\n" + b"M\n" * 100_000 + b"`\nend\n"
    assert len(uuencode.decode(octets)) <= len(octets) + 45
