"""SIGTERM and SIGINT as a request to end in order, for programs without an event loop."""

import signal
from collections.abc import Callable


def on_stop(stop: Callable[[], None]) -> None:
    """Have *stop* called once by the first of these signals; a second one ends the process at once."""

    def handle(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
