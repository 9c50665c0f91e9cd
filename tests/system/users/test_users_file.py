"""The users file: seen anew when it changes; answers for unknown names that tell nothing."""

import os
from pathlib import Path

import pytest

from mailtools.core.auth.scram import ITERATIONS
from mailtools.core.errors import ConfigurationError
from mailtools.system.users.users_file import Users

SCRAM = (
    "{SCRAM-SHA-256}4096,UuVl+sGoSmM46F9MzZ1ftA==,G16bnpvG3u3o+WuZZJMU4CV8HD/s2xy6mvXtKNCSlds=,"
    "Q3mNu59FdbiM7mM7T0a9TuaFnRuNM9V1z3bQ4MZE9VY="
)


def written(path: Path, text: str) -> None:
    """Another content, whatever the clock's grain."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before, before + 1))


def test_names_are_read_in_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(
        b"# bob:\n\n  # x\nann:{PLAIN}a:b:c\nBob:\n carol \nd.e+f:{SHA}x\n\xc3\x9c:x\nb\xffd:x\r\nlast:x"
    )
    warnings: list[str] = []
    users = Users(str(path), warnings.append)
    assert list(users.by_name()) == ["ann", "bob", "carol", "d.e+f", "ü", "last"]
    assert len(warnings) == 1
    assert "line 9" in warnings[0]
    entry = users.find("ANN")
    assert entry is not None
    assert (entry.scheme, entry.secret) == ("PLAIN", "a")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="users file"):
            Users(str(path))


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "users").write_text("bob:\n")
    assert Users("~/users").find("bob")


def test_a_change_is_seen_at_once_and_a_loss_told_once(tmp_path: Path) -> None:
    path = tmp_path / "users"
    written(path, "bob:\n")
    warnings: list[str] = []
    users = Users(str(path), warnings.append)
    assert not users.find("ann")
    written(path, "bob:\nann:{PLAIN}x\n")
    assert users.find("ann")
    assert users.have_passwords
    path.unlink()
    assert users.find("ann")
    assert users.find("bob")
    assert len(warnings) == 1
    assert "stays" in warnings[0]
    written(path, "carol:\n")
    assert not users.find("ann")
    assert users.find("carol")


def test_who_has_no_scram_keys_gets_some_that_stay_and_fit_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"bob:{SCRAM}\nann:{{PLAIN}}secret\ncarol:{{ARGON2ID}}$argon2id$x\n")
    users, again = Users(str(path)), Users(str(path))
    assert users.have_scram
    for name in ("eve", "carol", "mallory", "x" * 300):
        first, second = users.scram_keys(name), again.scram_keys(name)
        assert (first.salt, first.iterations) == (second.salt, second.iterations)
        assert len(first.salt) == 16
        assert first.iterations == ITERATIONS
        assert first.stored_key != second.stored_key
    assert users.scram_keys("bob") == again.scram_keys("BOB")
    assert users.scram_keys("ann") == again.scram_keys("ann")
    assert users.scram_keys("eve").salt != users.scram_keys("mallory").salt


def test_unknown_names_are_checked_against_users_whose_schemes_are_in_use(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("bob:{PLAIN}x\nann:{SSHA512}y\nnobody:\n")
    users = Users(str(path))
    assert {users.decoy(f"name{n}").name for n in range(50)} == {"bob", "ann"}
    assert users.decoy("eve") == users.decoy("EVE")
    path.write_text("")
    users = Users(str(path))
    assert users.decoy("eve").scheme == ""
    assert not users.have_passwords
