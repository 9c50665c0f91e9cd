"""services/users/edit: users are added, changed and deleted, and the rest of the file stays as it is."""

from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, ConfigurationError, UnknownRecipientError
from mailtools.services.users import edit
from mailtools.services.users.edit import UserExistsError

SCHEME = "scram-sha-256"
BEFORE = "# our users\nann:{PLAIN}old:::: x\n\nnot a line\nno-password:\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text(BEFORE)
    return tmp_path / "users"


def test_a_user_is_added_and_can_log_in(users: Path) -> None:
    edit.add(str(users), "Bob", "secret", SCHEME)
    assert users.read_text().startswith(BEFORE)
    assert edit.is_right(str(users), "bob", "secret")
    assert not edit.is_right(str(users), "bob", "Secret")


def test_the_first_user_makes_the_file(tmp_path: Path) -> None:
    edit.add(str(tmp_path / "users"), "bob", "secret", SCHEME)
    assert edit.is_right(str(tmp_path / "users"), "bob", "secret")


def test_a_password_is_changed_and_all_other_lines_stay(users: Path) -> None:
    edit.change_password(str(users), "ANN", "new", SCHEME)
    assert edit.is_right(str(users), "ann", "new")
    changed, kept = users.read_text().splitlines(), BEFORE.splitlines()
    assert [new for new, old in zip(changed, kept, strict=True) if new != old] == [changed[1]]


def test_a_user_is_deleted_and_all_other_lines_stay(users: Path) -> None:
    edit.delete(str(users), "Ann")
    assert users.read_text() == BEFORE.replace("ann:{PLAIN}old:::: x\n", "")
    with pytest.raises(UnknownRecipientError):
        edit.is_right(str(users), "ann", "old")


def test_a_user_that_exists_is_not_added_again(users: Path) -> None:
    with pytest.raises(UserExistsError, match="mailtools user passwd ann"):
        edit.add(str(users), "Ann", "secret", SCHEME)
    with pytest.raises(UserExistsError):
        edit.check_new_name(str(users), "ANN")
    assert users.read_text() == BEFORE


def test_a_new_name_needs_no_file(users: Path, tmp_path: Path) -> None:
    edit.check_new_name(str(users), "bob")
    edit.check_new_name(str(tmp_path / "none"), "ann")


def test_who_does_not_exist_cannot_be_changed(users: Path) -> None:
    path = str(users)
    for act in (
        lambda: edit.change_password(path, "bob", "secret", SCHEME),
        lambda: edit.delete(path, "bob"),
        lambda: edit.is_right(path, "bob", "secret"),
    ):
        with pytest.raises(UnknownRecipientError, match="bob: no such user in "):
            act()
    assert users.read_text() == BEFORE


def test_a_user_without_a_password_cannot_be_checked(users: Path) -> None:
    with pytest.raises(ConfigurationError, match="mailtools user passwd no-password"):
        edit.is_right(str(users), "no-password", "")


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\n", "#a"])
def test_names_that_no_user_can_have(users: Path, name: str) -> None:
    for act in (edit.check_name, lambda name: edit.add(str(users), name, "secret", SCHEME)):
        with pytest.raises(BadDataError, match="cannot be a user's name"):
            act(name)
    assert users.read_text() == BEFORE


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("x" * 1025, "at most 1024 octets"),
        ("\u00fc" * 513, "at most 1024 octets"),
        ("\udcff", "UTF-8"),
    ],
)
def test_passwords_that_no_client_could_send(users: Path, password: str, words: str) -> None:
    for act in (edit.add, edit.change_password):
        with pytest.raises(BadDataError, match=words):
            act(str(users), "bob" if act is edit.add else "ann", password, SCHEME)
    assert users.read_text() == BEFORE


@pytest.mark.parametrize("password", ["x" * 1024, "\u00fc" * 512, " ", ":{PLAIN}"])
def test_passwords_that_a_client_can_send(users: Path, password: str) -> None:
    edit.add(str(users), "bob", password, "argon2id")
    assert edit.is_right(str(users), "bob", password)
