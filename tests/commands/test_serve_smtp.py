"""`mailtools serve-smtp` from outside: who may get mail, where it goes, how it begins and ends."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import DEADLINE, Dialogue, Server, eventually, mailtools

MESSAGE = b"Subject: x\r\n\r\nHi\r\n"


def rcpt(server: Server, recipient: str) -> bytes:
    client = server.connect()
    client.reply()
    client.ask("EHLO x")
    client.ask("MAIL FROM:<>")
    return client.ask(f"RCPT TO:<{recipient}>")


def test_what_is_written(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        client = server.connect()
        client.envelope("Bob@x.test", "al@y.test", "bob@z.test")
        client.say(b"Subject: x\r\nStatus: RO\r\n\r\nFrom me\r\n..dot\r\n.\r\n")
        assert client.reply().startswith(b"250 2.0.0 Ok: ")
        bob, al = server.inbox("bob").read_text(), server.inbox("al").read_text()
        mode = stat.S_IMODE(server.inbox("bob").stat().st_mode)
    lines = bob.split("\n")
    assert lines[0].startswith("From a@example.org ")
    assert lines[1:4] == [
        "Return-Path: <a@example.org>", "Delivered-To: Bob@x.test", "Delivered-To: bob@z.test",
    ]  # fmt: skip
    assert lines[4].startswith("Received: from test ([127.0.0.1])")
    assert bob.endswith("Subject: x\n>Status: RO\n\n>From me\n.dot\n\n")
    assert al.count("Delivered-To: ") == 1
    assert mode == 0o600


def test_everybody_on_loopback_and_it_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path / "root")
    assert rcpt(server, "anybody@anywhere.test").startswith(b"250")
    server.process.terminate()
    _, err = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0
    assert "mail for every recipient is accepted" in err
    assert f"listening smtp 127.0.0.1:{server.port}\n" in err


def test_users_and_domains(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "users").write_text("# who\nbob:{PLAIN}x\nCarol:\n")
    with Server(tmp_path / "root", "--domain", "Here.test") as server:
        assert rcpt(server, "bob@here.test").startswith(b"250")
        assert rcpt(server, "CAROL@HERE.TEST").startswith(b"250")
        assert rcpt(server, "postmaster").startswith(b"250")
        assert rcpt(server, "nobody@here.test").startswith(b"550 5.1.1")
        assert rcpt(server, "bob@elsewhere.test").startswith(b"550 5.7.1")


@pytest.mark.parametrize(
    "name", ["..", "../evil", "a/b", ".hidden", "%2e%2e", "CON", "x" * 60, "a b", "a\\b", "~root", "-rf"]
)
def test_no_name_leaves_the_root(tmp_path: Path, name: str) -> None:
    with Server(tmp_path / "root") as server:
        escaped = name.replace("\\", "\\\\")
        reply = server.connect().deliver(MESSAGE, f'"{escaped}"@x')
        assert reply.startswith(b"250")
        inside = {path.resolve() for path in (tmp_path / "root").rglob("INBOX.mbox")}
    assert len(inside) == 1
    assert all((tmp_path / "root") in path.parents for path in inside)
    assert {path.name for path in tmp_path.iterdir()} == {"root", "root.port"}
    (folder,) = (tmp_path / "root").iterdir()
    assert not folder.name.startswith(".")


def test_a_name_too_long_for_a_file_is_nobody(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        assert rcpt(server, "n" * 400 + "@x").startswith(b"550 5.1.1")


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bob").mkdir(parents=True)
    target = tmp_path / "target"
    target.write_bytes(b"From a@b Thu Aug 22 12:00:00 2002\n\n\n")
    (root / "bob" / "INBOX.mbox").symlink_to(target)
    (tmp_path / "elsewhere").mkdir()
    (root / "al").symlink_to(tmp_path / "elsewhere")
    with Server(root) as server:
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"451")
        assert rcpt(server, "al@x").startswith(b"451")
    assert target.stat().st_size == 36
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_mbox_is_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Bob\n")
    with Server(tmp_path / "root", "--mbox", str(file)) as server:
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"451")
    assert file.read_text() == "Dear Bob\n"


def test_one_mbox_for_all(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--mbox", str(tmp_path / "all.mbox")) as server:
        server.connect().deliver(MESSAGE, "a@x", "b@y")
    text = (tmp_path / "all.mbox").read_text()
    assert text.count("\nSubject: x\n") == 1
    assert "Delivered-To: a@x\nDelivered-To: b@y\n" in text


@pytest.mark.parametrize("form", ["raw", "mbox", "json"])
def test_to_stdout_and_exit_after(tmp_path: Path, form: str) -> None:
    server = Server(tmp_path / "root", "--to-stdout", form, "--exit-after", "2", stdout=subprocess.PIPE)
    for _ in range(2):
        client = server.connect()
        assert client.deliver(b"Subject: =?utf-8?q?caf=C3=A9?=\r\n\r\nFrom me\r\n", "bob@x").startswith(
            b"250"
        )
        assert client.ask("QUIT").startswith(b"221")
        client.close()
    out, _ = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0
    if form == "json":
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["subject"] for row in rows] == ["café", "café"]
        assert rows[0]["recipients"] == ["bob@x"]
        assert rows[0]["message"].endswith("\n\nFrom me\n")
    elif form == "mbox":
        assert out == server.inbox("bob").read_text()
    else:
        assert out.count("\nFrom me\n") == 2


def test_total_timeout(tmp_path: Path) -> None:
    server = Server(tmp_path / "root", "--total-timeout", "300ms")
    server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished(tmp_path: Path, number: int) -> None:
    server = Server(tmp_path / "root")
    client = server.connect()
    client.envelope("bob@x")
    client.say(b"Subject: x\r\n")
    server.process.send_signal(number)
    eventually(lambda: refuses(server.port), "nobody new is let in")
    client.say(b"\r\nHi\r\n.\r\n")
    assert client.reply().startswith(b"250")
    server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0
    assert b"\nHi\n" in server.inbox("bob").read_bytes()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


def test_listen_here_and_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        server = Server(
            tmp_path / "root", "--listen", "127.0.0.1:0", "--listen", f"unix:{path}",
            "--listen", f"fd:{inherited.fileno()}", pass_fds=[inherited.fileno()],
        )  # fmt: skip
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"250")
        local = socket.socket(socket.AF_UNIX)
        local.connect(str(path))
        assert Dialogue(local).deliver(MESSAGE, "bob@x").startswith(b"250")
        other = socket.create_connection(inherited.getsockname(), DEADLINE)
        assert Dialogue(other).deliver(MESSAGE, "bob@x").startswith(b"250")
        assert server.stop() == 0
    assert not path.exists()


def test_ipv6_loopback(tmp_path: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with Server(tmp_path / "root", "--host", "::1") as server:
        sock = socket.create_connection(("::1", server.port), DEADLINE)
        assert Dialogue(sock).deliver(MESSAGE, "bob@x").startswith(b"250")
        assert "([IPv6:::1])" in server.inbox("bob").read_text()


@pytest.mark.parametrize(
    "args",
    [
        ("--dev", "--host", "0.0.0.0"),
        ("--host", "0.0.0.0"),
        ("--listen", "nonsense"),
        ("--host", "192.0.2.1"),
    ],
)
def test_what_it_will_not_do(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = mailtools("serve-smtp", "--port", "0", "--root", str(tmp_path), *args)
    assert done.returncode == 78
    assert done.stderr.count(b"\n") == 1


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = mailtools("serve-smtp", "--port", str(taken.getsockname()[1]), "--root", str(tmp_path))
    assert done.returncode == 78
    assert b"Address already in use" in done.stderr


def test_transcript(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    with Server(tmp_path / "root", "--transcript", str(folder)) as server:
        for _ in range(2):
            client = server.connect()
            client.deliver(MESSAGE, "bob@x")
            client.ask("QUIT")
            client.close()
        eventually(lambda: sum("221" in path.read_text() for path in folder.iterdir()) == 2, "both sessions")
        lines = next(folder.iterdir()).read_text().splitlines()
    assert lines[0].startswith("S: 220 ")
    assert lines[1] == "C: EHLO test"
    assert "C: Hi" in lines


def test_a_locked_mbox_delays_nobody_else(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"250")
        lock = Path(f"{server.inbox('bob')}.lock")
        lock.write_text(f"{os.getpid()}\n")
        waiting = server.connect()
        waiting.envelope("bob@x")
        waiting.say(MESSAGE + b".\r\n")
        assert server.connect().deliver(MESSAGE, "al@x").startswith(b"250")
        lock.unlink()
        assert waiting.reply().startswith(b"250")
        assert server.inbox("bob").read_bytes().count(b"\nSubject: x\n") == 2


def test_a_dotlock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with Server(tmp_path / "root") as server:
        server.inbox("bob").parent.mkdir(parents=True)
        Path(f"{server.inbox('bob')}.lock").write_text(f"{dead.pid}\n")
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"250")


WRITER = """
import mailbox, sys
box = mailbox.mbox(sys.argv[1])
for number in range(150):
    box.lock()
    box.add(f"From: x@y\\nSubject: foreign {number}\\n\\n" + "f\\n" * 500)
    box.flush()
    box.unlock()
"""


def test_another_program_appends_meanwhile(tmp_path: Path) -> None:
    """Python's mailbox, with fcntl and dotlock, beside ours: nothing is lost or mixed."""
    import mailbox

    with Server(tmp_path / "root") as server:
        assert server.connect().deliver(MESSAGE, "bob@x").startswith(b"250")
        # It gives up at once where a lock is held, so it tries again.
        script = WRITER.replace("    box.lock()\n", (
            "    while True:\n        try:\n            box.lock()\n            break\n"
            "        except mailbox.ExternalClashError:\n            pass\n"
        ))  # fmt: skip
        writer = subprocess.Popen([sys.executable, "-c", script, str(server.inbox("bob"))])
        count = 0
        while writer.poll() is None:
            client = server.connect()
            assert client.deliver(b"Subject: ours\r\n\r\n" + b"o\r\n" * 500, "bob@x").startswith(b"250")
            client.close()
            count += 1
        assert writer.returncode == 0
        found = list(mailbox.mbox(server.inbox("bob"), create=False))
    assert (
        sum(m["subject"] == "ours" and m.get_payload().strip() == "\n".join("o" * 500) for m in found)
        == count
    )
    foreign = [m for m in found if m["subject"].startswith("foreign")]
    assert len(foreign) == 150
    assert all(m.get_payload().strip() == "\n".join("f" * 500) for m in foreign)
