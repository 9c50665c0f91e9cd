"""Slows down clients that guess passwords, by address. Nobody is ever locked out.

The client waits before its attempt is checked, whether it is right or wrong: a client that disconnects
early learns nothing. The wait grows with each failure up to 15 seconds, so the right user behind the same
address can still log in. The time is an argument.
"""

import ipaddress
from collections import OrderedDict

_FIRST = 0.5  # seconds after the first failure
_LONGEST = 15.0
_FORGOTTEN = 900.0  # seconds without an attempt, after which an address is forgotten
_MOST = 10_000  # addresses that are remembered


class Throttle:
    """Counts failed attempts by address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def attempt(self, address: str, now: float) -> float:
        """Begin an attempt and return the seconds it has to wait. It counts as failed until `succeeded`."""
        key = _network(address)
        count, last = self._failures.pop(key, (0, now))
        if now - last > _FORGOTTEN:
            count = 0
        self._failures[key] = (count + 1, now)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)
        return min(_LONGEST, _FIRST * 2 ** min(count - 1, 16)) if count else 0.0

    def succeeded(self, address: str) -> None:
        """Note that the attempt was right, and forget the failures of the address."""
        self._failures.pop(_network(address), None)


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address: one customer has all 2^64 addresses of it."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
