"""A file whose content is seen anew whenever it changes: users, aliases.

A file that can no longer be read changes nothing: what was known stays.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from mailtools.core.errors import ConfigurationError

T = TypeVar("T")
_SETTLES = 2.0  # seconds, for a file that is written in place
# A look is a stat. A busy server would look 10,000 times a second, for 5 of its 90 µs a message: it looks so
# many times in a while of so many seconds, and no more.
_LOOKS, _WHILE = 8, 0.01
_TOLD = 10  # problems of one reading


class Watched(Generic[T]):
    """The file at *path*, parsed to a value and problems, of which *warn* is told; *what* names its kind."""

    def __init__(
        self,
        path: str,
        what: str,
        parse: Callable[[str], tuple[T, list[str]]],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Raises ConfigurationError where it cannot be read."""
        self.path = os.path.expanduser(path)
        self._what = what
        self._parse = parse
        self._warn = warn
        self._seen: tuple[int, ...] = ()
        self._in_place = False
        self._changed = 0.0
        self._looked = 0.0
        self._looks = 0
        self._value: T
        self._load(self._identity())

    def value(self) -> T:
        """What the file holds now."""
        now = time.monotonic()
        if now - self._looked > _WHILE:
            self._looked, self._looks = now, 0
        self._looks += 1
        if self._looks > _LOOKS:
            return self._value
        try:
            seen = self._identity()
            if seen != self._seen:
                self._load(seen)
        except ConfigurationError as error:
            if self._seen:
                self._seen = ()  # tell once, and look again
                self._warn(f"{error}; what was known before stays")
        return self._value

    @property
    def is_unsettled(self) -> bool:
        """True where it was changed in place a moment ago: what is not in it may be on its way into it."""
        return self._in_place and time.time() - self._changed < _SETTLES

    def _identity(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise self._unreadable(error) from error
        return status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns

    def _load(self, seen: tuple[int, ...]) -> None:
        try:
            text = read_text(self.path)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._value, problems = self._parse(text)
        except Exception as error:  # whatever a parser stumbles over: those who are known can still be served
            raise ConfigurationError(f"{self.path}: {type(error).__name__}: {error}") from error
        self._in_place = bool(self._seen) and self._seen[0] == seen[0]
        self._changed = seen[1] / 1e9
        self._seen = seen
        for problem in problems[:_TOLD]:
            self._warn(f"{self.path}: {problem}")
        if len(problems) > _TOLD:
            self._warn(f"{self.path}: and {len(problems) - _TOLD} more lines are passed over")

    def _unreadable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"{self.path}: {error.strerror}: the {self._what} cannot be read")


def read_text(path: str, limit: int = 1 << 30) -> str:
    """A regular file's text, LF; octets that are no UTF-8 as surrogates. Raises OSError.

    Anything else, a pipe above all, is an error and never waited for; so is a file of more than *limit*
    octets.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        octets = file.read(limit + 1)
    if len(octets) > limit:
        raise OSError(errno.EFBIG, f"Larger than {limit} octets")
    return octets.decode(errors="surrogateescape").replace("\r\n", "\n")
