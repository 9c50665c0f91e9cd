"""Decides when a message is tried again and when it is given up.

Pure: times are arguments. A clock jump does no harm: the age of a message is the sum of its waits between
attempts, each counted as at least zero and at most 25 hours, so a machine that wakes up in another year
returns no mail as undeliverable. A due time further away than twice the longest interval is ignored.
"""

from mailtools.core.lean import NamedTuple

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
_LONGEST_STEP = DAY + HOUR  # a queue that is run once a day ages as it should


class Schedule(NamedTuple):
    """Retry times in seconds. *intervals*: the waits in order, the last repeats; (): they double."""

    intervals: tuple[float, ...] = ()
    first: float = MINUTE
    longest: float = 4 * HOUR
    expire: float = 5 * DAY
    warn: float = 4 * HOUR

    def wait(self, attempts: int, chance: float) -> float:
        """Seconds to wait after *attempts*. *chance*, 0 to 1, spreads messages that failed together."""
        if self.intervals:
            return self.intervals[min(attempts, len(self.intervals)) - 1]
        interval = min(self.longest, self.first * 2.0 ** min(attempts - 1, 30))
        return interval * (0.9 + 0.2 * chance)

    def is_due(self, due: float, now: float) -> bool:
        """Tell whether *due* has passed, or is so far away that it must be a mistake."""
        return due <= now or due - now > 2 * max(self.longest, *self.intervals, 0.0)


def step(earlier: float, later: float) -> float:
    """Seconds between two clock readings, limited to 0 to 25 hours because the clock may have jumped."""
    return min(max(0.0, later - earlier), _LONGEST_STEP)
