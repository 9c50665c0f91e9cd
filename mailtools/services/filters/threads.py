"""Arranges messages in threads: replies below the messages that they answer.

Owns a part of RFC 5256 §3 (THREAD=REFERENCES): the parent of a message is the last message of its References,
else of its In-Reply-To, that is present. No dummy messages are created, and threads are not joined by
subject.

Invariants: linear in rows and references, no recursion; a circle of references is cut, and every row is
yielded once.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from mailtools.services.filters.entries import MboxEntry
from mailtools.services.filters.listing import ListRow, order

_ID = re.compile(rb"<[^<>\s]{1,998}>")

THREAD_FIELDS = ("message-id", "references", "in-reply-to")

Links = tuple[bytes | None, ...]  # the values of THREAD_FIELDS


def in_threads(
    found: Iterable[MboxEntry], make: Callable[[MboxEntry], ListRow], by: str | None, reverse: bool
) -> Iterator[ListRow]:
    """A row of *make* for each entry, replies below their parents. Entries need `THREAD_FIELDS` too."""
    links = {}
    rows = []
    for entry in found:
        links[entry.number] = tuple(entry.value(name) for name in THREAD_FIELDS)
        rows.append(make(entry))
    ordered = order(rows, by, reverse)
    for row in threaded([(row, links[row.number]) for row in ordered]):
        yield row._replace(more={**row.more, "depth": row.depth}) if row.more else row


def threaded(rows: list[tuple[ListRow, Links]]) -> Iterator[ListRow]:
    """*rows* with their depth, replies below their parents; threads and replies keep their order."""
    numbers = _by_id(rows)
    parents = [_parent(number, links, numbers) for number, (_, links) in enumerate(rows)]
    _cut_circles(parents)
    answers: list[list[int]] = [[] for _ in rows]
    stack = []
    for number in range(len(rows) - 1, -1, -1):
        parent = parents[number]
        if parent < 0:
            stack.append((number, 0))
        else:
            answers[parent].append(number)  # in reverse order, for the stack
    while stack:
        number, depth = stack.pop()
        yield rows[number][0]._replace(depth=depth)
        stack.extend((answer, depth + 1) for answer in answers[number])


def _by_id(rows: list[tuple[ListRow, Links]]) -> dict[bytes, int]:
    numbers: dict[bytes, int] = {}
    for number, (_, links) in enumerate(rows):
        match = _ID.search(links[0] or b"")
        if match:
            numbers.setdefault(match[0], number)
    return numbers


def _parent(number: int, links: Links, numbers: dict[bytes, int]) -> int:
    _, references, in_reply_to = links
    for value in (references, in_reply_to):
        for name in reversed(_ID.findall(value or b"")):
            parent = numbers.get(name, -1)
            if parent not in (-1, number):
                return parent
    return -1


def _cut_circles(parents: list[int]) -> None:
    """Make one row of each circle a root. Each row is visited once."""
    done = [False] * len(parents)
    for start in range(len(parents)):
        trail = []
        walked = set()
        number = start
        while number >= 0 and not done[number]:
            if number in walked:
                parents[number] = -1
                break
            walked.add(number)
            trail.append(number)
            number = parents[number]
        for seen in trail:
            done[seen] = True
