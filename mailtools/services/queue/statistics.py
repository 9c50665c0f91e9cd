"""Count the messages of a queue by state, by site and by reason of delay.

Several processes count parts of a large queue; each part is passed on as JSON and added up. Invariant: memory
grows with the number of sites, up to a limit, not with the number of messages.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mailtools.core.queue.store import BAD, HOLD, Listed
from mailtools.services.queue.listing import mapped, reasons, site_of, waiting
from mailtools.system import clock
from mailtools.system.spool.spool import Spool

_MOST_NAMES = 100_000  # sites, or reasons; all beyond are counted as "(others)"
_OTHERS = "(others)"
_MOST_REASONS = 10  # shown
_LONGEST_REASON = 200  # characters


class Group(NamedTuple):
    """The counts of a group of messages; octets are those of the messages, not of the files."""

    messages: int = 0
    octets: int = 0
    oldest: float = 0.0  # arrival of the oldest message, seconds since the epoch
    due: float | None = None  # next attempt, seconds since the epoch; 0: now; None: none comes

    def plus(self, other: "Group") -> "Group":
        """Return the counts of both groups together."""
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
        """Return the counts as a JSON object; times in whole seconds since the epoch."""
        due = None if self.due is None else int(self.due)
        return {"messages": self.messages, "octets": self.octets, "oldest": int(self.oldest), "due": due}


class Stats(NamedTuple):
    """The counts of a queue; sites and reasons in descending order of messages."""

    total: Group
    states: dict[str, Group]
    sites: dict[str, Group]
    reasons: list[tuple[str, int]]

    def as_json(self) -> dict[str, Any]:
        """Return the statistics as one JSON object."""
        return {
            **self.total.as_json(),
            "states": [{"state": name, **group.as_json()} for name, group in self.states.items()],
            "sites": [{"site": name, **group.as_json()} for name, group in self.sites.items()],
            "reasons": [{"reason": text, "messages": count} for text, count in self.reasons],
        }


class _Count:
    """Adds up messages, and parts that other processes counted."""

    def __init__(self) -> None:
        self.states: dict[str, Group] = {}
        self.sites: dict[str, Group] = {}
        self.reasons: dict[str, int] = {}

    def add(self, listed: Listed, now: float) -> None:
        """Count one message; *now* in seconds since the epoch."""
        entry, state, why = listed
        envelope = entry.envelope
        due = None if state in (HOLD, BAD) else 0.0 if entry.due <= now else entry.due
        one = Group(1, envelope.size, envelope.arrived, due)
        _add(self.states, state, one)
        for site in {site_of(address) for address in waiting(entry)}:
            _add(self.sites, site, one)
        for text in {text[:_LONGEST_REASON] for text in ([why] if why else reasons(entry))}:
            self._reason(text, 1)

    def _reason(self, text: str, count: int) -> None:
        if text not in self.reasons and len(self.reasons) >= _MOST_NAMES:
            text = _OTHERS
        self.reasons[text] = self.reasons.get(text, 0) + count

    def packed(self) -> str:
        """Return the counts as one line of JSON, for `add_packed` in the parent process."""
        return json.dumps([self.states, self.sites, self.reasons]) + "\n"

    def add_packed(self, line: str) -> None:
        """Add the counts of another process, a line made by `packed`."""
        states, sites, found = json.loads(line)
        for mine, its in ((self.states, states), (self.sites, sites)):
            for name, group in its.items():
                _add(mine, name, Group(*group))
        for text, count in found.items():
            self._reason(text, count)

    def stats(self) -> Stats:
        """Return the totals, sorted, with the ten most frequent reasons."""
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
    """Return the statistics of the messages *chosen*."""
    count, now = _Count(), clock.now()
    for listed in chosen:
        count.add(listed, now)
    return count.stats()


def of_spool(spool: Spool, wanted: Callable[[Listed], bool]) -> Stats:
    """Return the statistics of all messages in *spool* for which *wanted* is true, by several processes."""
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
