"""Runs an IMAP server: its sessions, and the threads that check passwords and work on mailboxes."""

import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mailtools.core.imap.server import ImapOffer, ImapServerEngine
from mailtools.services.imap_server.opened import OpenMailboxes
from mailtools.services.imap_server.session import ImapPorts, ImapSession
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.mbox.changes import Changes
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.net.server import Server, ServerSettings, serve
from mailtools.system.net.server_connection import NewConnection, OpenSession, ServerSession
from mailtools.system.process.loop import Loop
from mailtools.system.process.pool import POOL_THREADS, WorkerPool
from mailtools.system.users.checker import Checker

log = logging.getLogger("mailtools")

NAME = "imap"


class ImapService(NamedTuple):
    """The options of one server."""

    host: str
    starttls: bool
    root: str
    login_rules: LoginRules


def run(
    service: ImapService,
    sockets: Sequence[socket.socket],
    settings: ServerSettings,
    ready: Callable[[Callable[[], object]], None],
) -> int:
    """Serve until told to stop; return the exit code.

    *ready* gets a function that stops the server and may be called from any thread.
    """
    # The loop sends while a worker makes what follows: it waits for the GIL no longer than that (5 ms else).
    sys.setswitchinterval(0.001)
    with ExitStack() as workers:

        def prepare(server: Server, loop: Loop) -> OpenSession:
            return _sessions(service, server, loop, workers)

        return serve(NAME, sockets, prepare, settings, ready)


def _sessions(service: ImapService, server: Server, loop: Loop, workers: ExitStack) -> OpenSession:
    """Start the threads behind the sessions; return the function that opens a session.

    Leaving *workers* stops the threads.
    """
    # Two groups of threads: so a search that takes seconds does not delay the check of a password. One user's
    # commands never take all threads.
    checker, hands = Checker(loop.post), WorkerPool("mailbox", loop.post, of_one=POOL_THREADS - 1)
    for worker in (checker, hands):
        workers.callback(worker.stop)
    logins = Logins(service.login_rules, checker, loop.later)
    changes = Changes(loop)
    workers.callback(changes.close)
    ports = ImapPorts(
        MailRoot(service.root), hands.run, log.info, log.warning, loop.later, OpenMailboxes(), changes.watch
    )
    offer = ImapOffer(service.host, starttls=service.starttls)

    def open_session(opening: NewConnection) -> tuple[ImapServerEngine, ServerSession]:
        engine = ImapServerEngine(offer)
        return engine, ImapSession(engine, logins, opening.peer, ports, opening.resume)

    return open_session
