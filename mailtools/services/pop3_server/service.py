"""Runs a POP3 server: its sessions, and the threads that check passwords and open maildrops."""

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mailtools.core.pop3.server import Pop3Offer, Pop3ServerEngine
from mailtools.services.pop3_server.session import MaildropSession, Pop3Ports
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.net.server import Server, ServerSettings, serve
from mailtools.system.net.server_connection import NewConnection, OpenSession, ServerSession
from mailtools.system.process.loop import Loop
from mailtools.system.process.pool import POOL_THREADS, WorkerPool
from mailtools.system.users.checker import Checker

log = logging.getLogger("mailtools")

NAME = "pop3"


class Pop3Service(NamedTuple):
    """The options of one server."""

    offer: Pop3Offer
    root: str
    login_rules: LoginRules


def run(
    service: Pop3Service,
    sockets: Sequence[socket.socket],
    settings: ServerSettings,
    ready: Callable[[Callable[[], object]], None],
) -> int:
    """Serve until told to stop; return the exit code.

    *ready* gets a function that stops the server and may be called from any thread.
    """
    with ExitStack() as workers:

        def prepare(server: Server, loop: Loop) -> OpenSession:
            return _sessions(service, server, loop, workers)

        return serve(NAME, sockets, prepare, settings, ready)


def _sessions(service: Pop3Service, server: Server, loop: Loop, workers: ExitStack) -> OpenSession:
    """Start the threads behind the sessions; return the function that opens a session.

    Leaving *workers* stops the threads.
    """
    # Two groups of threads: so a maildrop that takes seconds to open does not delay the check of a
    # password. One user's maildrops never take all threads.
    checker, openers = Checker(loop.post), WorkerPool("maildrop", loop.post, of_one=POOL_THREADS - 1)
    for worker in (checker, openers):
        workers.callback(worker.stop)
    logins = Logins(service.login_rules, checker, loop.later)
    delay = float(service.offer.login_delay)
    ports = Pop3Ports(MailRoot(service.root), openers.run, log.info, log.warning, delay, {}, loop.later)

    def open_session(opening: NewConnection) -> tuple[Pop3ServerEngine, ServerSession]:
        engine = Pop3ServerEngine(service.offer)
        return engine, MaildropSession(engine, logins, opening.peer, ports, opening.resume)

    return open_session
