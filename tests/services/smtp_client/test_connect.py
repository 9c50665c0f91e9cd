"""Links to our own server: every way to use TLS, every mechanism, many messages over one connection."""

import hashlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import PolicyError, ProtocolError, TemporaryError, UnknownHostError
from mailtools.core.mbox import scan
from mailtools.core.smtp.route import Route
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import Link, SmtpTarget
from mailtools.services.smtp_client.sender import transfer
from mailtools.services.transit import outgoing
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import LostConnectionError
from tests.servers import Scripted, Server, mailtools, smtp_target, unmeasured

PASSWORDS = {"bob": "secret & 100%", "zoë": "pässwörd, =2C"}


@pytest.fixture(scope="module", params=["starttls", "implicit"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("dial") / "root"
    root.mkdir()
    (root / "users").write_text("".join(f"{user}:{{PLAIN}}{word}\n" for user, word in PASSWORDS.items()))
    options = ["--implicit-tls"] if request.param == "implicit" else []
    with Server(root, "--tls-self-signed", *options) as found:
        found.way = request.param  # type: ignore[attr-defined]
        yield found


def certificate(server: Server) -> Path:
    return server.root / ".tls" / "cert.pem"


def fingerprint(server: Server) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate(server).read_text())).hexdigest()


def dialling(server: Server, user: str = "", **options: Any) -> SmtpTarget:
    options.setdefault("tls", server.way)  # type: ignore[attr-defined]
    options.setdefault("secret", (lambda: PASSWORDS[user]) if user else None)
    return smtp_target(Route("smtp", "localhost", server.port), user=user, **options)


def message(number: int) -> Outgoing:
    return outgoing.prepare(
        "a message",
        [b"From: bob@localhost\nSubject: %d\n\n" % number + b".dot\n" * 20_000],
        Wishes(("bob@localhost",), sender="bob@localhost"),
        Stamps("Date: x", "<x@y>"),
    )


def cipher(link: Link) -> str:
    layer = link._pump._tls
    return layer.shown if layer else ""


@pytest.mark.parametrize("mechanism", ["", "plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("user", list(PASSWORDS))
def test_every_mechanism(server: Server, mechanism: str, user: str) -> None:
    link = open_link(dialling(server, user, cafile=str(certificate(server)), auth=mechanism))
    assert cipher(link).startswith("TLSv1.3")
    assert link.ask("MAIL", "FROM:<>").code == 250
    assert link.ask("AUTH", "PLAIN").code == 503, "we are logged in"
    link.quit()


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_a_wrong_password(server: Server, mechanism: str) -> None:
    options = {"cafile": str(certificate(server)), "auth": mechanism}
    with pytest.raises(PolicyError, match=f"login of bob with {mechanism.upper()} was refused: 535"):
        open_link(dialling(server, "bob", secret=lambda: "wrong", **options))


def test_a_fingerprint(server: Server) -> None:
    tls = "implicit" if server.way == "implicit" else "opportunistic"  # type: ignore[attr-defined]
    open_link(dialling(server, "bob", tls=tls, fingerprint=fingerprint(server))).quit()
    with pytest.raises(ProtocolError, match=f"SHA256:{fingerprint(server)}"):
        open_link(dialling(server, "bob", tls=tls, fingerprint="0" * 64))


def test_a_stranger(server: Server) -> None:
    with pytest.raises(ProtocolError, match="not trusted"):
        open_link(dialling(server, "bob"))


def test_another_host(server: Server) -> None:
    with pytest.raises(ProtocolError, match="not valid for"):
        open_link(dialling(server, cafile=str(certificate(server))), "mx.example.org", ("127.0.0.1",))


def test_the_way_that_is_not_there(server: Server) -> None:
    """STARTTLS where TLS comes first, and TLS first where it does not."""
    other = {"implicit": "starttls", "starttls": "implicit"}[server.way]  # type: ignore[attr-defined]
    with pytest.raises((ProtocolError, TemporaryError)):
        open_link(dialling(server, tls=other, timeout=1.0, cafile=str(certificate(server))))


def test_many_messages_over_one_connection(server: Server) -> None:
    before = len(records(server))
    opened: list[Link] = []

    def opener() -> Link:
        opened.append(open_link(dialling(server, "bob", cafile=str(certificate(server)))))
        return opened[-1]

    outcomes = list(transfer((message(number) for number in range(50)), opener))
    assert [o.error for its in outcomes for o in its] == [None] * 50
    assert len(opened) == 1
    arrived = records(server)[before:]
    assert [octets.count(b".dot\n") for octets in arrived] == [20_000] * 50
    assert all(b" with ESMTPSA" in octets or b" with UTF8SMTPSA" in octets for octets in arrived)


def records(server: Server) -> list[bytes]:
    if not server.inbox("bob").exists():
        return []
    with server.inbox("bob").open("rb") as file:
        return [b"".join(record.message_chunks()) for record in scan.records(file.read)]


@pytest.mark.parametrize("server", ["starttls"], indirect=True)
def test_tls_is_taken_where_it_is_offered(server: Server) -> None:
    link = open_link(dialling(server, tls="opportunistic"))
    assert cipher(link)
    link.quit()
    link = open_link(dialling(server, tls="off"))
    assert not cipher(link)
    link.quit()


@pytest.mark.parametrize("server", ["implicit"], indirect=True)
def test_smtps_is_implicit(server: Server) -> None:
    asked = dialling(server, tls="opportunistic", cafile=str(certificate(server)))
    link = open_link(asked._replace(route=Route("smtps", "127.0.0.1", server.port)))
    assert cipher(link)
    link.quit()


def test_the_queue_goes_over_tls(tmp_path: Path) -> None:
    """Many messages over connections that nobody waits for; each more than a socket takes at once."""
    far = ["--domain", "far.test", "--tls-self-signed", "--transcript", f"{tmp_path}/transcripts/"]
    text = b"".join(b"From a@b Thu Aug 22 12:00:00 2002\nFrom: a@x.test\nSubject: %d\n\n%b\n" % (n, b"x\n" * 400_000)
                    for n in range(10))  # fmt: skip
    here = ["--root", str(tmp_path / "here")]
    with Server(tmp_path / "root", *far) as server:
        route = f"smtp://127.0.0.1:{server.port}"
        queued = mailtools(
            "send", *here, "--queue", "always", "--route", route, "--mbox", "-", "bob@far.test", stdin=text
        )
        assert queued.returncode == 0, queued.stderr
        run = mailtools("queue", "run", *here, "--once")
        assert run.returncode == 0, run.stderr
        server.stop()
        sessions = [path.read_text() for path in (tmp_path / "transcripts").iterdir()]
        assert sum(session.count("\nC: MAIL ") for session in sessions) == 10
        assert all("\n# TLSv1.3" in session for session in sessions)
        assert server.inbox("bob").read_bytes().count(b"\nx" * 400_000) == 10


# -- addresses -----------------------------------------------------------------------------------------------


def test_addresses_are_tried_in_order() -> None:
    with Scripted() as scripted:
        asked = smtp_target(Route("mx", port=scripted.port))
        link = open_link(asked, "mx.example.org", ("127.0.0.2", "::1", "127.0.0.1"))
        assert link.remote == "mx.example.org"
        link.quit()
        with pytest.raises(TemporaryError, match=r"cannot connect to mx\.example\.org:"):
            open_link(asked, "mx.example.org", ("127.0.0.2", "127.0.0.3"))


def test_no_address_takes_the_time_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    class Deaf(client_connection.socket.socket):  # type: ignore[name-defined, misc]
        def connect(self, _: object) -> None:
            shares.append(self.gettimeout())
            raise TimeoutError("timed out")

    monkeypatch.setattr(client_connection.socket, "socket", Deaf)
    with pytest.raises(TemporaryError, match="timed out"):
        client_connection.connect("x", 25, 90.0, ("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    assert [round(share) for share in shares] == [30, 45, 90], "what one did not use is there for the next"


def test_an_unknown_host() -> None:
    with pytest.raises(UnknownHostError):
        open_link(smtp_target(Route("smtp", "no-such-host.invalid", 25)))


def test_without_tls_there_is_no_ssl() -> None:
    """A local delivery does not pay for it."""
    program = """
import sys
from mailtools.core.smtp.route import Route
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import SmtpTarget
open_link(SmtpTarget(Route("smtp", "127.0.0.1", int(sys.argv[1])))).quit()
print(sorted({"ssl", "stringprep", "json", "idna", "mailtools.core.auth.client"} & set(sys.modules)))
"""
    with Scripted() as scripted:
        done = subprocess.run(
            [sys.executable, "-c", program, str(scripted.port)],
            env=unmeasured(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == "[]\n"


def test_a_server_that_leaves_during_the_session_is_called_again() -> None:
    """With all that belongs to a connection."""
    with Scripted(EHLO=b"250-test\r\n250 AUTH PLAIN\r\n", AUTH=b"235 in\r\n",
                  MAIL=[b"250 ok\r\n", b"421 bye\r\n", b"250 ok\r\n"]) as scripted:  # fmt: skip
        asked = smtp_target(Route("smtp", "127.0.0.1", scripted.port), user="bob", secret=lambda: "x")
        outcomes = [
            o for its in transfer((message(n) for n in range(3)), lambda: open_link(asked)) for o in its
        ]
        assert [o.error for o in outcomes] == [None] * 3
        assert scripted.connections == 2
        assert len([line for line in scripted.commands if line.startswith(b"AUTH")]) == 2


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="cannot connect to"):
        open_link(smtp_target(Route("unix", path=str(tmp_path / "none"))))


def test_the_end_is_the_same_error_under_tls(server: Server) -> None:
    link = open_link(dialling(server, cafile=str(certificate(server))))
    assert link.ask("QUIT").code == 221
    with pytest.raises(LostConnectionError):
        link.ask("NOOP")
    link.close()
