"""Several processes that serve on the same sockets, each with an event loop of its own.

The first process only watches: it starts one again that crashed, passes SIGHUP on, and tells all of them to
stop. They stop also if it is gone, for they read a pipe of which it alone has the other end.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

log = logging.getLogger("mailtools")

_MOST_CRASHES = 20  # then something is wrong that starting again does not mend

Ready = Callable[[Callable[[], object]], None]  # is called once it serves, with what stops it
Serve = Callable[[Ready], int]


def run(count: int, serve: Serve, ready: Ready) -> int:
    """Let *count* processes *serve*; return the exit code of the first that left by itself, else 0.

    *ready* is called once they are started, with nothing to stop them by. Called in the main thread of a
    process that has no other.
    """
    family = _Family(serve)
    for _ in range(count):
        family.start()
    ready(lambda: None)
    return family.watch()


class _Family:
    """The first process, and the processes that serve."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._watched, self._held = os.pipe()
        self._children: set[int] = set()
        self._is_stopping = False
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._before = [(number, signal.getsignal(number)) for number in numbers]
        signal.signal(signal.SIGHUP, self._pass_on)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)

    def start(self) -> None:
        """Start one that serves."""
        child = os.fork()
        if child:
            self._children.add(child)
            return
        for number, handler in self._before:
            signal.signal(number, handler)
        os.close(self._held)
        _be_child(self._serve, self._watched)

    def watch(self) -> int:
        """Wait until all have ended; return the exit code."""
        crashes = code = 0
        while self._children:
            child, status = os.wait()
            self._children.discard(child)
            if self._is_stopping:
                continue
            if os.WIFSIGNALED(status) and crashes < _MOST_CRASHES:
                log.error(
                    "process %d ended by signal %d; another takes its place", child, os.WTERMSIG(status)
                )
                crashes += 1
                self.start()
            else:
                code = abs(os.waitstatus_to_exitcode(status))
                self._stop()
        os.close(self._watched)
        return code

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            os.close(self._held)

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        signal.signal(number, signal.SIG_DFL)  # a second one ends this process at once

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for child in self._children:
            with suppress(ProcessLookupError):
                os.kill(child, number)


def _be_child(serve: Serve, watched: int) -> NoReturn:
    """Serve until told to, or until the first process is gone; never returns."""

    def watch(stop: Callable[[], object]) -> None:
        def wait() -> None:
            os.read(watched, 1)
            with suppress(RuntimeError):  # its loop has ended already
                stop()

        threading.Thread(target=wait, daemon=True).start()

    code = 70
    try:
        code = serve(watch)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        log.exception("a process that serves ended")
    finally:
        os._exit(code)
