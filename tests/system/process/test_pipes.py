"""system/process/pipes: results of any size through a pipe, and pipes that end too early."""

import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from mailtools.system.process import pipes

Pipe = tuple[BinaryIO, BinaryIO]  # to read, to write


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        yield reader, writer


@pytest.mark.parametrize("results", [[b""], [b"x"], [b"", b"a\0b", b""], [bytes(8), b"\xff" * 9]])
def test_results_come_as_they_were_sent(pipe: Pipe, results: list[bytes]) -> None:
    for result in results:
        pipes.send_result(pipe[1].fileno(), result)
    pipe[1].close()
    assert [pipes.receive_result(pipe[0].fileno()) for _ in results] == results
    assert pipes.receive_result(pipe[0].fileno()) is None


def test_a_result_larger_than_the_pipe_comes_whole(pipe: Pipe) -> None:
    large = os.urandom(1000) * 3000
    sender = threading.Thread(target=pipes.send_result, args=(pipe[1].fileno(), large))
    sender.start()
    assert pipes.receive_result(pipe[0].fileno()) == large
    sender.join()


def test_a_result_is_sent_whole_if_the_kernel_takes_little_at_a_time(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda end, octets: write(end, octets[:3]))
    pipes.send_result(pipe[1].fileno(), b"0123456789")
    assert pipes.receive_result(pipe[0].fileno()) == b"0123456789"


@pytest.mark.parametrize("left", [b"", b"\0\0\0", bytes(7) + b"\5", bytes(7) + b"\5half"])
def test_a_sender_that_dies_in_the_middle_has_no_result(pipe: Pipe, left: bytes) -> None:
    pipe[1].write(left)
    pipe[1].close()
    assert pipes.receive_result(pipe[0].fileno()) is None


def test_nobody_who_reads_is_an_error(pipe: Pipe) -> None:
    pipe[0].close()
    with pytest.raises(BrokenPipeError):
        pipes.send_result(pipe[1].fileno(), b"x")


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (5, 5), (8, 8), (64, 8)])
def test_there_are_as_many_workers_as_usable_cores_and_at_most_eight(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert pipes.workers() == expected


@pytest.mark.parametrize(("count", "expected"), [(None, 1), (4, 4), (64, 8)])
def test_where_affinity_is_not_known_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, count: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert pipes.workers() == expected
