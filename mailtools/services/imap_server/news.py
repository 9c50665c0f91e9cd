"""What a session tells its client unasked: while it idles, and as NOTIFY says (RFC 2177, RFC 5465).

Called by a worker, `files` apart. Knows no engine.
"""

from collections.abc import Callable
from contextlib import suppress

from mailtools.core.errors import MailError
from mailtools.core.imap.events import CommandOutcome
from mailtools.core.imap.notify import EventGroup, Notify
from mailtools.services.imap_server.mailboxes import Mailboxes
from mailtools.services.imap_server.notices import NotifyEvents
from mailtools.services.imap_server.selected import Selected
from mailtools.system.mbox.mailtree import MailboxError
from mailtools.system.mbox.state_file import files_of

_NOTHING = EventGroup("SELECTED", frozenset())


class News:
    """What one client wants to be told."""

    def __init__(self) -> None:
        self._notices: NotifyEvents | None = None  # of mailboxes that are not selected
        self._group: EventGroup | None = None  # of the selected mailbox; None: there was no NOTIFY

    @property
    def is_wanted(self) -> bool:
        """True if the client is told also while it does not idle."""
        return self._group is not None

    def begin(self, mailboxes: Mailboxes, command: Notify, selected: Selected | None) -> CommandOutcome:
        """Do NOTIFY, and tell at once what is new (RFC 5465 §3.1). Raises MailboxError, OSError."""
        notices = NotifyEvents(mailboxes, command)
        of_selected = [group for group in command.groups if group.which.startswith("SELECTED")]
        told = selected.caught_up() if selected is not None and command.groups else []
        if command.with_status:
            told += notices.status(_name(selected))
        self._notices = notices
        self._group = of_selected[0] if of_selected else _NOTHING
        return CommandOutcome("OK", "done", untagged=tuple(told))

    def quietly(self, selected: Selected | None, task: Callable[[], CommandOutcome]) -> CommandOutcome:
        """Do *task*; what it changes in other mailboxes is no news to this client (RFC 5465 §5)."""
        if self._notices is None:
            return task()
        told = tuple(self._of_others(selected))
        outcome = task()
        with suppress(MailError, OSError):  # it is done: what cannot be looked at now is told later
            self._of_others(selected)
        assert isinstance(outcome.untagged, tuple)
        return outcome._replace(untagged=(*told, *outcome.untagged))

    def due(self, selected: Selected | None, is_idle: bool) -> list[bytes]:
        """What the client is to be told now. Raises MailboxError, MailError, OSError."""
        told = selected.pushed(self._group, is_idle) if selected is not None else []
        return told + self._of_others(selected)

    def _of_others(self, selected: Selected | None) -> list[bytes]:
        if self._notices is None:
            return []
        try:
            return self._notices.news(_name(selected))
        except MailboxError as error:  # RFC 5465 §5.8: as if NOTIFY NONE had come
            self._notices, self._group = None, _NOTHING
            return [f"* OK [NOTIFICATIONOVERFLOW] {error}\r\n".encode()]

    def files(self, mailboxes: Mailboxes, selected: Selected | None, is_idle: bool) -> set[str]:
        """The files whose changes are news."""
        found = self._notices.folders() if self._notices is not None else set[str]()
        if selected is not None and (is_idle or self.is_wanted):
            found.update(files_of(mailboxes.tree.mbox(selected.name)))
        return found


def _name(selected: Selected | None) -> str:
    return selected.name if selected is not None else ""
