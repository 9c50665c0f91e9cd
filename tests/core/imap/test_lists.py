"""core/imap/lists: the arguments of LIST and LSUB, and names that are to be made."""

import pytest

from mailtools.core.imap import lists
from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.lists import List


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '(SUBSCRIBED) "" (a b)',
            List("", ("a", "b"), is_extended=True, filters=("SUBSCRIBED",), with_subscribed=True),
        ),
        (
            '"" % RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES))',
            List("", ("%",), is_extended=True, status=("MESSAGES",)),
        ),
        ('() "" x', List("", ("x",), is_extended=True)),
        (
            '(recursivematch special-use remote) "r" x RETURN (subscribed)',
            List("r", ("x",), False, True, ("SPECIAL-USE",), True, True),
        ),
    ],
)
def test_list(line: str, expected: List) -> None:
    assert lists.parse(Cursor(line.encode(), [])) == expected


@pytest.mark.parametrize(
    "line",
    [
        '(RECURSIVEMATCH) "" *', '(RECURSIVEMATCH REMOTE) "" *', '(FROB) "" *', '"" ()', '"" (a',
        '"" (' + " ".join(["a"] * 101) + ")", '"" ' + "%" * 4001, '"' + "a" * 4000 + '" %',
        '"" * RETURN (METADATA (' + " ".join(["/private/a"] * 101) + "))",
        '"" * RETURN', '"" * RETURN (STATUS)', '"" * RETURN (STATUS ())', '"" * RETURN (FROB)', '"" * FROB',
    ],
)  # fmt: skip
def test_what_is_wrong(line: str) -> None:
    with pytest.raises(ImapCommandError):
        lists.parse(Cursor(line.encode(), []))


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"inbox", "INBOX"),
        (b"inBOX/x", "INBOX/x"),
        (b"inboxes", "inboxes"),
        (b"R&-D", "R&D"),
        (b"caf&AOk-", "café"),
    ],
)
def test_names(octets: bytes, name: str) -> None:
    assert lists.new_mailbox(Cursor(b'"%b"' % octets, [])) == name


@pytest.mark.parametrize("octets", [b"R&D", b"&AGE-", b"&2AA-", b"&AOk", b"&&-", b"&AC8-x"])
def test_no_second_form_of_a_name(octets: bytes) -> None:
    with pytest.raises(ImapCommandError) as raised:
        lists.new_mailbox(Cursor(b'"%b"' % octets, []))
    assert raised.value.code == "CANNOT"
