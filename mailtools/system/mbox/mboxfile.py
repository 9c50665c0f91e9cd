"""Where an mbox is: its open folder, and its name there.

All that belongs to the mbox is reached through it: the mbox, its dotlock, and mailtools' own files in
``.mailtools/`` beside it. So nobody who may write in the folder can lead us out of it between two steps.
"""

import errno
import os
from contextlib import suppress
from types import TracebackType

from mailtools.system.files.durable import STATE_FOLDER
from mailtools.system.files.folder import Folder


class MboxFile:
    """The file at *path*, which need not exist. Use it in a ``with`` statement, or close it.

    *make*: create its folder, if the one above is there. Every method raises OSError.
    """

    __slots__ = ("_state", "folder", "name", "path")

    def __init__(self, path: str, make: bool = False) -> None:
        above, self.name = os.path.split(path)
        self.path = path
        self._state: Folder | None = None
        try:
            self.folder = Folder(above)
        except FileNotFoundError:
            if not make:
                raise
            outer, name = os.path.split(above)
            with Folder(outer) as folder:
                self.folder = folder.inner(name, make=True)

    def __enter__(self) -> "MboxFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, flags: int) -> int:
        """Open the mbox and return its descriptor."""
        try:
            return self.folder.open(self.name, flags)
        except OSError as error:
            if error.errno != errno.EMLINK or not self._remove_other_name():
                raise
            return self.folder.open(self.name, flags)

    def _remove_other_name(self) -> bool:
        """Remove the name that the mbox had while it was written anew; False if it has another one.

        A power failure between the syncs of two folders leaves both, on a filesystem without a journal.
        """
        with suppress(OSError):
            there = self.state(make=False).status(self.new_name)
            if there.st_ino == self.folder.status(self.name).st_ino:
                self.state().unlink(self.new_name)
                return True
        return False

    @property
    def new_name(self) -> str:
        """The name, in the state folder, of an mbox that is being written anew."""
        return f"{self.name}.new"

    def is_still(self, descriptor: int) -> bool:
        """Tell whether *descriptor* is still the mbox: other programs replace it by rename."""
        return self.folder.holds(self.name, descriptor)

    @property
    def dotlock(self) -> str:
        """The name of the dotlock."""
        return f"{self.name}.lock"

    def state(self, make: bool = True) -> Folder:
        """The folder of mailtools' own files beside the mbox. It is closed with this object."""
        if self._state is None:
            self._state = self.folder.inner(STATE_FOLDER, make)
        return self._state

    def close_state(self) -> None:
        """Close the folder of mailtools' own files, until it is used again: descriptors are scarce."""
        if self._state is not None:
            with suppress(OSError):
                self._state.close()
            self._state = None

    def close(self) -> None:
        """Close the folders."""
        self.close_state()
        with suppress(OSError):
            self.folder.close()
