"""Other programs that get a message: run by a few threads, off the event loop.

The message is on the program's stdin as a file, so it may read it or not; what it prints is taken up to a
limit. Nothing that a peer said is ever part of a command: it is in the environment, as values (promise R17).
A program that does not end is ended, with all it started.
"""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from mailtools.system.buffer import Buffer

_THREADS = 4
_BLOCK = 256 << 10
_MOST_SAID = 2000  # octets of stderr for the log


class Ran(NamedTuple):
    """How a program ended."""

    code: int  # its exit code; -1 where a signal, the time-out or too much output ended it, or it never began
    output: Buffer
    said: str  # on stderr, or why it did not run


class Job(NamedTuple):
    """A program to run. *command* is a line for /bin/sh, an operator's."""

    command: str
    environment: Mapping[str, str]
    message: Iterable[bytes]
    done: Callable[[Ran], None]  # in the loop's thread; it closes the output


class Programs:
    """Runs programs. *timeout*: seconds for each; *max_output*: octets."""

    def __init__(
        self,
        post: Callable[[Callable[[], None]], Any],
        timeout: float = 300.0,
        max_output: int = 100 << 20,
    ) -> None:
        self._post = post
        self._timeout = timeout
        self._max_output = max_output
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def run(self, job: Job) -> None:
        """Run *job*; its `done` is called once."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"program-{n}", daemon=True) for n in range(_THREADS)
            ]
            for thread in self._threads:
                thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                ran = self._run(job)
            except OSError as error:
                ran = Ran(-1, Buffer(), f"{error.strerror or error}")
            except Exception as error:
                ran = Ran(-1, Buffer(), f"{type(error).__name__}: {error}")
            self._post(lambda j=job, r=ran: j.done(r))  # type: ignore[misc]

    def _run(self, job: Job) -> Ran:
        with tempfile.TemporaryFile() as message:
            for block in job.message:
                message.write(block)
            message.seek(0)
            process = subprocess.Popen(
                ["/bin/sh", "-c", job.command],
                stdin=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **job.environment}, start_new_session=True,
            )  # fmt: skip
        return self._attend(process)

    def _attend(self, process: "subprocess.Popen[bytes]") -> Ran:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[bytes] = []
        ended: list[str] = []
        listener = threading.Thread(target=_listen, args=(process.stderr, said), daemon=True)
        watch = threading.Timer(
            self._timeout, _end, (process, ended, f"ended after {self._timeout:g} seconds")
        )
        output = Buffer()
        listener.start()
        watch.start()
        try:
            while block := os.read(process.stdout.fileno(), _BLOCK):
                if output.size + len(block) > self._max_output:
                    _end(process, ended, f"ended after {self._max_output} octets of output")
                    break
                output.append(block)
            code = process.wait()
        finally:
            watch.cancel()
            process.stdout.close()
        listener.join(timeout=1)
        text = b"".join(said)[:_MOST_SAID].decode("utf-8", "replace").strip()
        return Ran(-1 if ended or code < 0 else code, output, ended[0] if ended else text)


def _listen(stream: Any, said: list[bytes]) -> None:
    """Keep what is said first, let the rest go by."""
    kept = 0
    with stream:
        while block := stream.read1(_BLOCK):
            if kept < _MOST_SAID:
                said.append(block)
                kept += len(block)


def _end(process: "subprocess.Popen[bytes]", ended: list[str], why: str) -> None:
    """End the program and whatever it started."""
    ended.append(why)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
