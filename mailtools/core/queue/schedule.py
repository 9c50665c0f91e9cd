"""When a message is tried again, and when it is given up.

Pure: times are arguments. A clock that jumps does no harm: the age of a message is what it waited from
attempt to attempt, no step of it counted for more than a day or less than nothing, so a machine that wakes
up in another year returns no mail unsent. A due time further away than any interval is no due time.
"""

from mailtools.core.lean import NamedTuple

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
_LONGEST_STEP = DAY + HOUR  # a queue that is run once a day ages as it should


class Schedule(NamedTuple):
    """Intervals in seconds. *intervals*: said one by one, the last one repeats; (): doubling ones."""

    intervals: tuple[float, ...] = ()
    first: float = MINUTE
    longest: float = 4 * HOUR
    expire: float = 5 * DAY
    warn: float = 4 * HOUR

    def wait(self, attempts: int, chance: float) -> float:
        """Seconds to wait after so many attempts. *chance*, 0 to 1, spreads what failed together."""
        if self.intervals:
            return self.intervals[min(attempts, len(self.intervals)) - 1]
        interval = min(self.longest, self.first * 2.0 ** min(attempts - 1, 30))
        return interval * (0.9 + 0.2 * chance)

    def is_due(self, due: float, now: float) -> bool:
        """Tell whether the time has come, or can only be a mistake."""
        return due <= now or due - now > 2 * max(self.longest, *self.intervals, 0.0)


def step(earlier: float, later: float) -> float:
    """The time between two looks at a clock that may have jumped."""
    return min(max(0.0, later - earlier), _LONGEST_STEP)
