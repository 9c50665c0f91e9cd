"""Queues for tests: messages as a run would have left them."""

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from mailtools.cli import command
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DEFERRED, SENT, Result
from mailtools.core.queue.store import INCOMING
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.servers import mailtools

MESSAGE = b"From: alice@example.org\nSubject: lunch\n\nHow about noon?\n"


def add(
    spool: Spool,
    *recipients: str,
    sender: str = "alice@example.org",
    state: str = INCOMING,
    age: float = 0.0,
    reply: str = "",
    sent: int = 0,
    wait: float = 3600.0,
    message: bytes = MESSAGE,
    **fields: object,
) -> str:
    """Queue a message; its id. *reply*: an attempt failed with it, for all but the first *sent* recipients."""
    waiting = tuple(Recipient(address) for address in recipients or ("bob@example.com",))
    envelope = QueueEnvelope(clock.identity(), clock.now() - age, sender, waiting, **fields)  # type: ignore[arg-type]
    identity = spool.add(envelope, [message]).identity
    lease = spool.claim(identity)
    assert lease
    numbers = range(len(waiting))
    if sent:
        lease.record([journal.attempt(clock.now(), Result(tuple(numbers[:sent]), SENT, "250 ok", "2.0.0"))])
    if reply:
        result = Result(tuple(numbers[sent:]), DEFERRED, reply, "4.3.0", "mx.example.com")
        lease.record([journal.attempt(clock.now(), result)])
        lease.reschedule(clock.now() + wait)
    lease.move(state if state != INCOMING or not reply else DEFERRED)
    lease.close()
    return identity


STEPS = (
    "open",
    "write",
    "fsync",
    "link",
    "rename",
    "unlink",
    "mkdir",
    "utime",
    "close",
)  # operations on files


def killed_at(number: int, call: Callable[[], object]) -> bool:
    """*call*, in a process that gets SIGKILL before operation *number* on files; False where it had fewer."""
    child = os.fork()
    if not child:
        try:
            left = iter(range(number))
            for step in STEPS:
                setattr(os, step, _deadly(getattr(os, step), left))
            call()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _deadly(real: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    def step(*args: Any, **named: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **named)

    return step


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Queue:
    """``mailtools queue`` for one spool."""

    def __init__(self, spool: str) -> None:
        self.spool = spool

    def __call__(self, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        """In a process of its own."""
        done = mailtools("queue", *args, "--spool", self.spool, stdin=stdin, **({"env": env} if env else {}))
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def here(self, *args: str) -> Done:
        """In this process, where a test can change what it works with."""
        done = CliRunner().invoke(command, ["queue", *args, "--spool", self.spool])
        return Done(done.exit_code, done.stdout, done.stderr)

    def json(self, *args: str) -> list[dict[str, Any]]:
        """The objects that a command prints."""
        return [json.loads(line) for line in self(*args, "--json").out.splitlines()]


@contextmanager
def queue_run(path: Path) -> Iterator[None]:
    """A queue run works on the spool *path*, as far as other processes can tell."""
    descriptor = Spool(str(path)).announce_runner()
    try:
        yield
    finally:
        os.close(descriptor)
