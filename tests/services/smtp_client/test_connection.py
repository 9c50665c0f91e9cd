"""Links against servers that play a script: what each failing stage becomes, and what is never said."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.auth import scram
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import (
    ConfigurationError,
    MailError,
    PolicyError,
    ProtocolError,
    RefusedError,
    TemporaryError,
)
from mailtools.core.smtp.route import Route
from mailtools.services.smtp_client import connect, connection
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import Link, SmtpTarget
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import LostConnectionError
from mailtools.system.tls.certificates import self_signed
from tests.servers import DEADLINE, Scripted, smtp_target

SECRET = "Pa55word"
STARTTLS = b"250-test\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"
GO = b"220 go\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(str(tmp_path_factory.mktemp("root")), "localhost")


def dialling(server: Scripted, **options: Any) -> SmtpTarget:
    return smtp_target(Route("smtp", "127.0.0.1", server.port), **options)


def with_login(server: Scripted, **options: Any) -> SmtpTarget:
    options.setdefault("secret", lambda: SECRET)
    return dialling(server, user="bob", **options)


def offering(*mechanisms: str) -> bytes:
    return f"250-test\r\n250 AUTH {' '.join(mechanisms)}\r\n".encode()


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def challenge(octets: bytes) -> bytes:
    return b"334 " + encoded(octets) + b"\r\n"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is on another machine, as far as the pump can tell."""
    monkeypatch.setattr(client_connection.Pump, "is_private", property(lambda _: False))


def fails(asked: SmtpTarget, kind: type[MailError], match: str | None = None) -> MailError:
    with pytest.raises(kind, match=match) as caught:
        open_link(asked)
    return caught.value


# -- greeting and EHLO ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "kind", "status"),
    [
        (b"521 no mail here\r\n", RefusedError, "5.3.2"),
        (b"556 no mail here\r\n", RefusedError, "5.3.2"),
        (b"554 go away\r\n", RefusedError, ""),
        (b"421 busy\r\n", TemporaryError, ""),
        (b"450 later\r\n", TemporaryError, ""),
        (b"250 what\r\n", ProtocolError, ""),
        (b"SSH-2.0\r\n", ProtocolError, ""),
        (None, LostConnectionError, ""),
    ],
)
def test_greetings_that_turn_away(greeting: bytes | None, kind: type[MailError], status: str) -> None:
    with Scripted(greeting=greeting) as server:
        assert fails(dialling(server), kind).status == status
        assert not [line for line in server.commands if not line.startswith(b"QUIT")]


def test_helo_where_there_is_no_ehlo() -> None:
    with Scripted(EHLO=b"502 no\r\n") as server:
        open_link(dialling(server, helo="me.test")).quit()
        assert server.commands == [b"EHLO me.test\r\n", b"HELO me.test\r\n", b"QUIT\r\n"]


def test_lmtp_says_lhlo() -> None:
    with Scripted(LHLO=b"250-test\r\n250 PIPELINING\r\n") as server:
        found = open_link(smtp_target(Route("lmtp", "127.0.0.1", server.port)))
        assert found.is_lmtp
        assert found.pipelining
        assert [line[:4] for line in server.commands] == [b"LHLO"]
        found.close()


def over_unix(path: Path, answers: dict[bytes, bytes]) -> tuple[Link, list[bytes]]:
    """A link to a unix socket, and the verbs said to it."""
    said: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as file:
                sock.sendall(b"220 test\r\n")
                for line in file:
                    said.append(line[:4])
                    sock.sendall(answers.get(line[:4], b"500 what?\r\n"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = open_link(smtp_target(Route("unix", path=str(path))))
        found.close()
        thread.join(DEADLINE)
    return found, said


def test_a_unix_socket_may_be_lmtp(tmp_path: Path) -> None:
    found, said = over_unix(tmp_path / "s", {b"LHLO": b"250-test\r\n250-STARTTLS\r\n250 SIZE 5\r\n"})
    assert found.is_lmtp
    assert found.offered["SIZE"] == "5"
    assert said == [b"EHLO", b"LHLO"]


def test_a_unix_socket_may_be_smtp(tmp_path: Path) -> None:
    found, said = over_unix(tmp_path / "s", {b"EHLO": b"250-test\r\n250 STARTTLS\r\n"})
    assert not found.is_lmtp
    assert said == [b"EHLO"]


def test_a_unix_socket_may_be_old(tmp_path: Path) -> None:
    found, said = over_unix(tmp_path / "s", {b"HELO": b"250 test\r\n"})
    assert not found.is_lmtp
    assert said == [b"EHLO", b"LHLO", b"HELO"]


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_dribbles_is_left(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    """It is never silent for long, and never done."""
    monkeypatch.setattr(connection, "LEAST_PATIENCE", 0.0)
    gone = threading.Event()

    def dribble(sock: socket.socket) -> bytes:
        sock.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0" if secure else b"220-")
        for _ in range(400):
            sock.sendall(b"\x03")
            gone.wait(0.02)
        return b"\r\n"

    with Scripted(greeting=dribble) as server:
        tls = "implicit" if secure else "off"
        fails(dialling(server, timeout=0.4, tls=tls), TemporaryError, "in time|within")
        gone.set()


# -- STARTTLS that is required -------------------------------------------------------------------------------


def garbage(sock: socket.socket) -> None:
    sock.sendall(GO)
    sock.recv(1 << 16)  # the ClientHello
    sock.sendall(b"220 garbage that is no TLS\r\n")


def cut(sock: socket.socket) -> None:
    sock.sendall(GO)
    sock.recv(1)


def half_cut(sock: socket.socket) -> None:
    sock.sendall(GO)
    sock.recv(1)
    sock.sendall(b"\x16\x03\x03")


def silent(sock: socket.socket) -> None:
    sock.sendall(GO)
    while sock.recv(1 << 16):
        pass


BROKEN_TLS: list[tuple[object, type[MailError], str]] = [
    (b"454 not now\r\n", TemporaryError, "no TLS now"),
    (b"554 never\r\n", ProtocolError, "refuses TLS"),
    (b"250 what\r\n", ProtocolError, "refuses TLS"),
    (b"garbage\r\n", ProtocolError, "not an SMTP reply"),
    (b"421 bye\r\n", LostConnectionError, "closes"),
    (None, LostConnectionError, "closed"),
    (GO + b"250 injected\r\n", RemoteProtocolError, "injects"),
    (garbage, ProtocolError, "TLS failed"),
    (cut, LostConnectionError, "TLS handshake|closed"),
    (half_cut, LostConnectionError, "TLS handshake"),
]


@pytest.mark.parametrize(
    "required", [{"tls": "starttls"}, {"fingerprint": "0" * 64}], ids=["starttls", "pinned"]
)
@pytest.mark.parametrize(("answer", "kind", "match"), BROKEN_TLS)
def test_required_tls_never_falls_back(
    answer: object, kind: type[MailError], match: str, required: dict[str, str]
) -> None:
    with Scripted(EHLO=STARTTLS, STAR=answer) as server:
        fails(with_login(server, **required), kind, match)
        assert server.connections == 1
        assert [line[:4] for line in server.commands] == [b"EHLO", b"STAR"]


def test_required_tls_that_is_silent_ends() -> None:
    with Scripted(EHLO=STARTTLS, STAR=silent) as server:
        fails(with_login(server, tls="starttls", timeout=0.2), TemporaryError, "within 0.2 seconds")
        assert server.connections == 1


@pytest.mark.parametrize("answers", [{"EHLO": b"250 test\r\n"}, {"EHLO": b"500 what\r\n"}])
def test_required_tls_that_is_not_offered(answers: dict[str, object]) -> None:
    with Scripted(**answers) as server:
        fails(with_login(server, tls="starttls"), ProtocolError, "offers no STARTTLS")
        assert server.connections == 1
        assert not any(line[:4] in (b"AUTH", b"MAIL") for line in server.commands)


@pytest.mark.parametrize("greeting", [b"220 in the clear\r\n", None, b"\x15\x03\x01\x00\x02\x02\x28"])
def test_implicit_tls_never_falls_back(greeting: bytes | None) -> None:
    with Scripted(greeting=greeting) as server:
        for asked in (
            with_login(server, tls="implicit"),
            with_login(server)._replace(route=Route("smtps", "127.0.0.1", server.port)),
        ):
            with pytest.raises((ProtocolError, LostConnectionError)):
                open_link(asked)
        assert server.connections == 2
        assert not any(b"EHLO" in line or b"AUTH" in line for line in server.commands)


def tls_session(files: tuple[str, str], answers: dict[bytes, bytes]) -> Callable[[socket.socket], None]:
    """What follows STARTTLS: a TLS server that plays *answers*; what it hears is kept."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(GO)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        try:
            with context.wrap_socket(sock, server_side=True) as secure, secure.makefile("rb") as file:
                for line in file:
                    serve.heard.append(line)  # type: ignore[attr-defined]
                    secure.sendall(answers.get(line[:4], b"500 what?\r\n"))
        except OSError:
            pass

    serve.heard = []  # type: ignore[attr-defined]
    return serve


@pytest.mark.parametrize(
    "options",
    [
        {"tls": "starttls"},  # not signed by anybody whom the system knows
        {"tls": "starttls", "fingerprint": "0" * 64},
        {"fingerprint": "0" * 64},
    ],
)
def test_a_server_that_is_not_the_one(options: dict[str, str], files: tuple[str, str]) -> None:
    session = tls_session(files, {})
    with Scripted(EHLO=STARTTLS, STAR=session) as server:
        error = fails(with_login(server, **options), ProtocolError)
        assert "SHA256:" in str(error) or "not trusted" in str(error)
        assert server.connections == 1
        assert session.heard == []  # type: ignore[attr-defined]


def test_what_was_offered_in_the_clear_is_forgotten(files: tuple[str, str]) -> None:
    session = tls_session(files, {b"EHLO": b"250-test\r\n250 SIZE 7\r\n"})
    with Scripted(EHLO=STARTTLS, STAR=session) as server:
        found = open_link(dialling(server, tls="starttls", cafile=files[0]))
        assert found.offered == {"SIZE": "7"}
        found.close()


# -- STARTTLS that is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [garbage, cut, half_cut, None, b"421 bye\r\n", b"garbage\r\n"])
def test_an_opportunity_that_is_lost(answer: object) -> None:
    with Scripted(EHLO=STARTTLS, STAR=answer) as server:
        open_link(dialling(server)).quit()
        assert server.connections == 2
        assert [line[:4] for line in server.commands] == [b"EHLO", b"STAR", b"EHLO", b"QUIT"]


def test_a_server_that_ends_the_handshake_late(files: tuple[str, str]) -> None:
    """With TLS 1.3 we are done before it is."""

    def leave(sock: socket.socket) -> None:
        sock.sendall(GO)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        with context.wrap_socket(sock, server_side=True):
            pass

    with Scripted(EHLO=STARTTLS, STAR=leave) as server:
        open_link(dialling(server)).quit()
        assert server.connections == 2
    with Scripted(EHLO=STARTTLS, STAR=leave) as server:
        fails(dialling(server, tls="starttls", cafile=files[0]), LostConnectionError)
        assert server.connections == 1


@pytest.mark.parametrize("answer", [b"454 not now\r\n", b"554 never\r\n"])
def test_an_opportunity_that_is_refused(answer: bytes) -> None:
    with Scripted(EHLO=STARTTLS, STAR=answer) as server:
        open_link(dialling(server)).quit()
        assert server.connections == 1


def test_injection_is_an_error_even_where_nobody_insists() -> None:
    with Scripted(EHLO=STARTTLS, STAR=GO + b"250 injected\r\n") as server:
        fails(dialling(server), RemoteProtocolError, "injects")


def test_an_opportunity_is_taken_whoever_answers(files: tuple[str, str]) -> None:
    session = tls_session(files, {b"EHLO": b"250-test\r\n250 SIZE 7\r\n"})
    with Scripted(EHLO=STARTTLS, STAR=session) as server:
        found = open_link(dialling(server), name="mx.example.org", addresses=("127.0.0.1",))
        assert found.offered == {"SIZE": "7"}
        assert found.remote == "mx.example.org"
        found.close()


def test_no_tls_where_it_is_off() -> None:
    with Scripted(EHLO=STARTTLS) as server:
        open_link(dialling(server, tls="off")).quit()
        assert [line[:4] for line in server.commands] == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize(
    "options",
    [{"tls": "maybe"}, {"tls": "off", "fingerprint": "0" * 64}, {"tls": "starttls", "cafile": "/nowhere"},
     {"fingerprint": "12"}, {"user": "bob"}],
)  # fmt: skip
def test_options_that_cannot_be(options: dict[str, str]) -> None:
    with Scripted(EHLO=STARTTLS, STAR=silent) as server:
        fails(dialling(server, **options), ConfigurationError)


# -- AUTH ----------------------------------------------------------------------------------------------------


def test_a_login() -> None:
    with Scripted(EHLO=offering("LOGIN", "PLAIN"), AUTH=b"235 2.7.0 in\r\n") as server:
        open_link(with_login(server)).quit()
        assert server.commands[1] == b"AUTH PLAIN " + encoded(b"\0bob\0" + SECRET.encode()) + b"\r\n"


def test_the_old_form_of_the_offer() -> None:
    with Scripted(EHLO=b"250-test\r\n250 AUTH=LOGIN PLAIN\r\n", AUTH=b"235 in\r\n") as server:
        open_link(with_login(server)).quit()
        assert server.commands[1].startswith(b"AUTH PLAIN ")


def test_a_long_password_waits_for_its_challenge() -> None:
    password = "x" * 400
    heard: list[bytes] = []

    def ask(sock: socket.socket) -> bytes:
        sock.sendall(b"334 \r\n")
        heard.append(sock.recv(4096))
        return b"235 in\r\n"

    with Scripted(EHLO=offering("PLAIN"), AUTH=ask) as server:
        open_link(dialling(server, user="bob", secret=lambda: password)).quit()
        assert server.commands[1] == b"AUTH PLAIN\r\n"
        assert heard == [encoded(b"\0bob\0" + password.encode()) + b"\r\n"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"535 5.7.8 wrong\r\n", PolicyError), (b"534 5.7.9 too weak\r\n", PolicyError),
        (b"530 first TLS\r\n", PolicyError), (b"500 what\r\n", PolicyError),
        (b"454 4.7.0 later\r\n", TemporaryError), (b"432 4.7.12 expired\r\n", TemporaryError),
        (b"421 bye\r\n", TemporaryError), (None, TemporaryError), (b"250 what\r\n", ProtocolError),
        (b"334 %%%\r\n", ProtocolError), (challenge(b"one more"), ProtocolError), (b"garbage\r\n", ProtocolError),
    ],
)  # fmt: skip
def test_a_login_that_fails(reply: bytes | None, kind: type[MailError]) -> None:
    with Scripted(EHLO=offering("PLAIN"), AUTH=reply) as server:
        error = fails(with_login(server), kind)
        assert SECRET not in str(error)
        assert encoded(b"\0bob\0" + SECRET.encode()).decode() not in str(error)


def test_what_is_not_base64_is_answered_with_a_star() -> None:
    heard: list[bytes] = []

    def hear(sock: socket.socket) -> None:
        sock.sendall(b"334 no base64!\r\n")
        heard.append(sock.recv(4096))

    with Scripted(EHLO=offering("LOGIN"), AUTH=hear) as server:
        fails(with_login(server), RemoteProtocolError, "not base64")
        eventually_heard(heard)
        assert heard == [b"*\r\n"]


def eventually_heard(heard: list[bytes]) -> None:
    from tests.servers import eventually

    eventually(lambda: heard, "an answer")


def scram_server(proof: Callable[[bytes], bytes]) -> Callable[[socket.socket], bytes]:
    """SCRAM with a salt and keys of its own; *proof* bends the server's last message."""

    def serve(sock: socket.socket) -> bytes:
        keys = scram.derive_keys(SECRET, b"salt", 4096)
        first = scram.parse_first(serve.first, {}, plus=False)  # type: ignore[attr-defined]
        said = scram.server_first(first, "theirs", keys)
        sock.sendall(challenge(said))
        final = scram.server_final(first, said, base64.b64decode(sock.recv(4096)), keys, b"")
        bent = proof(final)
        if bent:
            sock.sendall(challenge(bent))
            sock.recv(4096)
        return b"235 in\r\n"

    return serve


def scram_dialogue(proof: Callable[[bytes], bytes]) -> Scripted:
    serve = scram_server(proof)
    server = Scripted(EHLO=offering("PLAIN", "SCRAM-SHA-256"), AUTH=serve)

    def begin(sock: socket.socket) -> bytes:
        serve.first = base64.b64decode(server.commands[-1].split()[2])  # type: ignore[attr-defined]
        return serve(sock)

    server.answers["AUTH"] = [begin]
    return server


@pytest.mark.usefixtures("stranger")
def test_scram_is_best_and_may_go_in_the_clear() -> None:
    with scram_dialogue(lambda final: final) as server:
        open_link(with_login(server)).quit()
        assert server.commands[1].startswith(b"AUTH SCRAM-SHA-256 ")


@pytest.mark.parametrize("bend", [lambda _: b"", lambda _: b"v=AAAA", lambda final: b"v=AAAA" + final[6:]])
def test_a_server_that_does_not_know_the_password_is_none(bend: Callable[[bytes], bytes]) -> None:
    with scram_dialogue(bend) as server:
        fails(with_login(server), RemoteProtocolError, "login failed")


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize(
    ("mechanism", "is_token"), [("PLAIN", False), ("LOGIN", False), ("XOAUTH2", True), ("OAUTHBEARER", True)]
)
def test_no_secret_in_the_clear(mechanism: str, is_token: bool) -> None:
    asked: list[str] = []
    with Scripted(EHLO=offering(mechanism), AUTH=b"235 in\r\n") as server:
        wanted = {"is_token": is_token, "secret": lambda: asked.append("x") or SECRET}
        fails(with_login(server, **wanted), PolicyError, "--tls starttls")
        fails(with_login(server, auth=mechanism.lower(), **wanted), PolicyError, "--tls starttls")
        assert not any(line.startswith(b"AUTH") for line in server.commands)
        assert not asked


@pytest.mark.usefixtures("stranger")
def test_no_secret_under_tls_with_anybody(files: tuple[str, str]) -> None:
    """Whoever answered in the server's place would have it."""
    session = tls_session(files, {b"EHLO": offering("PLAIN"), b"AUTH": b"235 in\r\n"})
    with Scripted(EHLO=STARTTLS, STAR=session) as server:
        fails(with_login(server), PolicyError, "--tls starttls")
        assert [line[:4] for line in session.heard] == [b"EHLO"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("stranger")
def test_a_secret_under_tls_with_the_right_server(files: tuple[str, str]) -> None:
    session = tls_session(files, {b"EHLO": offering("PLAIN"), b"AUTH": b"235 in\r\n"})
    with Scripted(EHLO=STARTTLS, STAR=session) as server:
        open_link(with_login(server, tls="starttls", cafile=files[0])).close()
        assert [line[:4] for line in server.commands] == [b"EHLO", b"STAR"]


@pytest.mark.parametrize(
    ("offer", "options", "told"),
    [
        (offering("CRAM-MD5", "GSSAPI"), {}, "CRAM-MD5, GSSAPI"),
        (offering("PLAIN"), {"auth": "login"}, "offers PLAIN; wanted: LOGIN"),
        (offering("PLAIN"), {"is_token": True}, "offers PLAIN; wanted: OAUTHBEARER, XOAUTH2"),
        (b"250 test\r\n", {}, "offers none; wanted: SCRAM-SHA-256, PLAIN, LOGIN$"),
        (b"250-test\r\n250 STARTTLS\r\n", {"tls": "off"}, "offers none;.*; try --tls starttls$"),
        (offering("\x1b[31mX"), {}, r"\?\[31MX"),
    ],
)
def test_no_login_that_fits(offer: bytes, options: dict[str, Any], told: str) -> None:
    with Scripted(EHLO=offer) as server:
        fails(with_login(server, **options), PolicyError, told)


@pytest.mark.parametrize(("mechanism", "answer"), [("OAUTHBEARER", b"AQ==\r\n"), ("XOAUTH2", b"\r\n")])
def test_a_token_that_is_refused(mechanism: str, answer: bytes) -> None:
    heard: list[bytes] = []

    def refuse(sock: socket.socket) -> bytes:
        sock.sendall(
            challenge(b'{"status":"401","error_description":"expired\x1b"}'.replace(b"\x1b", b"\\u001b"))
        )
        heard.append(sock.recv(4096))
        return b"535 5.7.8 no\r\n"

    with Scripted(EHLO=offering(mechanism), AUTH=refuse) as server:
        error = fails(with_login(server, is_token=True), PolicyError, r"535 5.7.8 no \(401 expired\?\)")
        assert heard == [answer]
        assert SECRET not in str(error)


def test_hosts_of_mx_records_get_no_login() -> None:
    with Scripted(EHLO=offering("PLAIN")) as server:
        found = open_link(
            with_login(server)._replace(route=Route("mx", port=server.port)), "localhost", ("127.0.0.1",)
        )
        found.quit()
        assert not any(line.startswith(b"AUTH") for line in server.commands)


@pytest.mark.parametrize("mechanisms", [("PLAIN",), ("LOGIN",), ("SCRAM-SHA-256",)])
def test_transcripts_hold_no_secret(mechanisms: tuple[str, ...], tmp_path: Path) -> None:
    def prompts(sock: socket.socket) -> bytes:
        for prompt in (b"334 VXNl", b"cm5hbWU6\r\n"):
            sock.sendall(prompt)
        sock.recv(4096)
        sock.sendall(challenge(b"Password:"))
        sock.recv(4096)
        return b"235 in\r\n"

    path = tmp_path / "transcript"
    server = {
        "PLAIN": lambda: Scripted(EHLO=offering("PLAIN"), AUTH=b"235 in\r\n"),
        "LOGIN": lambda: Scripted(EHLO=offering("LOGIN"), AUTH=prompts),
        "SCRAM-SHA-256": lambda: scram_dialogue(lambda final: final),
    }[mechanisms[0]]()
    with server:
        for _ in range(2):
            open_link(with_login(server, transcript=str(path), auth=mechanisms[0])).quit()
    lines = path.read_text().splitlines()
    assert lines.count("S: 235 in") == 2, "the second session follows the first"
    for line in lines:
        if line.startswith("C: ") and line[3:7] not in ("EHLO", "QUIT", "AUTH"):
            assert line == "C: ***"
        if line.startswith("C: AUTH"):
            assert line in (f"C: AUTH {mechanisms[0]} ***", "C: AUTH LOGIN")
        if line.startswith("S: 334"):
            assert line == "S: 334 ***"
    assert stat_mode(path) == 0o600


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_password_is_asked_for_when_it_is_needed() -> None:
    def ask() -> str:
        raise AssertionError("asked for nothing")

    with Scripted(greeting=b"554 no\r\n") as server:
        fails(dialling(server, user="bob", secret=ask), RefusedError)
    with Scripted(EHLO=offering("GSSAPI")) as server:
        fails(dialling(server, user="bob", secret=ask), PolicyError)


def test_names_of_the_policies() -> None:
    assert (connect.OFF, connect.OPPORTUNISTIC, connect.STARTTLS, connect.IMPLICIT) == (
        "off", "opportunistic", "starttls", "implicit",
    )  # fmt: skip
