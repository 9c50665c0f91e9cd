"""``to_7bit``: what a 7-bit server can carry holds what the message held, and nothing else changed."""

import email
import email.message
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.message import encode, mime
from mailtools.core.message.recode import to_7bit

ADDED = re.compile(
    rb"(?m)^(?:MIME-Version: 1\.0|Content-Type: text/plain; charset=(?:utf-8|unknown-8bit)"
    rb"|Content-Transfer-Encoding:.*)\n"
)


def leaves(octets: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every leaf, as Python reads them."""
    return [
        (part.get_content_type(), part.get_payload(decode=True))  # type: ignore[misc]
        for part in email.message_from_bytes(octets).walk()
        if not part.is_multipart()
    ]


def check(message: bytes) -> bytes:
    result = to_7bit(message)
    assert result.isascii()
    assert max(map(len, result.split(b"\n"))) <= 998
    before, after = leaves(message), leaves(result)
    for (kind, content), (kind_after, content_after) in zip(before, after, strict=True):
        assert kind == kind_after
        assert content_after == content
    assert to_7bit(result) == result
    return result


def refused(message: bytes) -> str:
    with pytest.raises(BadDataError) as caught:
        to_7bit(message)
    assert caught.value.status == "5.6.3"
    return str(caught.value)


HEAD = b"From: a@x\nSubject: hi\n"
TEXT = (
    HEAD + b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
)


def a_multipart(*parts: bytes, boundary: bytes = b"b", kind: bytes = b"mixed", more: bytes = b"") -> bytes:
    """Content-Type and body: to be put behind other fields."""
    inside = b"".join(b"\n--" + boundary + b"\n" + part for part in parts)
    return (
        b'Content-Type: multipart/%s; boundary="%s"%s\n\npreamble' % (kind, boundary, more)
        + inside
        + b"\n--"
        + boundary
        + b"--\nepilogue\n"
    )


# -- texts ---------------------------------------------------------------------------------------------------


def test_a_text() -> None:
    assert to_7bit(TEXT + "Grüße aus dem hohen Norden = \n".encode()) == (
        TEXT.replace(b"8bit", b"quoted-printable") + b"Gr=C3=BC=C3=9Fe aus dem hohen Norden =3D=20\n"
    )


def test_what_needs_nothing_is_not_touched() -> None:
    for message in (b"", b"\n", HEAD, HEAD + b"\n", TEXT + b"ascii\n", TEXT + b"x" * 998 + b"\n"):
        assert to_7bit(message) == message


@pytest.mark.parametrize(("content", "charset"), [("é".encode(), b"utf-8"), (b"\xe9", b"unknown-8bit")])
def test_a_text_that_says_nothing(content: bytes, charset: bytes) -> None:
    assert to_7bit(HEAD + b"\nplain " + content + b" text\n") == (
        HEAD
        + b"MIME-Version: 1.0\nContent-Type: text/plain; charset="
        + charset
        + b"\nContent-Transfer-Encoding: quoted-printable\n\nplain "
        + b"".join(b"=%02X" % octet for octet in content)
        + b" text\n"
    )


def test_a_long_line_alone_tells_of_no_charset() -> None:
    result = check(HEAD + b"\n" + b"long " * 300 + b"\n")
    assert b"Content-Type" not in result
    assert b"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n" in result


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (b"\n\xe9 and more\n", b"\n=E9 and more\n"),
        (b"no header \xe9\n", b"\nno header =E9\n"),
        (HEAD + b"\n\xe9 no newline", b"\n=E9 no newline"),
        (HEAD + b"Content-Transfer-Encoding: 8bit\n--no empty line \xe9\n", b"\n\n=2D-no empty line =E9\n"),
        (HEAD + b"\n--\n\xe9 a line that looks like a delimiter\n", b"=2D-\n=E9 a line"),
    ],
)
def test_odd_messages(message: bytes, result: bytes) -> None:
    assert result in check(message)


def test_mostly_not_text_becomes_base64() -> None:
    result = check(TEXT + b"\xe4\xbc\x9a\xe8\xae\xae\n" * 50)
    assert b"Content-Transfer-Encoding: base64\n\n5LyaCg" not in result
    assert b"Content-Transfer-Encoding: base64\n" in result and result.endswith(b"\n")
    assert max(map(len, result.split(b"\n"))) <= 76


def test_the_field_is_replaced_where_it_stands_and_others_of_its_name_go() -> None:
    message = (
        b"content-transfer-ENCODING :\n 8bit\nSubject: x\nContent-Transfer-Encoding: 7bit\n\na text n\xe9\n"
    )
    assert to_7bit(message) == (
        b"Content-Transfer-Encoding: quoted-printable\nSubject: x\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=unknown-8bit\n\na text n=E9\n"
    )


def test_an_encoding_that_is_broken_is_undone_first() -> None:
    quoted = TEXT.replace(b"8bit", b"quoted-printable")
    assert to_7bit(quoted + "=C3=A9 is encoded, é is not\n".encode()) == (
        quoted + b"=C3=A9 is encoded, =C3=A9 is not\n"
    )
    base64 = TEXT.replace(b"8bit", b"base64")
    whole = encode.binary_content(b"much " * 300).octets
    assert leaves(check(base64 + whole.replace(b"\n", b"")))[0][1] == b"much " * 300
    assert to_7bit(base64 + whole) == base64 + whole


# -- parts ---------------------------------------------------------------------------------------------------

PLAIN = b"Content-Type: text/plain; charset=us-ascii\n\nascii \n"
EIGHT = b"Content-Type: text/plain; charset=latin1\nContent-Transfer-Encoding: 8bit\n\nn\xe9, a text\n\n"
NO_HEADER = b"\ntext of \xe9\n"
LONG = b"Content-Type: application/x\n\n" + b"l" * 5000


def test_parts_that_need_it_and_only_those() -> None:
    message = HEAD + b"MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n" + a_multipart(PLAIN, EIGHT, LONG)
    result = check(message)
    assert result.startswith(HEAD + b"MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n")
    assert PLAIN in result
    assert EIGHT.replace(b"8bit", b"quoted-printable").replace(b"\xe9", b"=E9") in result
    assert result.endswith(b"\n--b--\nepilogue\n")


@pytest.mark.parametrize(
    ("content", "charset"), [("naïve".encode(), b"utf-8"), (b"na\xefve", b"unknown-8bit")]
)
def test_a_part_that_says_nothing(content: bytes, charset: bytes) -> None:
    result = check(HEAD + a_multipart(b"\nplain, " + content + b" text\n", PLAIN))
    assert (
        b"\n--b\nContent-Type: text/plain; charset=%s\n"
        b"Content-Transfer-Encoding: quoted-printable\n\nplain, na=" % charset
    ) in result
    assert PLAIN in result


def test_a_multipart_that_holds_nothing_of_it_keeps_its_field() -> None:
    seven = b"Content-Transfer-Encoding: 8bit\n" + a_multipart(PLAIN, boundary=b"seven")
    eight = b"Content-Transfer-Encoding: 8bit\n" + a_multipart(EIGHT, boundary=b"eight")
    result = check(HEAD + b"Content-Transfer-Encoding: binary\n" + a_multipart(seven, eight))
    assert seven in result
    assert result.count(b"Content-Transfer-Encoding: 7bit\n") == 2
    assert (
        b'hi\nContent-Transfer-Encoding: 7bit\nContent-Type: multipart/mixed; boundary="b"\nMIME-Version'
        in result
    )


def test_a_message_within_a_message_is_recoded_itself() -> None:
    inner = HEAD + b"\ninner \xe9 text\n"
    part = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n" + inner
    result = check(HEAD + a_multipart(PLAIN, part))
    assert (
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\n"
        + HEAD
        + (
            b"MIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n"
            b"Content-Transfer-Encoding: quoted-printable\n\ninner =E9 text\n"
        )
        in result
    )
    check(HEAD + part)


def test_a_digest_whose_messages_have_no_header_of_their_own() -> None:
    check(HEAD + a_multipart(b"\n" + HEAD + b"\n\xe9 is it\n", kind=b"digest"))
    check(HEAD + a_multipart(b"\xe9 is it\n", kind=b"digest"))


def test_a_cut_off_message() -> None:
    whole = HEAD + a_multipart(PLAIN, EIGHT, NO_HEADER)
    for end in range(len(HEAD), len(whole)):
        if whole[:end].isascii():
            assert to_7bit(whole[:end]) == whole[:end]
        else:
            check(whole[:end])


@pytest.mark.parametrize("boundary", [b"=E9", b"=20", b"x=3D", b"a b", b"--", b"b--", b"From x", b"."])
def test_odd_boundaries(boundary: bytes) -> None:
    odd = b"--" + boundary.replace(b"=E9", b"\xe9").replace(b"=20", b" ").replace(b"=3D", b"=")
    odd += b"" if odd != b"--" + boundary else b"\xe9"
    part = b"Content-Type: text/x\n\n" + odd + b"\n\xe9\n" + b"y" * 72 + b"--" + boundary + b"\n"
    result = check(HEAD + a_multipart(PLAIN, part, PLAIN, boundary=boundary))
    assert len(leaves(result)) == 3


@pytest.mark.parametrize("width", range(66, 80))
@pytest.mark.parametrize("text", [b"--b", b"--b--", b"From ", b".", b"-----b", b"=", b"\xe9\xe9"])
def test_no_line_that_was_broken_is_a_delimiter(width: int, text: bytes) -> None:
    part = b"\n\xe9 and\n" + b"y" * width + text + b"\n" + text + b"y" * width + b"\n" + text * 60
    result = check(HEAD + a_multipart(part, PLAIN, boundary=b"b"))
    content = mime.parse(result)[1]
    lines = result[content.body : content.end].split(b"\n")
    assert max(map(len, lines)) <= 76
    assert not any(line.startswith((b"--", b"From ")) or line == b"." for line in lines)


# -- what cannot be --------------------------------------------------------------------------------------------


def test_a_header_that_is_not_ascii() -> None:
    assert "SMTPUTF8" in refused("Subject: é\n\nx\n".encode())
    assert "a part" in refused(HEAD + a_multipart("Content-Description: é\n\nx".encode()))


SIGNED = b'; protocol="application/pgp-signature"'


@pytest.mark.parametrize("kind", [b"signed", b"encrypted"])
def test_what_is_signed_and_8_bit(kind: bytes) -> None:
    message = HEAD + a_multipart(EIGHT, PLAIN, kind=kind, more=SIGNED)
    text = refused(message)
    assert f"multipart/{kind.decode()}" in text and "cannot be re-encoded" in text
    refused(HEAD + a_multipart(PLAIN, a_multipart(EIGHT, boundary=b"in", kind=kind)))
    refused(HEAD + a_multipart(a_multipart(EIGHT, boundary=b"in"), kind=kind))


def test_what_is_signed_and_7_bit_stays_within_what_is_not() -> None:
    signed = a_multipart(PLAIN, LONG[:900], LONG, boundary=b"in", kind=b"signed", more=SIGNED)
    result = to_7bit(HEAD + a_multipart(signed, EIGHT))
    assert signed in result and b"n=E9" in result


def test_smime() -> None:
    part = b"Content-Type: application/pkcs7-mime; smime-type=%s; name=smime.p7m\n\n\x30\x82\n"
    assert "pkcs7" in refused(HEAD + part % b"signed-data")
    check(HEAD + part % b"enveloped-data")


def test_dkim() -> None:
    assert "DKIM-Signature" in refused(b"DKIM-Signature: v=1\n" + TEXT + b"\xe9\n")
    long = b"DKIM-Signature: v=1\n" + TEXT + b"x" * 2000
    assert to_7bit(b"DKIM-Signature: v=1\n" + TEXT + b"x\n") == b"DKIM-Signature: v=1\n" + TEXT + b"x\n"
    assert to_7bit(long) == long
    check(HEAD + b"Content-Type: message/rfc822\n\nDKIM-Signature: v=1\n" + TEXT + b"\xe9\n")


@pytest.mark.parametrize(
    "message",
    [
        HEAD + a_multipart(PLAIN).replace(b"preamble", b"pre\xe9"),
        HEAD + a_multipart(PLAIN).replace(b"epilogue", b"epi\xe9"),
        HEAD + b"Content-Type: multipart/mixed\n\n\xe9\n",
        HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n\xe9\n",
        HEAD + b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n\xe9\n",
        HEAD + b"Content-Type: message/partial\n\n\xe9\n",
        HEAD + b"Content-Transfer-Encoding: x-uuencode\n\n\xe9\n",
        HEAD + a_multipart(*[b"\n"] * mime.MAX_PARTS, b"\n\xe9"),
        HEAD + b"Content-Type: message/rfc822\n\n" * (mime.MAX_DEPTH + 1) + b"\n\xe9\n",
    ],
    ids=str,
)
def test_8_bit_octets_where_none_can_be_encoded(message: bytes) -> None:
    assert "8BITMIME" in refused(message)


# -- properties --------------------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        b"\n", b"\n\n", b"--b", b"--b--", b"\n--b\n", b"\n--c\n", b"\n--b--\n", b"\xe9", b"\xc3\xa9", b" ", b"\t",
        b"Content-Type: multipart/mixed; boundary=b\n", b"Content-Type: multipart/digest; boundary=c\n",
        b"Content-Type: message/rfc822\n", b"Content-Transfer-Encoding: 8bit\n", b"MIME-Version: 1.0\n",
        b"Content-Transfer-Encoding: quoted-printable\n", b"Content-Transfer-Encoding: base64\n", b"A: b\n",
        b"Content-Type: multipart/signed; boundary=c\n", b"x" * 75, b"x" * 999, b"=", b"From ", b".", b"-", b"\0",
    ]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=30).map(b"".join))
@example(b"Content-Type: multipart/digest; boundary=c\n\n\n--c\n\xe9")
@example(b"Content-Type: message/rfc822\nMIME-Version: 1.0\n\xe9")
def test_any_octets_are_refused_or_keep_their_parts(message: bytes) -> None:
    try:
        result = to_7bit(message)
    except BadDataError as error:
        assert error.status == "5.6.3"
        return
    assert result.isascii()
    before, after = mime.parse(message), mime.parse(result)
    shape = [(part.type, part.number, len(part.children)) for part in before]
    assert [(part.type, part.number, len(part.children)) for part in after] == shape
    for part, now in zip(before, after, strict=True):
        if not part.children:
            assert now.content().removesuffix(b"\n") == part.content().removesuffix(b"\n")
    assert to_7bit(result) == result


CONTENTS = st.one_of(
    st.binary(max_size=300).map(lambda octets: octets.translate(None, b"\r\0")),
    st.text(st.sampled_from("ab .=-\té会\n"), max_size=400).map(str.encode),
    st.sampled_from([b"From x\n.\n" * 9 + b"\xe9", b"y" * 5000, b" " * 200 + b"\xe9", b"-" * 999]),
)
LEAVES = st.builds(
    lambda kind, more, content: b"Content-Type: %s\n%s\n%s" % (kind, more, content),
    st.sampled_from([b"text/plain", b"text/html; charset=utf-8", b"image/png", b"application/x"]),
    st.sampled_from([b"", b"Content-Transfer-Encoding: 8bit\n", b"Content-Transfer-Encoding:\n binary\nX: y\n"]),
    CONTENTS,
)  # fmt: skip


def _nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(
            lambda number, parts: a_multipart(*parts, boundary=b"=_%d'()+_,-./:=?" % number),
            st.integers(0, 10**9),
            st.lists(inner, min_size=1, max_size=3),
        ),
        inner.map(lambda part: b"Content-Type: message/rfc822\n\nSubject: inner\n" + part),
    )


@given(st.recursive(LEAVES, _nested, max_leaves=6))
def test_python_reads_the_same_contents_and_nothing_else_changed(part: bytes) -> None:
    message = HEAD + part
    result = check(message)
    assert skeleton(result) == skeleton(message)


def skeleton(message: bytes) -> bytes:
    """A message without the contents of its leaves and the fields of their encoding."""
    kept, at = [], 0
    for part in mime.parse(message):
        kept.append(message[at : part.body])
        at = part.body if part.children else part.end
    return ADDED.sub(
        b"", re.sub(rb"(?m)^Content-Transfer-Encoding:\n .*\n", b"", b"".join(kept) + message[at:])
    )


@pytest.mark.usefixtures("untraced")
def test_endless_lines_and_parts_take_no_time_to_speak_of() -> None:
    check(TEXT + ("é" + "x" * 20).encode() * 100_000)
    check(HEAD + a_multipart(*[NO_HEADER] * 5000))
