"""LIST and LSUB: the mailboxes that a command selects, and what is said of each.

Owns RFC 9051 §6.3.9, RFC 5258 §3 (selection options, CHILDINFO) and RFC 3501 §6.3.9 (LSUB). Time is
linear in the number of mailboxes.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from mailtools.core.errors import MailError
from mailtools.core.imap import strings, utf7
from mailtools.core.imap.lists import List
from mailtools.services.imap_server import names
from mailtools.system.mbox.mailtree import MailTree

_ROOT = b'* %b (\\Noselect) "/" ""\r\n'
StatusOf = Callable[[str, tuple[str, ...]], bytes]


def shown(name: str) -> bytes:
    """The name of a mailbox in a response (modified UTF-7)."""
    return strings.astring(utf7.encode(name).encode())


def metadata_response(name: str, values: dict[str, bytes | None]) -> bytes:
    """The response METADATA with *values*."""
    rows = [b"%b %b" % (strings.astring(entry.encode()), _written(value)) for entry, value in values.items()]
    return b"* METADATA %b (%b)\r\n" % (shown(name) if name else b'""', b" ".join(rows))


def _written(value: bytes | None) -> bytes:
    if value is not None and b"\0" in value:
        return strings.literal(value, binary=True)
    return strings.nstring(value)


def responses(tree: MailTree, command: List, status_of: StatusOf) -> Iterator[bytes]:
    """The responses LIST, LSUB and STATUS to *command*. Raises MailboxError, OSError."""
    word = b"LSUB" if command.is_lsub else b"LIST"
    if command.patterns == ("",) and not command.is_extended:
        yield _ROOT % word
        return
    mailboxes = tree.names()
    subscribed = set[str]()
    if command.with_subscribed or command.filters:
        subscribed = tree.subscriptions()
    annotations = tree.annotations()
    uses = names.uses_of(mailboxes, annotations)
    selected = _selected(command, mailboxes, subscribed, uses)
    above = names.parents_of(selected) if command.is_recursive or command.is_lsub else set[str]()
    parents = names.parents_of(mailboxes)
    # RFC 5258 §3: in the extended form an empty pattern matches nothing.
    patterns = [pattern for pattern in command.patterns if pattern or not command.is_extended]
    found = list(names.matching(selected | above, command.reference, patterns))
    # A mailbox that is not wanted itself is told only if one below it is wanted and not told (RFC 5258 §3.5).
    if command.is_recursive or (command.is_lsub and "%" in command.patterns[0]):
        hidden = names.parents_of(selected - set(found))
    else:
        hidden = set()
    info = " ".join(f'"{option}"' for option in command.filters)
    for name in found:
        if name not in selected and name not in hidden:
            continue
        if command.is_lsub and name not in selected:
            yield b'* LSUB (\\Noselect) "/" %b\r\n' % shown(name)
            continue
        attributes = names.attributes(name, mailboxes, parents, uses)
        if command.with_subscribed and name in subscribed:
            attributes.append("\\Subscribed")
        more = f' ("CHILDINFO" ({info}))'.encode() if command.is_recursive and name in above else b""
        yield b'* %b (%b) "/" %b%b\r\n' % (word, " ".join(attributes).encode(), shown(name), more)
        if command.status and name in selected and mailboxes.get(name):
            with suppress(MailError, OSError):  # RFC 5819 §2: without STATUS, if that cannot be had
                yield status_of(name, command.status)
        if command.metadata and name in selected and mailboxes.get(name):
            values = dict(annotations.get(name, {}))
            if uses.get(name):
                values[names.USE_ENTRY] = " ".join(uses[name]).encode()
            yield metadata_response(name, {entry: values.get(entry) for entry in command.metadata})


def _selected(command: List, mailboxes: dict[str, bool], subscribed: set[str], uses: names.Uses) -> set[str]:
    """The mailboxes that the selection options want, whatever their names."""
    found = subscribed if "SUBSCRIBED" in command.filters else set(mailboxes)
    if "SPECIAL-USE" in command.filters:
        return {name for name in found if uses.get(name)}
    return found
