"""The files of the spool: journals and messages, read and created.

Knows no state of the queue: system/spool/spool has the folders and the order of operations.
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
from mailtools.system.files.buffer import write_all
from mailtools.system.files.durable import write_error

if TYPE_CHECKING:
    from mailtools.core.queue.journal import QueueEntry

_LARGEST_JOURNAL = 64 << 20  # octets
_COMMON_JOURNAL = 8 << 10  # octets; most are smaller, and read at once
_BLOCK = 256 << 10


def open_journal(path: str, flags: int) -> int:
    """Open a journal. Raises OSError, also if *path* is no regular file."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, "no regular file", path)
    return descriptor


@cache
def _parser() -> Callable[[bytes], "QueueEntry"]:
    """Import the journal parser at first use: sendmail only adds messages; it would cost 0.1 of its start."""
    from mailtools.core.queue.journal import parse

    return parse


def read_entry(descriptor: int, identity: str) -> "QueueEntry":
    """Parse an open journal. Raises BadDataError if it is unusable or belongs to another message."""
    entry = _parser()(octets_of(descriptor))
    if entry.envelope.identity != identity:
        raise BadDataError("the envelope of another message")
    return entry


def octets_of(descriptor: int) -> bytes:
    """The octets of a journal. Raises BadDataError if it is larger than `_LARGEST_JOURNAL`."""
    octets = os.pread(descriptor, _COMMON_JOURNAL, 0)
    if len(octets) == _COMMON_JOURNAL:
        size = os.fstat(descriptor).st_size
        if size > _LARGEST_JOURNAL:
            raise BadDataError("a journal larger than any of ours")
        octets = os.pread(descriptor, size, 0)
    return octets


def message_blocks(path: str, stored: int) -> Iterator[bytes]:
    """A message of *stored* octets, in blocks. Raises BadDataError if it is missing or has another size."""
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


def first_lines(envelope: QueueEnvelope, history: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    yield envelopes.encode(envelope)
    if history:
        from mailtools.core.queue import journal

        yield journal.encode(history)


def sendable(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on *blocks*. Raises BadDataError for octets that SMTP cannot carry."""
    for block in blocks:
        if b"\0" in block or b"\r" in block:
            text = "the message holds a NUL or a bare CR, which cannot be sent to another server"
            raise BadDataError(text).coded("5.6.0")
        yield block


def create(path: str, blocks: Iterable[bytes]) -> None:
    """Create a file whose octets are all synced before its name appears. Raises OSError."""
    hidden = ""
    try:
        descriptor = os.open(os.path.dirname(path), os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError):  # the filesystem or system has no unnamed files
        hidden = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for block in blocks:
            write_all(descriptor, block)
        os.fsync(descriptor)
        if hidden:
            os.rename(hidden, path)
        else:
            # Python calls linkat(2), which follows the link, only if a folder's descriptor is given.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
            # The inode counts the names. Without a journal, a file whose count is 0 after a power failure is
            # removed; with one, this sync makes that of the folder free.
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(hidden or "")
        raise
    finally:
        os.close(descriptor)


def explained(path: str, error: OSError) -> CannotWriteError:
    return write_error(path, error, "the message is not in the spool")
