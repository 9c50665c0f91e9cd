"""Maps users and mailbox names to paths below the mail root.

``ROOT/USER/INBOX.mbox``, ``ROOT/USER/NAME.mbox``, children ``ROOT/USER/NAME/CHILD.mbox``. Names are UTF-8;
control octets, ``/``, a leading dot and ``%`` are percent-encoded, so that no name a peer chooses can be
``..``, absolute, hidden, or equal to the encoding of another name. Folders are created with mode 0700 and
never entered through a symbolic link.
"""

import os

from mailtools.core.errors import CannotWriteError
from mailtools.core.patterns import lazy
from mailtools.system.files.durable import make_folders, write_error
from mailtools.system.files.folder import Folder
from mailtools.system.files.home import expand

INBOX = "INBOX"
_USERS = "users"  # the users file has this name in the root
_REMEMBERED = 10_000  # users whose folder is known to be there
_ENCODED = lazy(r"[\x00-\x1f\x7f-\x9f/%\\\u2028\u2029]|^\.|[\ud800-\udfff]")
_LONGEST = 255 - len(".mbox.append")  # octets; the limit of filesystems less the longest suffix added


def file_name(name: str) -> str:
    """*name* encoded as one safe path component. Raises ValueError if it is empty or too long for a file."""
    if name.isascii() and name.isalnum():  # the usual case, without a pattern
        safe = name
    else:
        safe = _ENCODED.sub(
            lambda m: "".join(f"%{octet:02X}" for octet in m.group().encode("utf-8", "surrogatepass")), name
        )
    if not safe or len(safe.encode()) > _LONGEST:
        raise ValueError(f"not usable as a mailbox name: {name[:80]!r}")
    return safe


class MailRoot:
    """The folder at *path* that holds a folder for each user."""

    def __init__(self, path: str) -> None:
        # The operator may name it by a link; below it no link is followed.
        self.path = os.path.realpath(expand(path))
        self._known: dict[str, str] = {}

    def inbox(self, user: str) -> str:
        """The path of *user*'s INBOX; creates its folders. Raises CannotWriteError, OSError, ValueError."""
        path = self._known.get(user)
        if path is None:
            name = "%75sers" if user == _USERS else file_name(user)
            self.make()
            try:
                with Folder(self.path) as root:
                    root.inner(name, make=True).close()
            except NotADirectoryError as error:
                raise CannotWriteError(f"{error.filename}: {error.strerror}") from None
            path = os.path.join(self.path, name, f"{INBOX}.mbox")
            if len(self._known) < _REMEMBERED:
                self._known[user] = path
        return path

    def make(self) -> None:
        """Create the root folder if it is missing, durably. Raises CannotWriteError."""
        if not os.path.isdir(self.path):
            try:
                make_folders(self.path)
            except OSError as error:
                raise write_error(self.path, error, "no mail root can be there") from error
