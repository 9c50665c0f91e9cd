"""The mailboxes of one user: the mboxes below ``ROOT/USER``, as IMAP names them.

``INBOX`` is ``INBOX.mbox``, ``a/b`` is ``a/b.mbox``: so a mailbox can hold messages and children. Every part
of a name is encoded (system/mbox/mailroot), and every folder is entered by descriptor and never through a
link: no name leads out of the user's folder. Subscriptions, annotations and the highest UIDVALIDITY that was
given stand in ``.mailtools/`` there. One process at a time makes, removes and renames mailboxes of a user.
Knows no protocol.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mailtools.core.errors import MailError
from mailtools.system import clock
from mailtools.system.files import atomic
from mailtools.system.files.durable import STATE_FOLDER
from mailtools.system.files.folder import Folder
from mailtools.system.mbox import annotations
from mailtools.system.mbox.annotations import Annotations
from mailtools.system.mbox.mailroot import INBOX, file_name

DELIMITER = "/"
_SUFFIX = ".mbox"
_DEEPEST = 20  # levels of mailboxes
_LONGEST = 1000  # octets of a name: so that its path is none that the system refuses
_MOST = 100_000  # mailboxes of a user that are listed, and subscriptions
# Of a mailbox, in the state folder.
_OWN_FILES = (
    ".index",
    ".append",
    ".states",
    ".journal",
    ".dates",
    ".envelopes",
    ".structures",
    ".facts",
    ".arrivals",
    ".previews",
)
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_SUBSCRIPTIONS = "subscriptions"
_VALIDITY = "uidvalidity"
_ANNOTATIONS = "annotations"


class MailboxError(MailError):
    """A mailbox cannot be had, made, removed or renamed. *code*: a response code of RFC 5530."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class MailTree:
    """The mailboxes below the folder at *path*, which exists. All methods raise MailboxError and OSError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def mbox(self, name: str) -> str:
        """The path of the mbox of mailbox *name*, which need not exist."""
        return os.path.join(self.path, *_parts(name)) + _SUFFIX

    def names(self) -> dict[str, bool]:
        """All mailboxes and folders of mailboxes by name; True: it holds messages. INBOX is always there."""
        found = {INBOX: True}
        waiting = [""]
        while waiting and len(found) < _MOST:
            above = waiting.pop()
            with suppress(OSError), self._folder(_parts(above) if above else []) as folder:
                for entry, is_folder in _entries(folder):
                    name = _joined(above, entry)
                    if name is None:
                        continue
                    if not is_folder:
                        found[name] = True
                    elif name.count(DELIMITER) < _DEEPEST:
                        found.setdefault(name, False)
                        waiting.append(name)
        return found

    def exists(self, name: str) -> bool:
        """Tell whether mailbox *name* holds messages."""
        return name == INBOX or self._is_file(name)

    def _is_file(self, name: str) -> bool:
        *above, last = _parts(name)
        with suppress(OSError), self._folder(above) as folder:
            return stat.S_ISREG(folder.status(last + _SUFFIX).st_mode)
        return False

    def room(self) -> tuple[int, int]:
        """The octets of all mboxes, and those that the filesystem has left for more."""
        used = 0
        for name, is_mbox in self.names().items():
            if is_mbox:
                with suppress(FileNotFoundError):
                    used += os.stat(self.mbox(name), follow_symlinks=False).st_size
        status = os.statvfs(self.path)
        return used, status.f_bavail * status.f_frsize

    def create(self, name: str) -> None:
        """Create mailbox *name* and the folders above it, durably."""
        *above, last = _parts(name)
        if self.exists(name):
            raise MailboxError("there is such a mailbox already", "ALREADYEXISTS")
        with atomic.lock(self.path), self._folder(above, make=True) as folder:
            try:
                os.close(folder.open(last + _SUFFIX, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise MailboxError("there is such a mailbox already", "ALREADYEXISTS") from None
            folder.sync()

    def delete(self, name: str) -> None:
        """Remove mailbox *name*, durably. Its children stay."""
        if name == INBOX:
            raise MailboxError("INBOX cannot be deleted", "CANNOT")
        with atomic.lock(self.path):
            self._delete(name)
        self.annotate(lambda found: found.pop(name, None))

    def _delete(self, name: str) -> None:
        *above, last = _parts(name)
        names = self.names()
        if name not in names:
            raise MailboxError("there is no such mailbox", "NONEXISTENT")
        if not names[name] and any(other.startswith(name + DELIMITER) for other in names):
            raise MailboxError("it holds mailboxes and no messages", "HASCHILDREN")
        with self._folder(above) as folder:
            if names[name]:
                folder.unlink(last + _SUFFIX)
            with suppress(OSError):  # it stays if it has children
                _remove_folder(folder, last)
            folder.sync()
            with suppress(OSError), folder.inner(STATE_FOLDER) as state:
                for ending in _OWN_FILES:
                    with suppress(FileNotFoundError):
                        state.unlink(last + _SUFFIX + ending)

    def rename(self, old: str, new: str) -> None:
        """Give mailbox *old* and its children the name *new*, durably. INBOX stays, and is empty then."""
        with atomic.lock(self.path):
            self._rename(old, new)
        if old != INBOX:
            self.annotate(lambda found: annotations.renamed(found, old, new, DELIMITER))

    def _rename(self, old: str, new: str) -> None:
        source, target = _parts(old), _parts(new)
        names = self.names()
        if new in names:
            raise MailboxError("there is such a mailbox already", "ALREADYEXISTS")
        if target[: len(source)] == source and old != INBOX:
            raise MailboxError("a mailbox cannot be moved into itself", "CANNOT")
        if old not in names:
            raise MailboxError("there is no such mailbox", "NONEXISTENT")
        for name in names:  # none may get too deep or too long a name
            if old != INBOX and name.startswith(old + DELIMITER):
                _parts(new + name[len(old) :])
        with self._folder(source[:-1]) as there, self._folder(target[:-1], make=True) as here:
            _move_states(there, source[-1], here, target[-1])
            with suppress(FileNotFoundError):
                there.rename(source[-1] + _SUFFIX, target[-1] + _SUFFIX, here)
            if old != INBOX:
                with suppress(FileNotFoundError):
                    there.rename(source[-1], target[-1], here)
            here.sync()
            there.sync()

    # -- lists -----------------------------------------------------------------------------------------------

    def subscriptions(self) -> set[str]:
        """The names that the user subscribed to."""
        try:
            with open(self._own(_SUBSCRIPTIONS), encoding="utf-8", errors="surrogateescape") as file:
                return {line for line in file.read().split("\n") if line}
        except FileNotFoundError:
            return set()

    def subscribe(self, name: str, wanted: bool) -> None:
        """Subscribe to *name*, or no longer, durably."""
        _parts(name)

        def change(text: str) -> str:
            names = {line for line in text.split("\n") if line} - {name} | ({name} if wanted else set())
            if wanted and len(names) > _MOST:
                raise MailboxError("there are too many subscriptions", "LIMIT")
            return "".join(f"{one}\n" for one in sorted(names))

        atomic.edit(self._own(_SUBSCRIPTIONS), change)

    def annotations(self) -> Annotations:
        """What the user noted about mailboxes."""
        return annotations.load(os.path.join(self.path, STATE_FOLDER, _ANNOTATIONS))

    def annotate(self, change: Callable[[Annotations], object]) -> None:
        """Change the annotations, durably."""
        annotations.edit(self._own(_ANNOTATIONS), change)

    def new_validity(self) -> int:
        """A UIDVALIDITY that no mailbox of the user had: one may get the name of another that is deleted."""
        given = 0

        def change(text: str) -> str:
            nonlocal given
            last = int(text) if text.strip().isdigit() else 0
            given = max(int(clock.now()), last + 1)
            return f"{given}\n"

        atomic.edit(self._own(_VALIDITY), change)
        return given

    def _own(self, name: str) -> str:
        with Folder(self.path) as folder:
            folder.inner(STATE_FOLDER, make=True).close()
        return os.path.join(self.path, STATE_FOLDER, name)

    @contextmanager
    def _folder(self, parts: list[str], make: bool = False) -> Iterator[Folder]:
        folder = Folder(self.path)
        try:
            for part in parts:
                with folder:
                    folder = folder.inner(part, make)
            yield folder
        except NotADirectoryError as error:
            raise MailboxError(str(error.strerror), "CANNOT") from error
        finally:
            folder.close()


def _parts(name: str) -> list[str]:
    """The parts of a mailbox name as names of files. Raises MailboxError."""
    parts = name.split(DELIMITER)
    if len(parts) > _DEEPEST or not all(parts) or _UNUSABLE.search(name):
        raise MailboxError("no mailbox can have that name", "CANNOT")
    try:
        found = [file_name(part) for part in parts]
    except ValueError:
        found = []
    if not found or sum(len(part.encode()) for part in found) > _LONGEST:
        raise MailboxError("no mailbox can have that name", "CANNOT")
    return found


def _entries(folder: Folder) -> Iterator[tuple[str, bool]]:
    """(name without ``.mbox``, whether it is a folder) of what may be mailboxes in *folder*."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.descriptor)
    try:
        with os.scandir(descriptor) as entries:
            found = [
                (one.name, one.is_dir(follow_symlinks=False), one.is_file(follow_symlinks=False))
                for one in entries
            ]
    finally:
        os.close(descriptor)
    for name, is_folder, is_file in sorted(found):
        if is_folder and not name.startswith("."):
            yield name, True
        elif is_file and name.endswith(_SUFFIX) and not name.startswith("."):
            yield name.removesuffix(_SUFFIX), False


def _joined(above: str, entry: str) -> str | None:
    """The name of the mailbox in the file *entry*; None if no mailbox of ours is in such a file."""
    octets = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), os.fsencode(entry))
    try:
        part = octets.decode()
        if file_name(part) != entry or DELIMITER in part:
            return None
    except ValueError:
        return None
    if not above and part != INBOX and part.upper() == INBOX:  # on the wire that would be INBOX
        return None
    return f"{above}{DELIMITER}{part}" if above else part


def _remove_folder(folder: Folder, name: str) -> None:
    """Remove an empty folder of mailboxes, with the state folder in it. Raises OSError."""
    with folder.inner(name) as inner, suppress(FileNotFoundError):
        os.rmdir(STATE_FOLDER, dir_fd=inner.descriptor)
    os.rmdir(name, dir_fd=folder.descriptor)


def _move_states(there: Folder, old: str, here: Folder, new: str) -> None:
    with there.inner(STATE_FOLDER, make=True) as source, here.inner(STATE_FOLDER, make=True) as target:
        for ending in _OWN_FILES:
            with suppress(FileNotFoundError):
                source.rename(old + _SUFFIX + ending, new + _SUFFIX + ending, target)
