"""`mailtools user`: the users file from the command line."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import mailtools


def user(root: Path, *args: str, stdin: bytes = b"secret\n") -> tuple[int, str, str]:
    done = mailtools("user", *args, "--root", str(root), stdin=stdin)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_from_the_first_to_the_last(tmp_path: Path) -> None:
    root = tmp_path / "Mail"
    assert user(root, "list") == (1, "", "")
    assert user(root, "add", "Bob") == (0, "", "")
    assert user(root, "add", "ann", "--scheme", "scram-sha-256") == (0, "", "")
    assert user(root, "list")[1] == "bob\tARGON2ID\nann\tSCRAM-SHA-256\n"
    assert [json.loads(line) for line in user(root, "list", "--json")[1].splitlines()] == [
        {"name": "bob", "scheme": "ARGON2ID"}, {"name": "ann", "scheme": "SCRAM-SHA-256"},
    ]  # fmt: skip
    for name in ("bob", "BOB", "ann"):
        assert user(root, "check", name)[0] == 0
        assert user(root, "check", name, stdin=b"wrong\n") == (77, "", "mailtools: wrong password\n")
    assert user(root, "passwd", "bob", stdin="ünd\r\n".encode())[0] == 0
    assert user(root, "check", "bob", stdin="ünd\n".encode())[0] == 0
    assert user(root, "check", "bob")[0] == 77
    assert user(root, "delete", "Bob") == (0, "", "")
    assert user(root, "list")[1] == "ann\tSCRAM-SHA-256\n"
    assert stat.S_IMODE((root / "users").stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("# by hand\nbob:{PLAIN}old:1000:1000::/home/bob\nann:x\n")
    users.chmod(0o640)
    assert mailtools("user", "passwd", "bob", "--users", str(users), stdin=b"new\n").returncode == 0
    lines = users.read_text().split("\n")
    assert lines[0] == "# by hand"
    assert lines[1].startswith("bob:{ARGON2ID}$argon2id$")
    assert lines[1].endswith(":1000:1000::/home/bob")
    assert lines[2:] == ["ann:x", ""]
    assert stat.S_IMODE(users.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("args", "stdin", "code", "says"),
    [
        (("add", "bob"), b"x\n", 65, "mailtools user passwd bob"),
        (("add", "a b"), b"x\n", 65, "name"),
        (("add", "a:b"), b"x\n", 65, "name"),
        (("add", "new"), b"\n", 65, "empty password"),
        (("add", "new"), b"a\0b\n", 65, "NUL"),
        (("add", "new"), b"\xff\n", 65, "UTF-8"),
        (("add", "new"), b"", 66, "--password-command"),
        (("add", "new", "--password-file", "/none"), b"", 66, "No such file"),
        (("add", "new", "--password-command", "exit 3"), b"", 77, "failed with 3"),
        (("add", "new", "--scheme", "md5"), b"x\n", 64, "argon2id"),
        (("passwd", "eve"), b"x\n", 67, "no such user"),
        (("delete", "eve"), b"", 67, "no such user"),
        (("check", "eve"), b"x\n", 67, "no such user"),
        (("check", "ann"), b"x\n", 78, "mailtools user passwd ann"),
        (("add",), b"", 64, "NAME"),
        (("frob",), b"", 64, "No such command"),
    ],
)
def test_what_it_will_not_do(
    tmp_path: Path, args: tuple[str, ...], stdin: bytes, code: int, says: str
) -> None:
    (tmp_path / "users").write_text("bob:{PLAIN}x\nann:\n")
    found, out, err = user(tmp_path, *args, stdin=stdin)
    assert (found, out) == (code, "")
    assert says in err
    assert (tmp_path / "users").read_text() == "bob:{PLAIN}x\nann:\n"


def test_a_name_that_is_taken_is_told_before_the_password_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("bob:{PLAIN}x\n")
    assert user(tmp_path, "add", "bob", stdin=b"")[0] == 65


def test_where_passwords_come_from(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\nand more\n")
    source = ("--password-file", str(tmp_path / "secret"))
    assert user(tmp_path, "add", "bob", *source, stdin=b"")[0] == 0
    command = ("--password-command", "echo from a file; echo more")
    assert user(tmp_path, "check", "bob", *command, stdin=b"")[0] == 0


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    done = mailtools("user", "add", "bob", "--users", str(tmp_path / "none" / "users"), stdin=b"x\n")
    assert done.returncode == 73
    assert b"none" in done.stderr


def test_many_at_a_time_lose_nobody(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda name: user(tmp_path, "add", name)[0], names))
    assert codes == [0] * 8
    assert sorted(user(tmp_path, "list")[1].split()[::2]) == sorted(names)
