"""What FETCH shows of messages is made once and kept."""

from array import array
from pathlib import Path

from mailtools.core.imap import search_keys
from mailtools.core.imap.cursor import Cursor
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.imap.search_keys import SearchKey
from mailtools.core.imap.sections import Section
from mailtools.services.imap_server import fetch, search
from mailtools.services.imap_server.opened import OpenMailboxes, SharedMailbox
from mailtools.services.imap_server.view import View

MESSAGE = b"From a@x Thu Aug 22 12:00:00 2002\nFrom: A <a@x.test>\nSubject: %d\n\ntext\n\n"


def opened(path: Path) -> SharedMailbox:
    return OpenMailboxes().open(str(path), 1.0, True, lambda: 7)


def column(box: SharedMailbox, kind: str) -> list[bytes]:
    rows = range(len(box.states))
    return box.rendered.column(kind, array("I", box.states.uids), rows)


def test_what_was_made_is_found_again_when_the_mbox_was_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(b"".join(MESSAGE % number for number in range(3)))
    box = opened(path)
    first = column(box, "ENVELOPE"), column(box, "BODYSTRUCTURE"), column(box, "INTERNALDATE")
    assert [envelope.split(b" ")[1] for envelope in first[0]] == [b'"0"', b'"1"', b'"2"']
    assert first[2] == [b'"22-Aug-2002 12:00:00 +0000"'] * 3
    box.settle()
    box.expunge([2])
    box.close()
    again = opened(path)
    again.message = again.header = lambda row: None  # type: ignore[method-assign,assignment,return-value]
    for kind, made in zip(("ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE"), first, strict=True):
        assert column(again, kind) == [made[0], made[2]], "nothing was read"


def test_new_messages_are_added(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(MESSAGE % 1)
    box = opened(path)
    assert len(column(box, "ENVELOPE")) == 1
    with path.open("ab") as file:
        file.write(MESSAGE % 2)
    box.refresh()
    assert [envelope.split(b" ")[1] for envelope in column(box, "ENVELOPE")] == [b'"1"', b'"2"']


def test_a_message_that_is_gone_shows_nothing_and_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(MESSAGE % 1)
    box = opened(path)
    box.message = box.header = lambda row: None  # type: ignore[method-assign,assignment,return-value]
    assert column(box, "ENVELOPE") == [b"NIL"]
    box.close()
    assert column(opened(path), "ENVELOPE") != [b"NIL"]


def test_a_large_message_is_told_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(
        MESSAGE % 1 + b"From a@x Thu Aug 22 12:00:00 2002\nA: b\n\n" + b"text\n" * 200_000 + b"\n"
    )
    box = opened(path)
    view = View(box)
    body = FetchItem(b"BODY[TEXT]", "CONTENT", Section((), "TEXT", ()))
    items = (FetchItem(b"UID", "UID"), body, FetchItem(b"RFC822.SIZE", "RFC822.SIZE"), body)
    found = list(fetch.responses(view, [(1, 1), (2, 2)], items, False))
    text = b"BODY[TEXT] {%d}\r\n" + b"text\r\n" * 200_000
    assert len(found) == 6
    assert b"".join(found[1:]) == b"* 2 FETCH (UID 2 %b RFC822.SIZE %d %b)\r\n" % (
        text % 1_200_000, 1_200_008, text % 1_200_000
    )  # fmt: skip
    assert box.lock.acquire(blocking=False)


def searched(box: SharedMailbox, keys: bytes) -> list[int]:
    return [number for number, _ in search.matching(View(box), search_keys.parse(Cursor(keys, []))[1])]


def test_fields_and_dates_are_searched_without_a_second_read(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(
        b"From a@x Thu Aug 22 12:00:00 2002\nFrom: Ann <a@x.test>\nSubject: Lunch\n"
        b"Date: Mon, 1 Jan 2001 23:00:00 -0300\n\ntext\n\n"
        b"From a@x Fri Aug 23 12:00:00 2002\nTo: ann@x.test\nTo: two@x.test\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nlunch\n\n"
        b"From a@x Sat Aug 24 12:00:00 2002\nSubject: \xe2\x84\xaaelvin\n\nx\n\n"
    )
    box = opened(path)
    wanted = {
        b"SUBJECT lunch": [1], b"FROM ANN": [1], b"TO two": [2], b"TO ann": [2], b'SUBJECT ""': [1, 2, 3],
        b'HEADER From ""': [1], b"CC ann": [], b"SUBJECT kelvin": [3], b"SENTON 1-Jan-2001": [1],
        b"SENTSINCE 2-Jan-2001": [], b"SENTBEFORE 2-Jan-2001": [1], b"SINCE 23-Aug-2002": [2, 3],
        b"ON 23-Aug-2002": [2], b"BEFORE 23-Aug-2002": [1], b"YOUNGER 60": [], b"OLDER 60": [1, 2, 3],
        b"SUBJECT lunch BODY text": [1], b"NOT SUBJECT lunch": [2, 3], b"OR SUBJECT lunch TO two": [1, 2],
        b"UNSEEN SUBJECT lunch": [1], b"SEEN": [], b"TEXT lunch": [1, 2],
    }  # fmt: skip
    assert {keys: searched(box, keys) for keys in wanted} == wanted
    gr = "SUBJECT GRÜSSE".encode()
    assert [n for n, _ in search.matching(View(box), SearchKey("FIELD", ("subject", "GRÜSSE")))] == [2], gr
    box.message = box.header = lambda row: None  # type: ignore[method-assign,assignment,return-value]
    again = {
        keys: found
        for keys, found in wanted.items()
        if not {b"BODY", b"TEXT", b"NOT", b"OR"} & set(keys.split())
    }
    again = {keys: found for keys, found in again.items() if b'""' not in keys}
    assert {keys: searched(box, keys) for keys in again} == again


def test_a_preview_is_short_text_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    html = b"Content-Type: text/html; charset=utf-8\n\n<p>Gr\xc3\xbc\xc3\x9fe</p><script>x()</script>\n"
    path.write_bytes(
        b"From a@x Thu Aug 22 12:00:00 2002\nSubject: a\n\n" + b"word \n" * 1000 + b"\n"
        b"From a@x Thu Aug 22 12:00:00 2002\n" + html + b"\n"
        b"From a@x Thu Aug 22 12:00:00 2002\nContent-Type: image/png\n\nx\n\n"
    )  # fmt: skip
    box = opened(path)
    found = column(box, "PREVIEW")
    assert found[0] == b'"' + b"word " * 40 + b'"'
    assert found[1] == b"{7}\r\n" + "Grüße".encode()
