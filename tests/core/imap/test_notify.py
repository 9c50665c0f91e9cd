"""core/imap/notify: the arguments of NOTIFY."""

import pytest

from mailtools.core.imap import notify
from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.notify import EventGroup, Notify

MESSAGES = frozenset(("MessageNew", "MessageExpunge"))


def parse(line: str) -> Notify:
    cursor = Cursor(line.encode(), [])
    found = notify.parse(cursor)
    cursor.end()
    return found


def test_what_is_asked_for() -> None:
    assert parse("none") == Notify()
    found = parse("SET status (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge)) (subtree (a b) NONE)")
    assert found.with_status
    first, second = found.groups
    assert (first.which, first.events, [item.kind for item in first.items]) == (
        "SELECTED", MESSAGES, ["UID", "CONTENT"],
    )  # fmt: skip
    assert second == EventGroup("SUBTREE", frozenset(), ("a", "b"))
    found = parse("SET (mailboxes inbox (messagenew messageexpunge flagchange)) (personal (MailboxName))")
    assert found.groups[0] == EventGroup("MAILBOXES", MESSAGES | {"FlagChange"}, ("INBOX",))


@pytest.mark.parametrize(
    "line",
    [
        "", "SET", "SET ", "SET STATUS", "SET (selected)", "SET (selected ())", "SET (mailboxes (MessageNew))",
        "SET (frob (MailboxName))", "SET (personal (MessageNew))", "SET (personal (FlagChange))",
        "SET (personal (MessageExpunge))", "SET (selected (MailboxName))", "SET (selected NONE) (selected NONE)",
        "SET (personal (MessageNew (UID) MessageExpunge))", "SET (personal (MailboxName)) x", "NONE x", "FROB",
        "SET (selected (MessageNew (FROB) MessageExpunge))",
    ],
)  # fmt: skip
def test_what_is_wrong(line: str) -> None:
    with pytest.raises(ImapCommandError) as raised:
        parse(line)
    assert not raised.value.code


def test_too_many_names() -> None:
    names = " ".join(f"m{number}" for number in range(1000))
    with pytest.raises(ImapCommandError) as raised:
        parse(f"SET (mailboxes ({names}) NONE)")
    assert raised.value.code == "NOTIFICATIONOVERFLOW"


@pytest.mark.parametrize("event", ["AnnotationChange", "Frob"])
def test_events_that_are_not_known(event: str) -> None:
    with pytest.raises(ImapCommandError) as raised:
        parse(f"SET (personal (MailboxName {event}))")
    assert raised.value.code.startswith("BADEVENT (MessageNew MessageExpunge ")
