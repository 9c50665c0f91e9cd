"""A file whose content is seen anew whenever it changes: users, aliases.

Each look costs one stat (1.5 µs). A file that can no longer be read changes nothing: what was known stays.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from mailtools.core.errors import ConfigurationError

T = TypeVar("T")


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
        self._value: T
        self._load(self._identity())

    def value(self) -> T:
        """What the file holds now."""
        try:
            seen = self._identity()
            if seen != self._seen:
                self._load(seen)
        except ConfigurationError as error:
            if self._seen:
                self._seen = ()  # tell once, and look again
                self._warn(f"{error}; what was known before stays")
        return self._value

    def _identity(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise self._unreadable(error) from error
        return status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns

    def _load(self, seen: tuple[int, ...]) -> None:
        try:
            with open(self.path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                self._value, problems = self._parse(file.read().replace("\r\n", "\n"))
        except OSError as error:
            raise self._unreadable(error) from error
        self._seen = seen
        for problem in problems:
            self._warn(f"{self.path}: {problem}")

    def _unreadable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"{self.path}: {error.strerror}: the {self._what} cannot be read")
