"""The lines of a passwd-file: ``name:{SCHEME}hash:uid:gid:gecos:home:shell:extra``, as Dovecot reads them.

Parses and edits the text, and checks passwords of the schemes that the standard library supports
(system/users/passwords.py supports the others). Knows no file. Owns the form of Dovecot's passwd-file and
of its SCRAM entries.

Invariants: an edit changes nothing but the entry that it names. Comparing secrets takes the same time
wherever they differ.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import NamedTuple

from mailtools.core.auth.scram import Keys, derive_keys

SCHEMES = ("ARGON2ID", "SCRAM-SHA-256", "SHA512-CRYPT", "BLF-CRYPT", "SSHA512", "PLAIN")

_SCHEME = re.compile(r"\{([A-Za-z0-9-]{1,32})(?:\.(B64|BASE64|HEX))?\}(.*)", re.IGNORECASE | re.DOTALL)
# A hash without {SCHEME} has its own prefix, see crypt(5).
_MARKS = {"$argon2": "ARGON2ID", "$6$": "SHA512-CRYPT", "$2": "BLF-CRYPT"}
_SAME = {"CLEARTEXT": "PLAIN", "CLEAR": "PLAIN", "ARGON2I": "ARGON2ID"}
_SHA512_SIZE = 64  # octets
_ITERATIONS = re.compile("[1-9][0-9]{0,5}")  # a million would take half a second for each login
_NOT_IN_NAME = re.compile("[\x00-\x20:\x7f-\x9f\u2028\u2029\ud800-\udfff]|^#|^$")
_LONGEST_NAME = 200  # octets


class UserEntry(NamedTuple):
    """One user: name in lower case, scheme ("" if it is none of SCHEMES), and what follows the scheme."""

    name: str
    scheme: str
    secret: str


def apop_digest(entry: UserEntry, banner: str) -> str:
    """Return the digest of APOP (RFC 1939 §7), which needs the password in the clear."""
    octets = (banner + entry.secret).encode(errors="surrogateescape")
    return hashlib.md5(octets, usedforsecurity=False).hexdigest()


def problem_with_name(name: str) -> str:
    """Return why *name* cannot be in a users file, or ""."""
    if _NOT_IN_NAME.search(name):
        return "a name is not empty, has no spaces, colons or control characters, and no # at its begin"
    return f"a name has at most {_LONGEST_NAME} octets" if len(name.encode()) > _LONGEST_NAME else ""


def parse(text: str) -> tuple[dict[str, UserEntry], list[str]]:
    """Return the users by name, and the faults of lines that are ignored. The first line of a name counts."""
    users: dict[str, UserEntry] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        entry = _entry(stripped)
        if problem := problem_with_name(entry.name):
            problems.append(f"line {number}: {problem}")
        elif entry.name in users:
            problems.append(f"line {number}: {entry.name} is defined twice; the first definition counts")
        else:
            users[entry.name] = entry
    return users, problems


def _entry(line: str) -> UserEntry:
    name, _, rest = line.partition(":")
    name = name.lower()
    field = rest.partition(":")[0]
    match = _SCHEME.fullmatch(field)
    if match is not None and match[1].upper() == "CRYPT":
        field, match = match[3], None
    if match is None:
        scheme = next((scheme for mark, scheme in _MARKS.items() if field.startswith(mark)), "")
        return UserEntry(name, scheme, field)
    scheme, encoding, secret = match[1].upper(), (match[2] or "").upper(), match[3]
    scheme = _SAME.get(scheme, scheme)
    if encoding:
        try:
            secret = _decoded(scheme, encoding, secret)
        except ValueError:
            scheme = ""
    return UserEntry(name, scheme if scheme in SCHEMES and secret else "", secret)


def _decoded(scheme: str, encoding: str, secret: str) -> str:
    """Decode ``.HEX`` and ``.B64`` of a scheme: PLAIN to text, the others to base64. Raises ValueError."""
    octets = bytes.fromhex(secret) if encoding == "HEX" else base64.b64decode(secret, validate=True)
    if scheme == "PLAIN":
        return octets.decode(errors="surrogateescape")
    return base64.b64encode(octets).decode()


# -- editing -----------------------------------------------------------------------------------------------


def with_entry(text: str, name: str, secret: str) -> str:
    """Return *text* with the password field of *name* set to *secret* (with {SCHEME}).

    A new name is added at the end.
    """
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if _is_of(line, name):
            fields = line.split(":")
            lines[at] = ":".join([fields[0], secret, *fields[2:]])
            return "\n".join(lines)
    return (text if text.endswith("\n") or not text else text + "\n") + f"{name}:{secret}\n"


def without_entry(text: str, name: str) -> str:
    """Return *text* without the lines of *name*."""
    return "\n".join([line for line in text.split("\n") if not _is_of(line, name)])


def _is_of(line: str, name: str) -> bool:
    return not line.lstrip().startswith("#") and line.strip().partition(":")[0].lower() == name


# -- checking ----------------------------------------------------------------------------------------------


def matches(entry: UserEntry, password: str) -> bool:
    """Return True if *password* matches a PLAIN, SSHA512 or SCRAM-SHA-256 entry.

    A broken entry matches nothing.
    """
    if entry.scheme == "PLAIN":
        return hmac.compare_digest(entry.secret.encode(errors="surrogateescape"), password.encode())
    if entry.scheme == "SSHA512":
        return _matches_ssha512(entry.secret, password)
    keys = scram_keys(entry)
    if entry.scheme != "SCRAM-SHA-256" or keys is None:
        return False
    again = derive_keys(password, keys.salt, keys.iterations)
    return hmac.compare_digest(again.stored_key, keys.stored_key)


def _matches_ssha512(secret: str, password: str) -> bool:
    try:
        octets = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        return False
    digest, salt = octets[:_SHA512_SIZE], octets[_SHA512_SIZE:]
    return hmac.compare_digest(digest, hashlib.sha512(password.encode() + salt).digest())


def scram_keys(entry: UserEntry) -> Keys | None:
    """Return the keys of a SCRAM-SHA-256 entry (``iterations,salt,stored key,server key``), or None."""
    if entry.scheme != "SCRAM-SHA-256":
        return None
    try:
        iterations, *encoded = entry.secret.split(",")
        salt, stored, server = (base64.b64decode(part, validate=True) for part in encoded)
        if not (_ITERATIONS.fullmatch(iterations) and salt and len(stored) == len(server) == 32):
            return None
        return Keys(salt, int(iterations), stored, server)
    except (binascii.Error, ValueError):
        return None


def scram_secret(keys: Keys) -> str:
    """Return *keys* as the password field of an entry."""
    parts = (base64.b64encode(part).decode() for part in (keys.salt, keys.stored_key, keys.server_key))
    return "{SCRAM-SHA-256}" + ",".join([str(keys.iterations), *parts])
