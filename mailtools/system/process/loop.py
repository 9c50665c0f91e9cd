"""An interface to an event loop, for code that must not know which loop runs.

A server's loop is asyncio's (system/net/server), a queue run's is a poller (system/net/poller).
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Loop(NamedTuple):
    """Functions that run a callback (without arguments) in the loop's thread."""

    post: Callable[[Callable[[], None]], Any]  # from any thread
    later: Callable[[float, Callable[[], None]], Any]  # after so many seconds
    watch: Callable[[int, Callable[[], None]], Any]  # whenever a descriptor is readable
