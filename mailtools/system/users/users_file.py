"""The users file: the local users and their passwords; reloaded whenever it changes (system/files/watched).

So an added user can log in at once, and a deleted one no longer.
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
    """The content of the file, with the answers that each session needs computed once per load."""

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
    """The users of one file. *warn* gets a sentence for each ignored line."""

    def __init__(self, path: str, warn: Callable[[str], None] = lambda _: None) -> None:
        """Load the file. Raises ConfigurationError if it cannot be read."""
        self._file = Watched(path, "users file", _parse, warn)
        self._key = _lasting_key(self._file.path)

    def by_name(self) -> Mapping[str, UserEntry]:
        """All users, in the file's order, by their names in lower case."""
        return self._file.value().by_name

    def find(self, name: str) -> UserEntry | None:
        """The user *name*, compared without regard to case; None if there is none."""
        return self.by_name().get(name.lower())

    def decoy(self, name: str) -> UserEntry:
        """The user whose hash to check if *name* is unknown; always the same user for the same name.

        So a login with an unknown name takes as long as one with a known name, in any scheme.
        """
        entries = self._file.value().with_password
        if not entries:
            return _NOBODY
        return entries[int.from_bytes(self._digest("decoy", name)[:8], "big") % len(entries)]

    @property
    def have_passwords(self) -> bool:
        """True if at least one user has a password."""
        return bool(self._file.value().with_password)

    @property
    def have_scram(self) -> bool:
        """True if at least one user can log in by SCRAM, which does not send the password."""
        return self._file.value().have_scram

    @property
    def have_plain(self) -> bool:
        """True if at least one password is stored in the clear, as APOP needs it."""
        return self._file.value().have_plain

    @property
    def is_unsettled(self) -> bool:
        """True if the file may still be being written, so that a missing user may appear soon."""
        return self._file.is_unsettled

    def scram_keys(self, name: str) -> Keys:
        """The SCRAM keys of *name*.

        A user without keys, or an unknown name, gets keys that match no password, with the same salt at every
        attempt, so that a client cannot find out which names exist (RFC 5802 §9).
        """
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
    """A key derived from the machine id and *path*: secret to clients and the same after a restart."""
    machine = b""
    with suppress(OSError), open("/etc/machine-id", "rb") as file:
        machine = file.read().strip()
    return hashlib.sha256((machine or os.urandom(16)) + os.fsencode(os.path.realpath(path))).digest()
