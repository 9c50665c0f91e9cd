"""services/imap_server/notices: what another session changes is told, once."""

from pathlib import Path

import pytest

from mailtools.core.imap.notify import EVENTS, EventGroup, Notify
from mailtools.services.imap_server import notices
from mailtools.services.imap_server.mailboxes import Mailboxes
from mailtools.services.imap_server.notices import NotifyEvents
from mailtools.system.mbox.mailtree import MailboxError, MailTree
from tests.boxes import append, number

ALL = frozenset(EVENTS)
MESSAGES = frozenset(EVENTS[:2])


@pytest.fixture
def mailboxes(tmp_path: Path) -> Mailboxes:
    tree = MailTree(str(tmp_path))
    for name in ("a", "a/b", "c"):
        tree.create(name)
    return Mailboxes(tree)


def told(mailboxes: Mailboxes, *groups: EventGroup) -> NotifyEvents:
    found = NotifyEvents(mailboxes, Notify(groups))
    assert found.news("") == []
    return found


def test_messages_of_the_mailboxes_that_are_named(mailboxes: Mailboxes) -> None:
    found = told(mailboxes, EventGroup("SUBTREE", MESSAGES, ("a",)), EventGroup("MAILBOXES", ALL, ("nope",)))
    for name in ("a", "a/b", "c"):
        append(Path(mailboxes.tree.mbox(name)), number(1))
    lines = found.news("a")
    assert len(lines) == 1, "a is selected, c is not named"
    assert lines[0].startswith(b"* STATUS a/b (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ")
    assert found.news("") == []
    append(Path(mailboxes.tree.mbox("a")), number(2))
    assert [line[:26] for line in found.news("")] == [b"* STATUS a (MESSAGES 2 UID"]


def test_flags_are_told_only_if_asked_for(mailboxes: Mailboxes) -> None:
    append(Path(mailboxes.tree.mbox("a")), number(1))
    quiet = told(mailboxes, EventGroup("PERSONAL", MESSAGES))
    loud = told(mailboxes, EventGroup("PERSONAL", MESSAGES | {"FlagChange"}))
    box = mailboxes.open("a")
    box.store([1], lambda uid, flags, mask: (flags | 1, mask))
    mailboxes.leave(box)
    assert quiet.news("") == []
    assert b"UNSEEN" in b"".join(loud.news(""))


def test_names(mailboxes: Mailboxes) -> None:
    found, tree = told(mailboxes, EventGroup("PERSONAL", frozenset(("MailboxName",)))), mailboxes.tree
    tree.create("c/d")
    assert found.news("") == [
        b'* LIST (\\HasChildren) "/" c\r\n', b'* LIST (\\HasNoChildren) "/" c/d\r\n',
    ]  # fmt: skip
    tree.delete("c/d")
    assert found.news("") == [
        b'* LIST (\\HasNoChildren) "/" c\r\n', b'* LIST (\\NonExistent \\HasNoChildren) "/" c/d\r\n',
    ]  # fmt: skip
    tree.rename("a", "x y")
    assert found.news("") == [b'* LIST (\\HasChildren) "/" "x y" ("OLDNAME" (a))\r\n']


def test_subscriptions_and_annotations(mailboxes: Mailboxes) -> None:
    found, tree = told(mailboxes, EventGroup("PERSONAL", ALL)), mailboxes.tree
    tree.subscribe("a", True)
    assert found.news("") == [b'* LIST (\\HasChildren \\Subscribed) "/" a\r\n']
    tree.annotate(lambda notes: notes.update({"a": {"/private/x": b"1"}, "": {"/private/y": b"2"}}))
    assert found.news("") == [b'* METADATA "" /private/y\r\n', b"* METADATA a /private/x\r\n"]
    tree.annotate(lambda notes: notes.pop("a"))
    tree.subscribe("a", False)
    assert found.news("") == [b'* LIST (\\HasChildren) "/" a\r\n', b"* METADATA a /private/x\r\n"]


def test_subscribed_mailboxes_are_those_of_now(mailboxes: Mailboxes) -> None:
    found = told(mailboxes, EventGroup("SUBSCRIBED", MESSAGES))
    append(Path(mailboxes.tree.mbox("c")), number(1))
    assert found.news("") == []
    mailboxes.tree.subscribe("c", True)
    found.news("")
    append(Path(mailboxes.tree.mbox("c")), number(2))
    assert b"".join(found.news("")).startswith(b"* STATUS c (MESSAGES 2 ")


def test_too_many_mailboxes(mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(mailboxes, EventGroup("PERSONAL", MESSAGES))
    assert {path.removeprefix(mailboxes.tree.path) for path in found.folders()} == {
        "/", "/.mailtools/", "/a/", "/a/.mailtools/",
    }  # fmt: skip
    monkeypatch.setattr(notices, "_MOST", 4)
    mailboxes.tree.create("d")
    with pytest.raises(MailboxError) as raised:
        found.news("")
    assert raised.value.code == "NOTIFICATIONOVERFLOW"
