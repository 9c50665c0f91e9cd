"""Processes that serve on the same sockets."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = """
import os, sys, threading
from mailtools.system.process import workers

def serve(ready):
    end = threading.Event()
    ready(end.set)
    os.write(1, b"%d\\n" % os.getpid())
    if len(sys.argv) > 1:
        return int(sys.argv[1])
    end.wait()
    os.write(1, b"end\\n")
    return 0

sys.exit(workers.run(2, serve, lambda stop: os.write(1, b"ready\\n")))
"""


def started(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def pids(found: list[str]) -> list[int]:
    return [int(line) for line in found if line.isdigit()]


def test_sigterm_ends_all_of_them() -> None:
    with started() as process:
        assert len(pids(lines(process, 3))) == 2
        process.terminate()
        out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("end\nend\n", 0)


def test_they_end_when_the_first_process_is_killed() -> None:
    with started() as process:
        lines(process, 3)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "end\nend\n", "the pipe is closed when both are gone"


def test_one_that_crashes_is_started_again() -> None:
    with started() as process:
        os.kill(pids(lines(process, 3))[0], signal.SIGKILL)
        assert len(pids(lines(process, 1))) == 1
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "another takes its place" in errors


@pytest.mark.parametrize("code", [0, 75])
def test_one_that_leaves_by_itself_ends_them_all(code: int) -> None:
    with started(str(code)) as process:
        process.communicate(timeout=30)
        assert process.returncode == code


def test_a_server_of_several_processes_answers_and_ends(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    argv = [sys.executable, "-m", "mailtools", "serve-imap", "--dev", "--port", "0", "--workers", "3"]
    with subprocess.Popen(
        [*argv, "--root", str(tmp_path), "--port-file", str(port_file)], stderr=subprocess.PIPE, text=True
    ) as process:
        import imaplib

        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening imap ")
        clients = [imaplib.IMAP4("127.0.0.1", int(port_file.read_text())) for _ in range(6)]
        for client in clients:
            client.login("bob", "x")
            assert client.append("INBOX", None, None, b"Subject: a\r\n\r\ntext\r\n")[0] == "OK"  # type: ignore[arg-type]
        for client in clients:
            assert client.select()[1] == [b"6"], "what the other processes stored is there"
            client.logout()
        process.terminate()
        assert process.wait(30) == 0
