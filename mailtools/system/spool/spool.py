"""The spool: queued messages in a directory that plain tools can read, safe by the order of its operations.

``messages/ID.eml`` is the message as accepted (LF); ``incoming/ID.jsonl``, ``deferred/ID.jsonl`` or
``hold/ID.jsonl`` is its journal (core/queue/journal). A message is in the queue if it has a journal: the
journal gets its name last, when everything else is on the disk, and is removed first. A message whose files
are damaged waits in ``bad/`` (system/spool/aside) and blocks nothing.

A lease is the kernel's lock on the journal. It ends exactly when its holder ends, so another process can take
the message over then, and never while the holder could still deliver it.

The mtime of a deferred journal is its due time, so that a scan of 100,000 of them opens none; the journal
itself decides. Records of attempts are not synced: a kill loses none, and after a power failure an attempt
whose record was lost is repeated.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from mailtools.core.errors import BadDataError
from mailtools.core.lean import TYPE_CHECKING, Any
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.store import ACTIVE, BAD, DEFERRED, HOLD, INCOMING, Listed
from mailtools.system import clock
from mailtools.system.files.buffer import Measured, write_all
from mailtools.system.files.durable import make_folders, sync_folder
from mailtools.system.files.home import expand
from mailtools.system.files.lock import is_taken, share, take
from mailtools.system.spool import aside
from mailtools.system.spool.queue_files import (
    create,
    explained,
    first_lines,
    message_blocks,
    octets_of,
    open_journal,
    read_entry,
    sendable,
)

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

_MESSAGES = "messages"
_FOLDERS = (_MESSAGES, INCOMING, DEFERRED, HOLD, BAD)
_STATES = (INCOMING, DEFERRED, HOLD)
_ALL_STATES = (*_STATES, BAD)
_JOURNAL = ".jsonl"
_RUNNERS = "runners"
_ORPHAN_AFTER = 86400.0  # seconds; a younger message without a journal may still be being added
_NOT_OURS = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV}  # links, folders, pipes, sockets
_FARTHEST = 86400.0  # seconds; an mtime further away may be a clock error, so the journal is read


class Spool:
    """The spool in the directory *path*. *warn* gets sentences that an operator should see."""

    def __init__(self, path: str, warn: Any = lambda _: None) -> None:
        self.path = os.path.abspath(expand(path))
        self._warn = warn

    def make(self) -> None:
        """Create the missing folders, mode 0700, durably. Raises CannotWriteError."""
        try:
            if not os.path.isdir(self.path):
                make_folders(self.path)
            made = [name for name in _FOLDERS if not os.path.isdir(self._at(name))]
            for name in made:
                make_folders(self._at(name))
            if made:
                sync_folder(self.path)
        except OSError as error:
            raise explained(self.path, error) from error

    def exists(self) -> bool:
        """Tell whether the spool was created."""
        return os.path.isdir(self._at(INCOMING))

    def _at(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def _message(self, identity: str) -> str:
        return os.path.join(self.path, _MESSAGES, f"{identity}.eml")

    def _journal(self, state: str, identity: str) -> str:
        return os.path.join(self.path, state, identity + _JOURNAL)

    # -- adding --------------------------------------------------------------------------------------------

    def add(
        self, envelope: QueueEnvelope, blocks: Iterable[bytes], history: Sequence[dict[str, Any]] = ()
    ) -> QueueEnvelope:
        """Store a message (LF, in blocks) durably. Returns the envelope with sizes and 8-bit flag filled in.

        *history*: records of the journal about what happened before, such as a first attempt.

        Raises CannotWriteError, DiskFullError, and BadDataError for what could not be read back: a message
        with a CR or NUL, an address or parameter that no command can hold.
        """
        envelopes.check(envelope)
        self.make()
        message = self._message(envelope.identity)
        measured = Measured(sendable(blocks))
        try:
            create(message, measured)
            envelope = envelope._replace(
                stored=measured.octets,
                size=measured.octets + measured.lines,
                needs_8bit=not measured.is_ascii,
            )
            journal = self._journal(INCOMING, envelope.identity)
            try:
                sync_folder(self._at(_MESSAGES))
                create(journal, first_lines(envelope, history))
                sync_folder(self._at(INCOMING))
            except OSError:  # it is refused, so it must not be delivered
                for path in (journal, message):
                    with suppress(OSError):
                        os.unlink(path)
                raise
        except OSError as error:
            raise explained(self.path, error) from error
        return envelope

    # -- looking -------------------------------------------------------------------------------------------

    def ready(self, now: float) -> Iterator[str]:
        """The ids of messages that may be due at *now* (seconds since the epoch): new ones, then deferred."""
        yield from (identity for identity, _ in self._names(INCOMING))
        for identity, found in self._names(DEFERRED):
            try:
                noted = found.stat(follow_symlinks=False).st_mtime
            except OSError:
                continue
            if noted <= now or noted - now > _FARTHEST:
                yield identity

    def arrivals(self) -> float:
        """A number that changes when a message is added (the mtime of the folder of new messages)."""
        with suppress(OSError):
            return os.stat(self._at(INCOMING)).st_mtime_ns
        return 0

    def has_deferred(self) -> bool:
        """Tell whether mail stays that nobody holds: new, deferred, or set aside."""
        return any(True for state in (DEFERRED, INCOMING, BAD) for _ in self._names(state))

    def bad(self) -> list[str]:
        """The ids of messages that were set aside."""
        return [identity for identity, _ in self._names(BAD)]

    def _names(self, state: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """(id, directory entry) of each journal in *state*; foreign files are moved into ``bad/``."""
        try:
            found = os.scandir(self._at(state))
        except FileNotFoundError:
            return
        with found:
            for one in found:
                identity = one.name.removesuffix(_JOURNAL)
                if identity != one.name and envelopes.is_identity(identity):
                    yield identity, one
                elif state != BAD and not one.name.startswith("."):
                    self._set_aside(state, one.name, "not a file of ours")

    def query(self, identities: Sequence[str] = ()) -> Iterator[Listed]:
        """The current state of all messages, or of *identities*; messages gone meanwhile are omitted."""
        if not identities:
            yield from self.look(self.places())
        for identity in identities:
            if envelopes.is_identity(identity) and (listed := self._listed(identity, _ALL_STATES)):
                yield listed

    def places(self) -> Iterator[tuple[str, str]]:
        """(id, state) of each message; no file is opened."""
        for state in _ALL_STATES:
            for identity, _ in self._names(state):
                yield identity, state

    def look(self, places: Iterable[tuple[str, str]]) -> Iterator[Listed]:
        """The current state of the messages at *places*; messages gone meanwhile are omitted."""
        for identity, state in places:
            if listed := self._listed(identity, (state,)):
                yield listed

    def _listed(self, identity: str, states: Sequence[str]) -> Listed | None:
        for state in states:
            try:
                descriptor = open_journal(f"{self.path}/{state}/{identity}{_JOURNAL}", os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._cannot_open(state, identity, error)
                continue
            try:
                is_leased = is_taken(descriptor)
                if state == BAD:
                    entry, why = aside.read_bad(descriptor, identity)
                    return Listed(entry, ACTIVE if is_leased else BAD, why)
                entry = read_entry(descriptor, identity)
            except BadDataError as error:
                self._set_aside(state, identity + _JOURNAL, str(error))
                continue
            finally:
                os.close(descriptor)
            return Listed(entry, ACTIVE if is_leased else state)
        return None

    def _cannot_open(self, state: str, identity: str, error: OSError) -> None:
        """Move a link, folder, pipe or socket into ``bad/``; only warn about a file that cannot be opened."""
        if error.errno in _NOT_OURS:
            self._set_aside(state, identity + _JOURNAL, "not a file of ours")
        else:
            self._warn(f"{self._journal(state, identity)}: {error.strerror}; passed over")

    def records(self, identity: str) -> Iterator[dict[str, Any]]:
        """The records of the journal, one per line. Raises BadDataError, FileNotFoundError."""
        from mailtools.core.queue import journal

        for state in _ALL_STATES if envelopes.is_identity(identity) else ():
            with suppress(FileNotFoundError):
                descriptor = open_journal(self._journal(state, identity), os.O_RDONLY)
                try:
                    return journal.records(octets_of(descriptor))
                finally:
                    os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not in the queue", identity)

    def message(self, envelope: QueueEnvelope) -> Iterator[bytes]:
        """The message in blocks, LF; no lease is needed. Raises BadDataError."""
        return message_blocks(self._message(envelope.identity), envelope.stored)

    # -- leases --------------------------------------------------------------------------------------------

    def claim(self, identity: str, *, held: bool = False) -> "SpoolLease | None":
        """Lease a message; None if it is gone or leased by another process.

        *held*: also one on hold or set aside.
        """
        if not envelopes.is_identity(identity):
            return None
        for state in _ALL_STATES if held else (INCOMING, DEFERRED):
            path = self._journal(state, identity)
            try:
                descriptor = open_journal(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._cannot_open(state, identity, error)
                return None
            if lease := self._leased(descriptor, identity, state):
                return lease
            os.close(descriptor)
            return None
        return None

    def _leased(self, descriptor: int, identity: str, state: str) -> "SpoolLease | None":
        if not take(descriptor):
            return None
        try:
            if os.stat(self._journal(state, identity)).st_ino != os.fstat(descriptor).st_ino:
                return None
            if state == BAD:
                return SpoolLease(self, descriptor, state, aside.read_bad(descriptor, identity)[0])
            entry = read_entry(descriptor, identity)
        except FileNotFoundError:  # finished or moved before the lock was ours
            return None
        except BadDataError as error:
            self._set_aside(state, identity + _JOURNAL, str(error))
            return None
        return SpoolLease(self, descriptor, state, entry)

    def _set_aside(self, state: str, name: str, why: str) -> None:
        """Move a journal into ``bad/``. Never raises."""
        aside.set_aside(self.path, state, name, why, self._warn)

    def _has_journal(self, identity: str) -> bool:
        return any(os.path.lexists(self._journal(state, identity)) for state in _ALL_STATES)

    def sync(self) -> None:
        """Make all moves and removals so far durable. Raises CannotWriteError."""
        try:
            for state in _ALL_STATES:
                with suppress(FileNotFoundError):
                    sync_folder(self._at(state))
        except OSError as error:
            raise explained(self.path, error) from error

    # -- runners -------------------------------------------------------------------------------------------

    def announce_runner(self) -> int:
        """Make `has_runner` true until the returned descriptor is closed. Raises CannotWriteError."""
        self.make()
        try:
            descriptor = os.open(
                self._at(_RUNNERS), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise explained(self._at(_RUNNERS), error) from error
        share(descriptor)
        return descriptor

    def has_runner(self) -> bool:
        """Tell whether a continuous queue run is active, which delivers new messages."""
        try:
            descriptor = os.open(self._at(_RUNNERS), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return is_taken(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove messages that have had no journal for a day: a kill left them behind."""
        with suppress(FileNotFoundError), os.scandir(self._at(_MESSAGES)) as found:
            for one in found:
                identity = one.name.removesuffix(".eml")
                with suppress(OSError):
                    if clock.now() - one.stat(follow_symlinks=False).st_mtime < _ORPHAN_AFTER:
                        continue
                    if not self._has_journal(identity):
                        os.unlink(one.path)


class SpoolLease:
    """A message that this process alone may deliver, until `close`."""

    def __init__(self, spool: Spool, descriptor: int, state: str, entry: "QueueEntry") -> None:
        self.entry = entry
        self.state = state
        self._spool = spool
        self._descriptor = descriptor
        self.is_finished = False

    @property
    def identity(self) -> str:
        """The queue id of the message."""
        return self.entry.envelope.identity

    @property
    def message_path(self) -> str:
        """The path of the message's file."""
        return self._spool._message(self.identity)

    def message(self) -> Iterator[bytes]:
        """The message in blocks, LF. Raises BadDataError."""
        return message_blocks(self.message_path, self.entry.envelope.stored)

    def record(self, records: Sequence[dict[str, Any]]) -> None:
        """Append *records* to the journal and apply them to `entry`. Raises CannotWriteError."""
        from mailtools.core.queue import journal

        octets = journal.encode(records)
        if self.entry.is_torn:  # the new line must not continue a truncated one
            octets = b"\n" + octets
        self.entry = journal.apply(self.entry, *records)
        # If this write fails halfway, the next record must begin a new line.
        self.entry = self.entry._replace(is_torn=True)
        try:
            write_all(self._descriptor, octets)
        except OSError as error:
            raise explained(self._path, error) from error
        self.entry = self.entry._replace(is_torn=False)

    @property
    def _path(self) -> str:
        return self._spool._journal(self.state, self.identity)

    def reschedule(self, due: float) -> None:
        """Schedule the next attempt at *due* (seconds since the epoch). Raises CannotWriteError."""
        from mailtools.core.queue import journal

        self.record([journal.scheduled(clock.now(), due)])
        self.note_due()
        if self.state == INCOMING:
            self.move(DEFERRED)

    def note_due(self) -> None:
        """Set the journal's mtime to the due time, which `ready` reads."""
        with suppress(OSError):
            os.utime(self._descriptor, (self.entry.due, self.entry.due))

    def move(self, state: str) -> None:
        """Move the message into another state. Raises CannotWriteError."""
        if state == self.state:
            return
        try:
            os.rename(self._path, self._spool._journal(state, self.identity))
        except OSError as error:
            raise explained(self._path, error) from error
        self.state = state

    def finish(self) -> None:
        """Remove the message from the queue: delete its journal now, the message itself at `close`.

        Raises CannotWriteError.
        """
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise explained(self._path, error) from error
        self.is_finished = True

    def bring_back(self) -> None:
        """Read a message that was set aside as any other. Raises BadDataError if it is damaged."""
        self.entry = aside.check(self._descriptor, self.identity, self.message_path)

    def set_aside(self, why: str) -> None:
        """Move an unusable message into ``bad/``; *why* is in the warning and in the journal."""
        self._spool._set_aside(self.state, self.identity + _JOURNAL, why)

    def close(self) -> None:
        """Give the lease back. Slow after `finish`: deleting a synced file takes 120 µs. Never raises.

        A message without a journal that cannot be deleted is deleted by `sweep`.
        """
        if self.is_finished:
            with suppress(OSError):
                os.unlink(self.message_path)
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
