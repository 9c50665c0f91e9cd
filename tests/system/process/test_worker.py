"""A thread for one piece of work after another."""

from mailtools.system.process.worker import Worker


def test_work_is_done_in_order_and_a_bug_does_not_end_the_thread() -> None:
    worker = Worker("test")
    done: list[int] = []
    worker.do(lambda: done.append(1))
    worker.do(lambda: int("no number"))
    worker.do(lambda: done.append(2))
    worker.stop()
    assert done == [1, 2]


def test_a_worker_without_work_ends() -> None:
    Worker("test").stop()
