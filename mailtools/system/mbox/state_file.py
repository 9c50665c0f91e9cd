"""The states of a mailbox on disk: ``.mailtools/NAME.states``, and a journal of what changed since.

A change is durable when `note` or `save` returns. The caller holds the lock of the mbox. The file names the
generation of its journal, so that a journal that was left by a kill between the two is not believed.
"""

import os
from contextlib import suppress

from mailtools.core.mbox import states as states_
from mailtools.core.mbox.states import States
from mailtools.system import clock
from mailtools.system.files.buffer import write_all
from mailtools.system.files.durable import STATE_FOLDER
from mailtools.system.files.folder import Folder
from mailtools.system.mbox.mboxfile import MboxFile

_LARGEST_JOURNAL = 1 << 20  # octets; then the file is written anew

Stamp = tuple[int, ...]


def files_of(path: str) -> tuple[str, ...]:
    """The files that change with the mailbox in the mbox at *path*: the mbox and its states."""
    folder, name = os.path.split(path)
    state = os.path.join(folder, STATE_FOLDER, name)
    return path, f"{state}.states", f"{state}.journal"


class StateFile:
    """The two files of one mbox, as far as they were read."""

    def __init__(self) -> None:
        self._generation = b""
        self._at = 0  # octets of the journal that were applied
        self._loaded: Stamp = ()  # the file that was read

    def stamp(self, mbox: MboxFile) -> Stamp:
        """Numbers that change with the files. Needs no lock."""
        found: list[int] = []
        for name in (f"{mbox.name}.states", f"{mbox.name}.journal"):
            found += _stamp(mbox.state(), name)
        return tuple(found)

    def load(self, mbox: MboxFile, known: States | None) -> States:
        """Return the states; *known*: what this object returned before. Raises OSError.

        A file that is torn or of another version counts as none: the mbox has the states then.
        """
        folder = mbox.state()
        name = f"{mbox.name}.states"
        stamp = _stamp(folder, name)
        if known is not None and self._generation and stamp and stamp == self._loaded:
            generation, states = self._generation, known
        else:
            head = _read(folder, name)
            found = states_.from_octets(head) if head else None
            generation, states = found or (b"", States())
            self._generation, self._at, self._loaded = generation, 0, stamp
        first = b"%b\n" % generation
        journal = _read(folder, f"{mbox.name}.journal")
        if generation and journal.startswith(first):
            at = max(self._at, len(first))
            self._at = at + states_.replay(states, journal[at:])
        return states

    def note(self, mbox: MboxFile, states: States, first: int, rows: list[int]) -> None:
        """Write the rows from *first* on and those of *rows* into the journal. Raises OSError."""
        if self._at > _LARGEST_JOURNAL or not self._generation:
            self.save(mbox, states)
            return
        octets = states_.lines(states, first, rows)
        descriptor = mbox.state().open(f"{mbox.name}.journal", os.O_RDWR | os.O_CREAT)
        try:
            if not self._at:
                octets = b"%b\n" % self._generation + octets
            os.ftruncate(descriptor, self._at)  # half a group that a killed process left
            os.lseek(descriptor, self._at, os.SEEK_SET)
            write_all(descriptor, octets)
            os.fdatasync(descriptor)
            if not self._at:
                mbox.state().sync()
        finally:
            os.close(descriptor)
        self._at += len(octets)

    def save(self, mbox: MboxFile, states: States) -> None:
        """Write the whole file; its journal is empty then. Raises OSError."""
        generation = clock.identity().encode()
        mbox.state().replace(f"{mbox.name}.states", states.octets(generation))
        self._generation, self._at = generation, 0
        self._loaded = _stamp(mbox.state(), f"{mbox.name}.states")


def _stamp(folder: Folder, name: str) -> Stamp:
    """Numbers that change with a file; none if it is not there."""
    with suppress(OSError):
        status = folder.status(name)
        return status.st_ino, status.st_size, status.st_mtime_ns
    return ()


def _read(folder: Folder, name: str) -> bytes:
    try:
        with os.fdopen(folder.open(name, os.O_RDONLY), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
