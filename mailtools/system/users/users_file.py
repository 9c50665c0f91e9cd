"""The users file: who has mail here and how they prove who they are; seen anew whenever it changes.

An added user is there at once and a deleted one is gone (system/files/watched).
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from mailtools.core.auth import passwd
from mailtools.core.auth.passwd import UserEntry
from mailtools.core.auth.scram import ITERATIONS, Keys, derive_keys
from mailtools.system.files.watched import Watched

_SALT = 16  # octets
_NOBODY = UserEntry("", "", "")


class _Table(NamedTuple):
    """What one reading of the file gave; all that a session asks for, found once."""

    by_name: dict[str, UserEntry]
    with_password: list[UserEntry]
    have_scram: bool
    have_plain: bool


def _parse(text: str) -> tuple[_Table, list[str]]:
    entries, problems = passwd.parse(text)
    with_password = [entry for entry in entries.values() if entry.scheme]
    have_scram = any(entry.scheme in ("PLAIN", "SCRAM-SHA-256") for entry in with_password)
    have_plain = any(entry.scheme == "PLAIN" for entry in with_password)
    return _Table(entries, with_password, have_scram, have_plain), problems


class Users:
    """The users of one file. *warn* is told of lines that are passed over."""

    def __init__(self, path: str, warn: Callable[[str], None] = lambda _: None) -> None:
        """Raises ConfigurationError where the file cannot be read."""
        self._file = Watched(path, "users file", _parse, warn)
        self._key = _lasting_key(self._file.path)

    def by_name(self) -> Mapping[str, UserEntry]:
        """All users, in the file's order, by their names in lower case."""
        return self._file.value().by_name

    def find(self, name: str) -> UserEntry | None:
        """The user *name*, in any case."""
        return self.by_name().get(name.lower())

    def decoy(self, name: str) -> UserEntry:
        """Whom to check a password against where there is no *name*: always the same user for the same name,
        so that unknown names take the times that known ones take, whatever schemes are in use."""
        entries = self._file.value().with_password
        if not entries:
            return _NOBODY
        return entries[int.from_bytes(self._digest("decoy", name)[:8], "big") % len(entries)]

    @property
    def have_passwords(self) -> bool:
        """True where somebody can log in."""
        return bool(self._file.value().with_password)

    @property
    def have_scram(self) -> bool:
        """True where somebody can log in without sending the password."""
        return self._file.value().have_scram

    @property
    def have_plain(self) -> bool:
        """True where a password stands in the clear, as APOP needs it."""
        return self._file.value().have_plain

    @property
    def is_unsettled(self) -> bool:
        """True where the file is being written, so that who is not in it may be in it soon."""
        return self._file.is_unsettled

    def scram_keys(self, name: str) -> Keys:
        """*name*'s SCRAM keys; who has none, or does not exist, gets some that no password fits, and that
        look the same at every try (RFC 5802 §9)."""
        entry = self.find(name)
        known = entry or self.decoy(name)
        keys = passwd.scram_keys(known)
        if keys is None:
            salt = self._digest("salt", name)[:_SALT]
            if known.scheme == "PLAIN":
                keys = derive_keys(known.secret, salt, ITERATIONS)
                if entry is not None:
                    return keys
            return Keys(salt, ITERATIONS, os.urandom(32), os.urandom(32))
        if entry is not None:
            return keys
        salt = self._digest("salt", name)[: len(keys.salt)]
        return Keys(salt, keys.iterations, os.urandom(32), os.urandom(32))

    def _digest(self, purpose: str, name: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{name.lower()}".encode(errors="surrogateescape"), "sha256")


def _lasting_key(path: str) -> bytes:
    """A key that strangers cannot know and that stays the same when we start again."""
    machine = b""
    with suppress(OSError), open("/etc/machine-id", "rb") as file:
        machine = file.read().strip()
    return hashlib.sha256((machine or os.urandom(16)) + os.fsencode(os.path.realpath(path))).digest()
