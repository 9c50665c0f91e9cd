"""LIST and LSUB, parsed; the names of mailboxes in commands.

Owns RFC 9051 §6.3.9 with RFC 5258 (LIST-EXTENDED), RFC 5819 (LIST-STATUS), RFC 6154 §2
(SPECIAL-USE) and RFC 9590 (LIST-METADATA).
"""

import re
from typing import NamedTuple

from mailtools.core.imap import utf7
from mailtools.core.imap.cursor import Cursor, ImapCommandError

STATUS_ITEMS = (
    "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "DELETED", "DELETED-STORAGE",
    "HIGHESTMODSEQ",
)  # fmt: skip
_ENTRY = re.compile(rb"/(?:private|shared)(?:/[^\x00-\x1f\x7f-\xff%*/]+)+")
_LONGEST = 255  # octets of the name of an annotation
_MOST_PATTERNS, _MOST_ENTRIES = 100, 100  # of one command: each meets every mailbox
_LONGEST_PATTERNS = 4000  # characters, with the reference
_FILTERS = ("SUBSCRIBED", "SPECIAL-USE")  # these select mailboxes by themselves
_SELECTIONS = frozenset((*_FILTERS, "REMOTE", "RECURSIVEMATCH"))


class List(NamedTuple):
    """LIST or LSUB. *filters*: SUBSCRIBED, SPECIAL-USE or both: which mailboxes are wanted.

    *is_recursive*: RECURSIVEMATCH, mailboxes above those are wanted too. *is_extended*: an empty pattern has
    no special meaning.
    """

    reference: str
    patterns: tuple[str, ...]
    is_lsub: bool = False
    is_extended: bool = False
    filters: tuple[str, ...] = ()
    is_recursive: bool = False
    with_subscribed: bool = False
    status: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


def name_of(octets: bytes) -> str:
    """The name of a mailbox from its form on the wire; INBOX is INBOX in any case, also above others."""
    name = utf7.decode(octets)
    head, slash, rest = name.partition("/")
    return f"INBOX{slash}{rest}" if head.upper() == "INBOX" else name


def mailbox(cursor: Cursor) -> str:
    """The name of a mailbox."""
    return name_of(cursor.astring())


def new_mailbox(cursor: Cursor) -> str:
    """The name of a mailbox to be made. Modified UTF-7 that is not well-formed is refused."""
    octets = cursor.astring()
    if octets.isascii() and utf7.encode(utf7.decode(octets)).encode(errors="replace") != octets:
        raise ImapCommandError("the name is no modified UTF-7", "CANNOT")
    return name_of(octets)


def status_items(cursor: Cursor) -> tuple[str, ...]:
    """The items of STATUS in parentheses."""
    items = tuple(item.decode("ascii", "replace").upper() for item in cursor.listed())
    if not items or not set(items) <= set(STATUS_ITEMS):
        raise ImapCommandError("items of STATUS expected")
    return items


def entry(cursor: Cursor) -> str:
    """The name of an annotation: in lower case, of at most 255 octets (RFC 5464 §4.1)."""
    octets = cursor.astring().lower()
    if len(octets) > _LONGEST or not _ENTRY.fullmatch(octets):
        raise ImapCommandError("no entry can have that name")
    return octets.decode()


def entries(cursor: Cursor) -> tuple[str, ...]:
    """Names of entries in parentheses."""
    cursor.needs(b"(")
    found = [entry(cursor)]
    while not cursor.takes(b")"):
        cursor.space()
        found.append(entry(cursor))
        if len(found) > _MOST_ENTRIES:
            raise ImapCommandError("too many entries")
    return tuple(dict.fromkeys(found))


def lsub(cursor: Cursor) -> List:
    """The arguments of LSUB."""
    reference = name_of(cursor.astring())
    cursor.space()
    pattern = name_of(cursor.pattern())
    if len(reference) + len(pattern) > _LONGEST_PATTERNS:
        raise ImapCommandError("too long a pattern")
    return List(reference, (pattern,), is_lsub=True, filters=("SUBSCRIBED",))


def parse(cursor: Cursor) -> List:
    """The arguments of LIST. Raises ImapCommandError for an unknown option (RFC 5258 §3)."""
    is_extended, options = cursor.is_at(b"("), frozenset[str]()
    if is_extended:
        options = frozenset(option.decode("ascii", "replace").upper() for option in cursor.listed())
        cursor.space()
    if not options <= _SELECTIONS:
        raise ImapCommandError("no such selection option of LIST")
    filters = tuple(option for option in _FILTERS if option in options)
    if "RECURSIVEMATCH" in options and not filters:  # RFC 5258 §3.1: never alone, nor with REMOTE alone
        raise ImapCommandError("RECURSIVEMATCH needs another selection option")
    reference = utf7.decode(cursor.astring())
    cursor.space()
    patterns: list[str] = []
    if cursor.takes(b"("):
        is_extended = True
        while not patterns or not cursor.takes(b")"):
            if patterns:
                cursor.space()
            patterns.append(utf7.decode(cursor.pattern()))
    else:
        patterns.append(utf7.decode(cursor.pattern()))
    if len(patterns) > _MOST_PATTERNS or sum(map(len, patterns)) + len(reference) > _LONGEST_PATTERNS:
        raise ImapCommandError("too many patterns, or too long ones")
    found = List(
        reference, tuple(patterns), is_extended=is_extended, filters=filters,
        is_recursive="RECURSIVEMATCH" in options, with_subscribed="SUBSCRIBED" in options,
    )  # fmt: skip
    return _return_options(cursor, found) if cursor.takes(b" ") else found


def _return_options(cursor: Cursor, found: List) -> List:
    if cursor.word() != "RETURN":
        raise ImapCommandError("RETURN expected")
    cursor.space()
    cursor.needs(b"(")
    found = found._replace(is_extended=True)
    is_first = True
    while not cursor.takes(b")"):
        if not is_first:
            cursor.space()
        is_first = False
        option = cursor.word()
        if option == "SUBSCRIBED":
            found = found._replace(with_subscribed=True)
        elif option == "STATUS":
            cursor.space()
            found = found._replace(status=status_items(cursor))
        elif option == "METADATA":
            cursor.space()
            found = found._replace(metadata=entries(cursor))
        elif option not in ("CHILDREN", "SPECIAL-USE"):  # these are always given
            raise ImapCommandError(f"no option of LIST: {option[:50]}")
    return found
