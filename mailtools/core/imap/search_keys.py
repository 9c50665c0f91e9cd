"""The keys of SEARCH (RFC 9051 §6.4.4, RFC 3501 §6.4.4; OLDER and YOUNGER of RFC 5032)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mailtools.core.imap.cursor import Cursor, ImapCommandError

_DEEPEST = 100  # keys within keys
_MOST = 5000  # keys of a command

# (flag, whether it has to be set)
_FLAGS = {
    "ANSWERED": (b"\\Answered", True), "DELETED": (b"\\Deleted", True), "DRAFT": (b"\\Draft", True),
    "FLAGGED": (b"\\Flagged", True), "SEEN": (b"\\Seen", True), "RECENT": (b"\\Recent", True),
    "UNANSWERED": (b"\\Answered", False), "UNDELETED": (b"\\Deleted", False), "UNDRAFT": (b"\\Draft", False),
    "UNFLAGGED": (b"\\Flagged", False), "UNSEEN": (b"\\Seen", False), "OLD": (b"\\Recent", False),
}  # fmt: skip
_FIELDS = {"BCC": "bcc", "CC": "cc", "FROM": "from", "SUBJECT": "subject", "TO": "to"}
_DATES = {"BEFORE": "<", "ON": "=", "SINCE": ">="}
RETURNS = ("MIN", "MAX", "ALL", "COUNT", "SAVE")


class SearchKey(NamedTuple):
    """One key, or several joined.

    *kind* and *value*: AND, OR, NOT (their *keys*); ALL; FLAG (name, wanted); KEYWORD (name, wanted); SET
    (set, by UID); FIELD (name, text), BODY and TEXT (text); LARGER and SMALLER (octets); MODSEQ (the least);
    DATE (whether the Date field counts, "<" "=" or ">=", (year, month, day)); AGE ("<" or ">", seconds).
    """

    kind: str
    value: Any = None
    keys: "tuple[SearchKey, ...]" = ()


class _Reader:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.left = _MOST

    def keys(self, depth: int) -> tuple[SearchKey, ...]:
        """Keys up to the end of the line, or of the parentheses."""
        found = [self.key(depth)]
        while not self.cursor.is_end and not self.cursor.is_at(b")"):
            self.cursor.space()
            found.append(self.key(depth))
        return tuple(found)

    def key(self, depth: int) -> SearchKey:
        self.left -= 1
        if depth > _DEEPEST or not self.left:
            raise ImapCommandError("too many search keys in each other")
        cursor = self.cursor
        if cursor.takes(b"("):
            keys = self.keys(depth + 1)
            cursor.needs(b")")
            return keys[0] if len(keys) == 1 else SearchKey("AND", keys=keys)
        if cursor.line[cursor.at : cursor.at + 1] in (b"*", b"$", *(b"%d" % digit for digit in range(10))):
            return SearchKey("SET", (cursor.sequence_set(), False))
        word = cursor.word()
        if word in ("NOT", "OR"):
            cursor.space()
            first = self.key(depth + 1)
            if word == "NOT":
                return SearchKey("NOT", keys=(first,))
            cursor.space()
            return SearchKey("OR", keys=(first, self.key(depth + 1)))
        return self._simple(word)

    def _simple(self, word: str) -> SearchKey:
        cursor = self.cursor
        if word == "ALL":
            return SearchKey("ALL")
        if word in _FLAGS:
            return SearchKey("FLAG", _FLAGS[word])
        if word == "NEW":
            recent, unseen = SearchKey("FLAG", _FLAGS["RECENT"]), SearchKey("FLAG", _FLAGS["UNSEEN"])
            return SearchKey("AND", keys=(recent, unseen))
        cursor.space()
        if word in ("KEYWORD", "UNKEYWORD"):
            return SearchKey("KEYWORD", (cursor.atom(), word == "KEYWORD"))
        if word == "UID":
            return SearchKey("SET", (cursor.sequence_set(), True))
        if word in _FIELDS:
            return SearchKey("FIELD", (_FIELDS[word], _text(cursor)))
        if word in ("BODY", "TEXT"):
            return SearchKey(word, _text(cursor))
        if word == "HEADER":
            name = cursor.astring().decode("ascii", "replace").lower()
            cursor.space()
            return SearchKey("FIELD", (name, _text(cursor)))
        if word in _NUMBERS:
            return _NUMBERS[word](cursor)
        if word.removeprefix("SENT") in _DATES:
            return SearchKey(
                "DATE", (word.startswith("SENT"), _DATES[word.removeprefix("SENT")], cursor.date())
            )
        raise ImapCommandError(f"no search key: {word[:50]}")


def _modseq(cursor: Cursor) -> int:
    """The number of MODSEQ. The name of an entry before it changes nothing: all flags have one number."""
    if cursor.is_at(b'"'):
        entry = cursor.astring().lower()
        cursor.space()
        if not entry.startswith(b"/flags/") or cursor.word() not in ("ALL", "PRIV", "SHARED"):
            raise ImapCommandError("the name of a flag, and priv, shared or all expected")
        cursor.space()
    return cursor.number()


_NUMBERS: dict[str, Callable[[Cursor], SearchKey]] = {
    "LARGER": lambda cursor: SearchKey("LARGER", cursor.number()),
    "SMALLER": lambda cursor: SearchKey("SMALLER", cursor.number()),
    "OLDER": lambda cursor: SearchKey("AGE", (">", cursor.number())),
    "YOUNGER": lambda cursor: SearchKey("AGE", ("<", cursor.number())),
    "MODSEQ": lambda cursor: SearchKey("MODSEQ", _modseq(cursor)),
}


def has_modseq(key: SearchKey) -> bool:
    """Tell whether MODSEQ is among *key* and its keys."""
    todo = [key]
    while todo:
        one = todo.pop()
        if one.kind == "MODSEQ":
            return True
        todo += one.keys
    return False


def _text(cursor: Cursor) -> str:
    try:
        return cursor.astring().decode()
    except UnicodeDecodeError:
        raise ImapCommandError("text to search for is UTF-8", "BADCHARSET (UTF-8)") from None


def parse(cursor: Cursor) -> tuple[tuple[str, ...] | None, SearchKey]:
    """(options of RETURN or None, the key) from the arguments of SEARCH. Raises ImapCommandError."""
    returns = parse_returns(cursor)
    at = cursor.at
    if cursor.word_if("CHARSET"):
        cursor.space()
        charset(cursor)
        cursor.space()
        at = cursor.at
    cursor.at = at
    return returns, parse_key(cursor)


def parse_returns(cursor: Cursor) -> tuple[str, ...] | None:
    """The options of RETURN, if it comes next, up to the space behind them."""
    returns = None
    at = cursor.at
    if cursor.word_if("RETURN"):
        cursor.space()
        returns = tuple(option.decode("ascii", "replace").upper() for option in cursor.listed()) or ("ALL",)
        if not set(returns) <= set(RETURNS):
            raise ImapCommandError("options of SEARCH expected")
        cursor.space()
        at = cursor.at
    cursor.at = at
    return returns


def charset(cursor: Cursor) -> None:
    """Check the charset of the strings that follow."""
    if cursor.astring().upper() not in (b"UTF-8", b"US-ASCII"):
        raise ImapCommandError("only UTF-8 and US-ASCII are known", "BADCHARSET (UTF-8 US-ASCII)")


def parse_key(cursor: Cursor) -> SearchKey:
    """Keys up to the end of the line, as one."""
    keys = _Reader(cursor).keys(0)
    cursor.end()
    return keys[0] if len(keys) == 1 else SearchKey("AND", keys=keys)
