"""THREAD: which message answers which, and how that is written.

Owns the algorithms ORDEREDSUBJECT and REFERENCES of RFC 5256 §3 and the response of §4. A node is a number:
below `len(messages)` that of a message in its list, above a message that is not there (a dummy).

Invariants: nothing is recursive; circles in references are cut. Time is linear but for sorting, except that a
link may look at `_DEEPEST` ancestors; a link below more of them is left out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from mailtools.core.imap.sorting import Sortable, base_and_reply, sent

_DEEPEST = 1000

Children = dict[int, list[int]]


def ordered_subject(messages: Sequence[Sortable]) -> bytes:
    """The threads of *messages*: all with one subject, the first of them above the others."""
    groups: dict[str, list[Sortable]] = {}
    for message in sorted(messages, key=lambda message: (sent(message), message.number)):
        groups.setdefault(base_and_reply(message.facts.subject)[0], []).append(message)
    told = []
    for first, *others in groups.values():
        if len(others) < 2:
            told.append(b"(" + b" ".join(b"%d" % message.number for message in (first, *others)) + b")")
        else:
            told.append(b"(%d %b)" % (first.number, b"".join(b"(%d)" % message.number for message in others)))
    return b"".join(told)


def references(messages: Sequence[Sortable]) -> bytes:
    """The threads of *messages* by their references, and by subject where those are missing."""
    parents = _linked(messages)
    children, roots = _without_dummies(parents, len(messages))
    dates = [(sent(message), message.number) for message in messages]
    for siblings in children.values():
        siblings.sort(key=dates.__getitem__)
    roots.sort(key=lambda node: dates[node if node < len(dates) else children[node][0]])  # step 4
    _by_subject(messages, children, roots, len(parents))

    def date(node: int) -> tuple[int, int]:
        return dates[node] if node < len(dates) else min(map(date_of_child, children[node]))

    def date_of_child(node: int) -> tuple[int, int]:  # a dummy has messages below it, or dummies with such
        return dates[node] if node < len(dates) else min(dates[one] for one in children[node])

    for siblings in children.values():
        siblings.sort(key=date)
    return _written(messages, children, sorted(roots, key=date))


# -- REFERENCES, step by step --------------------------------------------------------------------------------


def _linked(messages: Sequence[Sortable]) -> list[int]:
    """Step 1: the parent of each node, -1 for none."""
    nodes: dict[str, int] = {}
    for number, message in enumerate(messages):
        if message.facts.message_id:
            nodes.setdefault(message.facts.message_id, number)
    parents = [-1] * len(messages)
    has_children: set[int] = set()

    def link(parent: int, child: int) -> None:
        if parent == child or (child in has_children and _is_above(parents, child, parent)):
            return
        parents[child] = parent
        has_children.add(parent)

    for number, message in enumerate(messages):
        above = -1
        for ident in message.facts.references:
            node = nodes.setdefault(ident, len(parents))
            if node == len(parents):
                parents.append(-1)
            if above >= 0 and parents[node] < 0:
                link(above, node)
            above = node
        parents[number] = -1  # what others say of it does not count, also if it names no parent (1.B)
        if above >= 0:
            link(above, number)
    return parents


def _is_above(parents: Sequence[int], node: int, below: int) -> bool:
    """Tell whether *node* is an ancestor of *below*, or too far up to tell."""
    for _ in range(_DEEPEST):
        if below < 0:
            return False
        if below == node:
            return True
        below = parents[below]
    return True


def _without_dummies(parents: Sequence[int], count: int) -> tuple[Children, list[int]]:
    """Steps 2 and 3: the children of each node that has some, and the roots. Dummies are roots only."""
    tops = list(parents)
    for dummy in range(count, len(parents)):  # the message above it, or the dummy at the top
        node, path = dummy, list[int]()
        while node >= count and parents[node] >= 0 and tops[node] >= count:
            path.append(node)
            node = tops[node]
        top = tops[node] if node >= count and 0 <= tops[node] < count else node
        for passed in path:
            tops[passed] = top
    children: Children = defaultdict(list)
    roots = []
    for node in range(count):
        above = parents[node]
        if above >= count and parents[above] >= 0:
            above = tops[above]
        if above < 0:
            roots.append(node)
        else:
            children[above].append(node)
    for node in [node for node in children if node >= count]:
        if len(children[node]) > 1:
            roots.append(node)
        else:
            roots += children.pop(node)
    return children, roots


def _by_subject(messages: Sequence[Sortable], children: Children, roots: list[int], new: int) -> None:
    """Step 5: put threads with one subject together; *new*: the first number for a new dummy."""
    count = len(messages)

    def named(root: int) -> tuple[str, bool]:
        return base_and_reply(messages[root if root < count else children[root][0]].facts.subject)

    names = {root: named(root) for root in roots}
    table: dict[str, int] = {}
    for root in roots:
        subject, is_reply = names[root]
        there = table.get(subject, -1)
        if subject and (
            there < 0 or (there < count and (root >= count or (names[there][1] and not is_reply)))
        ):  # fmt: skip
            table[subject] = root
    gone = set()
    for root in list(roots):
        subject, is_reply = names[root]
        there = table.get(subject, root)
        if there == root or not subject:
            continue
        gone.add(root)
        if there >= count:
            children[there] += children.pop(root) if root >= count else [root]
        elif is_reply and not names[there][1]:
            children[there].append(root)
        else:
            gone.add(there)
            children[new] = [there, root]
            table[subject] = new
            names[new] = names[there]
            roots.append(new)
            new += 1
    roots[:] = [root for root in roots if root not in gone]


def _written(messages: Sequence[Sortable], children: Children, roots: Iterable[int]) -> bytes:
    """The response (RFC 5256 §4): ``(1 2 (3)(4 5))``."""
    pieces: list[bytes] = []
    todo: list[int | bytes] = []
    for root in roots:
        todo = [root]
        pieces.append(b"(")
        while todo:
            node = todo.pop()
            if isinstance(node, bytes):
                pieces.append(node)
                continue
            if node < len(messages):
                pieces.append((b" %d" if pieces[-1] != b"(" else b"%d") % messages[node].number)
            below = children.get(node, [])
            if len(below) == 1:
                todo.append(below[0])
            elif below:
                if pieces[-1] != b"(":
                    pieces.append(b" ")
                for child in reversed(below):
                    todo += (b")", child, b"(")
        pieces.append(b")")
    return b"".join(pieces)


ALGORITHMS: dict[str, Callable[[Sequence[Sortable]], bytes]] = {
    "ORDEREDSUBJECT": ordered_subject, "REFERENCES": references,
}  # fmt: skip
