"""Commands about mailboxes as a whole: LIST, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Called by a worker. All methods raise MailboxError, MailError and OSError.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.imap import commands
from mailtools.core.imap.events import CommandOutcome
from mailtools.core.imap.lists import List
from mailtools.core.imap.metadata import GetMetadata, SetMetadata
from mailtools.core.mbox.state import DELETED, OLD, SEEN
from mailtools.services.imap_server import listing, metadata, names
from mailtools.services.imap_server.listing import shown
from mailtools.services.imap_server.opened import OpenMailboxes, SharedMailbox
from mailtools.services.mailbox.mailbox import Mailbox
from mailtools.system.mbox.mailroot import INBOX
from mailtools.system.mbox.mailtree import DELIMITER, MailboxError, MailTree

_MOMENT = 0.2  # seconds
_QUOTA_ROOT = b"mail"


class Mailboxes:
    """The mailboxes of one user."""

    def __init__(self, tree: MailTree, opened: OpenMailboxes | None = None) -> None:
        self.tree = tree
        self._opened = opened or OpenMailboxes()

    def open(self, name: str, patience: float = 0.0) -> SharedMailbox:
        """Open mailbox *name*, which must exist; INBOX always does. `leave` it after use."""
        if not self.tree.exists(name):
            raise MailboxError("there is no such mailbox", "NONEXISTENT")
        path = self.tree.mbox(name)
        return self._opened.open(path, patience, name == INBOX, self.tree.new_validity)

    def leave(self, box: SharedMailbox) -> None:
        """Give *box* back."""
        self._opened.leave(box)

    def do(self, command: commands.Command) -> CommandOutcome:
        """Execute a command that is not about messages."""
        return _DO[type(command)](self, command)

    def _noop(self, command: commands.Noop) -> CommandOutcome:
        return CommandOutcome("OK", "done")

    def _namespace(self, command: commands.Namespace) -> CommandOutcome:
        return CommandOutcome("OK", "these", untagged=(b'* NAMESPACE (("" "/")) NIL NIL\r\n',))

    def _create(self, command: commands.Create) -> CommandOutcome:
        name = command.mailbox.removesuffix(DELIMITER)  # RFC 9051 §6.3.4: the declaration is ignored
        if name == INBOX:
            raise MailboxError("INBOX is there already", "ALREADYEXISTS")
        uses = [names.USES.get(use.lower(), "") for use in command.uses]
        if not all(uses):  # RFC 6154 §3: then no mailbox is made
            raise MailboxError("no mailbox can have that use", "USEATTR")
        self.tree.create(name)
        if uses:
            try:
                value = " ".join(uses).encode()
                self.tree.annotate(lambda found: found.update({name: {names.USE_ENTRY: value}}))
            except BaseException:
                with suppress(MailError, OSError):
                    self.tree.delete(name)
                raise
        return CommandOutcome("OK", "created")

    def _delete(self, command: commands.DeleteMailbox) -> CommandOutcome:
        self.tree.delete(command.mailbox)
        return CommandOutcome("OK", "deleted")

    def _rename(self, command: commands.Rename) -> CommandOutcome:
        self.tree.rename(command.mailbox, command.new)
        return CommandOutcome("OK", "renamed")

    def _subscribe(self, command: commands.Subscribe) -> CommandOutcome:
        self.tree.subscribe(command.mailbox, command.wanted)
        return CommandOutcome("OK", "subscribed" if command.wanted else "no longer subscribed")

    def _quota(self, command: commands.GetQuota) -> CommandOutcome:
        """RFC 9208: one quota root for all mailboxes of the user, whose limit is the room on the disk."""
        told = []
        if command.mailbox is not None:
            self.tree.mbox(command.mailbox)
            told.append(b"* QUOTAROOT %b %b\r\n" % (shown(command.mailbox), _QUOTA_ROOT))
        elif command.root != _QUOTA_ROOT:
            raise MailboxError("there is no such quota root", "NONEXISTENT")
        used, left = self.tree.room()
        numbers = (-(-used // 1024), (used + left) // 1024)
        told.append(b"* QUOTA %b (STORAGE %d %d)\r\n" % (_QUOTA_ROOT, *numbers))
        return CommandOutcome("OK", "these", untagged=tuple(told))

    def _get_metadata(self, command: GetMetadata) -> CommandOutcome:
        return metadata.get(self.tree, command)

    def _set_metadata(self, command: SetMetadata) -> CommandOutcome:
        return metadata.store(self.tree, command)

    # -- LIST and STATUS -----------------------------------------------------------------------------------

    def _list(self, command: List) -> CommandOutcome:
        told = listing.responses(self.tree, command, self.briefly)
        return CommandOutcome("OK", "these", untagged=tuple(told), is_raw=True)

    def briefly(self, name: str, items: tuple[str, ...]) -> bytes:
        """STATUS in LIST: of many mailboxes one may be locked for a moment."""
        return self._status_of(name, items, _MOMENT)

    def _status(self, command: commands.StatusOf) -> CommandOutcome:
        return CommandOutcome("OK", "these", untagged=(self._status_of(command.mailbox, command.items),))

    def _status_of(self, name: str, items: tuple[str, ...], patience: float = 0.0) -> bytes:
        box = self.open(name, patience)
        try:
            with box.lock:
                values = b" ".join(b"%b %d" % (item.encode(), _COUNT[item](box)) for item in items)
        finally:
            self.leave(box)
        return b"* STATUS %b (%b)\r\n" % (shown(name), values)


_COUNT: dict[str, Callable[[Mailbox], int]] = {
    "MESSAGES": lambda box: len(box.states),
    "RECENT": lambda box: sum(not flags & OLD for flags in box.states.flags),
    "UIDNEXT": lambda box: box.states.uid_next,
    "UIDVALIDITY": lambda box: box.states.validity,
    "HIGHESTMODSEQ": lambda box: box.states.modseq,
    "UNSEEN": lambda box: sum(not flags & SEEN for flags in box.states.flags),
    "SIZE": lambda box: sum(box.size(row) for row in range(len(box.states))),
    "DELETED-STORAGE": lambda box: sum(
        box.size(row) for row, flags in enumerate(box.states.flags) if flags & DELETED
    ),
    "DELETED": lambda box: sum(bool(flags & DELETED) for flags in box.states.flags),
}
_DO: dict[type, Callable[[Mailboxes, Any], CommandOutcome]] = {
    commands.Noop: Mailboxes._noop,
    commands.Namespace: Mailboxes._namespace,
    commands.Create: Mailboxes._create,
    commands.DeleteMailbox: Mailboxes._delete,
    commands.Rename: Mailboxes._rename,
    commands.Subscribe: Mailboxes._subscribe,
    List: Mailboxes._list,
    commands.StatusOf: Mailboxes._status,
    commands.GetQuota: Mailboxes._quota,
    GetMetadata: Mailboxes._get_metadata,
    SetMetadata: Mailboxes._set_metadata,
}
