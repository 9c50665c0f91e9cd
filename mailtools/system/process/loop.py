"""How code that owns no event loop has something run in the thread of one.

A server's loop is asyncio's (system/net/server), a queue run's is a poller (system/net/poller).
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Loop(NamedTuple):
    """Three ways into a loop's thread; each callback takes no arguments."""

    post: Callable[[Callable[[], None]], Any]  # from any thread
    later: Callable[[float, Callable[[], None]], Any]  # after so many seconds
    watch: Callable[[int, Callable[[], None]], Any]  # whenever a descriptor is readable
