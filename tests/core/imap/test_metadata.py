"""core/imap/metadata: the arguments of GETMETADATA and SETMETADATA."""

import pytest

from mailtools.core.imap import metadata
from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.metadata import GetMetadata, SetMetadata


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x /private/A", GetMetadata("x", ("/private/a",))),
        ('"" (/shared/a /shared/a "/private/b")', GetMetadata("", ("/shared/a", "/private/b"))),
        ("(MAXSIZE 10 depth infinity) inbox /private/a", GetMetadata("INBOX", ("/private/a",), -1, 10)),
        ("(DEPTH 1) x /private/a", GetMetadata("x", ("/private/a",), 1)),
    ],
)
def test_get(line: str, expected: GetMetadata) -> None:
    assert metadata.get(Cursor(line.encode(), [])) == expected


def test_set() -> None:
    cursor = Cursor(
        b'x (/private/a "1" /private/b nil /private/c ~\x000\x00 /private/A \x001\x00)', [b"\0", b"2"]
    )
    values = (("/private/a", b"2"), ("/private/b", None), ("/private/c", b"\0"))
    assert metadata.change(cursor) == SetMetadata("x", values)


@pytest.mark.parametrize(
    "line",
    [
        "x", "x ()", "x /private", "x /private/", "x private/a", "x /other/a", "x /private/a/", "x /private//a",
        'x "/private/a*"', 'x "/private/a%"', "x /private/" + "a" * 250, "() x /private/a", "(DEPTH 2) x /private/a",
        "(MAXSIZE) x /private/a", "(FROB 1) x /private/a", "(DEPTH 1 x /private/a",
    ],
)  # fmt: skip
def test_what_is_wrong(line: str) -> None:
    with pytest.raises(ImapCommandError):
        metadata.get(Cursor(line.encode(), []))


@pytest.mark.parametrize("line", ["x", "x ()", "x (/private/a)", "x (/private/a x)", 'x (/private/a "1"'])
def test_what_is_wrong_to_set(line: str) -> None:
    with pytest.raises(ImapCommandError):
        metadata.change(Cursor(line.encode(), []))
