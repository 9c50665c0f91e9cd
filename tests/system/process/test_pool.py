"""system/process/pool: tasks in threads, their results in the loop, and more work than there is room for."""

import logging
import threading
from collections.abc import Callable
from queue import Queue

import pytest

from mailtools.core.errors import TemporaryError
from mailtools.system.process import pool
from mailtools.system.process.pool import WorkerPool


class Loop:
    """Stands for the event loop: callbacks run when the test says so."""

    def __init__(self) -> None:
        self.posted: Queue[Callable[[], None]] = Queue()

    def run_one(self) -> None:
        self.posted.get(timeout=10)()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_a_task_runs_in_a_named_thread_and_its_result_comes_in_the_loop(loop: Loop) -> None:
    workers = WorkerPool("hash", loop.posted.put)
    results: list[tuple[str | None, str]] = []
    workers.run(
        lambda: threading.current_thread().name,
        lambda name: results.append((name, threading.current_thread().name)),
    )
    loop.run_one()
    ((inside, outside),) = results
    assert inside is not None and inside.startswith("hash-")
    assert outside == threading.current_thread().name
    workers.stop()


def test_threads_start_with_the_first_task_and_end_when_stopped(loop: Loop) -> None:
    workers = WorkerPool("hash", loop.posted.put)
    assert workers._threads == []
    workers.stop()  # nothing to stop
    workers.run(lambda: 1, lambda _: None)
    workers.run(lambda: 2, lambda _: None)
    threads = workers._threads
    assert len(threads) == pool.POOL_THREADS
    workers.stop()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert loop.posted.qsize() == 2  # what was queued before is done


@pytest.mark.parametrize(
    ("error", "line"),
    [(TemporaryError("/box is locked"), "/box is locked"), (KeyError("x"), "a bug in a hash thread")],
)
def test_a_task_that_fails_has_no_result_and_is_logged(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: Exception, line: str
) -> None:
    def task() -> int:
        raise error

    workers = WorkerPool("hash", loop.posted.put)
    results: list[int | None] = []
    with caplog.at_level(logging.ERROR, "mailtools"):
        workers.run(task, results.append)
        loop.run_one()
        workers.run(lambda: 5, results.append)  # the thread goes on
        loop.run_one()
    assert results == [None, 5]
    assert [record.getMessage() for record in caplog.records] == [line]
    workers.stop()


def test_more_tasks_than_there_is_room_for_are_refused_at_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "_WAITING", 2)
    monkeypatch.setattr(pool, "POOL_THREADS", 1)
    begun, go_on = threading.Event(), threading.Event()

    def blocked() -> str:
        begun.set()
        go_on.wait(10)
        return "done"

    workers = WorkerPool("hash", loop.posted.put)
    results: list[str | None] = []
    workers.run(blocked, results.append)
    assert begun.wait(10)
    workers.run(lambda: "second", results.append)
    workers.run(lambda: "third", results.append)
    workers.run(lambda: "fourth", results.append)
    assert results == [None]  # in this thread, at once
    assert "too much work for the hash threads" in caplog.text
    workers.stop()  # there is no room for this either
    go_on.set()
    for _ in range(3):
        loop.run_one()
    assert results == [None, "done", "second", "third"]


class Gate:
    """Work that stands still until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.open = self._open.set
        self.done: list[str] = []

    def task(self, name: str) -> Callable[[], None]:
        def work() -> None:
            self._open.wait(10)
            self.done.append(name)

        return work


def test_owners_take_turns(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOL_THREADS", 1)
    workers, gate = WorkerPool("hash", loop.posted.put), Gate()
    for number in range(5):
        workers.run(gate.task(f"many {number}"), lambda _: None, "192.0.2.1")
    workers.run(gate.task("one"), lambda _: None, "192.0.2.2")
    gate.open()
    for _ in range(6):
        loop.run_one()
    assert gate.done.index("one") <= 2
    assert [name for name in gate.done if name != "one"] == [f"many {number}" for number in range(5)]
    workers.stop()


def test_one_owner_has_too_many_tasks_and_others_go_on(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_WAITING", 3)
    workers, gate = WorkerPool("hash", loop.posted.put), Gate()
    refused: list[object] = []
    for number in range(20):
        workers.run(gate.task(f"many {number}"), refused.append, "192.0.2.1")
    assert set(refused) == {None}
    count = len(refused)
    workers.run(gate.task("one"), refused.append, "192.0.2.2")
    assert len(refused) == count
    gate.open()
    workers.stop()


def test_a_task_that_is_cancelled_is_not_done(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOL_THREADS", 1)
    workers, gate = WorkerPool("hash", loop.posted.put), Gate()
    begun = threading.Event()
    first = workers.run(lambda: begun.set() or gate.task("first")(), lambda _: None)  # type: ignore[func-returns-value]
    second = workers.run(gate.task("second"), lambda _: None)
    workers.run(gate.task("third"), lambda _: None, "other")
    assert begun.wait(10)
    assert second()
    assert not second()
    assert not first()
    gate.open()
    loop.run_one()
    loop.run_one()
    assert gate.done == ["first", "third"]
    workers.stop()


def test_one_owner_never_has_all_threads(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOL_THREADS", 2)
    workers, gate = WorkerPool("maildrop", loop.posted.put, of_one=1), Gate()
    workers.run(gate.task("a 1"), lambda _: None, "a")
    workers.run(gate.task("a 2"), lambda _: None, "a")
    done: list[object] = []
    workers.run(lambda: 5, done.append, "b")
    loop.run_one()
    assert done == [5]
    gate.open()
    loop.run_one()
    loop.run_one()
    assert gate.done == ["a 1", "a 2"]
    threads = workers._threads
    workers.stop()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
