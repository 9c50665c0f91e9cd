"""SIGKILL of fetch, and of its server, at any moment: no message is lost, and at worst a batch comes twice."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.boxes import append, number, subjects
from tests.servers import Pop3Server

COUNT = 1000


def fetch(server: Pop3Server, to: Path, *options: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "mailtools", "fetch", "--pop3", "--host", "127.0.0.1", "--port", str(server.port),
         "--user", "bob", "--to", str(to), *options],
        stderr=subprocess.PIPE, env=os.environ | {"MAILTOOLS_FETCH_PASSWORD": "x"},
    )  # fmt: skip


@pytest.mark.parametrize("delete", [True, False])
def test_killed_anywhere(tmp_path: Path, delete: bool) -> None:
    chance = random.Random(7)
    to = tmp_path / "home.mbox"
    options = ("--delete",) if delete else ()
    with Pop3Server(tmp_path / "root", "--dev") as server:
        append(server.inbox("bob"), *(number(n, 3000) for n in range(COUNT)))
        for _ in range(15):
            process = fetch(server, to, *options)
            try:
                process.communicate(timeout=chance.uniform(0.15, 0.6))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            check(to, server.inbox("bob"))
        process = fetch(server, to, *options)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode in (0, 1)
        assert set(subjects(to)) == {f"{n:06d}" for n in range(COUNT)}
        assert subjects(server.inbox("bob")) == ([] if delete else [f"{n:06d}" for n in range(COUNT)])
    assert len(subjects(to)) == COUNT  # nothing came twice


def numbers(path: Path) -> list[str]:
    """The messages that are whole."""
    octets = path.read_bytes() if path.exists() else b""
    return [
        found.decode()
        for found in re.findall(rb"\nSubject: ([0-9]{6})\n(?:[^\n]+\n)*\n(?:[xy]+\n){1001}\n", octets)
    ]


def check(to: Path, inbox: Path) -> None:
    """What is not here is there still."""
    assert {*numbers(inbox), *numbers(to)} == {f"{n:06d}" for n in range(COUNT)}


def test_the_server_is_killed_anywhere(tmp_path: Path) -> None:
    chance = random.Random(8)
    to = tmp_path / "home.mbox"
    inbox = tmp_path / "root" / "bob" / "INBOX.mbox"
    append(inbox, *(number(n, 3000) for n in range(COUNT)))
    codes = set()
    for _ in range(10):
        server = Pop3Server(tmp_path / "root", "--dev")
        process = fetch(server, to, "--delete")
        timer = threading.Timer(chance.uniform(0.1, 0.5), server.kill)
        timer.start()
        process.communicate(timeout=60)
        timer.join()
        codes.add(process.returncode)
        check(to, inbox)
    assert codes <= {0, 1, 75}
    with Pop3Server(tmp_path / "root", "--dev") as server:
        process = fetch(server, to, "--delete")
        process.communicate(timeout=60)
    assert set(subjects(to)) == {f"{n:06d}" for n in range(COUNT)}  # each server was another one
    assert subjects(inbox) == []
