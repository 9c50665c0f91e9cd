"""Log lines of servers and queue runs: text for people, JSON for programs."""

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import mailtools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mail root whose queue holds a message for bob@b.test."""
    done = mailtools("send", "--queue", "always", "--root", str(tmp_path), "--from", "alice@a.test",
                     "-s", "x", "bob@b.test", stdin=b"hello\n")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path


def log_of_a_run(root: Path, *options: str) -> list[str]:
    """What a queue run logs that is refused by its next hop."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        done = mailtools(*options, "queue", "run", "--once", "--root", str(root), "--route",
                         f"smtp://127.0.0.1:{nobody.getsockname()[1]}")  # fmt: skip
    assert done.returncode == 75
    return done.stderr.decode().splitlines()


def test_text(root: Path) -> None:
    lines = log_of_a_run(root, "-v")
    assert all(line.startswith("mailtools: ") for line in lines)
    assert any("<bob@b.test>" in line for line in lines)


def test_json(root: Path) -> None:
    lines = [json.loads(line) for line in log_of_a_run(root, "-v", "--log-format", "json")]
    assert any("<bob@b.test>" in line["message"] for line in lines)
    for line in lines:
        assert set(line) == {"time", "level", "message"}
        assert line["level"] in ("info", "warning")
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC


def test_quiet(root: Path) -> None:
    assert log_of_a_run(root, "-q") == []
