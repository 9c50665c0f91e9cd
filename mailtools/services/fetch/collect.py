"""Fetch the new messages of one mailbox: store them, record them as seen, and only then delete them.

The order makes it safe. First the state file records which messages are about to be stored; then the
messages are appended to the mbox and synced; then the state file records them as seen and is synced; only
then are they deleted on the server. If a run is killed at any point, the next run continues: it looks in the
mbox for the messages that were announced but not recorded as seen. Only a pipe or a stream may get a message
twice. Knows neither the protocol nor the command's options.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from mailtools.core.errors import CannotWriteError
from mailtools.services.fetch.remote import Fetched, FetchWishes, Item, Remote
from mailtools.services.transit import mbox_form
from mailtools.system import clock
from mailtools.system.mbox import appending, index
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.fetch_state import Box, Seen

_BATCH_OCTETS = 4 << 20  # octets that wait before a batch is stored
_BATCH = 1000  # messages in a batch
_BEGINNING = 2048  # octets; enough to hold the trace fields, whose ids make a message unique
_SUSPECT = 5  # messages; from this number on it is suspicious that no UIDL is known


class Sink(Protocol):
    """Where fetched messages are stored: an mbox, a stream or a program."""

    beside: str  # a path; large messages are buffered in its folder
    batch: int  # messages that one call of store takes

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Store *messages* durably; return "" for each, or why it was not stored. Raises MailError."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return JSON values by which `has` tells later whether *messages* were stored; [] if it cannot."""

    def has(self, mark: list[Any]) -> bool:
        """Tell whether the messages that *mark* stands for were stored. Raises MailError."""


class MboxSink:
    """Appends messages to an mbox."""

    batch = _BATCH

    def __init__(self, path: str) -> None:
        self.beside = path

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Append *messages* with one lock, one write and one sync."""
        records = [mbox_form.fetched_record(message.body, message.arrived) for message in messages]
        appending.append_waiting(self.beside, records)
        return [""] * len(messages)

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return the mbox's size and the first octets of the first message: an append is whole or absent."""
        try:
            end = os.stat(self.beside).st_size
        except OSError:
            end = 0
        return [end, _beginning(messages[0]).hex()]

    def has(self, mark: list[Any]) -> bool:
        """Look for the first message of *mark* behind the end that the mbox had then."""
        end, beginning = mark
        return index.holds(self.beside, int(end), bytes.fromhex(beginning))


class _Forgetful:
    """A sink that cannot tell later which messages it stored."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return [], for `has` cannot tell."""
        return []

    def has(self, mark: list[Any]) -> bool:
        """Return False: a stream or program keeps nothing to look in."""
        return False


class StreamSink(_Forgetful):
    """Writes messages to a stream, in mbox format."""

    batch = 1

    def __init__(self, write: Callable[[bytes], object], flush: Callable[[], object]) -> None:
        self.beside = ""
        self._write = write
        self._flush = flush

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Write *messages* and flush the stream. Raises BrokenPipeError."""
        for message in messages:
            record = mbox_form.fetched_record(message.body, message.arrived)
            for block in mbox_form.record_blocks(record):
                self._write(block)
        self._flush()
        return [""] * len(messages)


class PipeSink(_Forgetful):
    """Runs a program for each message, on its stdin; exit code 0 means that the message was stored."""

    batch = 1

    def __init__(self, command: str) -> None:
        self.beside = ""
        self._command = command

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Run the program once for each message; its stdout goes to our stderr."""
        return [self._run(mbox_form.fetched_record(message.body, message.arrived)) for message in messages]

    def _run(self, record: NewRecord) -> str:
        process = subprocess.Popen(["/bin/sh", "-c", self._command], stdin=subprocess.PIPE, stdout=2)
        assert process.stdin is not None
        try:
            for block in mbox_form.message_blocks(record):
                process.stdin.write(block)
            process.stdin.close()
        except BrokenPipeError:
            pass  # the program stopped reading; its exit code tells whether it took the message
        code = process.wait()
        return f"{self._command}: failed ({code})" if code else ""


class Watch(Protocol):
    """Receives the progress of a fetch."""

    def begin(self, messages: int) -> None:
        """*messages*: the number of messages that will be fetched."""

    def came(self, mailbox: str, message: Fetched, problem: str) -> None:
        """One message was stored, or was not because of *problem* ("": stored)."""

    def deleted(self, mailbox: str, items: Sequence[Item]) -> None:
        """*items* were deleted on the server."""

    def would(self, mailbox: str, items: Sequence[Item]) -> None:
        """A dry run: *items* would be fetched."""

    def warn(self, text: str) -> None:
        """Show a warning to the user."""


class Errand(NamedTuple):
    """What is the same for every mailbox of a run."""

    remote: Remote
    seen: Seen
    wishes: FetchWishes
    watch: Watch
    is_dry: bool = False


def collect(errand: Errand, mailbox: str, sink: Sink) -> None:
    """Fetch the new messages of *mailbox* into *sink*. Raises MailError, OSError."""
    remote, seen, wishes, watch = errand.remote, errand.seen, errand.wishes, errand.watch
    validity = remote.select(mailbox, wishes.change and not errand.is_dry)
    box = (mailbox, validity)
    _resume(seen, box, sink)
    there = remote.items(wishes)
    _doubt(errand, mailbox, validity, there)
    wanted = _wanted(remote, there, seen.names(box).keys(), wishes)
    if errand.is_dry:
        watch.would(mailbox, wanted)
        return
    watch.begin(len(wanted))
    stored: list[Item] = []
    waiting: list[Fetched] = []
    size = 0
    writer = _Behind()

    def store() -> None:
        """Store the waiting messages in a thread while the next arrive: saves an eighth of the time."""
        nonlocal waiting
        batch, waiting = waiting, []
        stored.extend(writer.outcome())
        if batch:
            writer.start(lambda: _stored(errand, box, sink, batch))

    try:
        for message in remote.fetch(wanted, sink.beside):
            if message.problem:
                watch.came(mailbox, message, message.problem)
                continue
            waiting.append(message)
            size += message.body.size
            if len(waiting) >= sink.batch or size >= _BATCH_OCTETS:
                store()
                size = 0
    finally:
        store()  # messages that arrived before the connection broke are kept
        stored.extend(writer.outcome())
    if stored and wishes.mark_seen:
        remote.mark_seen(stored)
    seen.sync()
    doomed = _doomed(there, stored, seen.names(box), wishes)
    if doomed:
        remote.delete(doomed)
        watch.deleted(mailbox, doomed)
    if there:
        seen.forget_others(box, [item.name for item in there])


def _wanted(remote: Remote, there: list[Item], known: Iterable[str], wishes: FetchWishes) -> list[Item]:
    known = set(known)
    wanted = [item for item in there if not item.name or item.name not in known]
    if wishes.max_size:
        wanted = [item for item in wanted if item.size <= wishes.max_size]
    if wishes.since and wanted:
        new = remote.since(wanted, wishes.since)
        wanted = [item for item in wanted if item.name in new]
    return wanted[: wishes.limit] if wishes.limit else wanted


class _Behind:
    """Runs one task at a time in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: list[Item] = []
        self._error: BaseException | None = None

    def start(self, task: Callable[[], list[Item]]) -> None:
        """Start *task*; the task before must have been collected with `outcome`."""

        def run() -> None:
            try:
                self._done = task()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def outcome(self) -> list[Item]:
        """Wait for the task; return its result once, then []. Raises what the task raised."""
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        done, self._done = self._done, []
        self._thread = None
        if error is not None:
            raise error
        return done


def _resume(seen: Seen, box: Box, sink: Sink) -> None:
    """Record the last batch of a killed run as seen, if the sink stored it."""
    intention = seen.intention
    if intention is not None and intention.box == box and sink.has(intention.mark):
        seen.add(box, intention.names)


def _stored(errand: Errand, box: Box, sink: Sink, messages: Sequence[Fetched]) -> list[Item]:
    """Store *messages*, record them as seen, and return the items that the sink stored."""
    names = [message.item.name for message in messages if message.item.name]
    mark = sink.mark(messages) if names else []
    if mark:
        errand.seen.intend(box, names, mark)
    try:
        problems = sink.store(messages)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotWriteError(f"{sink.beside or 'standard output'}: {error.strerror}") from error
    done = [message.item for message, problem in zip(messages, problems, strict=True) if not problem]
    errand.seen.add(box, [item.name for item in done if item.name])
    for message, problem in zip(messages, problems, strict=True):
        errand.watch.came(box[0], message, problem)
        message.body.close()
    return done


def _beginning(message: Fetched) -> bytes:
    """Return the first octets of the record of *message*; its ids make them differ from any other's."""
    record = mbox_form.fetched_record(message.body, message.arrived)
    return (record.head + next(message.body.blocks(), b""))[:_BEGINNING]


def _doomed(
    there: list[Item], stored: Sequence[Item], known: dict[str, int], wishes: FetchWishes
) -> list[Item]:  # fmt: skip
    """Return the messages to delete on the server: only such as were stored, now or earlier."""
    if wishes.delete:
        just = {item.number for item in stored}
        return [item for item in there if item.number in just or (item.name and item.name in known)]
    if wishes.delete_after is not None:
        limit = clock.now() - wishes.delete_after
        return [item for item in there if item.name and known.get(item.name, limit + 1) <= limit]
    return []


def _doubt(errand: Errand, mailbox: str, validity: str, there: list[Item]) -> None:
    """Warn if the server has given all its messages new names (UIDVALIDITY or UIDL)."""
    seen, watch = errand.seen, errand.watch
    known = seen.names((mailbox, validity))
    where = f"{mailbox}: " if mailbox else ""
    if not known and validity and seen.validities(mailbox):
        watch.warn(
            f"{where}the server has numbered its messages anew (UIDVALIDITY {validity}): all of them come"
        )
    if validity or errand.wishes.change:
        return  # IMAP's UIDs do not change; and if fetched messages are deleted, none is expected here
    if len(known) >= _SUSPECT and len(there) >= _SUSPECT and not any(item.name in known for item in there):
        watch.warn(
            f"{where}no message has the name (UIDL) of one that was fetched before: if the server changed"
            " them all, all come again"
        )


def beside(target: str) -> str:
    """Make the folder of *target* if it is missing; return *target*. Raises CannotWriteError."""
    folder = os.path.dirname(target)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{folder}: {error.strerror}") from error
    return target
