"""Who has a mailbox here: the names in a passwd-file (``name:...`` lines, as Dovecot reads them)."""

import os

from mailtools.core.errors import ConfigurationError


def read_names(path: str) -> frozenset[str]:
    """The names in the users file at *path*, in lower case. Raises ConfigurationError."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: the users file cannot be read") from error
    return frozenset(line.split(":", 1)[0].lower() for line in lines if line and not line.startswith("#"))
