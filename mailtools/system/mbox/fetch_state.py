"""Remembers which messages were fetched: one file per source, beside the mbox in ``.mailtools/``.

Each line is JSON, written after its messages are synced: ``[mailbox, validity, seconds, [names]]``.
*validity* is IMAP's UIDVALIDITY, "" for POP3; names are UIDLs or UIDs; in place of a UIDL stands ``[UIDL,
digest of the message]``. A line with more members is an intention, synced before messages are stored: the
members let the sink check whether the mbox holds them. If an intention is the last line, the run was killed
or the power failed, and the sink can find out whether the messages were stored. A line ``{"troubled":
[mailbox, validity, name, is_breaking]}`` names a message that did not come.
The open file is locked against other runs.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from mailtools.core.errors import CannotWriteError, TemporaryError
from mailtools.system import clock
from mailtools.system.files import lock
from mailtools.system.files.buffer import write_all
from mailtools.system.files.durable import STATE_FOLDER, make_folders
from mailtools.system.files.folder import Folder

_WORTH_IT = 1000  # names gone from the server before the file is rewritten

Box = tuple[str, str]  # mailbox, validity


class Intention(NamedTuple):
    """Messages that were about to be stored."""

    box: Box
    names: Mapping[str, str]  # each with its digest, or ""
    mark: list[Any]  # the sink's own data to find the messages in the mbox


class Seen:
    """The file of one *source* for one *target* (an mbox, or a folder with a "/" at its end)."""

    def __init__(self, target: str, source: str) -> None:
        """Open, lock and load the file. Raises TemporaryError if another run has it, CannotWriteError."""
        folder, name = os.path.split(target)
        mark = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:16]
        self._name = f"{name or 'all'}.fetch-{mark}"
        self.path = os.path.join(folder, STATE_FOLDER, self._name)
        self._boxes: dict[Box, dict[str, int]] = {}
        self._digests: dict[Box, dict[str, str]] = {}
        self._troubled: dict[Box, dict[str, bool]] = {}
        self.intention: Intention | None = None  # of a run that was killed
        self._lock = -1
        self._file = -1
        self._folder = _state_folder(folder)
        try:
            self._lock = self._folder.open(f"{self._name}.lock", os.O_RDWR | os.O_CREAT)
            if not lock.take(self._lock):
                self.close()
                raise TemporaryError(f"another fetch from {source} is under way")
            self._load(source)
        except OSError as error:
            self.close()
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error

    def _load(self, source: str) -> None:
        self._file = self._folder.open(self._name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with open(self._file, "rb", closefd=False) as file:
            octets = file.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        if len(whole) < len(octets):
            os.ftruncate(self._file, len(whole))
        if not whole:
            write_all(self._file, b"%b\n" % json.dumps({"source": source}).encode())
            os.fdatasync(self._file)
            self._folder.sync()
        for line in whole.split(b"\n"):
            with suppress(
                ValueError, TypeError
            ):  # an unknown line is ignored: its messages are fetched again
                entry = json.loads(line)
                if isinstance(entry, list):
                    self._take(*entry)
                elif "troubled" in entry:
                    mailbox, validity, name, is_breaking = entry["troubled"]
                    self._trouble((str(mailbox), str(validity)), str(name), bool(is_breaking))

    def _take(self, mailbox: str, validity: str, seconds: int, names: list[Any], *mark: Any) -> None:
        """Apply one line of the file. Raises TypeError, ValueError."""
        box = (str(mailbox), str(validity))
        pairs = [name if isinstance(name, list) else (name, "") for name in names]
        found = {str(name): str(digest) for name, digest in pairs}
        self.intention = Intention(box, found, list(mark)) if mark else None
        if not mark:
            self._note(box, int(seconds), found)

    def _note(self, box: Box, seconds: int, names: Mapping[str, str]) -> None:
        self._boxes.setdefault(box, {}).update(dict.fromkeys(names, seconds))
        for name in names if box in self._troubled else ():
            self._troubled[box].pop(name, None)
        if not box[1]:
            self._digests.setdefault(box, {}).update(names)

    def names(self, box: Box) -> dict[str, int]:
        """The names fetched from *box*, each with its time (seconds since the epoch)."""
        return self._boxes.get(box, {})

    def digest(self, box: Box, name: str) -> str:
        """The digest of the message that was fetched under *name*; "" if it is not known."""
        return self._digests.get(box, {}).get(name, "")

    def troubled(self, box: Box) -> Mapping[str, bool]:
        """The messages of *box* that did not come, the last at the end. True: the session broke at it."""
        return self._troubled.get(box, {})

    def trouble(self, box: Box, name: str, is_breaking: bool) -> None:
        """Note that the message *name* did not come. A lost note costs only time. Raises CannotWriteError."""
        if self.troubled(box).get(name) is not is_breaking or next(reversed(self._troubled[box])) != name:
            self._trouble(box, name, is_breaking)
            self._write(_trouble_line(box, name, is_breaking))

    def _trouble(self, box: Box, name: str, is_breaking: bool) -> None:
        its = self._troubled.setdefault(box, {})
        its.pop(name, None)
        its[name] = is_breaking

    def validities(self, mailbox: str) -> list[str]:
        """The UIDVALIDITY values under which *mailbox* was fetched."""
        return [validity for name, validity in self._boxes if name == mailbox]

    def intend(self, box: Box, names: Mapping[str, str], mark: list[Any]) -> None:
        """Write an intention, durably: *names* of *box*, with digests, are about to be stored.

        Raises CannotWriteError.
        """
        self._write(_line(box, 0, names, mark))
        self.sync()

    def add(self, box: Box, names: Mapping[str, str]) -> None:
        """Note that *names*, with digests, were fetched now.

        The note survives a kill, and after `sync` a power failure. Raises CannotWriteError.
        """
        self.intention = None
        seconds = int(clock.now())
        self._write(_line(box, seconds, names))
        self._note(box, seconds, names)

    def sync(self) -> None:
        """Make the notes durable; to be called before messages are deleted. Raises CannotWriteError."""
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
        """Drop names of *box* that are no longer on the server (*there*), once that is worth a rewrite.

        Raises CannotWriteError.
        """
        names = self.names(box)
        gone = names.keys() - set(there)
        if len(gone) < max(_WORTH_IT, len(names) // 2):
            return
        self._boxes[box] = {name: at for name, at in names.items() if name not in gone}
        self._digests[box] = {n: d for n, d in self._digests.get(box, {}).items() if n not in gone}
        lines = []
        for its, known in self._boxes.items():
            by_time: dict[int, dict[str, str]] = {}
            for name, at in known.items():
                by_time.setdefault(at, {})[name] = self.digest(its, name)
            lines += [_line(its, at, some) for at, some in by_time.items()]
        for its, its_troubled in self._troubled.items():
            lines += [_trouble_line(its, *trouble) for trouble in its_troubled.items()]
        try:
            self._folder.replace(self._name, b"{}\n" + b"".join(lines))
            os.close(self._file)
            self._file = self._folder.open(self._name, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file and release its lock."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1
        self._folder.close()


def _state_folder(beside: str) -> Folder:
    """The folder of mailtools' own files in the folder *beside*. Raises CannotWriteError."""
    try:
        make_folders(beside or ".")
        with Folder(beside) as outer:
            return outer.inner(STATE_FOLDER, make=True)
    except OSError as error:
        raise CannotWriteError(f"{error.filename or beside}: {error.strerror}") from error


def _trouble_line(box: Box, name: str, is_breaking: bool) -> bytes:
    return json.dumps({"troubled": [*box, name, is_breaking]}, separators=(",", ":")).encode() + b"\n"


def _line(box: Box, seconds: int, names: Mapping[str, str], mark: Collection[Any] = ()) -> bytes:
    written = [[name, digest] if digest else name for name, digest in names.items()]
    return json.dumps([*box, seconds, written, *mark], separators=(",", ":")).encode() + b"\n"
