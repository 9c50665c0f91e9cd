"""One run of `fetch` over one server: what is new comes into an mbox, and is noted, and only then removed.

The order is all there is to it: what is to be stored is noted, messages are appended and synced, that it was
done is noted and synced, then they are deleted on the server. Cut anywhere, the next run goes on: what was
noted and not done is looked for in the mbox. Only into a pipe or stream a message may come twice. Knows no
protocol and no option.
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

_BATCH_OCTETS = 4 << 20
_BATCH = 1000  # messages
_BEGINNING = 2048  # octets; trace fields with their ids are in them
_SUSPECT = 5  # names that all vanish at once


class Sink(Protocol):
    """Where messages go."""

    beside: str  # a file that large ones may lie beside
    batch: int  # messages that it takes at once

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Take them, durably; "" for each, or why it was not taken. Raises MailError."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """What tells later whether these were taken, all of them; [] where nothing can. For JSON."""

    def has(self, mark: list[Any]) -> bool:
        """Tell whether what *mark* was made of is there. Raises MailError."""


class MboxSink:
    """An mbox, appended to."""

    batch = _BATCH

    def __init__(self, path: str) -> None:
        self.beside = path

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """One lock, one write, one sync for all of them."""
        records = [mbox_form.fetched_record(message.body, message.arrived) for message in messages]
        appending.append_waiting(self.beside, records)
        return [""] * len(messages)

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Where the mbox ends, and how the first of them begins: an append is there whole or not at all."""
        try:
            end = os.stat(self.beside).st_size
        except OSError:
            end = 0
        return [end, _beginning(messages[0]).hex()]

    def has(self, mark: list[Any]) -> bool:
        """Look behind what was there then."""
        end, beginning = mark
        return index.holds(self.beside, int(end), bytes.fromhex(beginning))


class _Forgetful:
    """A sink that cannot be asked what it took."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Nothing."""
        return []

    def has(self, mark: list[Any]) -> bool:
        """It cannot tell."""
        return False


class StreamSink(_Forgetful):
    """An mbox written to a stream."""

    batch = 1

    def __init__(self, write: Callable[[bytes], object], flush: Callable[[], object]) -> None:
        self.beside = ""
        self._write = write
        self._flush = flush

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Raises BrokenPipeError."""
        for message in messages:
            record = mbox_form.fetched_record(message.body, message.arrived)
            for block in mbox_form.record_blocks(record):
                self._write(block)
        self._flush()
        return [""] * len(messages)


class PipeSink(_Forgetful):
    """A program that gets each message on its stdin, and takes it with exit code 0."""

    batch = 1

    def __init__(self, command: str) -> None:
        self.beside = ""
        self._command = command

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """What it prints goes to our stderr."""
        return [self._run(mbox_form.fetched_record(message.body, message.arrived)) for message in messages]

    def _run(self, record: NewRecord) -> str:
        process = subprocess.Popen(["/bin/sh", "-c", self._command], stdin=subprocess.PIPE, stdout=2)
        assert process.stdin is not None
        try:
            for block in mbox_form.message_blocks(record):
                process.stdin.write(block)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its exit code says whether it had enough
        code = process.wait()
        return f"{self._command}: failed ({code})" if code else ""


class Watch(Protocol):
    """Who is told how it goes."""

    def begin(self, messages: int) -> None:
        """So many are to come."""

    def came(self, mailbox: str, message: Fetched, problem: str) -> None:
        """One was stored; or not, with the *problem*."""

    def deleted(self, mailbox: str, items: Sequence[Item]) -> None:
        """These are removed on the server."""

    def would(self, mailbox: str, items: Sequence[Item]) -> None:
        """These would be fetched."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


class Errand(NamedTuple):
    """What one run has to do with each mailbox."""

    remote: Remote
    seen: Seen
    wishes: FetchWishes
    watch: Watch
    is_dry: bool = False


def collect(errand: Errand, mailbox: str, sink: Sink) -> None:
    """Fetch what is new in *mailbox* into *sink*. Raises MailError, OSError."""
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
        """What waits is written while the next messages come: an eighth of all the time."""
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
        store()  # what came before the connection was cut came all the same
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
    """One task at a time, in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: list[Item] = []
        self._error: BaseException | None = None

    def start(self, task: Callable[[], list[Item]]) -> None:
        """Begin; the one before has to be over."""

        def run() -> None:
            try:
                self._done = task()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def outcome(self) -> list[Item]:
        """Wait for the task; what it returned, once. Raises what it raised."""
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        done, self._done = self._done, []
        self._thread = None
        if error is not None:
            raise error
        return done


def _resume(seen: Seen, box: Box, sink: Sink) -> None:
    """A run that was killed had stored its last messages, or not: nobody noted which."""
    intention = seen.intention
    if intention is not None and intention.box == box and sink.has(intention.mark):
        seen.add(box, intention.names)


def _stored(errand: Errand, box: Box, sink: Sink, messages: Sequence[Fetched]) -> list[Item]:
    """Store them, and note it; those that the sink took."""
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
    """Some octets that no other record begins with, so near to its end that they are there if all is."""
    record = mbox_form.fetched_record(message.body, message.arrived)
    return (record.head + next(message.body.blocks(), b""))[:_BEGINNING]


def _doomed(
    there: list[Item], stored: Sequence[Item], known: dict[str, int], wishes: FetchWishes
) -> list[Item]:  # fmt: skip
    """What is to be removed on the server: nothing that was not stored, now or before."""
    if wishes.delete:
        just = {item.number for item in stored}
        return [item for item in there if item.number in just or (item.name and item.name in known)]
    if wishes.delete_after is not None:
        limit = clock.now() - wishes.delete_after
        return [item for item in there if item.name and known.get(item.name, limit + 1) <= limit]
    return []


def _doubt(errand: Errand, mailbox: str, validity: str, there: list[Item]) -> None:
    """Tell where a server calls all its messages by new names."""
    seen, watch = errand.seen, errand.watch
    known = seen.names((mailbox, validity))
    where = f"{mailbox}: " if mailbox else ""
    if not known and validity and seen.validities(mailbox):
        watch.warn(
            f"{where}the server has numbered its messages anew (UIDVALIDITY {validity}): all of them come"
        )
    if validity or errand.wishes.change:
        return  # UIDs stay as they are; and what was fetched may be gone, as it was to be
    if len(known) >= _SUSPECT and len(there) >= _SUSPECT and not any(item.name in known for item in there):
        watch.warn(
            f"{where}no message has the name (UIDL) of one that was fetched before: if the server changed"
            " them all, all come again"
        )


def beside(target: str) -> str:
    """Where a target's folder is made if it is not there. Raises CannotWriteError."""
    folder = os.path.dirname(target)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{folder}: {error.strerror}") from error
    return target
