"""fetch on a terminal: a bar and a line at the end; the password without echo; Ctrl-C; silence in a pipe."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from tests.boxes import number
from tests.scripted import ScriptedPop3

ENV = {**os.environ, "HOME": "/nonexistent", "NETRC": "/nonexistent", "TERM": "dumb"}


def spawn(server: ScriptedPop3, to: Path, *options: str, **env: str) -> "pexpect.spawn[str]":
    where = [
        "fetch",
        "--pop3",
        "--host",
        "127.0.0.1",
        "--port",
        str(server.port),
        "--user",
        "bob",
        "--to",
        str(to),
    ]
    return pexpect.spawn(
        sys.executable, ["-m", "mailtools", *where, *options], env=ENV | env, encoding="utf-8", timeout=20
    )


def test_a_bar_and_a_line(tmp_path: Path) -> None:
    with ScriptedPop3([number(n) for n in range(5)]) as server:
        child = spawn(server, tmp_path / "box")
        child.expect("Password of bob at 127.0.0.1: ")
        child.sendline("secret")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert "fetching" in child.before
        assert "100%" in child.before
        assert "5 messages, 0.8 KiB" in child.before or "5 messages, " in child.before
        assert "secret" not in child.before
        child = spawn(server, tmp_path / "box", "--delete", MAILTOOLS_FETCH_PASSWORD="secret")
        child.expect("0 messages, 0 octets; 5 deleted on the server")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 1
        child = spawn(server, tmp_path / "box", MAILTOOLS_FETCH_PASSWORD="secret")
        child.expect("no new mail")
        child.expect(pexpect.EOF)


@pytest.mark.parametrize("at", ["", "RETR"])
def test_ctrl_c_while_a_server_is_silent(tmp_path: Path, at: str) -> None:
    with ScriptedPop3([number(0)], {at: b""}) as server:
        child = spawn(server, tmp_path / "box", MAILTOOLS_FETCH_PASSWORD="secret")
        if at:
            child.expect("fetching")
        else:
            while not server.connections:
                assert child.isalive()
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130
        assert "Traceback" not in child.before


def test_what_a_server_says_drives_no_terminal(tmp_path: Path) -> None:
    with ScriptedPop3([number(0)], {"PASS": b"-ERR \x1b]0;owned\x07 no\r\n"}) as server:
        child = spawn(server, tmp_path / "box", MAILTOOLS_FETCH_PASSWORD="secret")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 77
        assert "\x1b" not in child.before
