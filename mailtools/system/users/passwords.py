"""Makes and checks password hashes with external libraries: slow on purpose, so never in an event loop.

The schemes that the standard library can check are in core/auth/passwd. All libraries used here release the
interpreter's lock while they work.
"""

import os
from contextlib import suppress

from mailtools.core.auth import passwd
from mailtools.core.auth.passwd import UserEntry
from mailtools.core.auth.scram import ITERATIONS, derive_keys
from mailtools.core.errors import ConfigurationError

WRITTEN = ("argon2id", "scram-sha-256")  # schemes that a new password can have
# OWASP's choice for ARGON2ID: 19 MiB, 2 passes, 1 lane; 22 ms.
_MEMORY, _PASSES, _LANES = 19 << 10, 2, 1
_SALT = 16  # octets
_BCRYPT_READS = 72  # octets of a password; bcrypt ignores the rest


def make(scheme: str, password: str) -> str:
    """Hash *password* for the users file: ``{SCHEME}hash``. *scheme*: one of WRITTEN."""
    if scheme == "scram-sha-256":
        return passwd.scram_secret(derive_keys(password, os.urandom(_SALT), ITERATIONS))
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY, parallelism=_LANES)
    return "{ARGON2ID}" + hasher.hash(password)


def check(entry: UserEntry, password: str) -> bool:
    """Tell whether *password* is the password of *entry*; a malformed hash matches nothing.

    Raises ConfigurationError if the library for its scheme is not installed.
    """
    if entry.scheme == "ARGON2ID":
        return _check_argon2(entry.secret, password)
    if entry.scheme in ("SHA512-CRYPT", "BLF-CRYPT"):
        try:
            return (_check_sha512 if entry.scheme == "SHA512-CRYPT" else _check_bcrypt)(
                entry.secret, password.encode()
            )
        except ImportError:
            raise ConfigurationError(
                f"{entry.name} has a {entry.scheme} password, which needs: pip install 'mailtools[hashes]'"
            ) from None
    return passwd.matches(entry, password)


def _check_argon2(secret: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import VerificationError

    with suppress(VerificationError, ValueError):
        return PasswordHasher().verify(secret, password)
    return False


def _check_sha512(secret: str, password: bytes) -> bool:
    from passlib.hash import sha512_crypt

    with suppress(ValueError, TypeError):
        return bool(sha512_crypt.verify(password, secret))
    return False


def _check_bcrypt(secret: str, password: bytes) -> bool:
    import bcrypt

    with suppress(ValueError):
        return bcrypt.checkpw(password[:_BCRYPT_READS], secret.encode())
    return False
