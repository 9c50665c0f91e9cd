"""``mailtools serve-pop3`` as a process, over sockets."""

import hashlib
import os
import poplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.system.files import durable
from tests.boxes import append, number, rewrite_in_place, subjects
from tests.servers import DEADLINE, Pop3Server, eventually


class Client:
    """Says lines, reads answers."""

    def __init__(self, server: Pop3Server, user: str = "bob", password: str = "secret") -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self.file = self.sock.makefile("rb")
        self.greeting = self.file.readline()
        if user:
            assert self.ask(f"USER {user}").startswith(b"+OK")
            self.login = self.ask(f"PASS {password}")

    def ask(self, line: str) -> bytes:
        self.sock.sendall(line.encode() + b"\r\n")
        return self.file.readline()

    def lines(self, line: str) -> bytes:
        """A good answer of many lines, without the last."""
        assert self.ask(line).startswith(b"+OK"), line
        return self.rest()

    def rest(self) -> bytes:
        octets = b""
        while not (octets.endswith(b"\r\n.\r\n") or octets == b".\r\n"):
            line = self.file.readline()
            assert line
            octets += line
        return octets[:-3]

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    append(root / "bob" / "INBOX.mbox", *map(number, range(5)))
    (root / "users").write_text("bob:{PLAIN}secret\nann:{PLAIN}pass word\n")
    return root


@pytest.fixture
def server(root: Path) -> Iterator[Pop3Server]:
    with Pop3Server(root, "--tls-self-signed") as server:
        yield server


def test_a_session_of_pythons_poplib(server: Pop3Server) -> None:
    box = poplib.POP3("127.0.0.1", server.port, timeout=DEADLINE)
    assert {"UIDL", "TOP", "PIPELINING", "STLS", "USER", "UTF8", "RESP-CODES", "SASL"} <= set(box.capa())
    box.stls(ssl._create_unverified_context())
    box.utf8()
    box.user("bob")
    box.pass_("secret")
    assert box.stat() == (5, 5 * len(number(0)))
    assert [line.split()[1] for line in box.list()[1]] == [str(len(number(0))).encode()] * 5
    names = [line.split()[1] for line in box.uidl()[1]]
    assert len(set(names)) == 5
    assert b"\r\n".join(box.retr(3)[1]) + b"\r\n" == number(2)
    assert box.top(1, 1)[1][-1] == b"x" * 70
    box.dele(2)
    with pytest.raises(poplib.error_proto, match="no such message"):
        box.retr(2)
    assert box.stat()[0] == 4
    box.rset()
    assert box.stat()[0] == 5
    box.dele(1)
    box.quit()
    assert subjects(server.inbox("bob")) == [f"{n:06d}" for n in range(1, 5)]


def test_apop(server: Pop3Server) -> None:
    box = poplib.POP3("127.0.0.1", server.port, timeout=DEADLINE)
    box.apop("ann", "pass word")
    assert box.stat() == (0, 0)
    box.quit()
    box = poplib.POP3("127.0.0.1", server.port, timeout=DEADLINE)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        box.apop("ann", "wrong")
    box.close()


def test_apop_is_not_offered_where_no_password_is_in_the_clear(root: Path) -> None:
    (root / "users").write_text("bob:{SCRAM-SHA-256}4096,c2FsdA==,a2V5,a2V5\n")
    with Pop3Server(root) as server:
        client = Client(server, "")
        assert b"<" not in client.greeting
        digest = hashlib.md5(b"secret").hexdigest()
        assert client.ask(f"APOP bob {digest}").startswith(b"-ERR")
        client.close()


def test_a_name_with_a_domain(root: Path) -> None:
    with Pop3Server(root, "--auth-username-format", "%n") as server:
        client = poplib.POP3(server.host, server.port)
        client.user("bob@example.org")
        assert client.pass_("secret").startswith(b"+OK")
        assert client.stat()[0] > 0
        client.quit()


def test_a_password_with_spaces(server: Pop3Server) -> None:
    client = Client(server, "ann", "pass word")
    assert client.login.startswith(b"+OK 0 messages")
    client.close()


@pytest.mark.parametrize(("user", "password"), [("bob", "wrong"), ("nobody", "secret"), ("../bob", "secret")])
def test_whoever_it_was_the_answer_is_the_same(server: Pop3Server, user: str, password: str) -> None:
    client = Client(server, user, password)
    assert client.login == b"-ERR [AUTH] wrong name or password\r\n"
    client.close()


@pytest.mark.parametrize("end", ["EOF", "reset", "RSET and QUIT"])
def test_nothing_is_removed_without_quit(server: Pop3Server, end: str) -> None:
    client = Client(server)
    assert client.ask("DELE 1").startswith(b"+OK")
    if end == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    elif end != "EOF":
        client.ask("RSET")
        client.ask("QUIT")
    client.close()
    again = Client(server)
    assert again.ask("STAT").startswith(b"+OK 5 ")
    again.close()
    assert len(subjects(server.inbox("bob"))) == 5


def test_the_session_goes_on_with_what_it_saw(server: Pop3Server) -> None:
    inbox = server.inbox("bob")
    client = Client(server)
    names = client.lines("UIDL")
    append(inbox, number(10))
    assert client.ask("STAT").startswith(b"+OK 5 ")
    client.ask("DELE 2")
    rewrite_in_place(inbox, [5, 4, 3, 2, 0], b"Status: RO\n")  # another program takes 2 out as well
    assert client.lines("RETR 5") == number(4)
    assert client.ask("QUIT").startswith(b"+OK")
    client.close()
    assert subjects(inbox) == ["000010", "000004", "000003", "000002", "000000"]
    again = Client(server)
    assert {line.split()[1] for line in names.splitlines()} & {
        line.split()[1] for line in again.lines("UIDL").splitlines()
    } == {line.split()[1] for line in names.splitlines() if not line.startswith(b"2 ")}
    again.close()


def test_two_sessions_remove_what_each_marked(server: Pop3Server) -> None:
    one, two = Client(server), Client(server)
    for client, numbers in ((one, (1, 2)), (two, (2, 3))):
        for n in numbers:
            assert client.ask(f"DELE {n}").startswith(b"+OK")
    assert one.ask("QUIT").startswith(b"+OK")
    assert two.ask("QUIT").startswith(b"+OK")
    assert subjects(server.inbox("bob")) == ["000003", "000004"]
    one.close()
    two.close()


def test_an_mbox_that_cannot_be_written_is_told_at_quit(server: Pop3Server) -> None:
    client = Client(server)
    client.ask("DELE 1")
    state = server.inbox("bob").parent / ".mailtools"
    (state / "INBOX.mbox.new").mkdir()
    assert client.ask("QUIT").startswith(b"-ERR [SYS/TEMP] nothing was removed")
    client.close()
    assert len(subjects(server.inbox("bob"))) == 5


def test_who_does_not_read_keeps_nobody_waiting(root: Path) -> None:
    append(root / "bob" / "INBOX.mbox", *(number(n, 30_000) for n in range(10, 400)))
    with Pop3Server(root) as server:
        idle = Client(server)
        idle.sock.sendall(b"".join(b"RETR %d\r\n" % n for n in range(1, 396)) * 5)
        assert idle.file.readline().startswith(b"+OK")
        other = Client(server)
        assert other.lines("RETR 7").startswith(b"From: ann")
        append(root / "bob" / "INBOX.mbox", number(500))  # nobody holds a lock
        other.ask("DELE 1")
        assert other.ask("QUIT").startswith(b"+OK")
        other.close()
        for n in (*range(5), *range(10, 400)):
            assert idle.rest() == number(n, 30_000 if n >= 10 else 100)
            assert idle.file.readline().startswith(b"+OK")
        idle.close()
        assert server.memory() < 80 << 20


def test_what_was_asked_behind_answers_that_nobody_read_is_not_done(root: Path) -> None:
    """A client that pipelines RETR, DELE and QUIT, and vanishes before it got the messages."""
    append(root / "bob" / "INBOX.mbox", *(number(n, 300_000) for n in range(10, 60)))
    with Pop3Server(root) as server:
        client = Client(server)
        lines = [b"RETR %d\r\n" % n for n in range(1, 56)] + [b"DELE %d\r\n" % n for n in range(1, 56)]
        client.sock.sendall(b"".join(lines) + b"QUIT\r\n")
        assert client.file.readline().startswith(b"+OK")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        again = Client(server)
        assert again.ask("STAT").startswith(b"+OK 55 ")
        again.close()
        assert server.stop() == 0
    assert len(subjects(root / "bob" / "INBOX.mbox")) == 55


def test_locked_maildrops_keep_nobody_else_waiting(root: Path) -> None:
    """More of them than there are threads to open maildrops."""
    with Pop3Server(root) as server:
        (root / "bob" / "INBOX.mbox.lock").write_text(f"{os.getpid()}\n")
        # From as many addresses: attempts from one that are not checked yet count as guesses, and would be slowed.
        waiting = [
            socket.create_connection(("127.0.0.1", server.port), DEADLINE, (f"127.0.0.{10 + n}", 0))
            for n in range(8)
        ]
        for sock in waiting:
            sock.sendall(b"USER bob\r\nPASS secret\r\n")
        client = Client(server, "ann", "pass word")
        assert client.login.startswith(b"+OK 0 messages")
        client.close()
        (root / "bob" / "INBOX.mbox.lock").unlink()
        for sock in waiting:
            with sock, sock.makefile("rb") as file:
                assert [file.readline()[:3] for _ in range(3)] == [b"+OK"] * 3


def test_a_large_message_in_bounded_memory(root: Path) -> None:
    line = b"a line without end" * 200_000 + b"\r\n"
    large = number(7) + line * 8 + b".dot\r\n" * 100_000
    append(root / "ann" / "INBOX.mbox", large)
    with Pop3Server(root) as server:
        client = Client(server, "ann", "pass word")
        assert client.ask("LIST 1") == b"+OK 1 %d\r\n" % len(large)
        client.sock.sendall(b"RETR 1\r\n")
        assert client.file.readline().startswith(b"+OK")
        came = client.file.read(len(large) + 100_000)  # its dots are stuffed
        assert came[: -len(b".dot\r\n" * 100_000) - 100_000] == number(7) + line * 8
        assert client.file.readline() == b".\r\n"
        assert client.lines("TOP 1 0").endswith(b"\r\n\r\n")
        client.close()
        assert server.memory() < 80 << 20


def test_what_was_said_before_tls_is_forgotten(server: Pop3Server) -> None:
    client = Client(server, "")
    client.ask("USER bob")
    client.sock.sendall(b"STLS\r\nPASS secret\r\n")
    assert client.file.readline().startswith(b"+OK")
    context = ssl._create_unverified_context()
    with context.wrap_socket(client.sock, server_hostname="localhost") as tls:
        tls.sendall(b"PASS secret\r\n")
        assert tls.recv(100).startswith(b"-ERR say USER first")


def test_a_login_delay(root: Path) -> None:
    with Pop3Server(root, "--login-delay", "1h", "--expire", "30d") as server:
        client = Client(server)
        assert client.login.startswith(b"+OK")
        client.close()
        client = Client(server)
        assert client.login.startswith(b"-ERR [LOGIN-DELAY]")
        assert {b"LOGIN-DELAY 3600", b"EXPIRE 30"} <= set(client.lines("CAPA").split(b"\r\n"))
        client.close()


def test_anybody_with_dev(tmp_path: Path) -> None:
    with Pop3Server(tmp_path / "root", "--dev") as server:
        for name in ("eve", "../../etc", "a/b", "users", "\u00fc"):
            client = Client(server, name, "x")
            assert client.login.startswith(b"+OK 0 messages"), name
            client.close()
        client = Client(server, "x" * 300, "x")
        assert client.login.startswith(b"-ERR [SYS/PERM]")
        client.close()
    assert {path.name for path in tmp_path.iterdir()} == {"root", "root.pop3.port"}


def test_sigterm_while_somebody_is_in_a_session(server: Pop3Server) -> None:
    client = Client(server)
    client.ask("DELE 1")
    assert server.stop() == 0
    assert b"shutting down" in client.file.read()
    assert len(subjects(server.inbox("bob"))) == 5
    client.close()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 78, "make a user with: mailtools user add NAME"),
        (("--dev", "--host", "0.0.0.0"), 78, "--dev lets anybody in"),
        (("--dev", "--implicit-tls"), 78, "TLS needs a certificate"),
        (("--dev", "--expire", "soon"), 64, "write never, or a number of days"),
    ],
)
def test_what_cannot_start(tmp_path: Path, options: tuple[str, ...], code: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mailtools", "serve-pop3", "--port", "0", "--root", str(tmp_path), *options],
        capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == code
    assert words in done.stderr


def test_a_user_who_is_added_is_there(server: Pop3Server) -> None:
    with (server.root / "users").open("a") as file:
        file.write("new:{PLAIN}x\n")

    def knows() -> bool:
        client = Client(server, "new", "x")
        client.close()
        return client.login.startswith(b"+OK")

    eventually(knows, "the new user")


def test_passwords_are_not_in_the_transcript(root: Path, tmp_path: Path) -> None:
    with Pop3Server(root, "--transcript", str(tmp_path / "said")) as server:
        client = Client(server)
        client.ask("AUTH PLAIN AGJvYgBzZWNyZXQ=")
        client.ask("QUIT")
        client.close()
        eventually(lambda: list((tmp_path / "said").iterdir()), "the transcript")
    text = "".join(path.read_text() for path in (tmp_path / "said").iterdir())
    assert "C: USER bob" in text
    assert "C: PASS ***" in text
    assert "secret" not in text and "AGJvYgBzZWNyZXQ" not in text


def test_an_mbox_locked_by_another_program_is_a_temporary_failure(root: Path) -> None:
    inbox = root / "bob" / "INBOX.mbox"
    with Pop3Server(root) as server:
        inbox.write_text("no mbox\n")
        client = Client(server)
        assert client.login == b"-ERR [SYS/PERM] the maildrop cannot be opened\r\n"
        client.close()
    assert durable.STATE_FOLDER == ".mailtools"
