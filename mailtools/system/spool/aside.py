"""Messages of the spool that cannot be read or sent: they wait in ``bad/`` until somebody decides.

``bad/ID.jsonl`` is the journal as it was, with a line more that says why it is there; the message stays in
``messages/``. A file that is no journal of ours gets a name of its own in ``bad/``; it holds no mail.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from mailtools.core.errors import BadDataError
from mailtools.core.lean import TYPE_CHECKING
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.store import BAD, DEFERRED, HOLD, INCOMING
from mailtools.system import clock
from mailtools.system.files.buffer import write_all
from mailtools.system.spool.queue_files import message_blocks, octets_of, read_entry, sendable

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

_JOURNAL = ".jsonl"


def set_aside(spool: str, state: str, name: str, why: str, warn: Callable[[str], None]) -> None:
    """Move the journal *name* in the folder *state* of *spool* into ``bad/``. Never raises."""
    path = os.path.join(spool, state, name)
    identity = name.removesuffix(_JOURNAL)
    is_ours = identity != name and envelopes.is_identity(identity)
    listed = os.path.join(spool, BAD, f"{identity}{_JOURNAL}")
    is_mail = is_ours and _is_file(path) and not os.path.lexists(listed)
    target = listed if is_mail else os.path.join(spool, BAD, f"{state}-{name}-{clock.identity()}")
    try:
        os.rename(path, target)
    except OSError as error:
        if os.path.lexists(path):
            warn(f"{path}: {why}; it cannot be moved to {target}: {error.strerror}")
        return
    warn(f"{path}: {why}; moved to {target}")
    if is_mail:
        _note(target, why, 0)
    elif is_ours and _is_orphan(spool, identity):
        _note(listed, why, os.O_CREAT | os.O_EXCL)  # the message gets a journal without an envelope


def _is_orphan(spool: str, identity: str) -> bool:
    """Return True if there is a message *identity* without a journal: something took the journal's place."""
    journals = [os.path.join(spool, state, identity + _JOURNAL) for state in (INCOMING, DEFERRED, HOLD, BAD)]
    message = os.path.join(spool, "messages", f"{identity}.eml")
    return os.path.lexists(message) and not any(map(os.path.lexists, journals))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _note(path: str, why: str, flags: int) -> None:
    """Append the reason to the journal at *path*, as a line of its own. Never raises."""
    from mailtools.core.queue import journal, salvage

    line = journal.encode([salvage.set_aside(clock.now(), why)])
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            is_whole = size > 0 and os.pread(descriptor, 1, size - 1) == b"\n"
            write_all(descriptor, line if is_whole else b"\n" + line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_bad(descriptor: int, identity: str) -> "tuple[QueueEntry, str]":
    """Return what can be read of an open journal in ``bad/``, and why it is there."""
    from mailtools.core.queue import salvage

    arrived = os.fstat(descriptor).st_mtime
    try:
        octets = octets_of(descriptor)
    except BadDataError as error:
        return salvage.entry_of(b"", identity, arrived), str(error)
    why = salvage.why_of(octets) or "moved here by hand"
    return salvage.entry_of(octets, identity, arrived), why


def check(descriptor: int, identity: str, message: str) -> "QueueEntry":
    """Return the entry of a journal whose message at the path *message* can be sent.

    Raises BadDataError if either is damaged.
    """
    entry = read_entry(descriptor, identity)
    for _ in sendable(message_blocks(message, entry.envelope.stored)):
        pass
    return entry
