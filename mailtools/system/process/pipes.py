"""Chooses how many processes to fork, and passes octets through pipes, preceded by their length."""

import os

_MOST = 8  # processes; with more, memory is the bottleneck


def workers() -> int:
    """The number of processes to run at a time: one per usable core, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def send_result(pipe: int, result: bytes) -> None:
    """Write the length of *result* (8 octets), then *result*, into a pipe. Raises OSError."""
    view = memoryview(len(result).to_bytes(8, "big") + result)
    while view:
        view = view[os.write(pipe, view) :]


def receive_result(pipe: int) -> bytes | None:
    """Read one result that `send_result` wrote; None at the end of the pipe. Raises OSError."""
    head = _read_exactly(pipe, 8)
    return None if head is None else _read_exactly(pipe, int.from_bytes(head, "big"))


def _read_exactly(pipe: int, size: int) -> bytes | None:
    pieces = []
    while size:
        piece = os.read(pipe, min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
