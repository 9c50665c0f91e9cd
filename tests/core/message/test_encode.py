"""Encoding: what is written is read back, by us and by Python's email package, and no line is too long."""

import re
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, encode, header, mime, parameters, words
from mailtools.core.message.address import Address

ALPHABET = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
TEXT = st.text(ALPHABET, max_size=300) | st.text(
    st.sampled_from("ab =?_é会🎉א\u0301,\"\\()<>@;:.'*%"), max_size=300
)
LONG = st.text(st.sampled_from("a é会🎉"), min_size=500, max_size=3000)


def unfolded(field: bytes) -> bytes:
    assert field.endswith(b"\n")
    return header.unfold(field.partition(b":")[2])


def check_lines(field: bytes, limit: int = encode.MAX_LINE) -> None:
    assert field.isascii()
    lines = field[:-1].split(b"\n")
    assert all(line.strip() for line in lines)
    assert all(line[:1] == b" " for line in lines[1:])
    assert max(map(len, lines)) <= limit


def in_python(field: bytes, name: str) -> str:
    message = message_from_bytes(field + b"\n", policy=policy.default)
    assert list(message.keys()) == [name]
    return str(message[name])


@given(TEXT | LONG)
def test_a_text_comes_back(text: str) -> None:
    field = encode.text_field("Subject", text)
    check_lines(field)
    assert words.decode(unfolded(field)) == text.strip(" ")
    assert len(list(header.fields(field))) == 1
    for word in re.findall(rb"=\?utf-8\?[^ \n]*", field):
        assert len(word) <= 75


@given(TEXT)
def test_python_reads_the_same_text(text: str) -> None:
    field = encode.text_field("X-Text", text)
    if text.strip(" "):
        assert in_python(field, "X-Text") == text.strip(" ")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("hello", b"Subject: hello\n"),
        ("", b"Subject:\n"),
        ("two  spaces", b"Subject: two  spaces\n"),
        ("a\ttab", b"Subject: a tab\n"),
        ("plain grün plain", b"Subject: plain =?utf-8?q?gr=C3=BCn?= plain\n"),
        ("会议通知", b"Subject: =?utf-8?b?5Lya6K6u6YCa55+l?=\n"),
        ("=?utf-8?q?x?=", b"Subject: =?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=\n"),
        ("word " * 20, b"Subject:" + b" word" * 13 + b"\n" + b" word" * 7 + b"\n"),
    ],
)
def test_text_as_it_is_written(text: str, field: bytes) -> None:
    assert encode.text_field("Subject", text) == field


@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\udc80"])
def test_a_control_character_is_refused_everywhere(char: str) -> None:
    evil = f"x{char}Bcc: victim@example.org"
    with pytest.raises(BadDataError, match="Subject: holds the control character"):
        encode.text_field("Subject", evil)
    with pytest.raises(BadDataError):
        encode.address_field("To", [Address(evil, "a@b.c")])
    with pytest.raises(BadDataError):
        encode.address_field("To", [Address("", f"a@b.c{char}")])
    with pytest.raises(BadDataError):
        encode.address_field("To", [Address("", f'"{char}"@b.c')])
    with pytest.raises(BadDataError):
        encode.id_field("References", f"<a@b>{char}<c@d>")
    with pytest.raises(BadDataError):
        encode.text_field(f"X{char}Y", "text")
    lines = encode.parametrised("Content-Disposition", "attachment", [("filename", evil)])
    assert len(list(header.fields(lines))) == 1
    assert parameters.parse(unfolded(lines))[1]["filename"] == "x_Bcc: victim@example.org"


@given(
    st.lists(
        st.tuples(TEXT, st.sampled_from(["a@b.c", "x.y+z@sub.example.org", '"a b"@c.d', "a@[127.0.0.1]"])),
        min_size=1,
        max_size=8,
    )
)
def test_names_come_back_and_make_no_recipients(people: list[tuple[str, str]]) -> None:
    wanted = [Address(name, spec) for name, spec in people]
    field = encode.address_field("To", wanted)
    check_lines(field)
    found = address.addresses(unfolded(field))
    assert [one.spec for one in found] == [one.spec for one in wanted]
    # Beside a quoted local part, white space within a name is read as one space.
    assert [one.name.split() for one in found] == [one.name.split() for one in wanted]


@given(st.lists(st.tuples(TEXT, st.sampled_from(["a@b.c", "x.y+z@sub.example.org"])), min_size=1, max_size=5))
def test_python_finds_the_same_recipients(people: list[tuple[str, str]]) -> None:
    field = encode.address_field("To", [Address(name, spec) for name, spec in people])
    message = message_from_bytes(field + b"\n", policy=policy.default)
    assert [one.addr_spec for one in message["To"].addresses] == [spec for _, spec in people]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Ann Smith", b"To: Ann Smith <a@b.c>\n"),
        ("Smith, Ann", b'To: "Smith, Ann" <a@b.c>\n'),
        ('A "B" \\', b'To: "A \\"B\\" \\\\" <a@b.c>\n'),
        ("J. Doe", b'To: "J. Doe" <a@b.c>\n'),
        ("Łódź, Ann", b"To: =?utf-8?b?xYHDs2TFuiwgQW5u?= <a@b.c>\n"),
        ("=?x", b"To: =?utf-8?b?PT94?= <a@b.c>\n"),
        (" ", b"To: a@b.c\n"),
    ],
)
def test_names_as_they_are_written(name: str, field: bytes) -> None:
    assert encode.address_field("To", [Address(name, "a@b.c")]) == field


def test_an_address_beyond_ascii_stays() -> None:
    field = encode.address_field("To", [Address("Jörg", "jörg@例え.jp")])
    assert field == "To: =?utf-8?q?J=C3=B6rg?= <jörg@例え.jp>\n".encode()


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "root",
        "@b",
        "a@",
        "a b@c",
        "a@b>,<c@d",
        "a@b,c@d",
        "a@-b",
        "a\u1680b@c",
        "a\u00a0<x@y.z>@c",
        "a" * 1000 + "@b",
    ],
)
def test_what_is_no_address(spec: str) -> None:
    with pytest.raises(BadDataError, match="write local@domain"):
        encode.address_field("To", [Address("", spec)])


def test_ids_are_folded_and_never_encoded() -> None:
    ids = [f"<=?utf-8?q?{number:030}?=@example.org>" for number in range(20)]
    field = encode.id_field("References", " ".join(ids))
    check_lines(field, 78)
    assert unfolded(field).decode().split() == ids
    with pytest.raises(BadDataError, match="not a message id"):
        encode.id_field("References", "<ä@b>")


@given(TEXT | LONG)
def test_a_file_name_comes_back(name: str) -> None:
    field = encode.parametrised("Content-Disposition", "attachment", [("filename", name), ("x", "y")])
    check_lines(field, 78)
    kind, found = parameters.parse(unfolded(field))
    assert kind == "attachment"
    assert found["filename"] == name
    assert found["x"] == "y"


@given(st.text(ALPHABET, min_size=1, max_size=100))
def test_python_reads_the_same_file_name(name: str) -> None:
    field = encode.parametrised("Content-Disposition", "attachment", [("filename", name)])
    assert (
        message_from_bytes(field + b"\n", policy=policy.compat32).get_filename() == name.strip()
    )  # it strips


def decoded(content: encode.Content) -> bytes:
    return mime.decode_transfer(content.octets, content.encoding)


def check_content(octets: bytes) -> None:
    content = encode.text_content(octets)
    assert decoded(content) == octets
    assert content.octets.isascii()
    assert b"\r" not in content.octets
    assert b"\0" not in content.octets
    lines = content.octets.split(b"\n")
    assert max(map(len, lines)) <= (998 if content.encoding == "7bit" else 76)


@given(st.binary(max_size=3000))
def test_any_octets_come_back(octets: bytes) -> None:
    check_content(octets)
    whole = encode.binary_content(octets)
    assert decoded(whole) == octets
    assert max(map(len, whole.octets.split(b"\n"))) <= 76


@given(st.text(st.sampled_from("ab .=\n\t é会From "), max_size=3000))
def test_any_text_comes_back(text: str) -> None:
    check_content(text.encode())


@pytest.mark.parametrize(
    ("octets", "encoding"),
    [
        (b"", "7bit"),
        (b"plain\n", "7bit"),
        (b"x" * 998 + b"\n", "7bit"),
        (b"x" * 999 + b"\n", "quoted-printable"),
        ("Größe und mehr davon\n".encode(), "quoted-printable"),
        ("会议通知\n".encode(), "base64"),
        (b"dos\r\nlines\r\n", "base64"),
        (b"nul\0", "base64"),
    ],
)
def test_the_encoding_that_reads_best(octets: bytes, encoding: str) -> None:
    assert encode.text_content(octets).encoding == encoding
    check_content(octets)


def test_a_message_goes_as_it_is_or_not_at_all() -> None:
    assert encode.message_content(b"A: b\n\nc") == ("7bit", b"A: b\n\nc")
    assert encode.message_content(b"A: b\n\n\xe9\n") == ("8bit", b"A: b\n\n\xe9\n")
    assert encode.message_content(b"A: b\n\n\r") is None
    assert encode.message_content(b"A: b\n\n" + b"x" * 999) is None


def test_a_megabyte_takes_no_time_to_speak_of() -> None:
    check_content("ä ".encode() * 500_000)
    assert len(encode.text_field("Subject", "é" * 20_000)) < 120_000
