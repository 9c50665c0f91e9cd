"""A client engine over a socket: every wait has an end, the server's last words are heard."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mailtools.core.auth.client import Credentials, plain
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import TemporaryError, UnknownHostError
from mailtools.core.smtp.client import SmtpClient
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import LostConnectionError, Pump, connect, connect_unix
from mailtools.system.net.transcript import Transcript
from mailtools.system.tls.certificates import Certificates, self_signed
from mailtools.system.tls.client import ClientTls, Policy

UNVERIFIED = Policy(is_verified=False)


@contextmanager
def against(
    serve: Callable[[socket.socket], object], timeout: float = 20.0
) -> Iterator[tuple[Pump, SmtpClient]]:
    """A pump with an SMTP engine, and *serve* at its other end in a thread."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        with theirs:
            theirs.settimeout(20)
            serve(theirs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    engine = SmtpClient()
    one = Pump(engine, ours, timeout)
    try:
        yield one, engine
    finally:
        one.close()
        thread.join(20)


def test_events_come_whatever_the_pieces() -> None:
    def serve(sock: socket.socket) -> None:
        for octet in b"220-hello\r\n220 there\r\n":
            sock.sendall(bytes([octet]))

    with against(serve) as (one, _):
        assert one.next_event().reply.text == "hello\nthere"


def test_the_end_of_the_connection_is_an_error() -> None:
    with against(lambda sock: sock.sendall(b"220 te")) as (one, _):
        with pytest.raises(LostConnectionError, match="closed"):
            one.next_event()
        with pytest.raises(LostConnectionError):
            one.next_event()


def test_a_silent_server_is_left() -> None:
    waiting = threading.Event()
    with against(lambda sock: waiting.wait(20), timeout=0.05) as (one, _):
        with pytest.raises(TemporaryError, match=r"within 0\.05 seconds"):
            one.next_event()
        waiting.set()


def test_a_server_that_stops_reading_is_left() -> None:
    waiting = threading.Event()
    with against(lambda sock: waiting.wait(20), timeout=0.05) as (one, engine):
        engine.message_chunk(b"x" * 30_000_000 + b"\r\n")
        with pytest.raises(TemporaryError, match="did not answer"):
            one.flush()
        waiting.set()


def test_a_server_that_answers_before_it_reads_on_does_not_lock_us_up() -> None:
    """Both sides' buffers would be full, had we to send all before we read."""
    count = 10_000

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"220 test\r\n")
        answered = 0
        rest = b""
        while answered < count:
            octets = rest + sock.recv(1 << 16)
            lines = octets.count(b"\r\n")
            rest = octets.rpartition(b"\r\n")[2]
            sock.sendall((b"250 " + b"y" * 200 + b"\r\n") * lines)
            answered += lines

    with against(serve) as (one, engine):
        one.next_event()
        for _ in range(count):
            engine.command("NOOP", "x" * 50)
        one.flush()
        for _ in range(count):
            assert one.next_event().reply.code == 250


def test_the_last_words_of_a_server_count_more_than_a_broken_pipe() -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(b"220 test\r\n")
        sock.recv(10)
        sock.sendall(b"552 5.3.4 too large for me\r\n")

    with against(serve) as (one, engine):
        one.next_event()
        engine.command("MAIL", "FROM:<>")
        engine.message_chunk(b"x" * 20_000_000 + b"\r\n")
        one.flush()
        assert one.next_event().reply.code == 552
        engine._awaited.append("x")
        with pytest.raises(LostConnectionError):
            one.next_event()


def test_what_the_engine_finds_wrong_comes_through() -> None:
    with against(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n")) as (one, _):
        with pytest.raises(RemoteProtocolError, match="not an SMTP reply"):
            one.next_event()


def test_both_sides_are_in_the_transcript() -> None:
    lines: list[bytes] = []
    ours, theirs = socket.socketpair()
    engine = SmtpClient()
    one = Pump(engine, ours, 20, Transcript(lines.append, lambda: lines.append(b"closed")))
    theirs.sendall(b"220 test\r\n")
    one.next_event()
    engine.command("NOOP")
    one.flush()
    one.close()
    theirs.close()
    assert lines == [b"S: 220 test\n", b"C: NOOP\n", b"closed"]


# -- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(*self_signed(str(tmp_path_factory.mktemp("root")), "localhost"), ())


def secure(certificates: Certificates, sock: socket.socket) -> ssl.SSLSocket:
    return certificates.context.wrap_socket(sock, server_side=True)


def test_all_goes_through_tls_from_then_on(certificates: Certificates) -> None:
    heard: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        with secure(certificates, sock) as inside:
            inside.sendall(b"220 test\r\n")
            heard.append(inside.recv(100))
            inside.sendall(b"250 o")
            inside.sendall(b"k\r\n")
            heard.append(inside.recv(100))  # our goodbye

    with against(serve) as (one, engine):
        one.start_tls(ClientTls("localhost", UNVERIFIED))
        assert one.next_event().reply.code == 220
        engine.command("NOOP")
        assert one.next_event().reply.text == "ok"
    assert heard == [b"NOOP\r\n", b""]


def test_halves_that_do_not_wait_work_under_tls(certificates: Certificates) -> None:
    """More than the socket takes at once, while the server answers."""
    size = 8_000_000

    def serve(sock: socket.socket) -> None:
        with secure(certificates, sock) as inside:
            inside.sendall(b"220 test\r\n")
            got = 0
            while got < size + 5:  # what ends the message is one more
                got += len(inside.recv(1 << 16))
                inside.sendall(b"250-%d\r\n" % got if got == size else b"")
            inside.sendall(b"250 %d\r\n" % got)

    with against(serve) as (one, engine):
        one.start_tls(ClientTls("localhost", UNVERIFIED))
        one.next_event()
        engine.message_chunk((b"x" * 998 + b"\r\n") * (size // 1000) + b"..")
        engine.end_message()
        waits = 0
        while not one.push():
            assert one.poll_event() is None
            one.wait()
            waits += 1
        while (event := one.poll_event()) is None:
            one.wait()
        assert event.reply.text.startswith(str(size + 5)[:4])
        assert waits


def test_what_is_not_the_server_gets_an_alert(certificates: Certificates) -> None:
    seen: list[Exception] = []

    def serve(sock: socket.socket) -> None:
        try:
            secure(certificates, sock).recv(1)
        except OSError as error:
            seen.append(error)

    with against(serve) as (one, _), pytest.raises(RemoteProtocolError, match="not trusted"):
        one.start_tls(ClientTls("localhost", Policy()))
    assert "ALERT" in str(seen[0]).upper()


@pytest.mark.parametrize("octets", [b"", b"\x16", b"\x16\x03\x03\x00\x50\x02"])
def test_an_end_in_the_handshake(octets: bytes) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(octets)

    with (
        against(serve) as (one, _),
        pytest.raises(LostConnectionError, match="in the middle of the TLS handshake"),
    ):
        one.start_tls(ClientTls("localhost", UNVERIFIED))


def test_silence_in_the_handshake() -> None:
    done = threading.Event()
    with against(lambda _: done.wait(20), timeout=0.05) as (one, _):
        with pytest.raises(TemporaryError, match=r"within 0\.05 seconds"):
            one.start_tls(ClientTls("localhost", UNVERIFIED))
        done.set()


def test_an_end_after_the_handshake(certificates: Certificates) -> None:
    """With a goodbye and without: what came before counts."""
    for polite in (True, False):

        def serve(sock: socket.socket, polite: bool = polite) -> None:
            inside = secure(certificates, sock)
            inside.sendall(b"220 test\r\n")
            if polite:
                with suppress(OSError):  # our own goodbye does not come
                    inside.unwrap()
            inside.close()

        with against(serve) as (one, _):
            one.start_tls(ClientTls("localhost", UNVERIFIED))
            assert one.next_event().reply.code == 220
            with pytest.raises(LostConnectionError):
                one.next_event()


def test_a_deadline_holds_whatever_comes() -> None:
    """A server that is never silent."""
    done = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"220-")
        while not done.wait(0.01):
            sock.sendall(b"x")

    with against(serve) as (one, _):
        one.deadline = time.monotonic() + 0.1
        with pytest.raises(TemporaryError, match="too slow"):
            one.next_event()
        done.set()


def test_secrets_are_masked_in_the_transcript() -> None:
    lines: list[bytes] = []
    ours, theirs = socket.socketpair()
    engine = SmtpClient()
    one = Pump(engine, ours, 20, Transcript(lines.append, lambda: None))
    theirs.sendall(b"220 test\r\n")
    one.next_event()
    engine.auth("PLAIN", plain(Credentials("bob", "x" * 500)))
    one.flush()
    theirs.sendall(b"334 c2VjcmV0\r\n")
    one.wait()
    assert one.poll_event() is None
    one.close()
    assert len(theirs.recv(4096)) > 500
    theirs.close()
    assert lines == [b"S: 220 test\n", b"C: AUTH PLAIN\n", b"S: 334 ***\n", b"C: ***\n"]


@pytest.mark.parametrize(("host", "private"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False)])
def test_who_can_listen(host: str, private: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = connect("127.0.0.1", listener.getsockname()[1], 20)
        one = Pump(SmtpClient(), sock, 20)
        assert one.is_private
        monkeypatch.setattr(
            one, "_sock", type("Far", (), {"family": 2, "getpeername": lambda _: (host, 25)})()
        )
        assert one.is_private == private
        sock.close()


# -- connecting --------------------------------------------------------------------------------------------


def test_a_connection_does_not_wait_for_delayed_acknowledgements() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = connect("127.0.0.1", listener.getsockname()[1], 20)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


def test_the_second_address_is_tried_where_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", to) for to in (dead, listener.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        sock = connect("two.example.org", 25, 20)
        assert sock.getpeername() == listener.getsockname()
        sock.close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
        with pytest.raises(TemporaryError, match=r"two\.example\.org:25: Connection refused"):
            connect("two.example.org", 25, 20)


def test_all_addresses_together_have_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full:  # a listener whose queue is full answers nobody
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            filler.append(sock)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 50
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        begun = time.monotonic()
        with pytest.raises(TemporaryError, match="timed out"):
            connect("slow.example.org", 25, 0.2)
        assert time.monotonic() - begun < 10
        for sock in filler:
            sock.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnknownHostError),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), UnknownHostError),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), TemporaryError),
        (UnicodeError("label too long"), UnknownHostError),
    ],
)
def test_names_that_do_not_resolve(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(kind, match=r"mx\.example\.org"):
        connect("mx.example.org", 25, 1)


@pytest.mark.parametrize("host", ["x" * 64 + ".test", "a..b", "ü" * 70 + ".test", "."])
def test_names_that_cannot_be_names(host: str) -> None:
    with pytest.raises((UnknownHostError, TemporaryError)):
        connect(host, 25, 1)


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(TemporaryError, match="No such file"):
        connect_unix(str(path), 1)
    with pytest.raises(TemporaryError, match="too long"):
        connect_unix("x" * 200, 1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connect_unix(str(path), 1).close()
    with pytest.raises(TemporaryError, match="refused"):
        connect_unix(str(path), 1)


def test_no_descriptor_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for _ in range(5):
        with pytest.raises(TemporaryError):
            client_connection.connect("127.0.0.1", port, 1)
    assert len(os.listdir("/proc/self/fd")) == before
