"""A disk that is full, or fails: 4yz, nothing half done, and it goes on by itself."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError
from mailtools.core.mbox.record import make_postmark
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import appending
from mailtools.system.mbox.appending import NewRecord
from tests.servers import Server, eventually


def record(octets: int) -> NewRecord:
    body = Buffer()
    body.append(b"x" * (octets - 1) + b"\n")
    return NewRecord(make_postmark("a@b", "Thu Aug 22 12:00:00 2002") + b"\n", body)


def message(octets: int) -> bytes:
    return b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * (octets // 72)


def test_a_file_size_limit_is_a_full_disk_and_its_end_is_seen(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    with Server(tmp_path / "root", preexec_fn=limited) as server:
        inbox = server.inbox("bob")
        assert server.connect().deliver(message(50_000), "bob@x").startswith(b"250")
        before = inbox.read_bytes()
        assert server.connect().deliver(message(80_000), "bob@x").startswith(b"452 4.3.1")
        assert server.connect().deliver(message(900_000), "bob@x").startswith(b"452 4.3.1")
        assert inbox.read_bytes() == before
        assert server.connect().deliver(message(1000), "bob@x").startswith(b"250"), "a small one still fits"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert server.connect().deliver(message(900_000), "bob@x").startswith(b"250")


def test_a_session_goes_on_after_452(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    with Server(tmp_path / "root", preexec_fn=limited) as server:
        client = server.connect()
        assert client.deliver(message(40_000), "bob@x").startswith(b"452")
        assert client.ask("MAIL FROM:<a@b>").startswith(b"250")
        assert client.ask("RCPT TO:<bob@x>").startswith(b"250")
        assert client.ask("DATA").startswith(b"354")
        client.say(message(1000) + b".\r\n")
        assert client.reply().startswith(b"250")


def can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    done = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this user may not mount in a namespace of its own")
def test_a_full_filesystem(tmp_path: Path) -> None:
    """In a mount namespace of its own: a tmpfs of 1 MiB, filled up and emptied again."""
    script = tmp_path / "inside.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\nfrom tests.servers import Server\n"
        "def m(n): return b'Subject: x\\r\\n\\r\\n' + (b'y' * 70 + b'\\r\\n') * (n // 72)\n"
        "with Server(Path('/mnt/root')) as server:\n"
        "    def go(n): return server.connect().deliver(m(n), 'bob@x')[:3]\n"
        "    assert go(300_000) == b'250'\n"
        "    assert go(900_000) == b'452'\n"
        "    try: open('/mnt/fill', 'wb', 0).write(bytes(2 << 20))\n"
        "    except OSError: pass\n"
        "    assert go(9000) == b'452', 'full'\n"
        "    os.unlink('/mnt/fill')\n"
        "    assert go(1000) == b'250', 'room again'\n"
        "    assert go(200_000) == b'250'\n"
        "    text = Path('/mnt/root/bob/INBOX.mbox').read_bytes()\n"
        "    assert text.count(b'\\nSubject: x\\n') == 3\n"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none /mnt && exec "$@"', "sh",
         sys.executable, str(script)],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, CannotWriteError)],
)
def test_a_failing_sync_leaves_the_mbox_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    path = tmp_path / "in.mbox"
    assert appending.append(str(path), [record(100)])
    before = path.read_bytes()
    calls = []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(appending.os, "fdatasync", failing)
    with pytest.raises(kind):
        appending.append(str(path), [record(200)])
    assert path.read_bytes() == before
    assert not Path(f"{path}.lock").exists()
    assert appending.append(str(path), [record(300)])


def test_250_comes_after_the_sync(tmp_path: Path) -> None:
    """The order of system calls of one delivery, as the kernel saw it."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    with Server(tmp_path / "root") as server:
        assert server.connect().deliver(message(100), "bob@x").startswith(b"250")
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-qq", "-s", "40", "-e",
             "trace=write,io_submit,io_getevents,fdatasync,sendto", "-o", str(trace),
             "-p", str(server.process.pid)],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(
            lambda: "TracerPid:\t0\n" not in Path(f"/proc/{server.process.pid}/status").read_text(), "strace"
        )
        assert server.connect().deliver(message(100), "bob@x").startswith(b"250")
        tracer.terminate()
        tracer.wait(20)
    lines = trace.read_text().splitlines()

    def first(*needles: str) -> int:
        return next(n for n, line in enumerate(lines) if all(needle in line for needle in needles))

    written = first("write(", "INBOX.mbox>", "From a@example.org")
    synced = first("io_getevents(") if "io_submit(" in trace.read_text() else first("fdatasync(")
    assert written < synced < first("250 2.0.0 Ok")
