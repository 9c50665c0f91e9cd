"""Reads passwords from ~/.netrc, the format of ftp(1) that curl and msmtp read too.

Owns the file's form: ``machine NAME login USER password SECRET``, ``default``, macros (skipped), quotes and
comments. A file that other users may access is refused: its passwords are not secret.
"""

import os
import re
import stat
from collections.abc import Iterator

from mailtools.core.errors import PolicyError
from mailtools.system.files.home import find

_LARGEST = 1 << 20  # octets
_TOKEN = re.compile(r'[ \t\r\n]*(?:(#[^\n]*)|"((?:[^"\\\n]|\\.)*)"|([^\s"#][^\s]*))')
_MACRO = re.compile(r"(?:[^\n]*\n)*?[ \t]*(?:\n|\Z)")


def password(machine: str, login: str, path: str = "") -> str | None:
    """The password of *login* at *machine*; None without a file or a matching entry.

    *path*: default $NETRC, else ~/.netrc. Raises PolicyError if the file is open to group or others.
    """
    path = path or os.environ.get("NETRC") or find("~/.netrc")
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(_LARGEST)
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        return None
    if mode & 0o077:
        raise PolicyError(f"{path}: others can read it; say chmod 600 {path}")
    for entry in _entries(octets.decode("utf-8", "surrogateescape")):
        if entry.get("machine") in (None, machine.lower()) and entry.get("login", login) == login:
            return entry.get("password")
    return None


def _entries(text: str) -> Iterator[dict[str, str]]:
    """The tokens of each entry by keyword; the entry ``default`` has no machine."""
    entry: dict[str, str] = {}
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        if match[1] is not None:
            continue
        word = _value(match)
        if word == "macdef":
            macro = _MACRO.match(text, at)
            at = macro.end() if macro else len(text)
        elif word == "default":
            if entry:
                yield entry
            entry = {"default": ""}
        elif word in ("machine", "login", "password", "account"):
            found = _TOKEN.match(text, at)
            if found is None or found[1] is not None:
                break
            at = found.end()
            if word == "machine":
                if entry:
                    yield entry
                entry = {"machine": _value(found).lower()}
            else:
                entry[word] = _value(found)
    if entry:
        yield entry


def _value(match: re.Match[str]) -> str:
    return match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
