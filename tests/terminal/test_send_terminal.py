"""send on a terminal: the password is asked for without echo; results are a table; Ctrl-C ends in order."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from tests.servers import Server
from tests.sinks import Sink, but

ENV = {**os.environ, "HOME": "/nonexistent", "NETRC": "/nonexistent", "TERM": "dumb"}
MESSAGE = "From: alice@a.test\nTo: bob@here.test\nSubject: x\n\nhello\n"


def spawn(folder: Path, *args: str) -> "pexpect.spawn[str]":
    """The command on a terminal, with the message on stdin."""
    (folder / "msg.eml").write_text(MESSAGE)
    words = " ".join(args)
    line = f"{sys.executable} -m mailtools send {words} < {folder / 'msg.eml'}"
    return pexpect.spawn("/bin/sh", ["-c", line], env=ENV, encoding="utf-8", timeout=20)


@pytest.fixture
def server(tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "users").write_text("alice:{PLAIN}secret\nbob:{PLAIN}x\n")
    with Server(root, "--domain", "here.test") as running:
        yield running


def test_the_password_is_asked_for_and_not_shown(tmp_path: Path, server: Server) -> None:
    child = spawn(tmp_path, "--host", "127.0.0.1", "--port", str(server.port), "--user", "alice")
    child.expect("Password of alice at 127.0.0.1: ")
    child.sendline("secret")
    child.expect(pexpect.EOF)
    shown = child.before
    child.close()
    assert child.exitstatus == 0, shown
    assert "secret" not in shown
    assert "status" in shown  # a table with its headline
    assert "bob@here.test" in shown


def test_a_wrong_password_is_told(tmp_path: Path, server: Server) -> None:
    child = spawn(tmp_path, "--host", "127.0.0.1", "--port", str(server.port), "--user", "alice")
    child.expect("Password of alice")
    child.sendline("wrong")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 77


def test_ctrl_c_at_the_prompt_and_while_a_server_is_silent(tmp_path: Path, server: Server) -> None:
    child = spawn(tmp_path, "--host", "127.0.0.1", "--port", str(server.port), "--user", "alice")
    child.expect("Password of alice")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 or child.signalstatus == 2
    with Sink(but(EHLO=b"")) as sink:
        child = spawn(tmp_path, "--route", sink.route)
        while not sink.lines:
            assert child.isalive()
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130 or child.signalstatus == 2
        assert "Traceback" not in child.before
