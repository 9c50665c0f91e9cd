"""What the sections of scripts/bench share: rows, clocks, waiting, names of programs."""

import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
MAILTOOLS = str(BIN / "mailtools")
PACKAGES = {"smtp-source": "postfix", "frm": "mailutils", "messages": "mailutils", "mboxgrep": "mboxgrep",
            "msmtp": "msmtp", "swaks": "swaks", "curl": "curl"}  # fmt: skip


class Row(NamedTuple):
    what: str
    ours: str
    theirs: str
    peer: str
    ratio: str  # how many times better we are
    target: str


def timed(
    argv: list[str], stdin: Path | None = None, stdout: Path | None = None, codes: tuple[int, ...] = (0,)
) -> float:
    """Seconds of one process; raises where it fails."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
        sink = stack.enter_context(stdout.open("wb")) if stdout else subprocess.DEVNULL
        begin = time.perf_counter()
        done = subprocess.run(argv, stdin=source, stdout=sink, stderr=subprocess.DEVNULL, check=False)
        seconds = time.perf_counter() - begin
        assert done.returncode in codes, f"{argv} left with {done.returncode}"
        return seconds


def interleaved(runs: int, *tasks: Callable[[], float]) -> list[float]:
    """The median of each task, run in turn: only so do their ratios hold on a machine that others share."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(runs):
        for task, found in zip(tasks, times, strict=True):
            wait_for_quiet()
            found.append(task())
    return [statistics.median(found) for found in times]


def wait_for_quiet(most: float = 20.0) -> None:
    """Wait until the machine is idle: Postfix works on for seconds at what it accepted, and would slow us."""

    def busy() -> int:
        with open("/proc/stat") as file:
            user, nice, system, _, waiting, *rest = (int(word) for word in file.readline().split()[1:])
        return user + nice + system + waiting + sum(rest[:2])

    deadline = time.monotonic() + most
    while time.monotonic() < deadline:
        before = busy()
        time.sleep(0.25)
        if busy() - before <= 3:  # hundredths of a second, of all processors
            return


def missing(program: str) -> str:
    return f"{program} is not installed (Debian: apt-get install {PACKAGES.get(program, program)})"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a server did not start")
        time.sleep(0.02)


def greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return sock.recv(3) in (b"220", b"+OK", b"* O")
    except OSError:
        return False
