"""Slows down clients that guess passwords, by address. Nobody is ever locked out.

An address without failures may make some attempts at a time; more of them wait until one of these has ended.
After a failure each attempt waits before it is checked, whether it is right or wrong: a client that
disconnects early learns nothing. The wait grows with each failure up to 15 seconds, so the right user behind
the same address can still log in. The time is an argument.
"""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable

_FIRST = 0.5  # seconds after the first failure
_LONGEST = 15.0
_FORGOTTEN = 900.0  # seconds without an attempt, after which the failures of an address are forgotten
_MOST = 10_000  # addresses that are remembered
_AT_ONCE = 8  # attempts of an address without failures at a time


class Attempt:
    """One attempt to log in. *begin* is called once, with the seconds to wait before it is checked."""

    __slots__ = ("address", "begin", "is_free", "is_over")

    def __init__(self, address: "_Address", begin: Callable[[float], None]) -> None:
        self.address = address
        self.begin = begin
        self.is_free = False  # it did not count as a failure when it began
        self.is_over = False


class _Address:
    """What is known of an address."""

    __slots__ = ("failures", "free", "last", "waiting")

    def __init__(self) -> None:
        self.failures = 0  # with the attempts that may still turn out to be right
        self.last = 0.0  # seconds, of the last attempt
        self.free = 0  # attempts in progress that do not count as failures
        self.waiting: deque[Attempt] = deque()


class Throttle:
    """Counts failed attempts by address."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def attempt(self, address: str, now: float, begin: Callable[[float], None]) -> Attempt:
        """Return an attempt of *address*. `start` and `ended` have to be called for each attempt."""
        return Attempt(self._address(network(address), now), begin)

    def start(self, attempt: Attempt) -> None:
        """Begin *attempt*, now or when another attempt has ended."""
        its = attempt.address
        if its.failures:
            _begin_counted(attempt)
        elif its.free < _AT_ONCE:
            _begin_free(attempt)
        else:
            its.waiting.append(attempt)

    def ended(self, attempt: Attempt, is_right: bool | None) -> None:
        """Note the end of *attempt*: right, wrong or given up by the client, or None: nobody could tell."""
        if attempt.is_over:
            return
        attempt.is_over = True
        its = attempt.address
        if attempt in its.waiting:
            its.waiting.remove(attempt)
            return
        if attempt.is_free:
            its.free -= 1
        if is_right:
            its.failures = 0
        elif is_right is False:
            its.failures = its.failures + 1 if attempt.is_free else max(1, its.failures)
        while its.waiting and (its.failures or its.free < _AT_ONCE):
            following = its.waiting.popleft()
            (_begin_counted if its.failures else _begin_free)(following)

    def _address(self, key: str, now: float) -> _Address:
        found = self._addresses.pop(key, None)
        if found is None:
            found = _Address()
        elif now - found.last > _FORGOTTEN:
            found.failures = 0
        found.last = now
        self._addresses[key] = found
        if len(self._addresses) > _MOST:
            self._addresses.popitem(last=False)
        return found


def _begin_free(attempt: Attempt) -> None:
    attempt.is_free = True
    attempt.address.free += 1
    attempt.begin(0.0)


def _begin_counted(attempt: Attempt) -> None:
    """Begin an attempt that counts as failed until it turns out to be right."""
    its = attempt.address
    its.failures += 1
    attempt.begin(min(_LONGEST, _FIRST * 2 ** min(its.failures - 2, 16)))


def network(address: str) -> str:
    """Return the /64 network of an IPv6 address: one customer has all 2^64 addresses of it."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
