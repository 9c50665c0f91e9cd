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
    assert len(threads) == pool._THREADS
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
    monkeypatch.setattr(pool, "_THREADS", 1)
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
