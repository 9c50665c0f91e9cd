"""An SMTP server for tests of programs that send mail; it keeps the messages it accepted.

With pytest the fixture is available as soon as mailtools is installed::

    def test_a_welcome_is_sent(smtp_server):
        sign_up("bob@example.org", smtp_host=smtp_server.host, smtp_port=smtp_server.port)
        (message,) = smtp_server.wait_for(1)
        assert message["Subject"] == "Welcome"

    @pytest.mark.smtp_server(users={"app": "secret"}, tls=True, faults=['rcpt reply "451 Later" times=1'])
    def test_it_tries_again(smtp_server): ...

Without pytest, ``with mailtools.testing.serve(folder) as server:``. It is the server of ``mailtools
serve-smtp`` in a thread of its own, on a free port of 127.0.0.1: every recipient is accepted, all mail goes
into one mbox.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The server's modules are imported when a server starts, because pytest imports this module in every run.
if TYPE_CHECKING:
    from email.message import EmailMessage

    import pytest

    from mailtools.services.smtp_server.service import SmtpService
    from mailtools.system.net.server import ServerSettings
    from mailtools.system.users.users_file import Users

_START = 30.0  # seconds
_WAIT = 10.0


class SmtpServer:
    """A running server. *mbox*: the file to which it appends all mail."""

    def __init__(
        self, address: str, port: int, mbox: Path, certificate: Path | None, transcripts: Path
    ) -> None:
        self.address = address
        self.port = port
        self.mbox = mbox
        self.certificate = certificate  # PEM, for the client to trust; None without TLS
        self.transcripts = transcripts  # a folder with a file for each session, C: and S: lines
        self._arrived = threading.Condition()
        self._count = 0

    @property
    def host(self) -> str:
        """The server's address: the same as `address`, by the name that most mail clients use."""
        return self.address

    @property
    def messages(self) -> "list[EmailMessage]":
        """All messages so far, in the order of acceptance.

        The fields Return-Path and Delivered-To hold the envelope.
        """
        if not self.mbox.exists():
            return []
        import email.policy
        from email.parser import BytesParser

        from mailtools.core.mbox import scan

        parse = BytesParser(policy=email.policy.default).parsebytes
        with self.mbox.open("rb") as file:
            return [parse(record.message()) for record in scan.records(file.read)]

    def wait_for(self, count: int = 1, timeout: float = _WAIT) -> "list[EmailMessage]":
        """All messages, once there are *count* of them. Raises TimeoutError after *timeout* seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._count >= count, timeout):
                raise TimeoutError(f"{self._count} of {count} messages came within {timeout:g} seconds")
        return self.messages

    def _tell(self, _: object) -> None:
        with self._arrived:
            self._count += 1
            self._arrived.notify_all()


@contextmanager
def serve(
    folder: str | Path,
    *,
    users: Mapping[str, str] | None = None,
    tls: bool = False,
    implicit_tls: bool = False,
    lmtp: bool = False,
    faults: Sequence[str] = (),
    seed: int | None = None,
    max_size: int = 50 << 20,
) -> Iterator[SmtpServer]:
    """Run a server with its files in *folder* until the ``with`` block ends.

    users: names and passwords for AUTH; if None, any name and password is accepted. faults, seed: rules as
    for ``mailtools serve-smtp --fault``; max_size in octets.
    Raises TimeoutError if the server does not start.
    """
    from mailtools.core.smtp.offer import SmtpOffer
    from mailtools.services.delivery.addressing import Addressing
    from mailtools.services.smtp_server import faults as rules
    from mailtools.services.smtp_server.service import SmtpService
    from mailtools.services.users.login import LoginRules
    from mailtools.system.mbox.mailroot import MailRoot
    from mailtools.system.net.listeners import open_listener
    from mailtools.system.net.server import Limits, ServerSettings
    from mailtools.system.tls.certificates import Certificates, self_signed

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    certificates, certificate = None, None
    if tls or implicit_tls:
        files = self_signed(str(root), "localhost")
        certificates, certificate = Certificates(*files, ("lmtp" if lmtp else "smtp",)), Path(files[0])
    listener = open_listener("127.0.0.1:0")
    address, port = listener.getsockname()
    server = SmtpServer(address, port, root / "all.mbox", certificate, root / "transcripts")
    server.transcripts.mkdir(exist_ok=True)
    service = SmtpService(
        SmtpOffer("localhost", lmtp, tls, max_size, takes_any_login=not users),
        Addressing(MailRoot(str(root)), mbox=str(server.mbox)),
        LoginRules(_users(root, users), anybody=not users),
        faults=[rules.parse(text) for text in faults],
        seed=seed,
        told=server._tell,
    )
    settings = ServerSettings(
        Limits(), str(server.transcripts), certificates=certificates, implicit_tls=implicit_tls
    )
    with _running(service, listener, settings):
        yield server


@contextmanager
def _running(smtp: "SmtpService", listener: Any, settings: "ServerSettings") -> Iterator[None]:
    """Run the server in a thread until the ``with`` block ends."""
    from mailtools.services.smtp_server import service

    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    def started(stop: Callable[[], object]) -> None:
        stops.append(stop)
        ready.set()

    thread = threading.Thread(
        target=service.run,
        args=(smtp, [listener], settings, started),
        name="smtp_server",
        daemon=True,
    )
    thread.start()
    if not ready.wait(_START):
        raise TimeoutError("the SMTP server did not start")
    try:
        yield
    finally:
        stops[0]()
        thread.join(_START)


def _users(root: Path, users: Mapping[str, str] | None) -> "Users | None":
    if not users:
        return None
    from mailtools.services.users import edit
    from mailtools.system.users.users_file import Users

    path = str(root / "users")
    for name, password in users.items():
        edit.add(path, name, password, "scram-sha-256")
    return Users(path)


# -- pytest ------------------------------------------------------------------------------------------------


def _fixture() -> Any:
    """The pytest fixture, or None: the module also works without pytest."""
    try:
        import pytest
    except ImportError:
        return None

    @pytest.fixture
    def smtp_server(tmp_path: Path, request: "pytest.FixtureRequest") -> Iterator[SmtpServer]:
        """An SMTP server on a free port: address, port, mbox, messages, wait_for(count, timeout)."""
        marker = request.node.get_closest_marker("smtp_server")
        with serve(tmp_path / "smtp_server", **(marker.kwargs if marker else {})) as server:
            yield server

    return smtp_server


smtp_server = _fixture()


def pytest_configure(config: "pytest.Config") -> None:
    """Register the marker ``smtp_server`` with pytest."""
    config.addinivalue_line(
        "markers",
        "smtp_server(users, tls, implicit_tls, lmtp, faults, seed, max_size): options of the fixture",
    )
