"""`mailtools serve-smtp` with users, TLS and AUTH, from outside."""

import base64
import contextlib
import json
import signal
import smtplib
import socket
import ssl
import statistics
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailtools.services.users import edit
from mailtools.system.tls.certificates import self_signed
from tests.servers import DEADLINE, Dialogue, Server, eventually, mailtools


def plain(name: str, password: str, authzid: str = "") -> str:
    return base64.b64encode(f"{authzid}\0{name}\0{password}".encode()).decode()


def house(root: Path, text: str = "bob:{PLAIN}secret\n") -> Path:
    root.mkdir(exist_ok=True)
    (root / "users").write_text(text)
    return root


def trusting(root: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(root / ".tls" / "cert.pem"))


def own_address() -> str:
    """An address of this machine that is not loopback; connecting to it leaves it no more than loopback does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(sock.getsockname()[0])


class Secure(Dialogue):
    """A client that can begin TLS."""

    def start_tls(self, context: ssl.SSLContext) -> None:
        assert self.ask("STARTTLS").startswith(b"220")
        self.file.close()
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile("rb")

    def hello(self) -> bytes:
        return self.ask("EHLO x")


def connect(server: Server, host: str = "127.0.0.1", source: str = "") -> Secure:
    client = Secure(socket.create_connection((host, server.port), DEADLINE, (source, 0)))
    assert client.reply().startswith(b"220")
    return client


# -- TLS -----------------------------------------------------------------------------------------------------


def test_starttls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--tls-self-signed") as server:
        client = connect(server)
        assert b"STARTTLS" in client.hello()
        client.start_tls(trusting(root))
        assert b"STARTTLS" not in client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"235")
        assert client.ask("MAIL FROM:<>").startswith(b"250")
        assert client.ask("RCPT TO:<bob@localhost>").startswith(b"250")
        assert client.ask("DATA").startswith(b"354")
        client.say(b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n.\r\n")
        assert client.reply().startswith(b"250")
        server.process.terminate()
        _, err = server.process.communicate(timeout=DEADLINE)
    fingerprint = subprocess.run(
        ["openssl", "x509", "-in", str(root / ".tls" / "cert.pem"), "-noout", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True,
    ).stdout.strip().partition("=")[2]  # fmt: skip
    assert f"certificate SHA256:{fingerprint}\n" in err
    assert " with ESMTPSA id " in server.inbox("bob").read_text()
    with Server(root, "--tls-self-signed") as server:
        connect(server).close()
        server.process.terminate()
        assert fingerprint in server.process.communicate(timeout=DEADLINE)[1], "it is kept"


def test_implicit_tls(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--tls-self-signed", "--implicit-tls") as server:
        sock = trusting(root).wrap_socket(
            socket.create_connection(("127.0.0.1", server.port), DEADLINE), server_hostname="127.0.0.1"
        )
        client = Secure(sock)
        assert client.reply().startswith(b"220")
        assert b"STARTTLS" not in client.hello()
        assert client.ask("QUIT").startswith(b"221")
        assert client.file.read() == b""
        clear = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        clear.sendall(b"EHLO x\r\n")
        assert not clear.recv(100).startswith(b"220"), "no word in the clear"


def test_what_comes_with_starttls_is_never_heard(tmp_path: Path) -> None:
    """CVE-2011-0411: in the same segment, and after it."""
    root = house(tmp_path / "root")
    with Server(root, "--tls-self-signed") as server:
        client = connect(server)
        client.hello()
        client.say(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<mallory@x>\r\n")
        assert client.reply().startswith(b"220")
        client.file.close()
        client.sock = trusting(root).wrap_socket(client.sock, server_hostname="localhost")
        client.file = client.sock.makefile("rb")
        assert client.ask("MAIL FROM:<a@x>").startswith(b"503")
        assert client.ask("QUIT").startswith(b"221")
        client = connect(server)
        client.hello()
        client.ask("STARTTLS")
        client.say(b"EHLO late\r\nMAIL FROM:<mallory@x>\r\n")
        assert client.file.read(1) in (b"", b"\x15"), "cut, or an alert"


def test_a_browser_is_turned_away(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--tls-self-signed", "--implicit-tls") as server:
        context = trusting(root)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(sock, server_hostname="localhost").recv(1)
        context = trusting(root)
        sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", server.port), DEADLINE), server_hostname="localhost"
        )
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@x>\r\n")
        client = Secure(sock)
        assert client.reply().startswith(b"220")
        assert client.reply().startswith(b"554 5.5.1")
        assert client.file.read() == b""


def test_a_handshake_that_stalls_is_cut_and_keeps_nobody_out(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--tls-self-signed", "--timeout", "500ms") as server:
        stalled = []
        for _ in range(20):
            client = connect(server)
            client.ask("EHLO x")
            client.ask("STARTTLS")
            client.say(b"\x16\x03\x01")
            stalled.append(client)
        good = connect(server)
        assert good.hello().startswith(b"250")
        for client in stalled:
            assert client.file.read() == b""


def test_a_certificate_is_read_anew_and_a_bad_one_is_not_taken(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    first = self_signed(str(tmp_path / "root"), "one.example")
    (tmp_path / "second").mkdir()
    second = self_signed(str(tmp_path / "second"), "two.example")

    def shown(server: Server) -> bytes:
        client = connect(server)
        client.hello()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client.start_tls(context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True) or b""

    with Server(root, "--tls-cert", first[0], "--tls-key", first[1]) as server:
        before = shown(server)
        Path(first[0]).write_text("broken")
        server.process.send_signal(signal.SIGHUP)
        assert shown(server) == before
        for source, target in zip(second, first, strict=True):
            Path(target).write_bytes(Path(source).read_bytes())
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: shown(server) != before, "the new certificate")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--implicit-tls",), "--tls-self-signed"),
        (("--tls-key", "x"), "--tls-cert"),
        (("--tls-cert", "none.pem"), "none.pem: No such file"),
        (("--tls-cert", __file__), "PEM"),
        (("--catch-all", "zoe"), "mailtools user add zoe"),
        (("--aliases", "none"), "none: No such file"),
    ],
)
def test_what_it_will_not_start_with(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    root = house(tmp_path / "root")
    done = mailtools("serve-smtp", "--port", "0", "--root", str(root), *options, cwd=tmp_path)
    assert done.returncode == 78
    assert says in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# -- AUTH ----------------------------------------------------------------------------------------------------


def test_no_login_in_the_clear_beyond_loopback(tmp_path: Path) -> None:
    root, host = house(tmp_path / "root"), own_address()
    with Server(root, "--host", "0.0.0.0", "--tls-self-signed") as server:
        client = connect(server, host)
        assert b"AUTH" not in client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"538 5.7.11")
        client.start_tls(trusting(root))
        assert b"AUTH" in client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"235")
        assert b"AUTH" in connect(server).hello(), "on loopback it is"
    with Server(root, "--host", "0.0.0.0") as server:
        client = connect(server, host)
        assert b"AUTH" not in client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"502")
    with Server(root, "--host", "0.0.0.0", "--allow-plaintext-auth") as server:
        client = connect(server, host)
        assert b"AUTH" in client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"235")


def test_mechanisms_are_those_that_a_user_can_use(tmp_path: Path) -> None:
    root = house(tmp_path / "root", "bob:\n")
    with Server(root) as server:
        assert b"AUTH" not in connect(server).hello()
        edit.add(str(root / "users"), "ann", "secret", "argon2id")
        assert b"250 AUTH PLAIN LOGIN\r\n" in connect(server).hello()
        edit.add(str(root / "users"), "eve", "secret", "scram-sha-256")
        assert b"250 AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n" in connect(server).hello()


def test_a_changed_users_file_is_seen(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root) as server:
        client = connect(server)
        client.hello()
        client.ask("MAIL FROM:<>")
        assert client.ask("RCPT TO:<ann@localhost>").startswith(b"550 5.1.1")
        assert mailtools("user", "add", "ann", "--root", str(root), stdin=b"secret\n").returncode == 0
        assert client.ask("RCPT TO:<ann@localhost>").startswith(b"250")
        assert mailtools("user", "delete", "bob", "--root", str(root)).returncode == 0
        assert client.ask("RCPT TO:<bob@localhost>").startswith(b"550 5.1.1")
        client.ask("RSET")
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"535")
        assert client.ask("AUTH PLAIN " + plain("ann", "secret")).startswith(b"235")


def test_guessing_is_slowed_and_the_right_user_gets_in(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root) as server:
        started = time.monotonic()
        client = connect(server)
        client.hello()
        for _ in range(3):
            assert client.ask("AUTH PLAIN " + plain("bob", "wrong")).startswith(b"535 5.7.8")
        assert client.reply().startswith(b"421 4.7.0")
        assert client.file.read() == b""
        assert time.monotonic() - started >= 1.5, "0 + 0.5 + 1 seconds"
        client = connect(server)
        client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"235")
        started = time.monotonic()
        client = connect(server)
        client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob", "secret")).startswith(b"235")
        assert time.monotonic() - started < 1.5, "a success begins anew"


@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_guesses_end_with_their_connection(tmp_path: Path, end: str) -> None:
    """900 guesses whose clients are gone keep nobody else from logging in."""
    root = tmp_path / "root"
    root.mkdir()
    edit.add(str(root / "users"), "bob", "secret", "argon2id")
    guess = b"EHLO c\r\nAUTH PLAIN " + base64.b64encode(b"\0bob\0wrong") + b"\r\n"
    with Server(root) as server:
        for _ in range(900):
            sock = socket.create_connection((server.host, server.port))
            sock.sendall(guess)
            if end == "RST":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        with smtplib.SMTP(server.host, server.port, source_address=("127.0.0.2", 0)) as client:
            assert client.login("bob", "secret")[0] == 235


def test_many_clients_of_one_address_log_in_at_the_same_time(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    edit.add(str(root / "users"), "bob", "secret", "argon2id")
    with Server(root) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(smtplib.SMTP(server.host, server.port)) for _ in range(40)]
        with ThreadPoolExecutor(40) as threads:
            codes = list(threads.map(lambda client: client.login("bob", "secret")[0], clients))
    assert codes == [235] * 40


def test_unknown_names_take_the_time_of_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash for each, of a scheme in use: counted, for clocks lie."""
    from mailtools.core.auth.sasl import CheckPassword
    from mailtools.services.users.login import LoginRules, Logins
    from mailtools.system.users.checker import Checker
    from mailtools.system.users.users_file import Users

    house(tmp_path, "bob:{ARGON2ID}$argon2id$x\nann:{PLAIN}secret\nnone:\n")
    checked: list[str] = []

    class Counting(Checker):
        def check(self, entry, password, done, owner):  # type: ignore[no-untyped-def]
            checked.append(entry.scheme)
            done(password == "secret")

    users = Users(str(tmp_path / "users"))
    logins = Logins(LoginRules(users), Counting(lambda _: None), lambda _, call: call())
    answers: list[object] = []
    for name in ("bob", "ann", "none", "eve", *(f"x{n}" for n in range(40))):
        logins.client("").check(CheckPassword(name, "secret"), answers.append)
    assert answers[:2] == [True, True]
    assert set(answers[2:]) == {False}
    assert len(checked) == 44
    assert set(checked[2:]) == {"ARGON2ID", "PLAIN"}


def test_the_loop_goes_on_while_passwords_are_checked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    edit.add(str(root / "users"), "bob", "secret", "argon2id")
    with Server(root) as server:
        guessing = [connect(server) for _ in range(10)]
        for client in guessing:
            client.hello()
        other = connect(server)
        other.hello()
        for number, client in enumerate(guessing):
            client.say(b"AUTH PLAIN " + plain("bob", f"secret{number}").encode() + b"\r\n")
        waits = []
        for _ in range(50):
            started = time.monotonic()
            assert other.ask("NOOP").startswith(b"250")
            waits.append(time.monotonic() - started)
        assert statistics.median(waits) < 0.5


def test_dev_takes_any_login_and_recipient(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--dev") as server:
        client = connect(server)
        assert b"AUTH PLAIN LOGIN" in client.hello()
        assert client.ask("AUTH PLAIN " + plain("who", "ever")).startswith(b"235")
        client.ask("MAIL FROM:<>")
        assert client.ask("RCPT TO:<any@body.test>").startswith(b"250")
        client.ask("QUIT")
    done = mailtools("serve-smtp", "--dev", "--host", "0.0.0.0", "--port", "0", "--root", str(root))
    assert done.returncode == 78


@pytest.mark.parametrize(
    "said",
    [["AUTH PLAIN ="], ["AUTH PLAIN", ""], ["AUTH LOGIN", "", ""], ["AUTH PLAIN AAA="], ["AUTH LOGIN =", ""],
     ["AUTH CRAM-MD5", "Ym9iIDEyMzQ="], ["AUTH XOAUTH2 dXNlcj1ib2IBYXV0aD1CZWFyZXIgeAEB"],
     ["AUTH OAUTHBEARER bixhPWJvYiwBYXV0aD1CZWFyZXIgeAEB"], ["AUTH PLAIN /w=="]],
)  # fmt: skip
def test_dev_takes_a_login_without_name_or_password(tmp_path: Path, said: list[str]) -> None:
    with Server(tmp_path / "root", "--dev") as server:
        client = connect(server)
        client.hello()
        for line in said[:-1]:
            assert client.ask(line).startswith(b"334")
        assert client.ask(said[-1]).startswith(b"235")
        assert client.ask("AUTH PLAIN =").startswith(b"503")


def test_a_user_may_log_in_with_an_address(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    options = ("--auth-username-format", "%n", "--to-stdout", "json")
    with Server(root, *options, stdout=subprocess.PIPE) as server:
        client = connect(server)
        client.hello()
        assert client.ask("AUTH PLAIN " + plain("bob@example.org", "wrong")).startswith(b"535")
        assert client.ask("AUTH PLAIN " + plain("Bob@example.org", "secret")).startswith(b"235")
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<bob@localhost>", "DATA", "Subject: x\r\n\r\n.", "QUIT"):
            assert client.ask(line)[:1] in b"23"
        assert server.process.stdout is not None
        assert json.loads(server.process.stdout.readline())["user"] == "bob"


def test_passwords_are_in_no_transcript_and_no_log(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    folder = tmp_path / "transcripts"
    server = Server(root, "--transcript", str(folder))
    client = connect(server)
    client.hello()
    code = plain("bob", "secret")
    client.say(b"auth  plain ")
    client.say(code.encode()[:5])
    client.say(code.encode()[5:] + b"\r\n")
    assert client.reply().startswith(b"235")
    client.ask("QUIT")
    client = connect(server)
    client.hello()
    client.ask("AUTH LOGIN")
    client.ask(base64.b64encode(b"bob").decode())
    assert client.ask(base64.b64encode(b"secret").decode()).startswith(b"235")
    client.ask("MAIL FROM:<>")
    client.ask("RCPT TO:<bob@localhost>")
    client.ask("DATA")
    client.say(b"Subject: AUTH PLAIN is text here\r\n.\r\n")
    client.reply()
    client.ask("QUIT")
    server.process.terminate()
    _, err = server.process.communicate(timeout=DEADLINE)
    text = "".join(path.read_text() for path in folder.iterdir())
    for secret in (code, code[5:], "secret", base64.b64encode(b"secret").decode()):
        assert secret not in text
        assert secret not in err
    assert "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: ***\nS: 334 UGFzc3dvcmQ6\nC: ***\nS: 235" in text
    assert "C: Subject: AUTH PLAIN is text here\n" in text


@pytest.mark.parametrize(
    "said",
    [
        "AUTH\tPLAIN {0}", " AUTH PLAIN {0}", "AUTH=PLAIN {0}", "AUTH {0}", "auth plain  {0}", "AUTH PLAIN {0} {0}",
        "AUTH CRAM-MD5\r\n{0}", "AUTH PLAIN !\r\n{0}", "BDAT 3 LAST\r\nabcAUTH PLAIN {0}", "XAUTH {0}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "MAIL FROM:<>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\nhi\r\n.\r\n"])
def test_no_form_of_login_shows_in_a_transcript(tmp_path: Path, said: str, before: str) -> None:
    root = house(tmp_path / "root")
    folder = tmp_path / "transcripts"
    code = plain("bob", "secret")
    with Server(root, "--transcript", str(folder)) as server:
        client = connect(server)
        client.hello()
        client.say((before + said.format(code) + "\r\nQUIT\r\n").encode())
        while b"221" not in client.reply():
            pass
    (path,) = folder.iterdir()
    assert code not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "C: QUIT\n" in path.read_text()


def test_a_transcript_that_cannot_be_written_stops_no_mail(tmp_path: Path) -> None:
    root = house(tmp_path / "root")
    with Server(root, "--transcript", "-", stdout=subprocess.PIPE) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        client = connect(server)
        assert client.hello().startswith(b"250")
        assert client.ask("QUIT").startswith(b"221")


def test_odd_lines_in_the_users_file_harm_nobody_else(tmp_path: Path) -> None:
    """And a name that does not exist is answered as ever, whomever it is compared with."""
    root = tmp_path / "root"
    root.mkdir()
    lines = [b"lat:{PLAIN}p\xe9", b"arg:{ARGON2ID}$argon2id$\xe9", b"c:" + b"{CRYPT}" * 3000, b"empty:{PLAIN}:",
             b"huge:{SCRAM-SHA-256}" + b"9" * 30 + b",c2FsdA==,AAAA,AAAA", b"hex:{PLAIN.HEX}736563726574"]  # fmt: skip
    (root / "users").write_bytes(b"\n".join(lines) + b"\n")
    sources = (f"127.0.0.{n}" for n in range(10, 250))  # one for each attempt: guessing is slowed by address
    with Server(root, "--allow-plaintext-auth") as server:
        for name in ("hex", "lat", "arg", "c", "empty", "huge", *(f"ghost{n}" for n in range(8))):
            client = connect(server, source=next(sources))
            assert b"SCRAM" in client.hello()
            right = name == "hex"
            assert client.ask("AUTH PLAIN " + plain(name, "secret")).startswith(
                b"235" if right else b"535"
            ), name
            client.close()
            client = connect(server, source=next(sources))
            client.hello()
            first = base64.b64encode(f"n,,n={name},r=abc".encode()).decode()
            assert client.ask("AUTH SCRAM-SHA-256 " + first).startswith(b"334"), name
            client.say(b"*\r\n")
            client.close()
            good = connect(server, source=next(sources))
            good.hello()
            assert good.ask("AUTH PLAIN " + plain("hex", "secret")).startswith(b"235")
            good.close()


def test_who_is_not_in_a_file_that_is_being_written_may_come_again(tmp_path: Path) -> None:
    root = house(tmp_path / "root", "ann:\nbob:\n")
    with Server(root) as server:
        client = connect(server)
        client.hello()
        client.ask("MAIL FROM:<>")
        assert client.ask("RCPT TO:<eve@localhost>").startswith(b"550")
        (root / "users").write_text("ann:\n")  # in place, and perhaps bob is still to come
        assert client.ask("RCPT TO:<bob@localhost>").startswith(b"451")
        assert client.ask("RCPT TO:<ann@localhost>").startswith(b"250")
        client.ask("QUIT")


def test_servers_that_begin_together_share_one_certificate(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from mailtools.system.tls.certificates import Certificates

    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda _: Certificates(*self_signed(str(tmp_path), "h"), ("smtp",)).fingerprint, range(8)
            )
        )
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--timeout", "0"), 64),
        (("--mbox", "/tmp"), 73),
        (("--mbox", "/dev/null"), 73),
        (("--root", "/dev/null"), 73),
        (("--root", "/dev/null", "--tls-self-signed"), 73),
        (("--listen", "unix:/" + "x" * 200), 78),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: tuple[str, ...], code: int) -> None:
    done = mailtools("serve-smtp", "--port", "0", "--root", str(tmp_path / "root"), *options)
    assert done.returncode == code
    assert b"None" not in done.stderr
    assert code == 64 or done.stderr.count(b"\n") == 1
