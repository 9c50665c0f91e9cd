"""Add, change and delete users in a users file, and check their passwords."""

import os

from mailtools.core.auth import passwd
from mailtools.core.errors import BadDataError, ConfigurationError, UnknownRecipientError
from mailtools.system.files.atomic import edit
from mailtools.system.users import passwords
from mailtools.system.users.users_file import Users


class UserExistsError(BadDataError):
    """The user already exists."""


def check_name(name: str) -> str:
    """Return *name* in lower case, as the users file spells it. Raises BadDataError if it is not allowed."""
    if problem := passwd.problem_with_name(name):
        raise BadDataError(f"{name!r} cannot be a user's name: {problem}")
    return name.lower()


def check_new_name(path: str, name: str) -> None:
    """Check that *name* can be added to the users file at *path*. Raises BadDataError, UserExistsError."""
    name = check_name(name)
    if os.path.exists(path) and Users(path).find(name):
        raise _exists(name)


def _exists(name: str) -> UserExistsError:
    return UserExistsError(f"{name} is there already; change the password with: mailtools user passwd {name}")


def check_password(password: str) -> None:
    """Check that a client can send *password*. Raises BadDataError if none could."""
    if not password:
        raise BadDataError("an empty password: nobody could log in with it")
    if "\0" in password or len(password.encode(errors="surrogateescape")) > 1024:
        raise BadDataError("a password has at most 1024 octets and no NUL")
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise BadDataError("a password is text in UTF-8")


def add(path: str, name: str, password: str, scheme: str) -> None:
    """Add *name* to the users file at *path*, durably.

    Raises UserExistsError, BadDataError, CannotWriteError.
    """
    name = check_name(name)
    check_password(password)
    secret = passwords.make(scheme, password)

    def change(text: str) -> str:
        if name in passwd.parse(text)[0]:
            raise _exists(name)
        return passwd.with_entry(text, name, secret)

    edit(path, change)


def change_password(path: str, name: str, password: str, scheme: str) -> None:
    """Give *name* a new password. Raises UnknownRecipientError, BadDataError, CannotWriteError."""
    name = check_name(name)
    check_password(password)
    secret = passwords.make(scheme, password)

    def change(text: str) -> str:
        _require(text, name, path)
        return passwd.with_entry(text, name, secret)

    edit(path, change)


def delete(path: str, name: str) -> None:
    """Delete user *name*; the mailboxes stay. Raises UnknownRecipientError, CannotWriteError."""
    name = name.lower()

    def change(text: str) -> str:
        _require(text, name, path)
        return passwd.without_entry(text, name)

    edit(path, change)


def is_right(path: str, name: str, password: str) -> bool:
    """Tell whether *password* is the password of *name*. Raises UnknownRecipientError, ConfigurationError."""
    entry = Users(path).find(name)
    if entry is None:
        raise UnknownRecipientError(f"{name}: no such user in {path}")
    if not entry.scheme:
        raise ConfigurationError(
            f"{name} has no password that can be checked; set one with: mailtools user passwd {name}"
        )
    return passwords.check(entry, password)


def _require(text: str, name: str, path: str) -> None:
    if name not in passwd.parse(text)[0]:
        raise UnknownRecipientError(f"{name}: no such user in {path}")
