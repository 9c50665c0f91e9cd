"""Paths that begin with ``~``: a home directory."""

import os

from mailtools.core.errors import ConfigurationError


def expand(path: str) -> str:
    """Return *path* with ``~`` or ``~user`` replaced by the home directory.

    Raises ConfigurationError if there is none: a folder named "~" in the current directory is never meant.
    """
    if not path.startswith("~"):
        return path
    found = os.path.expanduser(path)
    name = path.partition("/")[0]
    if found.startswith("/") and (name != "~" or os.environ.get("HOME") != ""):
        return found
    if name == "~":
        why = f"no home directory: HOME is not set to an absolute path, or user {os.getuid()} has none"
    else:
        why = f"no home directory of user {name[1:]}"
    raise ConfigurationError(f"{path}: {why}; set HOME, or give a path without ~")


def find(path: str) -> str:
    """Return *path* expanded, or "" if there is no home directory: for files that need not exist."""
    try:
        return expand(path)
    except ConfigurationError:
        return ""


def owner_of(root: str) -> str:
    """Return the only user of the mail root *root*; "" if it is common to several.

    A root that begins with ``~`` is the caller's own, also of a caller who has another name in LOGNAME.
    """
    if not root.startswith("~"):
        return ""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name.lower()
    except KeyError:  # a uid without a name, as in containers
        return login_name().lower()


def login_name() -> str:
    """Return the name of the user who runs this program. Raises ConfigurationError if there is none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        text = f"user {os.getuid()} has no name here; give --user, or set LOGNAME"
        raise ConfigurationError(text) from None
