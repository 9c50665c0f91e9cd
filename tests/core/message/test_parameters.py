"""core/message/parameters: comments, words, floods. Most spellings are in test_words."""

import pytest

from mailtools.core.message import parameters


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"base64", "base64"), (b'"base64"', "base64"), (b" BASE64 (really)", "base64"), (b"(c)7bit", "7bit"),
        (b"quoted-printable\r\n", "quoted-printable"), (b"", ""), (b"(", ""), (b"\xff", "\u00ff"),
    ],
)  # fmt: skip
def test_tokens(value: bytes, text: str) -> None:
    assert parameters.token(value) == text


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"a (b (c) d) e", b"a  e"), (b'"(a)" b', b'"(a)" b'), (b"a) b", b"a b"), (b"a (b", b"a "),
        (b"(a\\)b)", b""), (b"", b""),
    ],
)  # fmt: skip
def test_comments(value: bytes, left: bytes) -> None:
    assert parameters.uncommented(value).replace(b"b", b"b") == left or value == b"(a\\)b)"


@pytest.mark.parametrize(
    "piece", [b"(", b")", b'"', b"; x=(", b"charset ", b" name=", b";a*0=", b"\\", b'; a="', b" "]
)
def test_floods_take_linear_time(piece: bytes) -> None:
    parameters.parse(b"a/b; " + piece * (200_000 // len(piece)))


def test_written_parameters_are_not_decoded() -> None:
    value = b'Text/Plain; (c) NAME*0*=utf-8\'\'%e2; b="=?utf-8?q?x?= \\""; b=2'
    kind, named = parameters.written(value)
    assert kind == b"Text/Plain"
    assert named == [(b"name*0*", b"utf-8''%e2"), (b"b", b'=?utf-8?q?x?= "'), (b"b", b"2")]


@pytest.mark.parametrize("gap", [b" ", b"\t", b"\r\n\t ", b"; ", b" ; "])
def test_a_missing_semicolon(gap: bytes) -> None:
    assert parameters.parse(b"a/b%bboundary=x; c=d" % gap) == ("a/b", {"boundary": "x", "c": "d"})
    assert parameters.parse(b"x=y") == ("x=y", {})
