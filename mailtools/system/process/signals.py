"""SIGTERM and SIGINT as a request for an orderly end, for programs without an event loop."""

import signal
from collections.abc import Callable


def on_stop(stop: Callable[[], None]) -> None:
    """Call *stop* at the first SIGTERM or SIGINT; a second signal of that kind ends the process at once."""

    def handle(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
