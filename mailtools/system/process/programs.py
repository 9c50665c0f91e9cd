"""Runs programs that get a message, in a few threads, off the event loop.

The program's stdin is a file with the message, so the program need not read it; its output is limited. Data
from a peer is never part of a command: it is passed in environment variables (promise R17). Only the program
itself is waited for, not its background processes. A program that exceeds its time is killed, and so are all
running programs when the server stops. A command that hangs does not keep other commands waiting: each has
only some of the threads.
"""

import errno
import logging
import os
import pwd
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import IO, Any, Generic, NamedTuple, TypeVar

from mailtools.system.files.buffer import Buffer

T = TypeVar("T")

log = logging.getLogger("mailtools")

_THREADS = 32
_OF_ONE_COMMAND = 4  # threads that may run the same command
_BLOCK = 256 << 10
_LOOK = 50  # milliseconds between checks whether a silent program has ended
_MOST_SAID = 2000  # octets of stderr for the log
_LONGEST_VALUE = 100_000  # octets in the environment; Linux takes 131,072 in one string
_MIB = 1 << 20


class Ran(NamedTuple):
    """The result of a program: exit code, output and error text."""

    code: int  # exit code; -1 if a signal, the time-out or too much output ended it, or it did not start
    output: Buffer
    said: str  # its stderr, or why it was ended or did not start


class ProgramJob(NamedTuple, Generic[T]):
    """A program to run. *command*: a line for /bin/sh, from the operator's configuration."""

    command: str
    environment: Mapping[str, str]
    message: Iterable[bytes]
    judge: Callable[[Ran], T]  # called in the program's thread
    done: Callable[[T], None]  # in the loop's thread, with the result of *judge*
    user: str = ""  # who runs it; "" means us


class Programs:
    """Runs programs. *timeout*: seconds for each; *max_output*: octets; *post* calls in the loop's thread."""

    def __init__(
        self,
        post: Callable[[Callable[[], None]], Any],
        timeout: float = 300.0,
        max_output: int = 100 * _MIB,
    ) -> None:
        self._post = post
        self._timeout = timeout
        self._max_output = max_output
        self._change = threading.Condition()
        self._waiting: dict[str, deque[ProgramJob[Any]]] = {}  # by command; the next one is first
        self._busy: Counter[str] = Counter()  # threads by command
        self._idle = 0  # threads that nobody has woken
        self._threads: list[threading.Thread] = []
        self._running: set[int] = set()  # process groups
        self._is_stopped = False

    def run(self, job: ProgramJob[Any]) -> None:
        """Run *job*; its `done` is called once."""
        with self._change:
            waiting = self._waiting.setdefault(job.command, deque())
            waiting.append(job)
            if self._busy[job.command] + len(waiting) > _OF_ONE_COMMAND:
                return  # a thread that runs this command takes it next
            if self._idle:
                self._idle -= 1
                self._change.notify()
            elif len(self._threads) < _THREADS:
                name = f"program-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                self._threads[-1].start()

    def stop(self) -> None:
        """End the threads and the programs that still run."""
        with self._change:
            self._is_stopped = True
            self._change.notify_all()
        for group in list(self._running):
            _end(group)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            outcome = self._outcome(job)
            with self._change:
                self._busy[job.command] -= 1
            self._post(lambda j=job, o=outcome: j.done(o))  # type: ignore[misc]

    def _next(self) -> ProgramJob[Any] | None:
        """Wait for a job that may run; None at the end."""
        with self._change:
            while True:
                for command, jobs in self._waiting.items():
                    if self._busy[command] < _OF_ONE_COMMAND:
                        del self._waiting[command]
                        job = jobs.popleft()
                        if jobs:
                            self._waiting[command] = jobs  # last: other commands are next
                        self._busy[command] += 1
                        return job
                if self._is_stopped:
                    return None
                self._idle += 1
                self._change.wait()

    def _outcome(self, job: ProgramJob[T]) -> T:
        """Return the result of *job*; after a bug, that of a program that was ended."""
        try:
            return job.judge(self.ran(job))
        except Exception as error:
            log.exception("a bug in a program thread")
            return job.judge(Ran(-1, Buffer(), f"a bug: {type(error).__name__}"))

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
                env={**os.environ, **values}, start_new_session=True, **_identity(job.user),
            )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        self._running.add(process.pid)
        if self._is_stopped:  # `stop` came before the number was known
            _end(process.pid)
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
        """(stdout, stderr, reason to kill the program or ""), once it has ended or must be killed."""
        output, said = Buffer(), b""
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        for stream in (stdout, stderr):
            poll.register(stream, select.POLLIN)
        left = 2
        while left:
            has_ended = process.poll() is not None  # before the read: all its output is in the pipe by then
            ready = poll.poll(0 if has_ended else _LOOK)
            if not ready and has_ended:
                break  # only a background process still holds the pipe
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
        """Wait until *deadline* for a program that closed its output; False if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
            return True
        return False


def unprivileged() -> str:
    """Return the user for the programs of recipients: nobody if we are root, else "" (us)."""
    return "nobody" if os.geteuid() == 0 else ""


def _identity(user: str) -> dict[str, Any]:
    """Return the arguments of Popen that run a program as *user*, in no group but its own."""
    if not user:
        return {}
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise OSError(errno.ENOENT, f"there is no user {user} to run it") from None
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": [], "cwd": "/"}


def _shortened(value: str) -> str:
    """*value* cut to the system's limit at a line end, because it may be a list with one address a line."""
    if len(value.encode(errors="surrogateescape")) <= _LONGEST_VALUE:
        return value
    return value[: _LONGEST_VALUE // 4].rpartition("\n")[0]


def _end(group: int) -> None:
    """Kill a program and all processes in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
