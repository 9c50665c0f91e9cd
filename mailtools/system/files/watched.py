"""A file that is reloaded whenever it changes: users, aliases.

If the file can no longer be read, the last content stays in use.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from mailtools.core.errors import ConfigurationError
from mailtools.system.files.home import expand

T = TypeVar("T")
_SETTLES = 2.0  # seconds after a change in place during which the file may be incomplete
# At most 8 stat calls per 10 ms: a busy server would make 10,000 a second, for 5 of its 90 µs a message.
_LOOKS, _WHILE = 8, 0.01
_TOLD = 10  # problems reported per load


class Watched(Generic[T]):
    """The value parsed from the file at *path*.

    *what* names the kind of file in errors; *parse* returns (value, problems); *warn* gets each problem.
    """

    def __init__(
        self,
        path: str,
        what: str,
        parse: Callable[[str], tuple[T, list[str]]],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Load the file. Raises ConfigurationError if it cannot be read or parsed."""
        self.path = expand(path)
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
        """The current value; reloads the file if it changed."""
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
                self._seen = ()  # warn once, and try again at the next call
                self._warn(f"{error}; its last content stays in use")
        return self._value

    @property
    def is_unsettled(self) -> bool:
        """True if the file was changed in place less than 2 s ago: a missing entry may still be written."""
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
        except Exception as error:  # a bug in a parser must not stop service to known users
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
    """The text of a regular file, LF; octets that are not UTF-8 become surrogates.

    Raises OSError, also for a file of more than *limit* octets, for anything but a regular file (a pipe is
    never waited for), and for one that others may write: it says where our mail goes.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        _check_writers(path, status)
        octets = file.read(limit + 1)
    if len(octets) > limit:
        raise OSError(errno.EFBIG, f"Larger than {limit} octets")
    return octets.decode(errors="surrogateescape").replace("\r\n", "\n")


def _check_writers(path: str, status: os.stat_result) -> None:
    """Raise OSError if somebody else than root and we may write the file, or put another in its place."""
    folder = os.stat(os.path.dirname(os.path.abspath(path)))
    if status.st_mode & stat.S_IWOTH or status.st_uid not in (0, os.geteuid()):
        raise OSError(errno.EPERM, "Other users may write it; give it to root or to yourself, and chmod o-w")
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise OSError(errno.EPERM, "Other users may replace it; chmod o-w its folder")
    if os.geteuid() == 0 and status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        raise OSError(errno.EPERM, "A group may write it, and this server runs as root; chmod g-w")
