"""The commands of an IMAP client, parsed: what each asks for.

Owns the arguments of RFC 9051 §6 and RFC 3501 §6, with UIDPLUS, MOVE and UNSELECT; those of LIST
are in core/imap/lists. Knows no session and no literal on the wire (core/imap/server reads them).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mailtools.core.imap import fetch_items, lists, metadata, notify, search_keys, sorting, threads
from mailtools.core.imap.cursor import Cursor, ImapCommandError, SequenceSet
from mailtools.core.imap.fetch_items import FetchItem
from mailtools.core.imap.lists import List, mailbox, new_mailbox, status_items
from mailtools.core.imap.metadata import GetMetadata, SetMetadata
from mailtools.core.imap.notify import Notify
from mailtools.core.imap.search_keys import SearchKey
from mailtools.core.imap.sorting import SortKey

SYSTEM_FLAGS = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")
_LONGEST_KEYWORD = 250  # octets: all keywords stand in the header of the first message
_CANONICAL = {flag.lower(): flag for flag in SYSTEM_FLAGS}


class Noop(NamedTuple):
    """NOOP and CHECK."""

    is_check: bool = False


class Resync(NamedTuple):
    """What a client knows of a mailbox that it selects again (RFC 7162 §3.2.5)."""

    validity: int
    modseq: int
    known: SequenceSet | None = None  # UIDs; None: all up to the last


class Select(NamedTuple):
    """SELECT, or EXAMINE if *is_read_only*."""

    mailbox: str
    is_read_only: bool
    parameters: frozenset[str] = frozenset()
    resync: Resync | None = None


class Leave(NamedTuple):
    """CLOSE if *expunges*, else UNSELECT."""

    expunges: bool


class Create(NamedTuple):
    """CREATE. *uses*: the special uses that the mailbox gets (RFC 6154 §3)."""

    mailbox: str
    uses: tuple[str, ...] = ()


class DeleteMailbox(NamedTuple):
    """DELETE."""

    mailbox: str


class Rename(NamedTuple):
    """RENAME."""

    mailbox: str
    new: str


class Subscribe(NamedTuple):
    """SUBSCRIBE, or UNSUBSCRIBE if not *wanted*."""

    mailbox: str
    wanted: bool


class StatusOf(NamedTuple):
    """STATUS."""

    mailbox: str
    items: tuple[str, ...]


class GetQuota(NamedTuple):
    """GETQUOTA of *root*, or GETQUOTAROOT of *mailbox* if that is not None (RFC 9208 §4.1)."""

    root: bytes = b""
    mailbox: str | None = None


class Namespace(NamedTuple):
    """NAMESPACE."""


class Expunge(NamedTuple):
    """EXPUNGE, or UID EXPUNGE with a set."""

    uids: SequenceSet | None


class Search(NamedTuple):
    """SEARCH. *returns*: the options of RETURN, None without it."""

    by_uid: bool
    returns: tuple[str, ...] | None
    key: SearchKey


class Sort(NamedTuple):
    """SORT. *returns* as in `Search`."""

    by_uid: bool
    returns: tuple[str, ...] | None
    order: tuple[SortKey, ...]
    key: SearchKey


class Thread(NamedTuple):
    """THREAD. *algorithm*: a name in `threads.ALGORITHMS`."""

    by_uid: bool
    algorithm: str
    key: SearchKey


class Fetch(NamedTuple):
    """FETCH."""

    by_uid: bool
    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    changed_since: int | None = None  # MODSEQ
    with_vanished: bool = False


class Store(NamedTuple):
    """STORE. *how*: "", "+" or "-"."""

    by_uid: bool
    numbers: SequenceSet
    how: str
    is_silent: bool
    flags: tuple[bytes, ...]
    unchanged_since: int | None = None  # MODSEQ


class Copy(NamedTuple):
    """COPY, or MOVE if *moves*."""

    by_uid: bool
    numbers: SequenceSet
    mailbox: str
    moves: bool


class AppendMessage(NamedTuple):
    """APPEND, without its message. *seconds*: its date since the epoch, or None."""

    mailbox: str
    flags: tuple[bytes, ...]
    seconds: float | None


Command = (
    Noop | Select | Leave | Create | DeleteMailbox | Rename | Subscribe | List | StatusOf | Namespace
    | GetQuota | GetMetadata | SetMetadata | Notify
    | Expunge | Search | Sort | Thread | Fetch | Store | Copy
)  # fmt: skip


def _flags(cursor: Cursor) -> tuple[bytes, ...]:
    """Flags in parentheses, or without."""
    found: list[bytes] = []
    in_list = cursor.takes(b"(")
    while not (in_list and cursor.takes(b")")):
        if found:
            cursor.space()
        if cursor.takes(b"\\"):
            flag = _CANONICAL.get(b"\\" + cursor.atom().lower())
            if flag is None:
                raise ImapCommandError("no such system flag, or one that cannot be set")
        else:
            flag = cursor.atom()
            if len(flag) > _LONGEST_KEYWORD:
                raise ImapCommandError("the keyword is too long", "LIMIT")
        found.append(flag)
        if not in_list and cursor.is_end:
            break
    return tuple(dict.fromkeys(found))


def _select(cursor: Cursor, is_read_only: bool) -> Select:
    name = mailbox(cursor)
    parameters: set[str] = set()
    resync = None
    if cursor.takes(b" ("):
        while not (parameters and cursor.takes(b")")):
            if parameters:
                cursor.space()
            word = cursor.word_or_none()
            if word not in ("CONDSTORE", "QRESYNC") or word in parameters:
                raise ImapCommandError("no such parameter of SELECT")
            parameters.add(word)
            if word == "QRESYNC":
                resync = _resync(cursor)
    return Select(name, is_read_only, frozenset(parameters), resync)


def _resync(cursor: Cursor) -> Resync:
    cursor.space()
    cursor.needs(b"(")
    validity = cursor.number()
    cursor.space()
    modseq = cursor.number()
    known = None
    is_more = cursor.takes(b" ")
    if is_more and not cursor.is_at(b"("):
        known = _known(cursor)
        is_more = cursor.takes(b" ")
    if is_more:  # sequence numbers and their UIDs: we know without them what is gone
        cursor.needs(b"(")
        _known(cursor)
        cursor.space()
        _known(cursor)
        cursor.needs(b")")
    cursor.needs(b")")
    return Resync(validity, modseq, known)


def _known(cursor: Cursor) -> SequenceSet:
    """A set that a client remembers: ``*`` and ``$`` mean nothing before the mailbox is selected."""
    numbers = cursor.sequence_set()
    if numbers.is_saved or any(None in part for part in numbers.parts):
        raise ImapCommandError("a set without * and $ expected")
    return numbers


def _create(cursor: Cursor) -> Create:
    name = new_mailbox(cursor)
    return Create(name, _uses(cursor) if cursor.takes(b" (") else ())


def _uses(cursor: Cursor) -> tuple[str, ...]:
    """The parameter USE after its opening parenthesis (RFC 6154 §3)."""
    if cursor.word() != "USE":
        raise ImapCommandError("USE expected")
    cursor.space()
    cursor.needs(b"(")
    found: list[str] = []
    while not found or not cursor.takes(b")"):
        if found:
            cursor.space()
        cursor.needs(b"\\")
        found.append("\\" + cursor.atom().decode())
    cursor.needs(b")")
    return tuple(found)


def _rename(cursor: Cursor) -> Rename:
    old = mailbox(cursor)
    cursor.space()
    return Rename(old, new_mailbox(cursor))


def _status(cursor: Cursor) -> StatusOf:
    name = mailbox(cursor)
    cursor.space()
    return StatusOf(name, status_items(cursor))


def append(cursor: Cursor) -> AppendMessage:
    """The arguments of APPEND up to its message."""
    return append_to(cursor, mailbox(cursor))


def append_to(cursor: Cursor, name: str) -> AppendMessage:
    """What stands before each message of APPEND: flags and a date, if they are given."""
    cursor.space()
    flags: tuple[bytes, ...] = ()
    if cursor.is_at(b"("):
        flags = _flags(cursor)
        cursor.space()
    seconds = None
    if cursor.is_at(b'"'):
        seconds = cursor.date_time()
        cursor.space()
    return AppendMessage(name, flags, seconds)


def _fetch(cursor: Cursor, by_uid: bool) -> Fetch:
    numbers = cursor.sequence_set()
    cursor.space()
    items = fetch_items.parse(cursor)
    if cursor.takes(b" ("):
        since, with_vanished = _fetch_modifiers(cursor)
        if with_vanished and not by_uid:
            raise ImapCommandError("VANISHED is for UID FETCH")
        items = tuple(dict.fromkeys((*items, fetch_items.MODSEQ)))
        return Fetch(by_uid, numbers, items, since, with_vanished)
    return Fetch(by_uid, numbers, items)


def _fetch_modifiers(cursor: Cursor) -> tuple[int, bool]:
    """CHANGEDSINCE, and whether VANISHED is there, in any order (RFC 4466 §2.4, RFC 7162 §3.2.6)."""
    since, with_vanished = None, False
    while True:
        word = cursor.word()
        if word == "CHANGEDSINCE" and since is None:
            cursor.space()
            since = cursor.number()
        elif word == "VANISHED" and not with_vanished:
            with_vanished = True
        else:
            raise ImapCommandError("no such modifier")
        if cursor.takes(b")"):
            break
        cursor.space()
    if since is None:
        raise ImapCommandError("VANISHED needs CHANGEDSINCE")
    return since, with_vanished


def _modseq(cursor: Cursor, name: str) -> int:
    """The number behind the modifier *name* (RFC 7162 §3.1.3)."""
    if cursor.word() != name:
        raise ImapCommandError("no such modifier")
    cursor.space()
    return cursor.number()


def _store(cursor: Cursor, by_uid: bool) -> Store:
    numbers = cursor.sequence_set()
    cursor.space()
    since = None
    if cursor.takes(b"("):
        since = _modseq(cursor, "UNCHANGEDSINCE")
        cursor.needs(b")")
        cursor.space()
    how = next((sign for sign in ("+", "-") if cursor.takes(sign.encode())), "")
    word = cursor.word()
    if word not in ("FLAGS", "FLAGS.SILENT"):
        raise ImapCommandError("FLAGS expected")
    cursor.space()
    return Store(by_uid, numbers, how, word == "FLAGS.SILENT", _flags(cursor), since)


def _copy(cursor: Cursor, by_uid: bool, moves: bool) -> Copy:
    numbers = cursor.sequence_set()
    cursor.space()
    return Copy(by_uid, numbers, mailbox(cursor), moves)


def _search(cursor: Cursor, by_uid: bool) -> Search:
    return Search(by_uid, *search_keys.parse(cursor))


def _sort(cursor: Cursor, by_uid: bool) -> Sort:
    returns = search_keys.parse_returns(cursor)
    order = sorting.parse_keys(cursor)
    cursor.space()
    search_keys.charset(cursor)
    cursor.space()
    return Sort(by_uid, returns, order, search_keys.parse_key(cursor))


def _thread(cursor: Cursor, by_uid: bool) -> Thread:
    algorithm = cursor.word()
    if algorithm not in threads.ALGORITHMS:
        raise ImapCommandError("no such algorithm of THREAD")
    cursor.space()
    search_keys.charset(cursor)
    cursor.space()
    return Thread(by_uid, algorithm, search_keys.parse_key(cursor))


_Parse = Callable[[Cursor], Command]
# Commands without arguments, those with some, and those of a mailbox that is selected, by UID too.
ALONE: Mapping[str, Command] = {
    "NOOP": Noop(), "CHECK": Noop(True), "NAMESPACE": Namespace(), "CLOSE": Leave(True),
    "UNSELECT": Leave(False), "EXPUNGE": Expunge(None),
}  # fmt: skip
OF_MAILBOXES: Mapping[str, _Parse] = {
    "SELECT": lambda cursor: _select(cursor, False),
    "EXAMINE": lambda cursor: _select(cursor, True),
    "CREATE": _create,
    "DELETE": lambda cursor: DeleteMailbox(mailbox(cursor)),
    "RENAME": _rename,
    "SUBSCRIBE": lambda cursor: Subscribe(mailbox(cursor), True),
    "UNSUBSCRIBE": lambda cursor: Subscribe(mailbox(cursor), False),
    "LIST": lists.parse,
    "LSUB": lists.lsub,
    "STATUS": _status,
    "GETQUOTA": lambda cursor: GetQuota(root=cursor.astring()),
    "GETQUOTAROOT": lambda cursor: GetQuota(mailbox=mailbox(cursor)),
    "GETMETADATA": metadata.get,
    "SETMETADATA": metadata.change,
    "NOTIFY": notify.parse,
}
OF_MESSAGES: Mapping[str, Callable[[Cursor, bool], Command]] = {
    "FETCH": _fetch,
    "STORE": _store,
    "COPY": lambda cursor, by_uid: _copy(cursor, by_uid, False),
    "MOVE": lambda cursor, by_uid: _copy(cursor, by_uid, True),
    "SEARCH": _search,
    "SORT": _sort,
    "THREAD": _thread,
}
SELECTED = frozenset((*OF_MESSAGES, "CHECK", "CLOSE", "UNSELECT", "EXPUNGE"))  # need a selected mailbox


def parse(word: str, cursor: Cursor) -> Command:
    """The command *word* (upper case) with the arguments at *cursor*. Raises ImapCommandError."""
    command: Command
    if word in ALONE:
        command = ALONE[word]
    else:
        cursor.space()
        if word in OF_MAILBOXES:
            command = OF_MAILBOXES[word](cursor)
        elif word in OF_MESSAGES:
            command = OF_MESSAGES[word](cursor, False)
        else:
            command = _of_uid(cursor)
    cursor.end()
    return command


def enables_condstore(command: Command) -> bool:
    """Tell whether *command* tells the server that the client knows MODSEQ (RFC 7162 §3.1)."""
    if isinstance(command, Select):
        return bool(command.parameters)
    if isinstance(command, StatusOf):
        return "HIGHESTMODSEQ" in command.items
    if isinstance(command, Fetch):
        return fetch_items.MODSEQ in command.items
    if isinstance(command, Store):
        return command.unchanged_since is not None
    return isinstance(command, Search | Sort | Thread) and search_keys.has_modseq(command.key)


def needs_qresync(command: Command) -> bool:
    """Tell whether *command* is for clients that enabled QRESYNC."""
    if isinstance(command, Select):
        return command.resync is not None
    return isinstance(command, Fetch) and command.with_vanished


def _of_uid(cursor: Cursor) -> Command:
    word = cursor.word()
    cursor.space()
    if word == "EXPUNGE":
        return Expunge(cursor.sequence_set())
    if word not in OF_MESSAGES:
        raise ImapCommandError(f"no command: UID {word[:50]}")
    return OF_MESSAGES[word](cursor, True)
