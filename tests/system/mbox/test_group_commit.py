"""Group commit: together, durable before it is told, nobody's mail waiting for another's mbox."""

import errno
import mailbox
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError, LockTimeoutError, MailError
from mailtools.core.mbox import scan
from mailtools.system.files.buffer import SPILL_AT, Buffer
from mailtools.system.mbox import group_commit
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.group_commit import Committer, Delivery
from mailtools.system.process.loop import Loop


class Turns:
    """A loop that a test turns by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], object]]] = []
        self.watched: dict[int, Callable[[], object]] = {}
        self.loop = Loop(
            lambda call: self.due.append((0.0, call)),
            lambda seconds, call: self.due.append((time.monotonic() + seconds, call)),
            self.watched.__setitem__,
        )

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "it never came"
            ready = [one for one in self.due if one[0] <= time.monotonic()]
            for one in ready:
                self.due.remove(one)
                one[1]()
            poll = select.poll()  # select() knows no descriptor over 1023, and pytest has many open
            for watched in self.watched:
                poll.register(watched, select.POLLIN)
            for descriptor, _ in poll.poll(0 if ready else 2):
                self.watched[descriptor]()


@pytest.fixture(params=["kernel", "threads"])
def turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Turns:
    """The kernel syncs while we go on, or a thread does."""
    if request.param == "threads":

        def none() -> None:
            raise OSError(errno.ENOSYS, "no asynchronous sync here")

        monkeypatch.setattr(group_commit, "Syncer", none)
    return Turns()


def record(number: int, octets: int = 50) -> NewRecord:
    body = Buffer()
    body.append(b"x" * octets + b"\n")
    return NewRecord(b"From a@b Thu Aug 22 12:00:00 2002\nSubject: %d\n\n" % number, body)


def subjects(path: Path) -> list[int]:
    with open(path, "rb") as file:
        return [int(r.message().split(b"\n")[0].removeprefix(b"Subject: ")) for r in scan.records(file.read)]


class Outcomes(list[MailError | None]):
    """What deliveries came to."""

    def delivery(self, path: Path, one: NewRecord) -> Delivery:
        return Delivery(str(path), one, self.append)


def test_what_waits_together_is_synced_once(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox"
    begun = []
    begin = group_commit.Append.begin
    monkeypatch.setattr(group_commit.Append, "begin", lambda a: (begun.append(len(a.records)), begin(a))[1])
    committer, outcomes = Committer(turns.loop), Outcomes()
    for number in range(100):
        committer.submit(outcomes.delivery(path, record(number)))
    assert outcomes == []
    turns.until(lambda: len(outcomes) == 100)
    assert set(outcomes) == {None}
    assert begun == [100]
    assert subjects(path) == list(range(100))
    turns.until(lambda: not committer.is_busy)
    committer.stop()


def test_nothing_is_told_before_it_is_synced(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is noted; an outcome comes behind the sync of its batch and the closing of its note."""
    path = tmp_path / "in.mbox"
    steps: list[str] = []
    for owner, name in ((os, "fdatasync"), (group_commit.Append, "put"), (group_commit.Append, "end")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, r=real, n=name: (r(*args), steps.append(n))[0])
    committer = Committer(turns.loop)
    syncer = committer._syncer
    if syncer is not None:
        finished = syncer.finished
        monkeypatch.setattr(
            syncer, "finished", lambda: (found := finished(), steps.extend(["fdatasync"] * len(found)))[0]
        )
    done: list[MailError | None] = []
    for number in range(3):
        committer.submit(
            Delivery(str(path), record(number), lambda e: (done.append(e), steps.append("told")))
        )
        turns.until(lambda n=number: len(done) == n + 1)
    assert steps == ["put", "fdatasync", "end", "told"] * 3
    committer.stop()


def test_more_mboxes_at_a_time_than_the_kernel_is_asked_for(tmp_path: Path, turns: Turns) -> None:
    committer, outcomes = Committer(turns.loop), Outcomes()
    for _ in range(2):  # the second time none is new, and all are synced at once
        for number in range(300):
            committer.submit(outcomes.delivery(tmp_path / str(number), record(number)))
        count = len(outcomes) + 300
        turns.until(lambda c=count: len(outcomes) == c)
    assert set(outcomes) == {None}
    assert all(subjects(tmp_path / str(number)) == [number] * 2 for number in range(300))
    committer.stop()


def test_a_locked_mbox_delays_nobody_else(tmp_path: Path, turns: Turns) -> None:
    committer, outcomes, others = Committer(turns.loop), Outcomes(), Outcomes()
    theirs = mailbox.mbox(tmp_path / "locked")
    theirs.lock()
    for number in range(5):
        committer.submit(outcomes.delivery(tmp_path / "locked", record(number)))
        committer.submit(others.delivery(tmp_path / "free", record(number)))
    turns.until(lambda: len(others) == 5)
    assert outcomes == []
    committer.submit(outcomes.delivery(tmp_path / "locked", record(5)))
    theirs.unlock()
    turns.until(lambda: len(outcomes) == 6)
    assert subjects(tmp_path / "locked") == list(range(6))
    committer.stop()


def test_who_waits_too_long_for_a_lock_is_told_and_the_mbox_goes_on(tmp_path: Path, turns: Turns) -> None:
    committer, outcomes = Committer(turns.loop, lock_timeout=0.05), Outcomes()
    path = tmp_path / "in.mbox"
    lock = Path(f"{path}.lock")
    lock.write_text(f"{os.getppid()}\n")
    committer.submit(outcomes.delivery(path, record(1)))
    committer.submit(outcomes.delivery(path, record(2)))
    turns.until(lambda: len(outcomes) == 2)
    assert [type(error) for error in outcomes] == [LockTimeoutError] * 2
    turns.until(lambda: not committer.is_busy)
    lock.unlink()
    committer.submit(outcomes.delivery(path, record(3)))
    turns.until(lambda: len(outcomes) == 3)
    assert outcomes[2] is None
    assert subjects(path) == [3]
    committer.stop()


def test_a_late_one_behind_a_lock_has_its_whole_time(tmp_path: Path, turns: Turns) -> None:
    committer, outcomes, late = Committer(turns.loop, lock_timeout=0.2), Outcomes(), Outcomes()
    path = tmp_path / "in.mbox"
    lock = Path(f"{path}.lock")
    lock.write_text(f"{os.getppid()}\n")
    committer.submit(outcomes.delivery(path, record(1)))
    turns.until(lambda: committer._waiting.get(str(path)))  # put aside
    committer._lock_timeout = 30
    committer.submit(late.delivery(path, record(2)))
    turns.until(lambda: outcomes)
    assert (type(outcomes[0]), late) == (LockTimeoutError, [])
    lock.unlink()
    turns.until(lambda: late)
    assert (late, subjects(path)) == ([None], [2])
    committer.stop()


def test_a_large_message_that_finds_no_room_fails_alone(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox"
    write = os.write

    def nearly_full(descriptor: int, octets: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(path) and (
            os.fstat(descriptor).st_size + len(octets) > 50_000
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, octets)

    committer, outcomes, large = Committer(turns.loop), Outcomes(), Outcomes()
    committer.submit(outcomes.delivery(path, record(0)))
    turns.until(lambda: outcomes)
    monkeypatch.setattr(os, "write", nearly_full)
    committer.submit(outcomes.delivery(path, record(1)))
    committer.submit(large.delivery(path, record(2, 60_000)))
    committer.submit(large.delivery(path, record(3, 2 * SPILL_AT)))
    committer.submit(outcomes.delivery(path, record(4)))
    turns.until(lambda: len(outcomes) == 3 and len(large) == 2)
    assert outcomes == [None] * 3
    assert [type(error) for error in large] == [DiskFullError] * 2
    assert subjects(path) == [0, 1, 4]
    monkeypatch.undo()
    committer.submit(large.delivery(path, record(5, 60_000)))
    turns.until(lambda: len(large) == 3)
    assert large[2] is None
    committer.stop()


def test_a_sync_that_fails_leaves_the_mbox_as_it_was(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox"
    committer, outcomes = Committer(turns.loop), Outcomes()
    committer.submit(outcomes.delivery(path, record(0)))
    turns.until(lambda: outcomes)
    before = path.read_bytes()
    if committer._syncer is not None:
        real = committer._syncer.finished
        patch = (committer._syncer, "finished", lambda: [(fd, errno.EIO) for fd, _ in real()])
    else:
        failed: list[int] = []

        def failing(descriptor: int) -> None:
            failed.append(descriptor)
            if len(failed) == 1:
                raise OSError(errno.EIO, "Input/output error")

        patch = (os, "fdatasync", failing)
    with monkeypatch.context() as context:
        context.setattr(*patch)
        committer.submit(outcomes.delivery(path, record(1)))
        turns.until(lambda: len(outcomes) == 2)
    assert type(outcomes[1]) is CannotWriteError
    assert path.read_bytes() == before
    committer.submit(outcomes.delivery(path, record(2)))
    turns.until(lambda: len(outcomes) == 3)
    assert subjects(path) == [0, 2]
    committer.stop()


def test_an_mbox_that_cannot_be_written_is_told_and_others_go_on(tmp_path: Path, turns: Turns) -> None:
    committer, outcomes, others = Committer(turns.loop), Outcomes(), Outcomes()
    (tmp_path / "letter").write_text("Dear Bob\n")
    for number in range(3):
        committer.submit(outcomes.delivery(tmp_path / "letter", record(number)))
        committer.submit(others.delivery(tmp_path / "free", record(number)))
    turns.until(lambda: len(outcomes) + len(others) == 6)
    assert [type(error) for error in outcomes] == [CannotWriteError] * 3
    assert others == [None] * 3
    turns.until(lambda: not committer.is_busy)
    committer.stop()


def test_a_filesystem_that_cannot_be_synced_by_the_kernel_is_synced_by_threads(tmp_path: Path) -> None:
    turns = Turns()
    committer, outcomes = Committer(turns.loop), Outcomes()
    if committer._syncer is None:
        pytest.skip("this kernel has no asynchronous sync")
    path = tmp_path / "in.mbox"
    committer.submit(outcomes.delivery(path, record(1)))
    turns.until(lambda: outcomes)
    committer._syncer.start = lambda descriptor: False  # type: ignore[method-assign]
    for number in (2, 3):
        committer.submit(outcomes.delivery(path, record(number)))
        turns.until(lambda n=number: len(outcomes) == n)
    assert outcomes == [None] * 3
    assert subjects(path) == [1, 2, 3]
    committer.stop()


def test_stop_finishes_what_was_begun(tmp_path: Path) -> None:
    """What threads have taken up is written before `stop` returns."""
    turns = Turns()
    committer = Committer(turns.loop)
    committer.submit(Delivery(str(tmp_path / "in.mbox"), record(1, 3 * SPILL_AT), lambda _: None))
    turns.until(lambda: (tmp_path / "in.mbox").exists())
    committer.stop()
    assert subjects(tmp_path / "in.mbox") == [1]


LOCKER = """
import mailbox, sys, time
box = mailbox.mbox(sys.argv[1])
box.lock()
print("held", flush=True)
sys.stdin.read()
box.unlock()
"""


def test_a_lock_held_by_a_process_that_is_killed_does_not_stop_delivery(tmp_path: Path) -> None:
    """Python's mailbox leaves its dotlock, which names nobody: it counts for five minutes."""
    path = tmp_path / "in.mbox"
    locker = subprocess.Popen(
        [sys.executable, "-I", "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert locker.stdout and locker.stdout.readline() == b"held\n"
    locker.kill()
    locker.communicate()
    turns = Turns()
    committer, outcomes = Committer(turns.loop), Outcomes()
    committer.submit(outcomes.delivery(path, record(1)))
    turns.until(lambda: committer._waiting.get(str(path)))
    assert outcomes == []
    when = time.time() - 301
    os.utime(f"{path}.lock", (when, when))
    turns.until(lambda: outcomes)
    assert subjects(path) == [1]
    committer.stop()
