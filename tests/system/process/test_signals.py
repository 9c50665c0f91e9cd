"""system/process/signals: the first signal asks for an end, the second ends the process."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mailtools.system.process.signals import on_stop

STOPPING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_asks_for_an_end(number: signal.Signals) -> None:
    asked: list[str] = []
    on_stop(lambda: asked.append("stop"))
    signal.raise_signal(number)
    assert asked == ["stop"]
    assert signal.getsignal(number) is signal.SIG_DFL  # a second one ends the process


def test_the_other_signal_asks_once_more() -> None:
    asked: list[str] = []
    on_stop(lambda: asked.append("stop"))
    for number in STOPPING:
        signal.raise_signal(number)
    assert asked == ["stop", "stop"]


PROGRAM = """
import signal
from mailtools.system.process.signals import on_stop

signal.alarm(20)  # if nothing else ends it
on_stop(lambda: print("asked", flush=True))
print("ready", flush=True)
while True:
    pass
"""


@pytest.mark.parametrize("number", STOPPING)
def test_a_second_signal_ends_a_process_that_does_not_stop(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for expected in (b"ready\n", b"asked\n"):
            assert process.stdout.readline() == expected
            process.send_signal(number)
        assert process.wait() == -number
