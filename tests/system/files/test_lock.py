"""system/files/lock: locks of several open files, in this process and in others."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailtools.system.files import lock

Open = Callable[[], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens one and the same file, each time with a descriptor of its own."""
    descriptors: list[int] = []

    def make() -> int:
        descriptors.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
        return descriptors[-1]

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("first", "second", "is_given"),
    [
        (lock.take, lock.take, False),
        (lock.take, lock.share, False),
        (lock.share, lock.take, False),
        (lock.share, lock.share, True),
    ],
)
def test_only_shared_locks_go_together(
    opened: Open, first: Callable[[int], bool], second: Callable[[int], bool], is_given: bool
) -> None:
    one, two = opened(), opened()
    assert first(one)
    assert second(two) == is_given


def test_a_lock_may_be_taken_again_and_changed_by_its_holder(opened: Open) -> None:
    one, two = opened(), opened()
    assert lock.take(one)
    assert lock.take(one)
    assert lock.share(one)
    assert lock.share(two)


@pytest.mark.parametrize("take", [lock.take, lock.share])
def test_others_see_a_lock_and_its_holder_does_not(opened: Open, take: Callable[[int], bool]) -> None:
    one, two = opened(), opened()
    assert not lock.is_taken(two)
    take(one)
    assert lock.is_taken(two)
    assert not lock.is_taken(one)


def test_a_query_takes_no_lock(opened: Open) -> None:
    one, two = opened(), opened()
    lock.is_taken(one)
    assert lock.take(two)


def test_a_released_lock_is_free(opened: Open) -> None:
    one, two = opened(), opened()
    lock.take(one)
    lock.release(one)
    assert lock.take(two)


def test_closing_the_file_elsewhere_in_the_process_keeps_the_lock(opened: Open, tmp_path: Path) -> None:
    one, two = opened(), opened()
    lock.take(one)
    os.close(os.open(tmp_path / "file", os.O_RDWR))
    assert not lock.take(two)


def test_a_program_with_posix_locks_is_kept_out(opened: Open, tmp_path: Path) -> None:
    assert lock.take(opened())
    program = (
        f"import fcntl; fcntl.lockf(open({str(tmp_path / 'file')!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, check=False)
    assert b"BlockingIOError" in done.stderr


def test_other_errors_are_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        lock.take(descriptor)  # an exclusive lock needs a file open for writing
    os.close(descriptor)
