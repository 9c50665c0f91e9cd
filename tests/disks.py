"""A disk whose power fails: a file system in an image, and what of it was on the disk at one moment.

A process that is killed leaves all that it wrote in the page cache; a power failure does not. Here the image
is copied while the file system is in use: only what reached the disk by then is in the copy. The file system
has no journal, so that nothing is written back besides what a test or the program asks for.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailtools.system import clock

_SIZE = 8 << 20  # octets
_PAGE = 4096
_WRITE = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER
SYNCS = ("fsync", "fdatasync")

MOUNTS = {
    # Blocks are allocated when data is written back: a file's length tells how much of it is there.
    "delalloc": "delalloc",
    # Blocks are allocated at once: a file may have its full length, but other octets in it.
    "nodelalloc": "nodelalloc",
}


class Disk:
    """A mounted file system at *path*."""

    def __init__(self, image: Path, path: Path, option: str = "delalloc") -> None:
        self.image = image
        self.path = path
        self._option = option
        path.mkdir(exist_ok=True)
        _run("mount", "-o", f"loop,{option}", str(image), str(path))
        self._device = _run("findmnt", "-n", "-o", "SOURCE", str(path)).strip()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)

    def clear(self) -> None:
        """Remove all files."""
        for name in os.listdir(self.path):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def files(self) -> list[Path]:
        return [path for path in sorted(self.path.rglob("*")) if path.is_file()]

    def sync(self) -> None:
        """Write everything to the disk."""
        descriptor = os.open(self.path, os.O_RDONLY)
        ctypes.CDLL(None).syncfs(descriptor)
        os.close(descriptor)

    def write_back(self, file: Path, octets: slice = slice(None)) -> None:
        """Write *octets* (from and to multiples of a page) of *file* to the disk, and nothing else."""
        descriptor = os.open(file, os.O_RDWR)
        start, end, _ = octets.indices(os.fstat(descriptor).st_size)
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.sync_file_range(
            descriptor, ctypes.c_int64(start), ctypes.c_int64(end - start), ctypes.c_uint(_WRITE)
        )
        os.close(descriptor)
        assert done == 0, os.strerror(ctypes.get_errno())

    def write_back_names(self) -> None:
        """Write folders and inodes to the disk, but no file's content."""
        descriptor = os.open(self._device, os.O_RDWR)
        os.fsync(descriptor)
        os.close(descriptor)

    @contextmanager
    def after_power_failure(self) -> Iterator[Path]:
        """The file system as it is found after the power fails now."""
        copy, path = self.image.with_suffix(".copy"), self.path.with_name("after")
        copy.write_bytes(self.image.read_bytes())
        subprocess.run(["e2fsck", "-fy", str(copy)], check=False, capture_output=True)
        found = Disk(copy, path, self._option)
        try:
            yield path
        finally:
            found.close()


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def new_disk(folder: Path, option: str) -> Iterator[Disk]:
    """A new file system. Skips the test where nobody may mount one."""
    image = folder / "disk.image"
    image.write_bytes(bytes(_SIZE))
    try:
        _run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image))
        disk = Disk(image, folder / "disk", option)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"only root may mount a file system, and only with loop devices: {error}")
    try:
        yield disk
    finally:
        disk.close()


class Suspended:
    """A process that stopped before one of its syncs; ``is_done``: it had no more, and did not fail."""

    def __init__(self, process: int, is_done: bool) -> None:
        self._process = process
        self.is_done = is_done

    def kill(self) -> None:
        """End it; may be called again."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._process = 0


def stopped_before_sync(number: int, call: Callable[[], object]) -> Suspended:
    """*call*, in a process that stops before its sync *number*, or at its end."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        left = iter(range(number))
        for name in SYNCS:
            setattr(os, name, _stopping(getattr(os, name), left, tell))
        try:
            call()
            os.write(tell, b"done")
        except BaseException:
            traceback.print_exc()
            os.write(tell, b"failed")
        while True:
            signal.pause()
    os.close(tell)
    with open(told, "rb") as file:
        word = os.read(file.fileno(), 10)
    assert word != b"failed"
    return Suspended(child, word == b"done")


def _stopping(real: Callable[[int], None], left: Iterator[int], tell: int) -> Callable[[int], None]:
    def step(descriptor: int) -> None:
        if next(left, None) is None:
            os.write(tell, b"stopped")
            while True:
                signal.pause()
        real(descriptor)

    return step


def after_reboot(call: Callable[[], Any]) -> None:
    """*call*, in a process that sees another boot of the machine. It must return a true value."""
    child = os.fork()
    if not child:
        try:
            clock.boot.cache_clear()
            clock.boot = lambda: "another-boot"  # type: ignore[assignment]
            clock.uptime = lambda: -60.0
            os._exit(not call())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
