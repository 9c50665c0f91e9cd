"""GETMETADATA and SETMETADATA: what users note about their mailboxes (RFC 5464).

A user alone sees his mailboxes, so /shared and /private entries differ by their names only. Entries of the
server that all users would see (/shared) cannot be set.
"""

from mailtools.core.imap.events import CommandOutcome
from mailtools.core.imap.metadata import GetMetadata, SetMetadata
from mailtools.services.imap_server import names
from mailtools.services.imap_server.listing import metadata_response
from mailtools.system.mbox.annotations import Annotations
from mailtools.system.mbox.mailroot import INBOX
from mailtools.system.mbox.mailtree import MailboxError, MailTree

_LONGEST = 64 << 10  # octets of a value
_MOST, _MUCH = 1000, 1 << 20  # entries of a user; octets of their values


def get(tree: MailTree, command: GetMetadata) -> CommandOutcome:
    """Answer GETMETADATA. Raises MailboxError, OSError."""
    name, longest = command.mailbox, 0
    _check(tree, name)
    values = _values_of(tree, name, command.entries)
    pairs: list[tuple[str, bytes | None]] = []
    for entry in command.entries:
        if command.depth == 0:
            wanted = [entry]
        else:
            wanted = [one for one in sorted(values) if _is_within(one, entry, command.depth)]
        pairs += [(one, values.get(one)) for one in wanted]
    if command.max_size is not None:
        longest = max((len(value or b"") for _, value in pairs), default=0)
        pairs = [pair for pair in pairs if len(pair[1] or b"") <= command.max_size]
    is_cut = command.max_size is not None and longest > command.max_size
    told = (metadata_response(name, dict(pairs)),) if pairs else ()
    return CommandOutcome(
        "OK", "these", f"METADATA LONGENTRIES {longest}" if is_cut else "", told, is_raw=True
    )


def store(tree: MailTree, command: SetMetadata) -> CommandOutcome:
    """Do SETMETADATA, all of it or nothing. Raises MailboxError, CannotWriteError, OSError."""
    name = command.mailbox
    _check(tree, name)
    values = dict(command.values)
    if any(len(value or b"") > _LONGEST for value in values.values()):
        raise MailboxError("the value is too long", f"METADATA MAXSIZE {_LONGEST}")
    if not name and any(entry.startswith("/shared/") for entry in values):
        raise MailboxError("only the operator sets what all users see", "NOPERM")
    if values.get(names.USE_ENTRY) is not None:
        values[names.USE_ENTRY] = _uses(name, values[names.USE_ENTRY] or b"")

    def change(found: Annotations) -> None:
        there = found.setdefault(name, {})
        for entry, value in values.items():
            if value is None:
                there.pop(entry, None)
            else:
                there[entry] = value
        sizes = [len(value) for entries in found.values() for value in entries.values()]
        if len(sizes) > _MOST or sum(sizes) > _MUCH:
            raise MailboxError("there are too many annotations", "METADATA TOOMANY")

    tree.annotate(change)
    return CommandOutcome("OK", "noted")


def _check(tree: MailTree, name: str) -> None:
    if name and not tree.exists(name):
        raise MailboxError("there is no such mailbox", "NONEXISTENT")


def _values_of(tree: MailTree, name: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """The values of all entries of a mailbox, with the uses that it has by its name."""
    everything = tree.annotations()
    found = dict(everything.get(name, {}))
    if name and any((names.USE_ENTRY + "/").startswith(entry + "/") for entry in wanted):
        uses = names.uses_of(tree.names(), everything).get(name, ())
        if uses:
            found[names.USE_ENTRY] = " ".join(uses).encode()
    return found


def _is_within(one: str, entry: str, depth: int) -> bool:
    """Tell whether *one* is *entry* or at most *depth* levels below it (RFC 5464 §4.2.2)."""
    if one == entry:
        return True
    return one.startswith(entry + "/") and (depth < 0 or one.count("/") - entry.count("/") <= depth)


def _uses(name: str, value: bytes) -> bytes:
    """The special uses in *value* in their usual form (RFC 6154 §4). Raises MailboxError."""
    uses = [names.USES.get(use.lower(), "") for use in value.decode("utf-8", "replace").split()]
    if not all(uses) or (uses and name in ("", INBOX)):
        raise MailboxError("no mailbox can have that use", "USEATTR")
    return " ".join(dict.fromkeys(uses)).encode()
