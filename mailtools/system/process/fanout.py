"""Distributes many small pieces of work over several processes: batches in turn, results in order.

The parent finds the work and writes the results; forked processes do the slow part. Batches and results go
through pipes. Memory does not grow with the number of batches: each process has at most two of them. Knows
nothing of the work itself.

If the parent stops reading, the processes end, because their pipe is closed. A process that fails sends
nothing; the parent repeats its batches, where the same work raises the same error.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from mailtools.system.process.pipes import receive_result, send_result

Work = Callable[[bytes], bytes]
_AHEAD = 2  # batches given to a process at a time


class _Worker(NamedTuple):
    number: int
    batches: int  # descriptor to write batches to
    results: int  # descriptor to read results from


def in_order(batches: Iterable[bytes], work: Work, count: int) -> Iterator[bytes]:
    """The result of *work* for each batch, in order, by *count* processes. Raises the errors of *work*.

    A batch has at most 24 KiB: two fit into a pipe, so that sending one never blocks.
    """
    workers: list[_Worker] = []
    for _ in range(count):
        workers.append(_fork(work, workers))
    under_way: deque[tuple[_Worker, bytes]] = deque()
    try:
        for number, batch in enumerate(batches):
            if len(under_way) == count * _AHEAD:
                yield _finished(*under_way.popleft(), work)
            worker = workers[number % count]
            with suppress(BrokenPipeError):
                send_result(worker.batches, batch)
            under_way.append((worker, batch))
        while under_way:
            yield _finished(*under_way.popleft(), work)
    finally:
        for worker in workers:
            os.close(worker.batches)
            os.close(worker.results)
        for worker in workers:
            with suppress(ChildProcessError):
                os.waitpid(worker.number, 0)


def _finished(worker: _Worker, batch: bytes, work: Work) -> bytes:
    result = receive_result(worker.results)
    return work(batch) if result is None else result


def _fork(work: Work, others: Iterable[_Worker]) -> _Worker:
    batches_out, batches_in = os.pipe()
    results_out, results_in = os.pipe()
    child = os.fork()
    if child:
        os.close(batches_out)
        os.close(results_in)
        return _Worker(child, batches_in, results_out)
    try:
        for descriptor in (batches_in, results_out, *[d for other in others for d in other[1:]]):
            os.close(descriptor)
        while (batch := receive_result(batches_out)) is not None:
            send_result(results_in, work(batch))
    except BaseException:
        os._exit(1)
    os._exit(0)
