"""What was fetched already: one file for each source, beside the mbox in ``.mailtools/``.

Lines of JSON, each written after the messages it tells of are synced: ``[mailbox, validity, seconds,
[names]]``. *validity* is IMAP's UIDVALIDITY, "" where there is none; names are UIDLs or UIDs. A fifth member
makes a line an intention: so would the mbox look when these messages are in it. One that no other line
follows is a kill's, and whoever knows the mbox can tell what became of it. While the file is open nobody else
of ours has it.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from mailtools.core.errors import CannotWriteError, TemporaryError
from mailtools.system import clock
from mailtools.system.files import atomic, lock
from mailtools.system.files.buffer import write_all
from mailtools.system.files.durable import STATE_FOLDER, sync_folder

_WORTH_IT = 1000  # names that are gone before the file is written anew

Box = tuple[str, str]  # mailbox, validity


class Intention(NamedTuple):
    """What was about to be stored."""

    box: Box
    names: list[str]
    mark: list[Any]  # what the sink knows it by


class Seen:
    """The file of one *source* for one *target* (an mbox, or a folder with a "/" at its end)."""

    def __init__(self, target: str, source: str) -> None:
        """Raises TemporaryError where another run has it, CannotWriteError."""
        folder, name = os.path.split(target)
        mark = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = os.path.join(folder, STATE_FOLDER, f"{name or 'all'}.fetch-{mark}")
        self._boxes: dict[Box, dict[str, int]] = {}
        self.intention: Intention | None = None  # of a run that was killed
        self._lock = -1
        self._file = -1
        try:
            os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(f"{self.path}.lock", flags, 0o600)
            if not lock.take(self._lock):
                self.close()
                raise TemporaryError(f"another fetch from {source} is under way")
            self._load(source)
        except OSError as error:
            self.close()
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error

    def _load(self, source: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o600)
        with open(self._file, "rb", closefd=False) as file:
            octets = file.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        if len(whole) < len(octets):
            os.ftruncate(self._file, len(whole))
        if not whole:
            write_all(self._file, b"%b\n" % json.dumps({"source": source}).encode())
            os.fdatasync(self._file)
            sync_folder(os.path.dirname(self.path))
        for line in whole.split(b"\n"):
            with suppress(ValueError, TypeError):  # a line of another program's: what it told of comes again
                entry = json.loads(line)
                if isinstance(entry, list):
                    self._take(*entry)

    def _take(self, mailbox: str, validity: str, seconds: int, names: list[str], *mark: Any) -> None:
        """A line that was read. Raises TypeError, ValueError."""
        box, found = (str(mailbox), str(validity)), [str(name) for name in names]
        self.intention = Intention(box, found, list(mark)) if mark else None
        if not mark:
            self._note(box, int(seconds), found)

    def _note(self, box: Box, seconds: int, names: Iterable[str]) -> None:
        self._boxes.setdefault(box, {}).update(dict.fromkeys(names, seconds))

    def names(self, box: Box) -> dict[str, int]:
        """What was fetched of *box*, and when (seconds since the epoch)."""
        return self._boxes.get(box, {})

    def validities(self, mailbox: str) -> list[str]:
        """Those that *mailbox* was seen with."""
        return [validity for name, validity in self._boxes if name == mailbox]

    def intend(self, box: Box, names: Collection[str], mark: list[Any]) -> None:
        """Note what is about to be stored. Raises CannotWriteError."""
        self._write(json.dumps([*box, 0, list(names), *mark], separators=(",", ":")).encode() + b"\n")

    def add(self, box: Box, names: Collection[str]) -> None:
        """Note that these were fetched now: it survives a kill, and a power failure after `sync`.

        Raises CannotWriteError.
        """
        self.intention = None
        seconds = int(clock.now())
        self._write(_line(box, seconds, names))
        self._note(box, seconds, names)

    def sync(self) -> None:
        """Make it durable: before anything is deleted. Raises CannotWriteError."""
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error

    def _write(self, line: bytes) -> None:
        try:
            write_all(self._file, line)
        except OSError as error:
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error

    def forget_others(self, box: Box, there: Collection[str]) -> None:
        """Keep of *box* what is still on the server, once it is worth writing the file anew."""
        names = self.names(box)
        gone = names.keys() - set(there)
        if len(gone) < max(_WORTH_IT, len(names) // 2):
            return
        self._boxes[box] = {name: at for name, at in names.items() if name not in gone}
        lines = []
        for its, known in self._boxes.items():
            by_time: dict[int, list[str]] = {}
            for name, at in known.items():
                by_time.setdefault(at, []).append(name)
            lines += [_line(its, at, some) for at, some in by_time.items()]
        atomic.replace(self.path, b"{}\n" + b"".join(lines))
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        """Let others have it."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


def _line(box: Box, seconds: int, names: Collection[str]) -> bytes:
    return json.dumps([*box, seconds, list(names)], separators=(",", ":")).encode() + b"\n"
