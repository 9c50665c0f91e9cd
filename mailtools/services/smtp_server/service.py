"""Runs an SMTP or LMTP server: its sessions, its worker threads, and what it prints about each message."""

import json
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.errors import CannotWriteError, ConfigurationError
from mailtools.core.mbox import quoting
from mailtools.core.message import header, words
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.services.delivery.addressing import (
    Addressing,
    AddressingSettings,
    check_catch_all,
    open_addressing,
)
from mailtools.services.delivery.dispatch import Carriers
from mailtools.services.smtp_server.faults import Fault, Faults, FaultySession, World
from mailtools.services.smtp_server.session import Accepted, ReceiveSession, SmtpPorts
from mailtools.services.transit import mbox_form
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.files.home import expand
from mailtools.system.mbox.group_commit import Committer
from mailtools.system.net import listeners
from mailtools.system.net.server import Server, ServerSettings, serve
from mailtools.system.net.server_connection import NewConnection, OpenSession, ServerSession
from mailtools.system.process.loop import Loop
from mailtools.system.process.programs import Programs
from mailtools.system.users.checker import Checker

if TYPE_CHECKING:
    from mailtools.services.smtp_server.relay import Relaying

log = logging.getLogger("mailtools")

_IO_ERROR = 74  # EX_IOERR of sysexits.h
_SHOWN_WHOLE = 1 << 20  # octets; a larger message is left out of the JSON line


def choose_addressing(
    settings: AddressingSettings, host: str, sockets: Sequence[socket.socket], dev: bool
) -> Addressing:
    """Open the users, domains and aliases that get mail here; without users anybody on loopback does.

    *dev*: any recipient. Raises ConfigurationError if strangers could send mail to any name,
    CannotWriteError if an mbox could never be written.
    """
    if settings.mbox:
        settings = settings._replace(mbox=os.path.realpath(expand(settings.mbox)))
        _check_mbox(settings.mbox)
    if dev:
        _require_loopback(sockets, "--dev accepts any recipient; leave it out, or listen on 127.0.0.1")
    elif not (settings.users_file or (settings.mbox and settings.domains)):
        _require_loopback(sockets, "say who has mail here: mailtools user add NAME, or --mbox and --domain")
    addressing = open_addressing(settings, host, log.warning, anybody=dev)
    addressing.root.make()
    check_catch_all(settings.catch_all, addressing.users)
    return addressing


def _check_mbox(path: str) -> None:
    """Check that *path* can be an mbox. Raises CannotWriteError."""
    if not os.path.isdir(os.path.dirname(path)):
        raise CannotWriteError(f"{os.path.dirname(path)}: no such folder for the mbox")
    if os.path.exists(path) and not os.path.isfile(path):
        raise CannotWriteError(f"{path}: no regular file, so no mbox")


def _require_loopback(sockets: Sequence[socket.socket], why: str) -> None:
    for sock in sockets:
        if not listeners.is_loopback(sock):
            shown = listeners.shown_address(sock)
            raise ConfigurationError(f"{shown} can be reached from other machines: {why}")


class SmtpService(NamedTuple):
    """The options of one server."""

    offer: SmtpOffer
    addressing: Addressing
    login_rules: LoginRules
    filter: str = ""
    relaying: "Relaying | None" = None
    faults: Sequence[Fault] = ()
    seed: int | None = None
    to_stdout: str = ""  # "", "raw", "mbox", "json"
    exit_after: int = 0  # messages; 0: no limit
    told: Callable[[Accepted], None] = lambda _: None  # called with each accepted message

    @property
    def name(self) -> str:
        """The protocol's name in the line on stderr and in transcripts."""
        return "lmtp" if self.offer.lmtp else "smtp"


def run(
    service: SmtpService,
    sockets: Sequence[socket.socket],
    settings: ServerSettings,
    ready: Callable[[Callable[[], object]], None],
) -> int:
    """Serve until told to stop; return the exit code.

    *ready* gets a function that stops the server and may be called from any thread.
    """
    if service.faults:  # a rule may delay an answer for as long as it likes
        settings = settings._replace(limits=settings.limits._replace(silence=math.inf))
    with ExitStack() as workers:

        def prepare(server: Server, loop: Loop) -> OpenSession:
            return _sessions(service, server, loop, workers)

        return serve(service.name, sockets, prepare, settings, ready)


def _sessions(service: SmtpService, server: Server, loop: Loop, workers: ExitStack) -> OpenSession:
    """Start the threads behind the sessions; return the function that opens a session.

    Leaving *workers* stops the threads.
    """
    committer, checker, programs = (
        Committer(loop),
        Checker(loop.post),
        Programs(loop.post, max_output=max(100 << 20, 2 * service.offer.max_size)),
    )
    for worker in (committer, checker, programs):
        workers.callback(worker.stop)
    server.is_busy = lambda: committer.is_busy
    logins = Logins(service.login_rules, checker, loop.later)
    relaying = service.relaying
    queue = None
    if relaying is not None:
        from mailtools.services.smtp_server import (
            relay,  # imports half of the SMTP client, so only if it is needed
        )

        queue = relay.open_queue(relaying, service.addressing, loop, workers)
    carriers = Carriers(committer.submit, programs.run, log.warning, queue)
    ports = SmtpPorts(carriers, _Accepted(service, server.stop), log.info, service.filter, relaying)

    faults = Faults(service.faults, service.seed)

    def open_session(opening: NewConnection) -> tuple[SmtpServerEngine, ServerSession]:
        engine = SmtpServerEngine(service.offer)
        session = ReceiveSession(engine, service.addressing, logins, opening.peer, ports, opening.resume)
        if not service.faults:
            return engine, session
        return engine, FaultySession(session, engine, faults, World(loop.later, opening.resume, opening.drop))

    return open_session


class _Accepted:
    """Logs and prints each durable message, and stops the server after `exit_after` messages."""

    def __init__(self, service: SmtpService, stop: Callable[..., None]) -> None:
        self._format = service.to_stdout
        self._left = service.exit_after
        self._told = service.told
        self._stop = stop

    def __call__(self, message: Accepted) -> None:
        self._told(message)
        if log.isEnabledFor(logging.INFO):
            recipients = ", ".join(f"<{recipient.address}>" for recipient in message.envelope.recipients)
            log.info(
                "accepted %s from <%s> to %s, %d octets",
                message.identity,
                message.envelope.reverse_path,
                recipients,
                message.body.size,
            )
        if self._format:
            try:
                _print(message, self._format)
            except BrokenPipeError:
                self._format = ""
                self._stop()
            except OSError as error:  # the message is stored nevertheless
                log.error("standard output: %s", error.strerror)
                self._format = ""
                self._stop(_IO_ERROR)
        if self._left:
            self._left -= 1
            if not self._left:
                self._stop()


def _print(message: Accepted, form: str) -> None:
    out = sys.stdout.buffer
    if form == "json":
        out.write(json.dumps(describe(message)).encode() + b"\n")
        out.flush()
        return
    record = mbox_form.new_record(message.envelope.reverse_path, message.head, message.body)
    for piece in mbox_form.record_blocks(record) if form == "mbox" else mbox_form.message_blocks(record):
        out.write(piece)
    out.flush()


def describe(message: Accepted) -> dict[str, object]:
    """Return the JSON object that ``--to-stdout json`` prints for a message."""
    whole = None
    stored = b"".join(next(message.body.blocks(), b"").partition(b"\n\n")[:2])
    head = quoting.unquote_state(quoting.unquote(stored))
    if message.body.size <= _SHOWN_WHOLE:
        rest = b"".join(message.body.blocks())[len(stored) :]
        whole = (head + quoting.unquote(rest)).decode("utf-8", "replace")

    def field(name: str) -> str:
        value = header.value(head, name)
        return words.decode(header.unfold(value)) if value is not None else ""

    envelope = message.envelope
    return {
        "id": message.identity,
        "reverse_path": envelope.reverse_path,
        "recipients": [recipient.address for recipient in envelope.recipients],
        "helo": envelope.helo,
        "protocol": envelope.protocol,
        "user": envelope.user,
        "body": envelope.body,
        "ret": envelope.ret,
        "envid": envelope.envid,
        "notify": {r.address: r.notify for r in envelope.recipients if r.notify},
        "orcpt": {r.address: r.orcpt for r in envelope.recipients if r.orcpt},
        "size": message.body.size,
        "from": field("From"),
        "to": field("To"),
        "subject": field("Subject"),
        "date": field("Date"),
        "message_id": field("Message-ID"),
        "message": whole,
    }
