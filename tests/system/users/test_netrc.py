"""system/users/netrc: entries as curl, ftp and msmtp write them; files that others can read."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailtools.core.errors import PolicyError
from mailtools.system.users.netrc import password

TEXT = r"""
# my accounts
machine mail.example login alice password one # not part of it
machine mail.example
    login bob
    password "two words \"quoted\""
macdef init
machine evil.example login alice password wrong

machine OTHER.example login carol account x password three
default login anybody password four
"""


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("machine", "login", "expected"),
    [
        ("mail.example", "alice", "one"),
        ("mail.example", "bob", 'two words "quoted"'),
        ("Mail.Example", "bob", 'two words "quoted"'),
        ("other.example", "carol", "three"),
        ("evil.example", "alice", None),
        ("mail.example", "dave", None),
        ("elsewhere", "anybody", "four"),
    ],
)
def test_entries(tmp_path: Path, machine: str, login: str, expected: str | None) -> None:
    assert password(machine, login, write(tmp_path / "netrc", TEXT)) == expected


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="chmod 600"):
        password("mail.example", "alice", write(tmp_path / "netrc", TEXT, 0o640))


def test_no_file(tmp_path: Path) -> None:
    assert password("mail.example", "alice", str(tmp_path / "none")) is None
    assert password("mail.example", "alice", str(tmp_path)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text(alphabet='machine login pasword default mcdef"\\#\n x', max_size=200))
def test_any_text_has_an_end(tmp_path: Path, text: str) -> None:
    password("x", "x", write(tmp_path / "netrc", text))
