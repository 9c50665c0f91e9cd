"""What NOTIFY tells of mailboxes that are not selected (RFC 5465 §5): what changed since the last look.

Called by a worker. A look compares the files of the mailboxes, and opens those that changed.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from mailtools.core.errors import MailError
from mailtools.core.imap.notify import EventGroup, Notify
from mailtools.services.imap_server import names
from mailtools.services.imap_server.listing import shown
from mailtools.services.imap_server.mailboxes import Mailboxes
from mailtools.system.files.durable import STATE_FOLDER
from mailtools.system.mbox.annotations import Annotations
from mailtools.system.mbox.mailtree import DELIMITER, MailboxError
from mailtools.system.mbox.state_file import files_of

_MOST = 1000  # mailboxes and folders of mailboxes that one client is told of
_NUMBERS = ("MESSAGES", "UIDNEXT", "UIDVALIDITY")
Stamp = tuple[tuple[int, ...], ...]


class _Seen(NamedTuple):
    """What a look found."""

    mailboxes: dict[str, bool]
    places: dict[str, tuple[int, int]]  # mailbox -> (device, inode) of its mbox or folder
    subscribed: set[str]
    annotations: Annotations


class NotifyEvents:
    """The events that a client wants of its user's mailboxes. Raises MailboxError if these are too many."""

    def __init__(self, mailboxes: Mailboxes, command: Notify) -> None:
        self._mailboxes = mailboxes
        self._groups = [group for group in command.groups if not group.which.startswith("SELECTED")]
        self._stamps: dict[str, Stamp] = {}
        self._status: dict[str, bytes] = {}  # mailbox -> its numbers as they were told
        self._seen = self._look()
        self._compare(self._seen)

    def status(self, selected: str) -> list[bytes]:
        """STATUS of all mailboxes that are not *selected*, for NOTIFY SET STATUS (§3.1)."""
        return [numbers for name, numbers in self._status.items() if name != selected and numbers]

    def folders(self) -> set[str]:
        """The folders whose files change with what is told of."""
        if not self._groups:
            return set()
        tree = self._mailboxes.tree
        parents = names.parents_of(self._seen.mailboxes)
        above = [tree.path, *(tree.mbox(name).removesuffix(".mbox") for name in parents)]
        return {os.path.join(path, inner) for path in above for inner in ("", STATE_FOLDER + "/")}

    def news(self, selected: str) -> list[bytes]:
        """The responses about what changed since the last call. Raises MailboxError, OSError."""
        if not self._groups:
            return []
        before, now = self._seen, self._look()
        self._seen = now
        told = [*self._renamed(before, now), *self._noted(before, now)]
        return told + [numbers for name, numbers in self._compare(now).items() if name != selected]

    # -- looking -------------------------------------------------------------------------------------------

    def _look(self) -> _Seen:
        tree = self._mailboxes.tree
        mailboxes = tree.names() if self._groups else {}
        if len(mailboxes) > _MOST:
            raise MailboxError("there are too many mailboxes to tell of", "NOTIFICATIONOVERFLOW")
        places = {}
        for name, is_mbox in mailboxes.items():
            path = tree.mbox(name)
            with suppress(OSError):
                status = os.lstat(path if is_mbox else path.removesuffix(".mbox"))
                places[name] = (status.st_dev, status.st_ino)
        return _Seen(mailboxes, places, tree.subscriptions(), tree.annotations())

    def _compare(self, seen: _Seen) -> dict[str, bytes]:
        """STATUS of the mailboxes whose numbers changed."""
        changed = {}
        for name, is_mbox in seen.mailboxes.items():
            events = self._events(name, seen)
            if not is_mbox or "MessageNew" not in events:
                continue
            stamp = _stamp(self._mailboxes.tree.mbox(name))
            if self._stamps.get(name) == stamp:
                continue
            numbers = self._numbers(name, events)
            if numbers is None:  # it is locked: look again next time
                continue
            self._stamps[name] = stamp
            if self._status.get(name) != numbers:
                changed[name] = self._status[name] = numbers
        for name in self._status.keys() - seen.mailboxes.keys():
            del self._status[name]
            self._stamps.pop(name, None)
        return changed

    def _numbers(self, name: str, events: frozenset[str]) -> bytes | None:
        items = (*_NUMBERS, *(("UNSEEN",) if "FlagChange" in events else ()))
        items = (*items, "HIGHESTMODSEQ") if "FlagChange" in events else items
        try:
            return self._mailboxes.briefly(name, items)
        except (MailError, OSError):
            return None

    def _events(self, name: str, seen: _Seen) -> frozenset[str]:
        """The events wanted of mailbox *name*: of all groups that it belongs to (§6)."""
        return frozenset().union(*(group.events for group in self._groups if _is_of(group, name, seen)))

    # -- names, subscriptions, annotations -----------------------------------------------------------------

    def _renamed(self, before: _Seen, now: _Seen) -> Iterator[bytes]:
        """LIST of mailboxes that came, went, or have another name (§5.4)."""
        gone = before.mailboxes.keys() - now.mailboxes.keys()
        came = now.mailboxes.keys() - before.mailboxes.keys()
        whose = {before.places[name]: name for name in gone if name in before.places}
        moved = {new: whose[place] for new in came if (place := now.places.get(new)) in whose}
        old_names = set(moved.values())
        affected = gone - old_names | came
        for name in list(affected - moved.keys()):
            above = name.rpartition(DELIMITER)[0]
            if above and not any(one in moved or one in old_names for one in _upwards(name)):
                affected.add(above)
        for name in sorted(affected):
            above = name.rpartition(DELIMITER)[0]
            old = moved.get(name, "")
            if old and above in moved and old.startswith(moved[above] + DELIMITER):
                continue  # §5.4: it went along with the mailbox above
            if "MailboxName" in self._events(name, now) | self._events(old, before):
                yield self._list(name, now, f' ("OLDNAME" ({shown(old).decode()}))' if old else "")

    def _noted(self, before: _Seen, now: _Seen) -> Iterator[bytes]:
        """LIST of changed subscriptions (§5.5), METADATA of changed annotations (§5.6, §5.7)."""
        for name in sorted(before.subscribed ^ now.subscribed):
            if "SubscriptionChange" in self._events(name, now) | self._events(name, before):
                yield self._list(name, now)
        for name in sorted(before.annotations.keys() | now.annotations.keys()):
            old, new = before.annotations.get(name, {}), now.annotations.get(name, {})
            entries = sorted(entry for entry in old.keys() | new.keys() if old.get(entry) != new.get(entry))
            if name:
                is_wanted = name in now.mailboxes and "MailboxMetadataChange" in self._events(name, now)
            else:
                is_wanted = any("ServerMetadataChange" in group.events for group in self._groups)
            if entries and is_wanted:
                told = shown(name) if name else b'""'
                yield b"* METADATA %b %b\r\n" % (told, " ".join(entries).encode())

    def _list(self, name: str, now: _Seen, more: str = "") -> bytes:
        parents, uses = names.parents_of(now.mailboxes), names.uses_of(now.mailboxes, now.annotations)
        found = names.attributes(name, now.mailboxes, parents, uses)
        if name in now.subscribed:
            found.append("\\Subscribed")
        return b'* LIST (%b) "/" %b%b\r\n' % (" ".join(found).encode(), shown(name), more.encode())


def _is_of(group: EventGroup, name: str, seen: _Seen) -> bool:
    if group.which == "SUBSCRIBED":
        return name in seen.subscribed
    if group.which == "MAILBOXES":
        return name in group.names
    if group.which == "SUBTREE":
        return any(name == one or name.startswith(one + DELIMITER) for one in group.names)
    return bool(name)  # RFC 5465 §6.3: INBOXES may be all; mail is delivered to any mbox


def _upwards(name: str) -> Iterator[str]:
    """The names above *name*."""
    while DELIMITER in name:
        name = name.rpartition(DELIMITER)[0]
        yield name


def _stamp(path: str) -> Stamp:
    found: list[tuple[int, ...]] = []
    for file in files_of(path):
        with suppress(OSError):
            status = os.lstat(file)
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
