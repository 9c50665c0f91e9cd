"""An SMTP server put together: sessions, group commit behind them, what is printed of each message."""

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from mailtools.core.errors import CannotWriteError, ConfigurationError
from mailtools.core.mbox import quoting, scan
from mailtools.core.mbox.record import SEPARATOR, make_postmark
from mailtools.core.message import header, words
from mailtools.core.smtp.server import SmtpServer
from mailtools.services.receive import Accepted, Policy, Ports, ReceiveSession
from mailtools.system import clock, serve
from mailtools.system.commit import Committer, Loop
from mailtools.system.mailroot import MailRoot
from mailtools.system.users import read_names

log = logging.getLogger("mailtools")

_IO_ERROR = 74  # EX_IOERR of sysexits.h
_SHOWN_WHOLE = 1 << 20  # octets; a larger message is left out of the JSON line


class Door(NamedTuple):
    """Who shall get mail here, as the options say it."""

    root: str
    mbox: str = ""
    domains: Sequence[str] = ()
    users: str | None = None  # the users file; None: ROOT/users if there is one
    dev: bool = False  # any recipient


def choose_policy(door: Door, host: str, sockets: Sequence[socket.socket]) -> Policy:
    """Users and domains where they are named; everybody on loopback where not.

    Raises ConfigurationError where strangers could leave mail for anybody, CannotWriteError where an mbox
    could never be written.
    """
    root = MailRoot(door.root)
    mbox = os.path.realpath(os.path.expanduser(door.mbox)) if door.mbox else ""
    if mbox and not os.path.isdir(os.path.dirname(mbox)):
        raise CannotWriteError(f"{os.path.dirname(mbox)}: no such folder for {door.mbox}")
    domains = frozenset(domain.lower() for domain in door.domains)
    users = os.path.expanduser(door.users) if door.users else os.path.join(root.path, "users")
    if door.dev:
        _require_loopback(sockets, "--dev accepts any recipient; leave it out, or listen on 127.0.0.1")
        return Policy(root, mbox, domains)
    if door.users or os.path.exists(users):
        return Policy(root, mbox, domains or frozenset({host.lower(), "localhost"}), read_names(users))
    if not (mbox and domains):
        _require_loopback(
            sockets,
            f"say who has mail here, with 'NAME:' lines in {users}, or --users FILE, or --mbox and --domain",
        )
    return Policy(root, mbox, domains)


def _require_loopback(sockets: Sequence[socket.socket], why: str) -> None:
    for sock in sockets:
        if not serve.is_loopback(sock):
            raise ConfigurationError(f"{serve.shown_address(sock)} can be reached from other machines: {why}")


class SmtpService(NamedTuple):
    """What one server is told."""

    host: str
    policy: Policy
    max_size: int
    max_recipients: int
    to_stdout: str = ""  # "", "raw", "mbox", "json"
    exit_after: int = 0  # messages; 0: go on


def run(
    service: SmtpService,
    sockets: Sequence[socket.socket],
    settings: serve.Settings,
    ready: Callable[[], None],
) -> int:
    """Serve until told to stop; return the exit code."""
    committers: list[Committer] = []

    def prepare(server: serve.Server, loop: Loop) -> serve.OpenSession:
        committer = Committer(loop)
        committers.append(committer)
        server.is_busy = lambda: committer.is_busy
        accepted = _Accepted(service, server.stop)

        def open_session(opening: serve.Opening) -> tuple[SmtpServer, ReceiveSession]:
            engine = SmtpServer(
                service.host, max_size=service.max_size, max_recipients=service.max_recipients
            )
            ports = Ports(committer.submit, opening.resume, accepted, log.info, log.warning)
            return engine, ReceiveSession(engine, service.policy, opening.peer, ports)

        return open_session

    try:
        return serve.run("smtp", sockets, prepare, settings, ready)
    finally:
        for committer in committers:
            committer.stop()


class _Accepted:
    """Tells of each durable message, and ends the server after enough of them."""

    def __init__(self, service: SmtpService, stop: Callable[..., None]) -> None:
        self._format = service.to_stdout
        self._left = service.exit_after
        self._stop = stop

    def __call__(self, message: Accepted) -> None:
        if log.isEnabledFor(logging.INFO):
            recipients = ", ".join(f"<{recipient}>" for recipient in message.envelope.recipients)
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
            except OSError as error:  # the message is stored all the same
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
    postmark = make_postmark(message.envelope.reverse_path, clock.asctime(int(clock.now())))
    stored = chain([postmark + message.head.encode()], message.body.blocks(), [SEPARATOR])
    pieces = stored if form == "mbox" else next(scan.records(lambda _: next(stored, b""))).message_chunks()
    for piece in pieces:
        out.write(piece)
    out.flush()


def describe(message: Accepted) -> dict[str, object]:
    """A message as the JSON line of ``--to-stdout json`` has it."""
    whole = None
    stored = b"".join(next(message.body.blocks(), b"").partition(b"\n\n")[:2])
    head = quoting.unquote_state(quoting.unquote(stored))
    if message.body.size <= _SHOWN_WHOLE:
        rest = b"".join(message.body.blocks())[len(stored) :]
        whole = (head + quoting.unquote(rest)).decode("utf-8", "replace")

    def field(name: str) -> str:
        value = header.value(head, name)
        return words.decode(header.unfold(value)) if value is not None else ""

    return {
        "id": message.identity,
        "reverse_path": message.envelope.reverse_path,
        "recipients": list(message.envelope.recipients),
        "helo": message.envelope.helo,
        "size": message.body.size,
        "from": field("From"),
        "to": field("To"),
        "subject": field("Subject"),
        "date": field("Date"),
        "message_id": field("Message-ID"),
        "message": whole,
    }
