"""The users file: names, whatever else stands on their lines."""

from pathlib import Path

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.system.users import read_names


def test_names_are_read_in_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(
        b"# bob:\n\n  # x\nann:{PLAIN}a:b:c\nBob:\n carol \nd.e+f:{SHA}x\n\xc3\x9c:x\nb\xffd:x\r\nlast:x"
    )
    assert read_names(str(path)) == {"ann", "bob", "carol", "d.e+f", "ü", "b\udcffd", "last"}


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="users file"):
            read_names(str(path))


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "users").write_text("bob:\n")
    assert read_names("~/users") == {"bob"}
