"""What FETCH shows of messages is made once and kept."""

from array import array
from pathlib import Path

from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.imap.sections import Section
from mailtools.services.imap_server import fetch
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
