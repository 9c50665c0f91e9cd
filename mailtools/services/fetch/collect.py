"""Fetch the new messages of one mailbox: store them, record them as seen, and only then delete them.

The order makes it safe. First the state file records which messages are about to be stored; then the
messages are appended to the mbox and synced; then the state file records them as seen and is synced; only
then are they deleted on the server. If a run is killed at any point, the next run continues: it looks in the
mbox for the messages that were announced but not recorded as seen. Only a pipe or a stream may get a message
twice. Knows neither the protocol nor the command's options.

A message is deleted only if this run stored it, or an earlier run stored the same message. IMAP's UIDs prove
that it is the same; a UIDL proves nothing, for servers give it to other messages too. So a message that a
POP3 server still has is fetched again before it is deleted, and its octets decide.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import CannotWriteError, MailError, TemporaryError
from mailtools.services.fetch.remote import Fetched, FetchWishes, Item, RefusedInMailboxError, Remote
from mailtools.services.fetch.sinks import Sink
from mailtools.system import clock
from mailtools.system.mbox.fetch_state import Box, Seen

_BATCH_OCTETS = 4 << 20  # octets that wait before a batch is stored
_SUSPECT = 5  # messages; from this number on it is suspicious that no UIDL is known


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

    def failed(self, problem: MailError) -> None:
        """Something could not be done; the rest is done."""

    def warn(self, text: str) -> None:
        """Show a warning to the user."""


class Course:
    """What one run did so far, over several sessions if it has to connect again.

    The session may break at a message, and at the same one each time. Such messages are put off: a later
    session asks for them when all others are stored, and deleted on the server.
    """

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()  # messages, by mailbox
        self.put_off: dict[str, set[str]] = {}  # names, by mailbox
        self.is_last_round = False  # only what was put off is asked for now
        self.retried: set[str] = set()  # names for which a run that waits for mail asked once more
        self.is_broken = False  # the last session broke at a message


class Errand(NamedTuple):
    """What is the same for every mailbox of a session."""

    remote: Remote
    seen: Seen
    wishes: FetchWishes
    watch: Watch
    is_dry: bool = False
    course: Course | None = None  # None: this session is the whole run


def collect(errand: Errand, mailbox: str, sink: Sink) -> None:
    """Fetch the new messages of *mailbox* into *sink*. Raises MailError, OSError."""
    remote, seen, wishes, watch = errand.remote, errand.seen, errand.wishes, errand.watch
    course = errand.course or Course()
    validity = remote.select(mailbox, wishes.change and not errand.is_dry)
    box = (mailbox, validity)
    _resume(seen, box, sink)
    there = remote.items(wishes)
    for problem in remote.problems():
        watch.failed(problem)
    _doubt(errand, mailbox, validity, there)
    wanted = _wanted(errand, there, box, course)
    if errand.is_dry:
        watch.would(mailbox, wanted)
        return
    watch.begin(len(wanted))
    doubtful = () if course.is_last_round else _unproven(there, seen.names(box), validity, wishes)
    proven: list[Item] = []
    storing = _Storing(errand, box, sink)
    groups = [[item] for item in wanted] if course.is_last_round else [[*wanted, *doubtful]]
    try:
        for message in _arriving(errand, box, groups, sink.beside, course):
            if message.problem:
                watch.came(mailbox, message, message.problem)
                seen.trouble(box, message.item.name, is_breaking=False)
            elif message.item in doubtful and _digest(message) == seen.digest(box, message.item.name):
                proven.append(message.item)
                message.body.close()
            else:
                storing.take(message)
    finally:
        storing.end()  # messages that arrived before the connection broke are kept
        course.stored[mailbox] += len(storing.stored)
    if storing.stored and wishes.mark_seen:
        try:
            remote.mark_seen(storing.stored)
        except RefusedInMailboxError as refusal:
            watch.failed(refusal)
    seen.sync()
    _delete(errand, mailbox, _doomed(there, [*storing.stored, *proven], box, seen, wishes))
    if there:
        seen.forget_others(box, [item.name for item in there])


def _arriving(
    errand: Errand, box: Box, groups: Sequence[Sequence[Item]], beside: str, course: Course
) -> Iterator[Fetched]:
    """Yield the messages of *groups*. If the session breaks at one, note which. Raises MailError, OSError."""
    for group in groups:
        left = dict.fromkeys(group)
        try:
            for message in errand.remote.fetch(group, beside):
                left.pop(message.item, None)
                yield message
        except (RemoteProtocolError, TemporaryError) as error:
            for suspect in left:
                where = f"message {suspect.number} of {box[0]}" if box[0] else f"message {suspect.number}"
                errand.watch.failed(TemporaryError(f"{where} was not fetched: {error}"))
                if suspect.name:
                    errand.seen.trouble(box, suspect.name, is_breaking=True)
                    course.put_off.get(box[0], set()).discard(suspect.name)
                    course.is_broken = True
                break
            raise


def _delete(errand: Errand, mailbox: str, doomed: Sequence[Item]) -> None:
    if not doomed:
        return
    left: Collection[Item] = ()
    try:
        errand.remote.delete(list(doomed))
    except RefusedInMailboxError as refusal:
        errand.watch.failed(refusal)
        left = refusal.left
    errand.watch.deleted(mailbox, [item for item in doomed if item not in left])


class _Storing:
    """Stores messages in batches: in a thread while the next arrive, which saves an eighth of the time."""

    def __init__(self, errand: Errand, box: Box, sink: Sink) -> None:
        self.stored: list[Item] = []
        self._errand = errand
        self._box = box
        self._sink = sink
        self._waiting: list[Fetched] = []
        self._size = 0  # octets that wait
        self._writer = _Behind()

    def take(self, message: Fetched) -> None:
        """Take *message*; it is stored with its batch. Raises what storing the batch before raised."""
        self._waiting.append(message)
        self._size += message.body.size
        if len(self._waiting) >= self._sink.batch or self._size >= _BATCH_OCTETS:
            self._store()

    def _store(self) -> None:
        batch, self._waiting, self._size = self._waiting, [], 0
        self.stored += self._writer.outcome()
        if batch:
            self._writer.start(lambda: _stored(self._errand, self._box, self._sink, batch))

    def end(self) -> None:
        """Store what waits; afterwards `stored` is complete. Raises MailError, OSError."""
        self._store()
        self.stored += self._writer.outcome()


def _unproven(
    there: list[Item], known: dict[str, int], validity: str, wishes: FetchWishes
) -> Collection[Item]:
    """Return known messages that would be deleted if it were certain that they are the same."""
    if validity or not (wishes.delete or wishes.delete_after is not None):
        return ()
    limit = clock.now() - (wishes.delete_after or 0.0)
    return dict.fromkeys([item for item in there if item.name and known.get(item.name, limit + 1) <= limit])


def _digest(message: Fetched) -> str:
    digest = blake2b(digest_size=16)
    for block in message.body.blocks():
        digest.update(block)
    return digest.hexdigest()


def _wanted(errand: Errand, there: list[Item], box: Box, course: Course) -> list[Item]:
    """Return the messages to ask for. Those that did not come before are the last, or put off."""
    remote, wishes = errand.remote, errand.wishes
    known, troubled = errand.seen.names(box), errand.seen.troubled(box)
    wanted = [item for item in there if not item.name or item.name not in known]
    if troubled and not errand.is_dry:
        wanted = _in_order(errand, wanted, troubled, course, box[0])
    if wishes.max_size:
        wanted = [item for item in wanted if item.size <= wishes.max_size]
    if wishes.since and wanted:
        new = remote.since(wanted, wishes.since)
        wanted = [item for item in wanted if item.name in new]
    return wanted[: max(0, wishes.limit - course.stored[box[0]])] if wishes.limit else wanted


def _in_order(
    errand: Errand, wanted: list[Item], troubled: Mapping[str, bool], course: Course, mailbox: str
) -> list[Item]:
    """Return *wanted* with the *troubled* ones at the end; those at which the session broke are put off."""
    if course.is_last_round:
        names = course.put_off.get(mailbox, set())
        return [item for item in wanted if item.name in names]
    if errand.course is not None:
        course.put_off[mailbox] = {item.name for item in wanted if troubled.get(item.name)}
    rank = {name: place for place, name in enumerate(troubled, 1)}
    asked = [item for item in wanted if item.name not in course.put_off.get(mailbox, ())]
    return sorted(asked, key=lambda item: rank.get(item.name, 0))


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
    is_proof = bool(box[1])  # UIDs need no digest beside them
    names = {m.item.name: "" if is_proof else _digest(m) for m in messages if m.item.name}
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
    errand.seen.add(box, {item.name: names[item.name] for item in done if item.name})
    for message, problem in zip(messages, problems, strict=True):
        errand.watch.came(box[0], message, problem)
        message.body.close()
    return done


def _doomed(
    there: list[Item], sure: Sequence[Item], box: Box, seen: Seen, wishes: FetchWishes
) -> list[Item]:  # fmt: skip
    """Return the messages to delete on the server. *sure*: those that were certainly stored."""
    known, numbers = seen.names(box), {item.number for item in sure}

    def is_stored(item: Item) -> bool:
        return item.number in numbers or bool(box[1] and item.name in known)

    if wishes.delete:
        return list(filter(is_stored, there))
    if wishes.delete_after is not None:
        limit = clock.now() - wishes.delete_after
        return [i for i in there if i.name and known.get(i.name, limit + 1) <= limit and is_stored(i)]
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
