"""Who may log in to a server that gives out mail: the users of a file, or anybody on loopback."""

import logging
import os
import socket
from collections.abc import Sequence

from mailtools.core.errors import ConfigurationError
from mailtools.system.files.home import expand
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.net import listeners
from mailtools.system.users.users_file import Users

log = logging.getLogger("mailtools")


def choose_users(root: str, users: str | None, dev: bool, sockets: Sequence[socket.socket]) -> Users | None:
    """Return the users who may log in: those of the users file, or None for anybody with *dev* on loopback.

    Raises ConfigurationError.
    """
    path = expand(users) if users else os.path.join(MailRoot(root).path, "users")
    if dev:
        for sock in sockets:
            if not listeners.is_loopback(sock):
                shown = listeners.shown_address(sock)
                raise ConfigurationError(
                    f"{shown} can be reached from other machines, and --dev lets anybody in; leave it out, or"
                    " listen on 127.0.0.1"
                )
        return None
    if not users and not os.path.exists(path):
        raise ConfigurationError(f"{path}: no users file; make a user with: mailtools user add NAME")
    return Users(path, log.warning)
