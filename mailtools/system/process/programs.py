"""Other programs that get a message: run by a few threads, off the event loop.

The message is on the program's stdin as a file, so it may read it or not; what it prints is taken up to a
limit. Nothing that a peer said is ever part of a command: it is in the environment, as values (promise R17).
A program is waited for until it ends, whatever it left running behind it; one that does not end is ended, and
all that run are ended with the server.
"""

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any, Generic, NamedTuple, TypeVar

from mailtools.system.files.buffer import Buffer

T = TypeVar("T")

_THREADS = 4
_BLOCK = 256 << 10
_LOOK = 50  # milliseconds between looks whether a program that says nothing has ended
_MOST_SAID = 2000  # octets of stderr for the log
_LONGEST_VALUE = 100_000  # octets in the environment; Linux takes 131,072 in one string
_MIB = 1 << 20


class Ran(NamedTuple):
    """How a program ended."""

    code: int  # its exit code; -1 where a signal, the time-out or too much output ended it, or it never began
    output: Buffer
    said: str  # on stderr, or why it did not run


class ProgramJob(NamedTuple, Generic[T]):
    """A program to run. *command* is a line for /bin/sh, an operator's."""

    command: str
    environment: Mapping[str, str]
    message: Iterable[bytes]
    judge: Callable[[Ran], T]  # called in the program's thread
    done: Callable[[T], None]  # in the loop's thread, with what *judge* found


class Programs:
    """Runs programs. *timeout*: seconds for each; *max_output*: octets."""

    def __init__(
        self,
        post: Callable[[Callable[[], None]], Any],
        timeout: float = 300.0,
        max_output: int = 100 * _MIB,
    ) -> None:
        self._post = post
        self._timeout = timeout
        self._max_output = max_output
        self._jobs: SimpleQueue[ProgramJob[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: set[int] = set()  # process groups

    def run(self, job: ProgramJob[Any]) -> None:
        """Run *job*; its `done` is called once."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"program-{n}", daemon=True) for n in range(_THREADS)
            ]
            for thread in self._threads:
                thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the threads and the programs that still run."""
        for _ in self._threads:
            self._jobs.put(None)
        for group in list(self._running):
            _end(group)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = job.judge(self.ran(job))
            self._post(lambda j=job, o=outcome: j.done(o))  # type: ignore[misc]

    def ran(self, job: ProgramJob[Any]) -> Ran:
        """Run the program of *job* in this thread, and wait for its end. Raises nothing."""
        try:
            return self._run(job)
        except OSError as error:
            return Ran(-1, Buffer(), f"{error.strerror or error}")
        except Exception as error:
            return Ran(-1, Buffer(), f"{type(error).__name__}: {error}")

    def _run(self, job: ProgramJob[Any]) -> Ran:
        values = {name: _shortened(value) for name, value in job.environment.items()}
        with tempfile.TemporaryFile() as message:
            for block in job.message:
                message.write(block)
            message.seek(0)
            process = subprocess.Popen(
                ["/bin/sh", "-c", job.command],
                stdin=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **values}, start_new_session=True,
            )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        self._running.add(process.pid)
        with process.stdout, process.stderr:
            try:
                output, said, why = self._listen(process, process.stdout, process.stderr)
                if why:
                    _end(process.pid)
                code = process.wait()
            finally:
                self._running.discard(process.pid)
        text = said.decode("utf-8", "replace").strip()
        return Ran(-1 if why or code < 0 else code, output, why or text)

    def _listen(
        self, process: "subprocess.Popen[bytes]", stdout: IO[bytes], stderr: IO[bytes]
    ) -> tuple[Buffer, bytes, str]:
        """What it prints and says until it ends, and why it has to be ended, or ""."""
        output, said = Buffer(), b""
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        for stream in (stdout, stderr):
            poll.register(stream, select.POLLIN)
        left = 2
        while left:
            has_ended = process.poll() is not None  # asked first: what it printed is in the pipe by then
            ready = poll.poll(0 if has_ended else _LOOK)
            if not ready and has_ended:
                break  # who holds its pipe now is somebody it left behind
            if not has_ended and time.monotonic() > deadline:
                return output, said, f"ended after {self._timeout:g} seconds"
            for descriptor, _ in ready:
                octets = os.read(descriptor, _BLOCK)
                if not octets:
                    poll.unregister(descriptor)
                    left -= 1
                elif descriptor == stderr.fileno():
                    said = (said + octets)[:_MOST_SAID]
                elif output.size + len(octets) > self._max_output:
                    return output, said, f"ended after {self._max_output} octets of output"
                else:
                    output.append(octets)
        return (
            output,
            said,
            "" if self._waits(process, deadline) else f"ended after {self._timeout:g} seconds",
        )

    def _waits(self, process: "subprocess.Popen[bytes]", deadline: float) -> bool:
        """It closed its output: wait for its end, but not for ever."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
            return True
        return False


def _shortened(value: str) -> str:
    """At most what a system takes: whole lines of it, for it is one address a line."""
    if len(value.encode(errors="surrogateescape")) <= _LONGEST_VALUE:
        return value
    return value[: _LONGEST_VALUE // 4].rpartition("\n")[0]


def _end(group: int) -> None:
    """End a program and whatever it started, but for what left its group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
