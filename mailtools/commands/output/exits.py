"""Maps exceptions to the exit codes of sysexits.h."""

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

# The first class that matches decides, so subclasses come before their bases.
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
    """Return the exit code of *error*; None if it is a bug."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if isinstance(error, OSError):
        return CANNOT_CREATE if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else IO_ERROR
    return None


def sentence_for(error: BaseException) -> str:
    """Return a line for people about *error*."""
    if isinstance(error, OSError) and error.strerror:
        subject = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{subject}{error.strerror}"
    return str(error) or type(error).__name__


def worst(codes: list[int]) -> int:
    """Return the exit code where several apply: 75 if it is among them, else the first that is not 0.

    75 wins because another attempt may help.
    """
    return TEMP_FAIL if TEMP_FAIL in codes else next((code for code in codes if code), OK)
