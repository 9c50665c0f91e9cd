"""The spool: queued messages in a directory that plain tools can read, safe by the order of its operations.

``messages/ID.eml`` is the message as accepted (LF); ``incoming/ID.jsonl``, ``deferred/ID.jsonl`` or
``hold/ID.jsonl`` is its journal (core/queue/journal), and what makes it a message of the queue: it gets its
name last, when all else is on the disk, and loses it first. What is no file of ours, or torn, goes into
``bad/`` and stops nobody.

A lease is the kernel's lock on the journal: it ends with its holder, at once and for certain, so that
another process takes the message over, and never while the holder could still deliver it.

The time of a deferred journal's last change is its due time, so that a look at 100,000 of them opens none;
the journal itself decides. Records of attempts are not synced: a kill loses none, and what a power failure
takes is tried again.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache

from mailtools.core.errors import BadDataError, CannotWriteError
from mailtools.core.lean import TYPE_CHECKING, Any
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.store import ACTIVE, DEFERRED, HOLD, INCOMING, Listed
from mailtools.system import clock
from mailtools.system.files.buffer import Measured, write_all
from mailtools.system.files.durable import sync_folder, write_error
from mailtools.system.files.lock import is_taken, share, take

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

_MESSAGES, _BAD = "messages", "bad"
_FOLDERS = (_MESSAGES, INCOMING, DEFERRED, HOLD, _BAD)
_STATES = (INCOMING, DEFERRED, HOLD)
_JOURNAL = ".jsonl"
_RUNNERS = "runners"
_LARGEST_JOURNAL = 64 << 20  # octets
_COMMON_JOURNAL = 8 << 10  # octets; most are smaller, and read at once
_BLOCK = 256 << 10
_ORPHAN_AFTER = 86400.0  # seconds; a message without journal is being added, or was left by a kill
_NOT_OURS = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV}  # links, folders, pipes, sockets
_FARTHEST = 86400.0  # seconds; a due time further away is a clock's mistake, and the journal has to tell


class Spool:
    """One spool. *warn* is told what an operator should see."""

    def __init__(self, path: str, warn: Any = lambda _: None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self._warn = warn

    def make(self) -> None:
        """Make the folders, 0700, durably. Raises CannotWriteError."""
        try:
            if not os.path.isdir(self.path):
                os.makedirs(self.path, 0o700, exist_ok=True)
                sync_folder(os.path.dirname(self.path))
            made = [name for name in _FOLDERS if not os.path.isdir(self._at(name))]
            for name in made:
                with suppress(FileExistsError):
                    os.mkdir(self._at(name), 0o700)
            if made:
                sync_folder(self.path)
        except OSError as error:
            raise _explained(self.path, error) from error

    def exists(self) -> bool:
        """Tell whether there is a spool to look at."""
        return os.path.isdir(self._at(INCOMING))

    def _at(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def _message(self, identity: str) -> str:
        return os.path.join(self.path, _MESSAGES, f"{identity}.eml")

    def _journal(self, state: str, identity: str) -> str:
        return os.path.join(self.path, state, identity + _JOURNAL)

    # -- adding --------------------------------------------------------------------------------------------

    def add(self, envelope: QueueEnvelope, blocks: Iterable[bytes]) -> QueueEnvelope:
        """Keep a message, durably; the envelope with what was measured on the way.

        Raises CannotWriteError, DiskFullError.
        """
        self.make()
        message = self._message(envelope.identity)
        measured = Measured(blocks)
        try:
            _create(message, measured)
            envelope = envelope._replace(
                stored=measured.octets,
                size=measured.octets + measured.lines,
                needs_8bit=not measured.is_ascii,
            )
            try:
                sync_folder(self._at(_MESSAGES))
                _create(self._journal(INCOMING, envelope.identity), [envelopes.encode(envelope)])
            except OSError:
                os.unlink(message)
                raise
            sync_folder(self._at(INCOMING))
        except OSError as error:
            raise _explained(self.path, error) from error
        return envelope

    # -- looking -------------------------------------------------------------------------------------------

    def ready(self, now: float) -> Iterator[str]:
        """The ids of the messages that may be due: new ones, then the deferred whose time has come."""
        yield from (identity for identity, _ in self._names(INCOMING))
        for identity, found in self._names(DEFERRED):
            try:
                noted = found.stat(follow_symlinks=False).st_mtime
            except OSError:
                continue
            if noted <= now or noted - now > _FARTHEST:
                yield identity

    def arrivals(self) -> float:
        """A number that changes when a message comes in."""
        with suppress(OSError):
            return os.stat(self._at(INCOMING)).st_mtime_ns
        return 0

    def has_deferred(self) -> bool:
        """Tell whether mail waits for another attempt."""
        return any(True for _ in self._names(DEFERRED)) or any(True for _ in self._names(INCOMING))

    def _names(self, state: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """The ids in one state; what is no journal's name is set aside."""
        try:
            found = os.scandir(self._at(state))
        except FileNotFoundError:
            return
        with found:
            for one in found:
                identity = one.name.removesuffix(_JOURNAL)
                if identity != one.name and envelopes.is_identity(identity):
                    yield identity, one
                elif not one.name.startswith("."):
                    self._set_aside(state, one.name, "not a file of ours")

    def query(self, identities: Sequence[str] = ()) -> Iterator[Listed]:
        """All messages, or these, as they stand; what left meanwhile is left out."""
        if not identities:
            yield from self.look(self.places())
        for identity in identities:
            if envelopes.is_identity(identity) and (listed := self._listed(identity, _STATES)):
                yield listed

    def places(self) -> Iterator[tuple[str, str]]:
        """The id of each message and its state; nothing is opened."""
        for state in _STATES:
            for identity, _ in self._names(state):
                yield identity, state

    def look(self, places: Iterable[tuple[str, str]]) -> Iterator[Listed]:
        """The messages there, as they stand; what left meanwhile is left out."""
        for identity, state in places:
            if listed := self._listed(identity, (state,)):
                yield listed

    def _listed(self, identity: str, states: Sequence[str]) -> Listed | None:
        for state in states:
            try:
                descriptor = _open_journal(f"{self.path}/{state}/{identity}{_JOURNAL}", os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._cannot_open(state, identity, error)
                continue
            try:
                entry = _read(descriptor, identity)
                is_leased = is_taken(descriptor)
            except BadDataError as error:
                self._set_aside(state, identity + _JOURNAL, str(error))
                return None
            finally:
                os.close(descriptor)
            return Listed(entry, ACTIVE if is_leased else state)
        return None

    def _cannot_open(self, state: str, identity: str, error: OSError) -> None:
        """What is no file goes aside; a file that cannot be opened just now is no worse for it."""
        if error.errno in _NOT_OURS:
            self._set_aside(state, identity + _JOURNAL, "not a file of ours")
        else:
            self._warn(f"{self._journal(state, identity)}: {error.strerror}; passed over")

    def records(self, identity: str) -> Iterator[dict[str, Any]]:
        """What the journal tells, line by line. Raises BadDataError, FileNotFoundError."""
        from mailtools.core.queue import journal

        for state in _STATES if envelopes.is_identity(identity) else ():
            with suppress(FileNotFoundError):
                descriptor = _open_journal(self._journal(state, identity), os.O_RDONLY)
                try:
                    return journal.records(_octets(descriptor))
                finally:
                    os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not in the queue", identity)

    def message(self, envelope: QueueEnvelope) -> Iterator[bytes]:
        """The message in blocks, LF; no lease is needed. Raises BadDataError."""
        return _blocks(self._message(envelope.identity), envelope.stored)

    # -- leases --------------------------------------------------------------------------------------------

    def claim(self, identity: str, *, held: bool = False) -> "SpoolLease | None":
        """A lease; None where the message is gone, leased, or on hold (unless *held*)."""
        if not envelopes.is_identity(identity):
            return None
        for state in _STATES if held else (INCOMING, DEFERRED):
            path = self._journal(state, identity)
            try:
                descriptor = _open_journal(path, os.O_RDWR | os.O_APPEND)
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
            entry = _read(descriptor, identity)
        except FileNotFoundError:  # finished or moved before the lock was ours
            return None
        except BadDataError as error:
            self._set_aside(state, identity + _JOURNAL, str(error))
            return None
        return SpoolLease(self, descriptor, state, entry)

    def _set_aside(self, state: str, name: str, why: str) -> None:
        """Out of the way with it, the message too if it is nobody else's; never fatal."""
        path, aside = self._at(state, name), self._at(_BAD, f"{state}-{name}-{clock.identity()}")
        try:
            os.rename(path, aside)
        except OSError as error:
            if os.path.lexists(path):
                self._warn(f"{path}: {why}; it cannot be moved to {aside}: {error.strerror}")
            return
        self._warn(f"{path}: {why}; moved to {aside}")
        identity = name.removesuffix(_JOURNAL)
        if identity != name and not self._has_journal(identity):
            with suppress(OSError):
                os.rename(self._message(identity), f"{aside}.eml")

    def _has_journal(self, identity: str) -> bool:
        return any(os.path.lexists(self._journal(state, identity)) for state in _STATES)

    def sync(self) -> None:
        """What was moved and removed until now stays so. Raises CannotWriteError."""
        try:
            for state in _STATES:
                sync_folder(self._at(state))
        except OSError as error:
            raise _explained(self.path, error) from error

    # -- runners -------------------------------------------------------------------------------------------

    def announce_runner(self) -> int:
        """Have `has_runner` say yes until the descriptor returned is closed. Raises CannotWriteError."""
        self.make()
        try:
            descriptor = os.open(
                self._at(_RUNNERS), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise _explained(self._at(_RUNNERS), error) from error
        share(descriptor)
        return descriptor

    def has_runner(self) -> bool:
        """Tell whether a run that goes on delivers what comes in."""
        try:
            descriptor = os.open(self._at(_RUNNERS), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return is_taken(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove messages that a kill left behind before they had a journal, or after they lost it."""
        with suppress(FileNotFoundError), os.scandir(self._at(_MESSAGES)) as found:
            for one in found:
                identity = one.name.removesuffix(".eml")
                with suppress(OSError):
                    if clock.now() - one.stat(follow_symlinks=False).st_mtime < _ORPHAN_AFTER:
                        continue
                    if not self._has_journal(identity):
                        os.unlink(one.path)


class SpoolLease:
    """A message that is ours to deliver: see core/queue/store."""

    def __init__(self, spool: Spool, descriptor: int, state: str, entry: "QueueEntry") -> None:
        self.entry = entry
        self.state = state
        self._spool = spool
        self._descriptor = descriptor
        self.is_finished = False

    @property
    def identity(self) -> str:
        """The queue id."""
        return self.entry.envelope.identity

    @property
    def message_path(self) -> str:
        """Where the message lies."""
        return self._spool._message(self.identity)

    def message(self) -> Iterator[bytes]:
        """The message in blocks, LF. Raises BadDataError."""
        return _blocks(self.message_path, self.entry.envelope.stored)

    def record(self, records: Sequence[dict[str, Any]]) -> None:
        """Write what happened into the journal. Raises CannotWriteError."""
        from mailtools.core.queue import journal

        octets = journal.encode(records)
        if self.entry.is_torn:  # our line must not become the end of one that was cut short
            octets = b"\n" + octets
        self.entry = journal.apply(self.entry, *records)
        # Until it is written whole, the next one begins a line of its own.
        self.entry = self.entry._replace(is_torn=True)
        try:
            write_all(self._descriptor, octets)
        except OSError as error:
            raise _explained(self._path, error) from error
        self.entry = self.entry._replace(is_torn=False)

    @property
    def _path(self) -> str:
        return self._spool._journal(self.state, self.identity)

    def reschedule(self, due: float) -> None:
        """Have it tried again at *due*. Raises CannotWriteError."""
        from mailtools.core.queue import journal

        self.record([journal.scheduled(clock.now(), due)])
        self.note_due()
        if self.state == INCOMING:
            self.move(DEFERRED)

    def note_due(self) -> None:
        """Let a look at the folder tell when it is due."""
        with suppress(OSError):
            os.utime(self._descriptor, (self.entry.due, self.entry.due))

    def move(self, state: str) -> None:
        """Put it into another state. Raises CannotWriteError."""
        if state == self.state:
            return
        try:
            os.rename(self._path, self._spool._journal(state, self.identity))
        except OSError as error:
            raise _explained(self._path, error) from error
        self.state = state

    def finish(self) -> None:
        """The message leaves the queue; `close` removes what is left of it."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self.is_finished = True

    def set_aside(self, why: str) -> None:
        """It cannot be used: out of everybody's way."""
        self._spool._set_aside(self.state, self.identity + _JOURNAL, why)

    def close(self) -> None:
        """Give the lease back. Takes time after `finish`: files that were synced are slow to go (120 us)."""
        if self.is_finished:
            with suppress(FileNotFoundError):
                os.unlink(self.message_path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_journal(path: str, flags: int) -> int:
    """Raises OSError; for what is no regular file too."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, "no regular file", path)
    return descriptor


@cache
def _parser() -> Callable[[bytes], "QueueEntry"]:
    """Imported for who reads journals; for who only adds a message, it would be 0.1 of sendmail's start."""
    from mailtools.core.queue.journal import parse

    return parse


def _read(descriptor: int, identity: str) -> "QueueEntry":
    """Raises BadDataError."""
    entry = _parser()(_octets(descriptor))
    if entry.envelope.identity != identity:
        raise BadDataError("the envelope of another message")
    return entry


def _octets(descriptor: int) -> bytes:
    """All of a journal. Raises BadDataError."""
    octets = os.pread(descriptor, _COMMON_JOURNAL, 0)
    if len(octets) == _COMMON_JOURNAL:
        size = os.fstat(descriptor).st_size
        if size > _LARGEST_JOURNAL:
            raise BadDataError("a journal larger than any of ours")
        octets = os.pread(descriptor, size, 0)
    return octets


def _blocks(path: str, stored: int) -> Iterator[bytes]:
    """A message of *stored* octets. Raises BadDataError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadDataError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != stored:
            raise BadDataError(f"{path}: not the message that was accepted")
        while stored and (block := os.read(descriptor, min(_BLOCK, stored))):
            stored -= len(block)
            yield block
    finally:
        os.close(descriptor)


def _create(path: str, blocks: Iterable[bytes]) -> None:
    """A new file that has all its octets, synced, before it has its name. Raises OSError."""
    hidden = ""
    try:
        descriptor = os.open(os.path.dirname(path), os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError):  # a filesystem or system that has no nameless files
        hidden = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for block in blocks:
            write_all(descriptor, block)
        os.fsync(descriptor)
        if hidden:
            os.rename(hidden, path)
        else:
            # Python asks for linkat(2), which follows the link, only where a folder's descriptor is given.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except BaseException:
        with suppress(OSError):
            os.unlink(hidden or "")
        raise
    finally:
        os.close(descriptor)


def _explained(path: str, error: OSError) -> CannotWriteError:
    return write_error(path, error, "the message is not in the spool")
