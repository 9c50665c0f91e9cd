"""services/imap_server/news: what is told of the selected mailbox, in a session without a clock."""

import os
from pathlib import Path

import pytest

from mailtools.services.imap_server import notices
from mailtools.system.mbox.mailtree import MailTree
from tests.boxes import append, number
from tests.services.imap_server.test_session import Room, room


def told(found: Room, tmp_path: Path) -> bytes:
    """Let the session look: what it says."""
    found.said = b""
    found.session._look()
    found.work()
    return found.said


def opened(tmp_path: Path, notify: bytes) -> Room:
    found = room(tmp_path)
    found.say(b"n NOTIFY %b\r\n" % notify)
    found.work()
    assert b"n OK done" in found.said
    return found


def test_new_messages_come_with_what_was_asked_for(tmp_path: Path) -> None:
    found = opened(tmp_path, b"SET (selected (MessageNew (UID RFC822.SIZE) MessageExpunge))")
    assert told(found, tmp_path) == b""
    append(tmp_path / "bob" / "INBOX.mbox", number(7))
    size = len(number(7))
    assert told(found, tmp_path) == (
        b"* 4 EXISTS\r\n* 4 RECENT\r\n* 4 FETCH (UID 4 RFC822.SIZE %d)\r\n" % size
    )
    assert told(found, tmp_path) == b""


@pytest.mark.parametrize(("which", "is_now"), [(b"selected", True), (b"selected-delayed", False)])
def test_expunged_messages(tmp_path: Path, which: bytes, is_now: bool) -> None:
    other = room(tmp_path)
    found = opened(tmp_path, b"SET (%b (MessageNew MessageExpunge))" % which)
    other.say(b"x STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\ny UID EXPUNGE 2\r\n")
    other.work()
    assert told(found, tmp_path) == (b"* 2 EXPUNGE\r\n" if is_now else b"")
    found.say(b"z NOOP\r\n")
    found.work()
    assert found.said.count(b"* 2 EXPUNGE\r\n") == 1
    assert b"* 1 FETCH (FLAGS (\\Deleted" in found.said, "flags were not asked for, NOOP tells of them"


def test_flags_have_the_uid(tmp_path: Path) -> None:
    other = room(tmp_path)
    found = opened(tmp_path, b"SET (selected (MessageNew MessageExpunge FlagChange))")
    other.say(b"x STORE 3 +FLAGS.SILENT (\\Seen)\r\n")
    other.work()
    assert told(found, tmp_path).startswith(b"* 3 FETCH (UID 3 FLAGS (\\Seen")


@pytest.mark.parametrize("notify", [b"NONE", b"SET (personal (MailboxName))", b"SET (selected NONE)"])
def test_idle_tells_what_notify_asked_for(tmp_path: Path, notify: bytes) -> None:
    found = opened(tmp_path, notify)
    found.say(b"i IDLE\r\n")
    found.work()
    append(tmp_path / "bob" / "INBOX.mbox", number(7))
    assert told(found, tmp_path) == b""


def test_idle_ends_after_what_was_found_is_told(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"i IDLE\r\n")
    append(tmp_path / "bob" / "INBOX.mbox", number(7))
    found.said = b""
    found.say(b"DONE\r\n")
    found.work()
    assert found.said == b"* 4 EXISTS\r\n* 4 RECENT\r\ni OK no longer idle\r\n"


def test_what_the_client_does_itself_is_no_news(tmp_path: Path) -> None:
    found = opened(tmp_path, b"SET (personal (MailboxName SubscriptionChange MessageNew MessageExpunge))")
    found.said = b""
    found.say(b"a CREATE x\r\nb SUBSCRIBE x\r\nc COPY 1:2 x\r\nd APPEND x {1+}\r\ny\r\n")
    found.work()
    assert b"*" not in found.said
    assert found.said.count(b" OK ") == 4
    assert told(found, tmp_path) == b""


def test_too_many_mailboxes_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(tmp_path, b"SET (personal (MailboxName))")
    monkeypatch.setattr(notices, "_MOST", 1)
    MailTree(str(tmp_path / "bob")).create("x")
    assert told(found, tmp_path).startswith(b"* OK [NOTIFICATIONOVERFLOW] ")
    assert told(found, tmp_path) == b""
    found.say(b"n NOTIFY SET (personal (MailboxName))\r\n")
    found.work()
    assert b"n NO [NOTIFICATIONOVERFLOW]" in found.said


def test_a_locked_mbox_does_not_keep_the_client_from_ending_idle(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"i IDLE\r\n")
    found.work()
    append(tmp_path / "bob" / "INBOX.mbox", number(7))
    lock = tmp_path / "bob" / "INBOX.mbox.lock"
    lock.write_text(f"{os.getppid()}\n")
    assert told(found, tmp_path) == b""
    found.timers[-1]()
    found.say(b"DONE\r\n")
    found.work()
    assert found.said == b"i OK no longer idle\r\n"
    lock.unlink()
    found.said = b""
    found.say(b"j IDLE\r\n")
    found.work()
    assert b"* 4 EXISTS" in found.said
