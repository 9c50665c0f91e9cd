"""Locks on an mbox: both or neither, honoured by others, stale ones removed, never through a symbolic link."""

import errno
import fcntl
import mailbox
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailtools.system import clock
from mailtools.system.files.folder import Folder
from mailtools.system.mbox import dotlock
from mailtools.system.mbox.dotlock import MboxLock
from mailtools.system.mbox.mboxfile import MboxFile


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def locks_of(path: Path) -> MboxLock:
    return MboxLock(opened(path), MboxFile(str(path)))


def make_dotlock(path: Path) -> bool:
    with Folder(str(path.parent)) as folder:
        return dotlock.make_dotlock(folder, path.name)


def start_of(number: int) -> int:
    """When a process began, as proc(5) tells it."""
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])


def signature(number: int) -> str:
    """The content of a dotlock that the process *number* of mailtools made."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{number}\n{boot} {start_of(number)}\n"


@pytest.fixture
def dead() -> int:
    """The number of a process that ended."""
    process = subprocess.Popen([sys.executable, "-I", "-c", ""])
    process.wait()
    return process.pid


def aged(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when), follow_symlinks=False)


def test_both_locks_are_taken_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    lock = locks_of(path)
    assert lock.acquire()
    assert Path(f"{path}.lock").read_text() == signature(os.getpid())
    assert not locks_of(path).acquire()
    lock.release()
    assert not Path(f"{path}.lock").exists()
    assert locks_of(path).acquire()


def test_another_descriptor_of_this_process_that_is_closed_drops_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    assert locks_of(path).acquire()
    os.unlink(f"{path}.lock")
    os.close(opened(path))
    assert not locks_of(path).acquire()


def test_pythons_mailbox_and_ours_keep_each_other_out(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    theirs = mailbox.mbox(path)
    ours = locks_of(path)
    theirs.lock()
    assert not ours.acquire()
    theirs.unlock()
    assert ours.acquire()
    with pytest.raises(mailbox.ExternalClashError):
        theirs.lock()
    ours.release()
    theirs.lock()
    theirs.unlock()


def test_the_fcntl_lock_alone_keeps_us_out_and_no_dotlock_is_left(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    script = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    path.touch()
    other = subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout and other.stdout.readline() == b"held\n"
    ours = locks_of(path)
    assert not ours.acquire()
    assert not Path(f"{path}.lock").exists()
    other.communicate()
    assert ours.acquire()


def test_the_dotlock_alone_keeps_us_out_and_no_fcntl_lock_is_left(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    Path(f"{path}.lock").write_text(f"{os.getppid()}\n")
    ours = locks_of(path)
    assert not ours.acquire()
    child = subprocess.run(
        [sys.executable, "-I", "-c", "import fcntl, sys\nfcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)",
         str(path)], check=False, capture_output=True,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr


def test_a_dotlock_that_cannot_be_made_leaves_no_fcntl_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox"
    ours = locks_of(path)

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dotlock, "make_dotlock", full)
        with pytest.raises(OSError, match="No space"):
            ours.acquire()
    assert locks_of(path).acquire()


@pytest.mark.parametrize(
    ("content", "age", "stale"),
    [
        ("{dead}\n", 0, True),
        ("{dead}", 0, True),
        ("{dead}:{host}\n", 0, True),
        ("{dead}:elsewhere\n", 0, False),
        ("{dead}:elsewhere\n", 301, True),
        ("{alive}\n", 0, False),
        ("{alive}\n", 301, False),
        ("{alive}:{host}\n", 301, False),
        ("{alive}\n", 3601, True),
        ("", 0, False),
        ("", 290, False),
        ("", 301, True),
        ("0", 0, False),
        ("0", 301, True),
        ("-1\n", 0, False),
        ("99999999999999999999\n", 0, False),
        ("99999999999999999999\n", 301, True),
        ("what?", 301, True),
        ("\x00" * 500, 0, False),
    ],
)
def test_stale_dotlocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int, content: str, age: float, stale: bool
) -> None:
    monkeypatch.setattr(clock, "uptime", lambda: 1e9)
    path = tmp_path / "in.mbox.lock"
    path.write_text(content.format(dead=dead, alive=os.getppid(), host=socket.gethostname()))
    aged(path, age)
    assert make_dotlock(path) is stale
    assert (path.read_text() == signature(os.getpid())) is stale
    assert list(tmp_path.iterdir()) == [path]


def test_a_number_that_was_used_again_holds_no_lock(tmp_path: Path, dead: int) -> None:
    """The process began after the dotlock was made, as the first process of a restarted container did."""
    path = tmp_path / "in.mbox.lock"
    with subprocess.Popen(["sleep", "60"]) as process:
        path.write_text(f"{process.pid}\n")
        assert not make_dotlock(path)
        aged(path, 30)
        assert make_dotlock(path)
        process.kill()


@pytest.mark.parametrize("age", [0, 30])
def test_a_process_is_known_by_boot_and_start_time_besides_its_number(tmp_path: Path, age: float) -> None:
    """Also one that began in the same second, when the dotlock's age tells nothing."""
    path = tmp_path / "in.mbox.lock"
    with subprocess.Popen(["sleep", "60"]) as process:
        its = signature(process.pid)
        number, boot, began = its.split()
        for content, stale in (
            (its, False),
            (f"{number}\n{boot} {int(began) - 1}\n", True),
            (f"{number}\nanother-boot {began}\n", True),
        ):
            path.write_text(content)
            aged(path, age)
            assert make_dotlock(path) is stale, content
        process.kill()


@pytest.mark.parametrize(
    ("content", "stale"), [("", True), ("0", True), ("\0" * 40, True), ("7:elsewhere\n", False)]
)
def test_a_dotlock_without_its_content_that_is_older_than_the_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, stale: bool
) -> None:
    """As a power failure leaves it: the name is on the disk, the content is not."""
    path = tmp_path / "in.mbox.lock"
    monkeypatch.setattr(clock, "uptime", lambda: 20.0)
    path.write_text(content)
    aged(path, 15)
    assert not make_dotlock(path)
    aged(path, 30)
    assert make_dotlock(path) is stale


def test_a_start_time_that_cannot_be_told_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as where /proc hides the processes of others."""
    path = tmp_path / "in.mbox.lock"
    path.write_text(f"{os.getppid()}\n{clock.boot()} 1\n")
    monkeypatch.setattr(dotlock, "_started", lambda number: 0)
    assert not make_dotlock(path)


def test_a_child_signs_with_its_own_number(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox.lock"
    assert make_dotlock(path)
    path.unlink()
    child = os.fork()
    if not child:
        os._exit(not (make_dotlock(path) and path.read_text() == signature(os.getpid())))
    assert os.waitpid(child, 0)[1] == 0


def test_a_dotlock_of_our_own_was_left_by_an_earlier_lock(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox.lock"
    path.write_text(f"{os.getpid()}\n")
    assert make_dotlock(path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EACCES])
def test_the_end_of_a_lock_never_raises_and_the_next_lock_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "in.mbox"
    ours = locks_of(path)
    assert ours.acquire()

    def broken(*args: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", broken)
        ours.release()
    assert locks_of(path).acquire()


def test_a_dotlock_from_the_future_is_not_stale(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox.lock"
    path.touch()
    aged(path, -5000)
    assert not make_dotlock(path)


def test_a_symbolic_link_in_place_of_the_dotlock_is_never_followed(tmp_path: Path, dead: int) -> None:
    target = tmp_path / "target"
    path = tmp_path / "in.mbox.lock"
    path.symlink_to(target)
    assert not make_dotlock(path)
    assert not target.exists(), "made through the link"
    target.write_text(f"{dead}\n")
    aged(target, 5000)
    aged(path, 5000)
    assert not make_dotlock(path)
    assert target.read_text() == f"{dead}\n"
    assert path.is_symlink()


def test_a_folder_or_pipe_in_place_of_the_dotlock_keeps_us_out_without_waiting(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "a.lock", tmp_path / "b.lock"
    folder.mkdir()
    os.mkfifo(pipe)
    assert not make_dotlock(folder)
    assert not make_dotlock(pipe)


def test_a_fresh_dotlock_that_took_the_place_of_a_stale_one_stays(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox.lock"
    path.write_text(f"{dead}\n")
    aged(path, 100)
    rename = os.rename

    def late(source: str, target: str, **folders: int) -> None:
        path.unlink()
        path.write_text(f"{os.getppid()}\n")  # another program was quicker
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", late)
    assert not make_dotlock(path)
    assert path.read_text() == f"{os.getppid()}\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_ours_to_write_in_is_locked_with_fcntl_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.mbox"
    descriptor = opened(path)
    real = os.open

    def refuse(name: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE or str(name).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    lock = MboxLock(descriptor, MboxFile(str(path)))
    assert lock.acquire()
    assert not locks_of(path).acquire()
    lock.release()
    monkeypatch.undo()
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
