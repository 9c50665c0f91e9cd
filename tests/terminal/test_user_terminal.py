"""`mailtools user` on a terminal: the password is asked for twice and never shown."""

import os
import sys
from pathlib import Path

import pexpect


def ask(tmp_path: Path, *args: str) -> "pexpect.spawn[str]":
    return pexpect.spawn(
        sys.executable, ["-m", "mailtools", "user", *args, "--root", str(tmp_path)],
        env=os.environ | {"TERM": "dumb"}, encoding="utf-8", timeout=30,
    )  # fmt: skip


def test_a_new_password_is_asked_for_twice(tmp_path: Path) -> None:
    child = ask(tmp_path, "add", "bob")
    child.expect("Password: ")
    child.sendline("secret")
    child.expect("Repeat for confirmation: ")
    child.sendline("another")
    child.expect("do not match")
    child.expect("Password: ")
    child.sendline("secret")
    child.expect("Repeat for confirmation: ")
    child.sendline("secret")
    rest = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "secret" not in rest
    child = ask(tmp_path, "check", "bob")
    child.expect("Password: ")
    child.sendline("secret")
    assert "secret" not in child.read()
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_changes_nothing(tmp_path: Path) -> None:
    child = ask(tmp_path, "add", "bob")
    child.expect("Password: ")
    child.sendintr()
    child.read()
    child.close()
    assert child.exitstatus == 130
    assert not (tmp_path / "users").exists()


def test_the_list_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("bob:{PLAIN}x\n\x1b[2J:{PLAIN}x\nann:\n")
    child = ask(tmp_path, "list")
    lines = child.read().splitlines()
    child.close()
    assert lines[0].split() == ["name", "scheme"]
    assert [line.split() for line in lines[1:] if "stands" not in line and "line" not in line] == [
        ["bob", "PLAIN"],
        ["ann"],
    ]
