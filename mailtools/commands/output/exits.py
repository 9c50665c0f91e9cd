"""Exceptions to exit codes (sysexits.h)."""

import errno
import os

from mailtools.core import errors

OK = 0
NOTHING = 1
USAGE = 64
DATA = 65
NO_INPUT = 66
NO_USER = 67
NO_HOST = 68
UNAVAILABLE = 69
SOFTWARE = 70
OS_ERROR = 71
CANNOT_CREATE = 73
IO_ERROR = 74
TEMP_FAIL = 75
PROTOCOL = 76
NO_PERMISSION = 77
CONFIG = 78
INTERRUPTED = 130

# The first class that fits decides: subclasses stand before their bases.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.BadDataError, DATA),
    (errors.MissingInputError, NO_INPUT),
    (errors.UnknownRecipientError, NO_USER),
    (errors.UnknownHostError, NO_HOST),
    (errors.RefusedError, UNAVAILABLE),
    (errors.CannotWriteError, CANNOT_CREATE),
    (errors.TemporaryError, TEMP_FAIL),
    (errors.ProtocolError, PROTOCOL),
    (errors.PolicyError, NO_PERMISSION),
    (errors.ConfigurationError, CONFIG),
    (TimeoutError, TEMP_FAIL),
    (FileNotFoundError, NO_INPUT),
    (PermissionError, OS_ERROR),
    (EOFError, IO_ERROR),
)


def code_for(error: BaseException) -> int | None:
    """The exit code of *error*; None where it is a bug."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if isinstance(error, OSError):
        return CANNOT_CREATE if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else IO_ERROR
    return None


def sentence_for(error: BaseException) -> str:
    """What to tell a person about *error*, in one line."""
    if isinstance(error, OSError) and error.strerror:
        subject = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{subject}{error.strerror}"
    return str(error) or type(error).__name__


def worst(codes: list[int]) -> int:
    """The exit code where several apply: 75 wins, for trying again may help; else the first that is not 0."""
    return TEMP_FAIL if TEMP_FAIL in codes else next((code for code in codes if code), OK)
