"""system/files/home: a home directory, or a clear error; never a folder named "~"."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.system.files import home


def nobody(number: int) -> object:
    raise KeyError(number)


def test_paths_without_a_tilde_stay() -> None:
    assert [home.expand(path) for path in ("", "a/~", "./~/x", "/x")] == ["", "a/~", "./~/x", "/x"]


def test_home_is_taken_from_the_environment_or_from_passwd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert home.expand("~/Mail") == "/home/ann/Mail"
    assert home.expand("~") == "/home/ann"
    monkeypatch.delenv("HOME")
    assert home.expand("~/Mail") == os.path.join(pwd.getpwuid(os.getuid()).pw_dir, "Mail")
    assert home.expand("~root/x") == os.path.join(pwd.getpwnam("root").pw_dir, "x")


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_without_a_home_there_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    if value is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", value)
    for path in ("~", "~/Mail"):
        with pytest.raises(ConfigurationError, match="no home directory"):
            home.expand(path)
        assert home.find(path) == ""
    with pytest.raises(ConfigurationError, match="of user no-such-user"):
        home.expand("~no-such-user/x")


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert home.login_name() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(ConfigurationError, match="has no name"):
        home.login_name()


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "--host", "127.0.0.1", "--port", "1", "bob@x.test"],
        ["sendmail", "bob"],
        ["sendmail", "-odq", "bob@x.test"],
        ["queue", "add", "bob@x.test"],
        ["queue", "list"],
        ["queue", "run", "--once"],
        ["user", "list"],
        ["serve-smtp", "--port", "0", "--total-timeout", "1"],
        ["serve-pop3", "--port", "0"],
        [
            "fetch",
            "--pop3",
            "--host",
            "127.0.0.1",
            "--port",
            "1",
            "--user",
            "bob",
            "--password-file",
            "/dev/null",
        ],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_no_command_makes_a_folder_named_tilde(tmp_path: Path, arguments: list[str]) -> None:
    """HOME unset and a uid without a passwd entry, as in a container."""
    program = (
        "import pwd, sys\n"
        "def nobody(number): raise KeyError(number)\n"
        "pwd.getpwuid = nobody\n"
        "from mailtools.cli import run\n"
        f"sys.argv = ['mailtools', *{arguments!r}]\n"
        "run()\n"
    )
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HOME", "MAILTOOLS_ROOT", "XDG"))
    }
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"To: bob@x.test\n\nhi\n", capture_output=True, check=False,
        cwd=tmp_path, env=kept, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert b"no home directory" in done.stderr
    assert list(tmp_path.iterdir()) == []
