"""Commands about mailboxes as a whole: LIST, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Called by a worker. All methods raise MailboxError, MailError and OSError.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mailtools.core.imap import commands, strings, utf7
from mailtools.core.imap.events import CommandOutcome
from mailtools.core.mbox.state import DELETED, OLD, SEEN
from mailtools.services.imap_server import names
from mailtools.services.mailbox.mailbox import Mailbox
from mailtools.system.mbox.mailroot import INBOX
from mailtools.system.mbox.mailtree import DELIMITER, MailboxError, MailTree


def shown(name: str) -> bytes:
    """The name of a mailbox in a response (modified UTF-7)."""
    return strings.astring(utf7.encode(name).encode())


class Mailboxes:
    """The mailboxes of one user."""

    def __init__(self, tree: MailTree) -> None:
        self.tree = tree

    def open(self, name: str, patience: float = 0.0) -> Mailbox:
        """Open mailbox *name*, which must exist; INBOX always does."""
        if not self.tree.exists(name):
            raise MailboxError("there is no such mailbox", "NONEXISTENT")
        path = self.tree.mbox(name)
        return Mailbox(path, patience, make=name == INBOX, new_validity=self.tree.new_validity)

    def do(self, command: commands.Command) -> CommandOutcome:
        """Execute a command that is not about messages."""
        return _DO[type(command)](self, command)

    def _noop(self, command: commands.Noop) -> CommandOutcome:
        return CommandOutcome("OK", "done")

    def _namespace(self, command: commands.Namespace) -> CommandOutcome:
        return CommandOutcome("OK", "these", untagged=(b'* NAMESPACE (("" "/")) NIL NIL\r\n',))

    def _create(self, command: commands.Create) -> CommandOutcome:
        if command.mailbox.rstrip(DELIMITER) == INBOX:
            raise MailboxError("INBOX is there already", "ALREADYEXISTS")
        self.tree.create(command.mailbox)
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

    # -- LIST and STATUS -----------------------------------------------------------------------------------

    def _list(self, command: commands.List) -> CommandOutcome:
        return CommandOutcome("OK", "these", untagged=tuple(self._listed(command)))

    def _listed(self, command: commands.List) -> Iterator[bytes]:
        word = b"LSUB" if command.is_lsub else b"LIST"
        if command.patterns == ("",) and not command.only_subscribed:
            yield b'* %b (\\Noselect) "/" ""\r\n' % word
            return
        mailboxes = self.tree.names()
        needs = command.only_subscribed or command.with_subscribed
        subscribed = self.tree.subscriptions() if needs else set[str]()
        parents = names.parents_of(mailboxes)
        wanted = subscribed if command.only_subscribed else set(mailboxes)
        for name in names.matching(wanted, command.reference, command.patterns):
            attributes = names.attributes(name, mailboxes, parents)
            if command.only_special and not any(word in names.USES for word in attributes):
                continue
            if command.with_subscribed and name in subscribed:
                attributes.append("\\Subscribed")
            yield b'* %b (%b) "/" %b\r\n' % (word, " ".join(attributes).encode(), shown(name))
            if command.status and mailboxes.get(name):
                yield self._status_of(name, command.status)

    def _status(self, command: commands.StatusOf) -> CommandOutcome:
        return CommandOutcome("OK", "these", untagged=(self._status_of(command.mailbox, command.items),))

    def _status_of(self, name: str, items: tuple[str, ...]) -> bytes:
        box = self.open(name)
        try:
            values = b" ".join(b"%b %d" % (item.encode(), _COUNT[item](box)) for item in items)
        finally:
            box.close()
        return b"* STATUS %b (%b)\r\n" % (shown(name), values)


_COUNT: dict[str, Callable[[Mailbox], int]] = {
    "MESSAGES": lambda box: len(box.states),
    "RECENT": lambda box: sum(not flags & OLD for flags in box.states.flags),
    "UIDNEXT": lambda box: box.states.uid_next,
    "UIDVALIDITY": lambda box: box.states.validity,
    "UNSEEN": lambda box: sum(not flags & SEEN for flags in box.states.flags),
    "SIZE": lambda box: sum(box.size(row) for row in range(len(box.states))),
    "DELETED": lambda box: sum(bool(flags & DELETED) for flags in box.states.flags),
}
_DO: dict[type, Callable[[Mailboxes, Any], CommandOutcome]] = {
    commands.Noop: Mailboxes._noop,
    commands.Namespace: Mailboxes._namespace,
    commands.Create: Mailboxes._create,
    commands.DeleteMailbox: Mailboxes._delete,
    commands.Rename: Mailboxes._rename,
    commands.Subscribe: Mailboxes._subscribe,
    commands.List: Mailboxes._list,
    commands.StatusOf: Mailboxes._status,
}
