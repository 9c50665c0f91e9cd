"""core/imap/tree: the parts that IMAP counts."""

import pytest

from mailtools.core.imap import tree
from mailtools.core.message import mime

MESSAGE = (
    b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n'
    b"--o\r\n\r\none\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ntwo one\r\n--i\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ntwo two one\r\n--i--\r\n"
    b"\r\n--o\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\n\r\nthree one\r\n--a--\r\n"
    b"--o--\r\n"
)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ((1,), b"one"),
        ((2, 1), b"two one"),
        ((2, 2), b"Subject: x\r\n\r\ntwo two one"),
        ((2, 2, 1), b"two two one"),
        ((3, 1), b"three one"),
        ((0,), None),
        ((4,), None),
        ((1, 1), None),
        ((2, 3), None),
        ((2, 2, 2), None),
        ((2, 1, 1), None),
        ((9999999999,), None),
    ],
)
def test_find(path: tuple[int, ...], content: bytes | None) -> None:
    part = tree.find(mime.parse(MESSAGE)[0], path)
    assert (part and part.octets[part.body : part.end]) == content


def test_the_body_of_a_message_that_is_no_multipart_is_part_1() -> None:
    root = mime.parse(b"Subject: x\r\n\r\nbegin 644 a\r\n#86)C\r\n`\r\nend\r\n")[0]
    assert root.children  # for a reader there is a file in the text
    assert tree.find(root, (1,)) is root
    assert tree.find(root, (1, 1)) is None
    assert tree.children(root) == []


@pytest.mark.parametrize("kind", [b"multipart/mixed", b"multipart/mixed; boundary=x", b"multipart/digest"])
def test_a_text_stands_in_for_the_parts_of_a_multipart_without_parts(kind: bytes) -> None:
    root = mime.parse(b"Content-Type: %b\r\n\r\n-x\r\ntext\r\n" % kind)[0]
    (part,) = tree.children(root)
    assert part.type == "text/plain"
    assert part.octets[part.body : part.end] == b"-x\r\ntext\r\n"
    found = tree.find(root, (1,))
    assert found is not None
    assert found.body == part.body


def test_a_text_stands_in_for_a_message_that_is_not_opened() -> None:
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    root = mime.parse(head + b"U3ViamVjdDogeA0KDQp4\r\n")[0]
    (part,) = tree.children(root)
    assert part.type == "text/plain"
    assert part.octets[part.body : part.end] == b"U3ViamVjdDogeA0KDQp4\r\n"
    assert tree.children(part) == []
