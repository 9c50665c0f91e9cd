"""What users note about their mailboxes: annotations, in ``ROOT/USER/.mailtools/annotations``.

An annotation is an entry such as ``/private/comment`` with a value of any octets. Each line of the file is a
JSON list: mailbox ("" for the server), entry, value. A line that is not is passed over. Knows no protocol.
"""

import json
from collections.abc import Callable
from contextlib import suppress

from mailtools.system.files import atomic

Annotations = dict[str, dict[str, bytes]]  # mailbox -> entry -> value


def load(path: str) -> Annotations:
    """The annotations in the file at *path*, none if it is missing. Raises OSError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return _parsed(file.read())
    except FileNotFoundError:
        return {}


def edit(path: str, change: Callable[[Annotations], object]) -> None:
    """Change the annotations under a lock, durably. Raises CannotWriteError, LockTimeoutError."""

    def changed(text: str) -> str:
        found = _parsed(text)
        change(found)
        return _text(found)

    atomic.edit(path, changed)


def renamed(found: Annotations, old: str, new: str, delimiter: str) -> None:
    """Give *new* what *old* has, and the same below it."""
    for name in list(found):
        if name == old or name.startswith(old + delimiter):
            found[new + name[len(old) :]] = found.pop(name)


def _parsed(text: str) -> Annotations:
    found: Annotations = {}
    for line in text.split("\n"):
        with suppress(ValueError, TypeError):
            mailbox, entry, value = json.loads(line)
            if isinstance(mailbox, str) and isinstance(entry, str) and isinstance(value, str):
                found.setdefault(mailbox, {})[entry] = value.encode("utf-8", "surrogateescape")
    return found


def _text(found: Annotations) -> str:
    rows = sorted(
        (mailbox, entry, value.decode("utf-8", "surrogateescape"))
        for mailbox, entries in found.items()
        for entry, value in entries.items()
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
