"""Slows down who guesses passwords, by address; nobody is ever locked out.

The wait comes before an attempt is checked, whether it is right or wrong: who hangs up early learns nothing
sooner. It grows with each failure and never beyond 15 seconds, so the right user behind the same address
still gets in. Knows no clock: the time is given.
"""

import ipaddress
from collections import OrderedDict

_FIRST = 0.5  # seconds, after the first failure
_LONGEST = 15.0
_FORGOTTEN = 900.0  # seconds without an attempt
_MOST = 10_000  # addresses


class Guard:
    """Counts attempts that did not succeed, by address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def attempt(self, address: str, now: float) -> float:
        """An attempt begins, and counts as failed until `succeeded`: the seconds it has to wait."""
        key = _network(address)
        count, last = self._failures.pop(key, (0, now))
        if now - last > _FORGOTTEN:
            count = 0
        self._failures[key] = (count + 1, now)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)
        return min(_LONGEST, _FIRST * 2 ** min(count - 1, 16)) if count else 0.0

    def succeeded(self, address: str) -> None:
        """The attempt was right: the address begins anew."""
        self._failures.pop(_network(address), None)


def _network(address: str) -> str:
    """One customer's IPv6 addresses are 2^64 of them."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
