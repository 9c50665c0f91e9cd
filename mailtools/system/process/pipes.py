"""How many processes to fork, and their results: octets through a pipe, their length before them."""

import os

_MOST = 8  # processes; more of them wait for memory, not for a core


def workers() -> int:
    """How many processes may run at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def send_result(pipe: int, result: bytes) -> None:
    """Write *result* into a pipe, its length before it. Raises OSError."""
    view = memoryview(len(result).to_bytes(8, "big") + result)
    while view:
        view = view[os.write(pipe, view) :]


def receive_result(pipe: int) -> bytes | None:
    """What `send_result` wrote; None at the pipe's end."""
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
