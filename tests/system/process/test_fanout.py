"""Batches handed out to processes: every result once, in order, whatever becomes of the processes."""

import os
import signal
from itertools import count, islice

import pytest

from mailtools.system.process.fanout import in_order


def test_every_batch_once_and_in_order() -> None:
    batches = [b"%d" % number for number in range(500)]
    assert list(in_order(batches, lambda batch: batch * 1000, 3)) == [batch * 1000 for batch in batches]


def test_it_is_other_processes_that_work() -> None:
    found = set(in_order([b"x"] * 20, lambda _: b"%d" % os.getpid(), 2))
    assert len(found) == 2
    assert b"%d" % os.getpid() not in found


@pytest.mark.parametrize("number", [0, 1, 3])
def test_few_batches(number: int) -> None:
    assert list(in_order([b"x"] * number, bytes.upper, 4)) == [b"X"] * number


def test_large_batches_and_results_wait_for_nobody() -> None:
    assert sum(map(len, in_order([b"x" * 24_000] * 40, lambda batch: batch * 50, 2))) == 40 * 24_000 * 50


def test_what_fails_there_is_raised_here() -> None:
    results = in_order([b"1", b"2", b"x", b"4"], lambda batch: b"%d" % int(batch), 2)
    assert [next(results), next(results)] == [b"1", b"2"]
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)


def test_a_process_that_is_killed_is_made_up_for() -> None:
    parent = os.getpid()

    def work(batch: bytes) -> bytes:
        if batch == b"7" and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    batches = [b"%d" % number for number in range(40)]
    assert list(in_order(batches, work, 3)) == batches


def test_who_stops_listening_leaves_no_process_and_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    results = in_order((b"%d" % number for number in count()), lambda batch: batch * 100_000, 3)
    assert len(list(islice(results, 5))) == 5
    results.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
