"""One thread that waits for many sockets and calls the handler of each that is ready.

One thread for each socket took five times as long here: every system call hands the interpreter's lock to
another thread and waits to get it back (110 futex calls for a message with 20 threads).

Descriptors are watched edge-triggered. This suits handlers that read until nothing is left: one system call
begins the watch, none is needed later.
"""

import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Poller:
    """An event loop. Only `post` may be called from other threads, and from signal handlers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        # a signal handler may interrupt its own thread while this thread has the lock
        self._lock = threading.RLock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call *ready* each time that *descriptor* may have become readable or writable."""
        self._ready[descriptor] = ready
        try:
            self._epoll.register(descriptor, _EVENTS)
        except FileExistsError:
            self._epoll.modify(descriptor, _EVENTS)

    def forget(self, descriptor: int) -> None:
        """Stop to watch *descriptor*. To be called before it is closed."""
        if self._ready.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    def post(self, call: Callable[[], None]) -> None:
        """Call *call* in the loop's thread."""
        self._posted.append(call)
        with self._lock, suppress(BlockingIOError):
            if self._bell >= 0:  # another file may have the number of a descriptor that was closed
                os.eventfd_write(self._bell, 1)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call *call* after *seconds*."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    def poll(self, longest: float) -> None:
        """Wait for events, at most *longest* seconds, and call their handlers."""
        if self._posted:
            longest = 0.0
        elif self._timers:
            longest = min(longest, max(0.0, self._timers[0][0] - time.monotonic()))
        for descriptor, _ in self._epoll.poll(longest):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif ready := self._ready.get(descriptor):
                ready()
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        """End the loop; calls that are posted later are never made."""
        with self._lock:
            self._epoll.close()
            os.close(self._bell)
            self._bell = -1
