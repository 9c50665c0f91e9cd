"""The queue in numbers: by state, by site, and what delays it.

Parts counted by several processes are added up: a part travels as JSON. Invariant: memory grows with the
number of sites, up to a limit, not with that of messages.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mailtools.core.queue.store import HOLD, Listed
from mailtools.services.queue.listing import mapped, reasons, site_of, waiting
from mailtools.system import clock
from mailtools.system.spool.spool import Spool

_MOST_NAMES = 100_000  # sites, or reasons; more are counted as one
_OTHERS = "(others)"
_MOST_REASONS = 10
_LONGEST_REASON = 200


class Group(NamedTuple):
    """Some messages."""

    messages: int = 0
    octets: int = 0
    oldest: float = 0.0  # when it arrived, seconds since the epoch
    due: float | None = None  # when the next is due; 0: now; None: all are on hold

    def plus(self, other: "Group") -> "Group":
        """Both."""
        if not self.messages:
            return other
        dues = [due for due in (self.due, other.due) if due is not None]
        return Group(
            self.messages + other.messages,
            self.octets + other.octets,
            min(self.oldest, other.oldest),
            min(dues, default=None),
        )

    def as_json(self) -> dict[str, Any]:
        """Its numbers; times in whole seconds."""
        due = None if self.due is None else int(self.due)
        return {"messages": self.messages, "octets": self.octets, "oldest": int(self.oldest), "due": due}


class Stats(NamedTuple):
    """All of it; sites with the most messages first, reasons too."""

    total: Group
    states: dict[str, Group]
    sites: dict[str, Group]
    reasons: list[tuple[str, int]]

    def as_json(self) -> dict[str, Any]:
        """As one object."""
        return {
            **self.total.as_json(),
            "states": [{"state": name, **group.as_json()} for name, group in self.states.items()],
            "sites": [{"site": name, **group.as_json()} for name, group in self.sites.items()],
            "reasons": [{"reason": text, "messages": count} for text, count in self.reasons],
        }


class _Count:
    """Counts as it goes."""

    def __init__(self) -> None:
        self.states: dict[str, Group] = {}
        self.sites: dict[str, Group] = {}
        self.reasons: dict[str, int] = {}

    def add(self, listed: Listed, now: float) -> None:
        """One more message."""
        entry, state = listed
        envelope = entry.envelope
        due = None if state == HOLD else 0.0 if entry.due <= now else entry.due
        one = Group(1, envelope.size, envelope.arrived, due)
        _add(self.states, state, one)
        for site in {site_of(address) for address in waiting(entry)}:
            _add(self.sites, site, one)
        for text in {text[:_LONGEST_REASON] for text in reasons(entry)}:
            self._reason(text, 1)

    def _reason(self, text: str, count: int) -> None:
        if text not in self.reasons and len(self.reasons) >= _MOST_NAMES:
            text = _OTHERS
        self.reasons[text] = self.reasons.get(text, 0) + count

    def packed(self) -> str:
        """As a line."""
        return json.dumps([self.states, self.sites, self.reasons]) + "\n"

    def add_packed(self, line: str) -> None:
        """What another counted."""
        states, sites, found = json.loads(line)
        for mine, its in ((self.states, states), (self.sites, sites)):
            for name, group in its.items():
                _add(mine, name, Group(*group))
        for text, count in found.items():
            self._reason(text, count)

    def stats(self) -> Stats:
        """What was counted."""
        total = Group()
        for group in self.states.values():
            total = total.plus(group)
        by_size = sorted(self.sites.items(), key=lambda pair: (-pair[1].messages, pair[0]))
        common = sorted(self.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        return Stats(total, dict(sorted(self.states.items())), dict(by_size), common[:_MOST_REASONS])


def _add(groups: dict[str, Group], name: str, group: Group) -> None:
    if name not in groups and len(groups) >= _MOST_NAMES:
        name = _OTHERS
    groups[name] = groups.get(name, Group()).plus(group)


def of(chosen: Iterable[Listed]) -> Stats:
    """Of these messages."""
    count, now = _Count(), clock.now()
    for listed in chosen:
        count.add(listed, now)
    return count.stats()


def of_spool(spool: Spool, wanted: Callable[[Listed], bool]) -> Stats:
    """Of all messages wanted; a large queue is counted by several processes."""
    now = clock.now()

    def work(places: Iterable[tuple[str, str]]) -> str:
        count = _Count()
        for listed in filter(wanted, spool.look(places)):
            count.add(listed, now)
        return count.packed()

    count = _Count()
    for line in mapped(spool, work):
        count.add_packed(line)
    return count.stats()
