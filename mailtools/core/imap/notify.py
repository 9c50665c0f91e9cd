"""NOTIFY, parsed (RFC 5465 §8): which events a client wants to be told of."""

from typing import NamedTuple

from mailtools.core.imap import fetch_items
from mailtools.core.imap.cursor import Cursor, ImapCommandError
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.imap.lists import mailbox

EVENTS = (
    "MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange",
    "MailboxMetadataChange", "ServerMetadataChange",
)  # fmt: skip
_EVENTS = {event.upper(): event for event in EVENTS}
_OF_MESSAGES = frozenset(EVENTS[:3])
_MOST = 1000  # groups, and names in them
_SELECTED = ("SELECTED", "SELECTED-DELAYED")
_OTHERS = ("PERSONAL", "INBOXES", "SUBSCRIBED", "SUBTREE", "MAILBOXES")


class EventGroup(NamedTuple):
    """The events wanted of some mailboxes. *which*: a filter of RFC 5465 §6; *names*: of the last two."""

    which: str
    events: frozenset[str]
    names: tuple[str, ...] = ()
    items: tuple[FetchItem, ...] = ()  # of MessageNew in the selected mailbox


class Notify(NamedTuple):
    """NOTIFY SET, or NOTIFY NONE without groups. *with_status*: STATUS of each mailbox is wanted now."""

    groups: tuple[EventGroup, ...] = ()
    with_status: bool = False


def parse(cursor: Cursor) -> Notify:
    """The arguments of NOTIFY. Raises ImapCommandError, with BADEVENT for an event that is not known."""
    if cursor.word_if("NONE"):
        return Notify()
    if not cursor.word_if("SET"):
        raise ImapCommandError("SET or NONE expected")
    cursor.space()
    with_status = cursor.word_if("STATUS")
    if with_status:
        cursor.space()
    groups = [_group(cursor)]
    while cursor.takes(b" "):
        groups.append(_group(cursor))
    if sum(group.which in _SELECTED for group in groups) > 1:
        raise ImapCommandError("the selected mailbox is named once")
    if len(groups) + sum(len(group.names) for group in groups) > _MOST:
        raise ImapCommandError("too much to tell of", "NOTIFICATIONOVERFLOW")
    return Notify(tuple(groups), with_status)


def _group(cursor: Cursor) -> EventGroup:
    cursor.needs(b"(")
    which = cursor.word()
    if which not in _SELECTED + _OTHERS:
        raise ImapCommandError("no such mailboxes")
    names: list[str] = []
    if which in ("SUBTREE", "MAILBOXES"):
        cursor.space()
        if cursor.takes(b"("):
            names.append(mailbox(cursor))
            while not cursor.takes(b")"):
                cursor.space()
                names.append(mailbox(cursor))
        else:
            names.append(mailbox(cursor))
    cursor.space()
    events, items = _events(cursor)
    cursor.needs(b")")
    is_selected = which in _SELECTED
    if (is_selected and not events <= _OF_MESSAGES) or (items and not is_selected):  # RFC 5465 §6.1, §8
        raise ImapCommandError("the event is not for these mailboxes")
    return EventGroup(which, events, tuple(names), items)


def _events(cursor: Cursor) -> tuple[frozenset[str], tuple[FetchItem, ...]]:
    found: set[str] = set()
    items: tuple[FetchItem, ...] = ()
    if cursor.word_if("NONE"):
        return frozenset(), items
    cursor.needs(b"(")
    is_first, is_known = True, True
    while is_first or not cursor.takes(b")"):
        if not is_first:
            cursor.space()
        is_first = False
        event = _EVENTS.get(cursor.word(), "")
        is_known = is_known and bool(event)
        found.add(event)
        if event == "MessageNew" and cursor.takes(b" ("):
            cursor.at -= 1
            items = fetch_items.parse(cursor)
    if not is_known:
        raise ImapCommandError("no such event", f"BADEVENT ({' '.join(EVENTS)})")
    asked = found & _OF_MESSAGES
    if asked and not {"MessageNew", "MessageExpunge"} <= asked:  # RFC 5465 §5
        raise ImapCommandError("MessageNew and MessageExpunge are asked for together")
    return frozenset(found), items
