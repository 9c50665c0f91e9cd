"""core/imap/commands: the arguments of each command, and what is wrong with them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.imap import commands
from mailtools.core.imap.commands import (
    Copy,
    Create,
    DeleteMailbox,
    Expunge,
    Fetch,
    Leave,
    List,
    Namespace,
    Noop,
    Rename,
    Search,
    Select,
    StatusOf,
    Store,
    Subscribe,
)  # fmt: skip
from mailtools.core.imap.cursor import Cursor, ImapCommandError, SequenceSet
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.imap.search_keys import SearchKey
from mailtools.core.imap.sections import Section

ONE = SequenceSet(((1, 1),))


def parse(line: str, *literals: bytes) -> commands.Command:
    word, _, _ = line.partition(" ")
    cursor = Cursor(line.encode(), literals)
    cursor.at = len(word)
    return commands.parse(word.upper(), cursor)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NOOP", Noop()),
        ("check", Noop(True)),
        ("NAMESPACE", Namespace()),
        ("CLOSE", Leave(True)),
        ("UNSELECT", Leave(False)),
        ("EXPUNGE", Expunge(None)),
        ("UID EXPUNGE 1", Expunge(ONE)),
        ("SELECT inbox", Select("INBOX", False)),
        ("SELECT x (CONDSTORE)", Select("x", False, frozenset(("CONDSTORE",)))),
        ('EXAMINE "a b"', Select("a b", True)),
        ("CREATE &APw-", Create("ü")),
        ('CREATE "a \\"b\\\\"', Create('a "b\\')),
        ("DELETE x", DeleteMailbox("x")),
        ("RENAME a b/c", Rename("a", "b/c")),
        ("SUBSCRIBE x", Subscribe("x", True)),
        ("UNSUBSCRIBE x", Subscribe("x", False)),
        ('LIST "" *', List("", ("*",))),
        ('LSUB "" %', List("", ("%",), is_lsub=True, filters=("SUBSCRIBED",))),
        ("STATUS x (messages UIDNEXT)", StatusOf("x", ("MESSAGES", "UIDNEXT"))),
        ("STORE 1 FLAGS \\seen", Store(False, ONE, "", False, (b"\\Seen",))),
        (
            "UID STORE 1 +flags.silent (\\DELETED $Junk $Junk)",
            Store(True, ONE, "+", True, (b"\\Deleted", b"$Junk")),
        ),
        ("STORE 1 -FLAGS ()", Store(False, ONE, "-", False, ())),
        ("COPY 1 x", Copy(False, ONE, "x", False)),
        ("UID MOVE 1 inBOX", Copy(True, ONE, "INBOX", True)),
    ],
)
def test_commands(line: str, expected: commands.Command) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "NOOP x", "SELECT", "SELECT ", "SELECT a b", "CREATE", "RENAME a", "LIST", "LIST \"\"", "STATUS x ()",
        "STATUS x (FROB)", "STORE 1", "STORE 1 FLAGS \\Recent", "STORE 0 FLAGS x", "STORE 4294967296 FLAGS x",
        "STORE 1 FROB x", "UID", "UID FROB 1", "UID NOOP", "COPY 1", "COPY x y", "FETCH 1", "FETCH 1 ()",
        "FETCH 1 (UID", "FETCH 1 FROB", "FETCH 1 BODY[", "FETCH 1 BODY[FROB]", "FETCH 1 BODY[0]",
        "FETCH 1 BODY[HEADER.FIELDS ()]", "FETCH 1 BODY[]<1.0>", "FETCH 1 BINARY[HEADER]", "SEARCH", "SEARCH FROB",
        "SEARCH (ALL", "SEARCH ALL)", "SEARCH NOT", "SEARCH OR ALL", "SEARCH SINCE 1-Foo-2026", "SEARCH LARGER x",
        "SEARCH RETURN (FROB) ALL", "SEARCH " + "(" * 200 + "ALL" + ")" * 200, "SEARCH " + "NOT " * 200 + "ALL",
        "SEARCH " + "ALL " * 6000 + "ALL", "SELECT \"a",
    ],
)  # fmt: skip
def test_what_is_wrong(line: str) -> None:
    with pytest.raises(ImapCommandError):
        parse(line)


def items(line: str, *literals: bytes) -> tuple[FetchItem, ...]:
    found = parse(f"FETCH 1 {line}", *literals)
    assert isinstance(found, Fetch)
    return found.items


def test_items_of_fetch() -> None:
    assert [item.kind for item in items("ALL")] == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"]
    assert [item.kind for item in items("(uid flags uid)")] == ["UID", "FLAGS"]
    assert items("BODY") == (FetchItem(b"BODY", "BODY"),)
    assert items("BODY[]") == (FetchItem(b"BODY[]", "CONTENT", Section(), False),)
    assert items("body.peek[1.2.mime]<5.10>") == (
        FetchItem(b"BODY[1.2.MIME]<5>", "CONTENT", Section((1, 2), "MIME"), True, (5, 10)),
    )
    (item,) = items('BODY.PEEK[2.HEADER.FIELDS.NOT (Subject "x y")]')
    assert item.name == b'BODY[2.HEADER.FIELDS.NOT (Subject "x y")]'
    assert item.section == Section((2,), "HEADER.FIELDS.NOT", (b"SUBJECT", b"X Y"))
    assert items("BODY[HEADER.FIELDS (\0" + "0\0)]", b"From")[0].section.fields == (b"FROM",)
    assert items("RFC822")[0] == FetchItem(b"RFC822", "CONTENT", Section(), False)
    assert items("RFC822.peek")[0] == FetchItem(b"RFC822", "CONTENT", Section(), True)
    assert items("RFC822.HEADER")[0].is_peek
    assert [item.kind for item in items("(BINARY.PEEK[1] BINARY.SIZE[1] BINARY[1]<0.5>)")] == [
        "BINARY", "BINARY.SIZE", "BINARY",
    ]  # fmt: skip


def key(line: str, *literals: bytes) -> SearchKey:
    found = parse(f"SEARCH {line}", *literals)
    assert isinstance(found, Search)
    return found.key


@pytest.mark.parametrize(
    "line",
    [
        f"FETCH 1 ({' '.join(f'BODY[{n}]' for n in range(1, 252))})",
        f"FETCH 1 BODY[HEADER.FIELDS ({' '.join(f'x{n}' for n in range(251))})]",
        f"STORE 1 +FLAGS ({'k' * 251})",
    ],
)
def test_what_would_take_too_much_is_refused(line: str) -> None:
    with pytest.raises(ImapCommandError) as error:
        parse(line)
    assert error.value.code == "LIMIT"


@pytest.mark.parametrize(
    "moment", ["31-Feb-0000 00:00:00 +0000", "01-Feb-2000 24:00:00 +0000", "01-Feb-2000 00:00:00 +9900"]
)
def test_dates_of_no_calendar(moment: str) -> None:
    cursor = Cursor(f'"{moment}"'.encode(), ())
    with pytest.raises(ImapCommandError):
        cursor.date_time()


def test_keys_of_search() -> None:
    assert key("UNSEEN") == SearchKey("FLAG", (b"\\Seen", False))
    assert key("1 UID 1") == SearchKey(
        "AND", None, (SearchKey("SET", (ONE, False)), SearchKey("SET", (ONE, True)))
    )
    assert key("OR FROM ann (NOT TO \"b c\")") == SearchKey(
        "OR", None,
        (SearchKey("FIELD", ("from", "ann")), SearchKey("NOT", None, (SearchKey("FIELD", ("to", "b c")),))),
    )  # fmt: skip
    assert key("HEADER X-Y \0" + "0\0", "ü".encode()) == SearchKey("FIELD", ("x-y", "ü"))
    assert key("CHARSET utf-8 BODY x") == SearchKey("BODY", "x")
    assert key("SENTSINCE 1-Feb-2026") == SearchKey("DATE", (True, ">=", (2026, 2, 1)))
    assert key('BEFORE "03-Mar-1999"') == SearchKey("DATE", (False, "<", (1999, 3, 3)))
    assert key("LARGER 5") == SearchKey("LARGER", 5)
    assert key("YOUNGER 60") == SearchKey("AGE", ("<", 60))
    assert key("KEYWORD $Junk") == SearchKey("KEYWORD", (b"$Junk", True))
    found = parse("UID SEARCH RETURN () ALL")
    assert found == Search(True, ("ALL",), SearchKey("ALL"))
    with pytest.raises(ImapCommandError) as raised:
        key("CHARSET koi8-r ALL")
    assert raised.value.code.startswith("BADCHARSET")


def test_the_date_of_append() -> None:
    found = commands.append(Cursor(b'x (\\Draft) " 7-Feb-1994 21:52:25 -0800" ', ()))
    assert found == commands.AppendMessage("x", (b"\\Draft",), 760686745.0)
    assert commands.append(Cursor(b"inbox ", ())) == commands.AppendMessage("INBOX", (), None)


def test_sets_are_sorted_and_joined() -> None:
    numbers = Cursor(b"5:3,1,2,*,10:*,7", ()).sequence_set()
    assert numbers.ranges(12) == [(1, 5), (7, 7), (10, 12)]
    many = Cursor(b",".join(b"%d" % n for n in range(1, 200_001)), ()).sequence_set()
    assert many.ranges(10) == [(1, 200_000)]


@given(
    st.sampled_from(["SEARCH ", "FETCH 1 ", "STORE 1 ", "LIST ", "STATUS ", "COPY 1 "]),
    st.binary(max_size=80),
)
def test_any_octets_are_a_command_or_wrong(start: str, octets: bytes) -> None:
    word = start.partition(" ")[0]
    cursor = Cursor(start.encode() + octets.replace(b"\0", b""), ())
    cursor.at = len(word)
    with suppress(ImapCommandError):
        commands.parse(word, cursor)
