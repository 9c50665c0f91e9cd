"""serve-imap beside Dovecot, on the same mbox: a section of scripts/bench."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_fetch import dovecot
from bench_tools import MAILTOOLS, Row, free_port, greets, wait_for

_PASSWORD = "secret"
# (what, command, target); each is given to a new connection, after SELECT
_COLD = (
    ("ENVELOPE SIZE DATE, cold", "FETCH 1:* (ENVELOPE RFC822.SIZE INTERNALDATE)", "2"),
    ("BODYSTRUCTURE, cold", "FETCH 1:* BODYSTRUCTURE", ""),
)
_ASKS = ("SEARCH", "SORT", "THREAD")
_WARM = (
    ("FLAGS", "FETCH 1:* FLAGS", "1"),
    ("ENVELOPE SIZE DATE, warm", "FETCH 1:* (ENVELOPE RFC822.SIZE INTERNALDATE)", "3"),
    ("BODYSTRUCTURE, warm", "FETCH 1:* BODYSTRUCTURE", "1"),
    ("BODY.PEEK[] of all", "FETCH 1:* BODY.PEEK[]", "1.5"),
    ("BODY.PEEK[HEADER] of all", "FETCH 1:* BODY.PEEK[HEADER]", ""),
    ("SEARCH SUBJECT", "SEARCH SUBJECT abc", "3"),
    ("SEARCH FROM", "SEARCH FROM ann", "3"),
    ("SEARCH SINCE", "SEARCH SINCE 1-Jan-2003", "3"),
    ("SEARCH BODY", "SEARCH BODY zzzq", "2"),
    ("SEARCH TEXT", "SEARCH TEXT zzzq", "2"),
    ("SORT (DATE)", "SORT (DATE) UTF-8 ALL", "1"),
    ("THREAD REFERENCES", "THREAD REFERENCES UTF-8 ALL", "1"),
    ("STORE of one", "STORE 5 +FLAGS (\\Flagged)", "1"),
    ("STORE of all", "STORE 1:* +FLAGS.SILENT (\\Answered)", "2"),
    ("COPY of 1,000", "COPY 1:1000 Sent", "1"),
    ("MOVE of 1,000", "MOVE 1:1000 Sent", "1"),
    ("EXPUNGE of 100", "EXPUNGE", "1"),
)


def imap(folder: Path, quick: bool) -> Iterator[Row]:
    """Mailboxes over IMAP."""
    if not shutil.which("dovecot") or os.geteuid():
        yield Row("imap", "", "", "Dovecot is measured as root, where it is installed", "", "")
        return
    messages = 10_000 if quick else 100_000
    box = folder / "imap.mbox"
    _make(box, messages)
    with dovecot(box) as (_, _, theirs), _ours(folder, box) as (mine, pid):
        yield from _rows(messages, mine, theirs)
        count = 200 if quick else 1000
        yield Row(f"{count} idle sessions, each", f"{_idle(mine, pid, count):.0f} KiB", "", "", "", "64 KiB")


def _rows(messages: int, mine: int, theirs: int) -> Iterator[Row]:
    def pair(name: str, target: str, task: Callable[[int], float]) -> Row:
        ours, its = task(mine), task(theirs)
        return Row(
            f"{name}, {messages:,}", f"{ours * 1e3:.1f} ms", f"{its * 1e3:.1f} ms", "Dovecot",
            f"{its / ours:.2f}", target,
        )  # fmt: skip

    def after_select(command: str) -> Callable[[int], float]:
        def task(port: int) -> float:
            client = Client(port)
            client.say("SELECT INBOX")
            if command == "EXPUNGE":
                client.say("STORE 200:299 +FLAGS.SILENT (\\Deleted)")
            if command.startswith(_ASKS):  # what it needs of each message is known the second time
                client.say(command)
            seconds = client.say(command)
            client.close()
            return seconds

        return task

    def select(port: int) -> float:
        client = Client(port)
        seconds = client.say("SELECT INBOX")
        client.close()
        return seconds

    for port in (mine, theirs):
        Client(port).say("CREATE Sent")
    yield pair("SELECT, cold", "2", select)
    yield pair("SELECT, warm", "1", lambda port: min(select(port) for _ in range(3)))
    for name, command, target in _COLD:
        yield pair(name, target, after_select(command))
    for name, command, target in _WARM:
        yield pair(name, target, after_select(command))
    yield pair("APPEND by 10 sessions", "3", _append)


def _append(port: int) -> float:
    """Ten clients that append 50 messages each, one after the other."""
    import threading

    clients = [Client(port) for _ in range(10)]
    message = b"From: a@b.test\r\nSubject: x\r\n\r\n" + b"text of usual length, again\r\n" * 140

    def run(client: Client) -> None:
        for _ in range(50):
            client.say_octets(b"t APPEND Sent {%d}\r\n" % len(message), b"+")
            client.say_octets(message + b"\r\n")

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


class Client:
    """An IMAP client that costs next to nothing: it reads, and looks for the tagged answer alone."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.recv(4096)
        self.say(f"LOGIN bob {_PASSWORD}")

    def say(self, command: str) -> float:
        """Seconds until the answer to *command* is there."""
        begin = time.perf_counter()
        self.say_octets(f"t {command}\r\n".encode())
        return time.perf_counter() - begin

    def say_octets(self, octets: bytes, answer: bytes = b"t ") -> None:
        self.sock.sendall(octets)
        tail = b"\r\n"
        while not (tail.endswith(b"\r\n") and (at := tail.rfind(b"\r\n" + answer)) >= 0):
            came = self.sock.recv(1 << 20)
            assert came, tail
            tail = (tail + came)[-4000:] if len(came) < 4000 else came[-4000:]
        assert tail.startswith((b"t OK", b"+"), at + 2), tail[at:]

    def close(self) -> None:
        self.sock.sendall(b"t LOGOUT\r\n")
        while self.sock.recv(4096):
            pass


@contextmanager
def _ours(folder: Path, box: Path) -> Iterator[tuple[int, int]]:
    root = folder / "imap-root"
    (root / "bob").mkdir(parents=True)
    shutil.copy(box, root / "bob" / "INBOX.mbox")
    (root / "users").write_text(f"bob:{{PLAIN}}{_PASSWORD}\n")
    port = free_port()
    process = subprocess.Popen(
        [
            MAILTOOLS,
            "-q",
            "serve-imap",
            "--root",
            str(root),
            "--port",
            str(port),
            "--max-connections",
            "5000",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: greets(port))
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _idle(port: int, pid: int, count: int) -> float:
    """KiB that each of *count* sessions costs that idle in the same mailbox."""

    def resident() -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    clients = [Client(port)]
    clients[0].say("SELECT INBOX")
    before = resident()
    for _ in range(count):
        clients.append(Client(port))
        clients[-1].say("SELECT INBOX")
        clients[-1].say_octets(b"i IDLE\r\n", b"+")
    cost = (resident() - before) / count
    for client in clients:
        client.sock.close()
    return cost


def _make(path: Path, messages: int) -> None:
    """Messages of 8 KiB on average: plain, alternative, with attachments; threads; quoted From lines."""
    random.seed(1)
    words = ["".join(random.choices("abcdefghij", k=random.randint(3, 9))) for _ in range(2000)]
    lines = [" ".join(random.choices(words, k=10)) + "\n" for _ in range(5000)]

    def text(size: int) -> str:
        return "".join(random.choices(lines, k=max(size // 65, 1)))

    with path.open("w") as file:
        for number in range(messages):
            author, kind = number % 50, number % 10
            file.write(
                f"From a{author}@x.test Thu Aug 22 12:{number // 60 % 60:02d}:{number % 60:02d} 2002\n"
                "Received: from mx.x.test (mx.x.test [192.0.2.1])\n\tby b.test with ESMTP id 12345\n"
                "\tfor <bob@x.test>; Thu, 22 Aug 2002 12:00:00 +0000\n"
                f"From: Ann {author} <a{author}@x.test>\nTo: bob@x.test, Carol <carol@x.test>\n"
                f"Subject: {random.choice(words)} {random.choice(words)} {number}\n"
                f"Date: Thu, 22 Aug 2002 12:00:{number % 60:02d} +0000\nMessage-ID: <{number}@x.test>\n"
            )
            if kind in (1, 2):
                file.write(f"In-Reply-To: <{number - 1}@x.test>\nReferences: <{number - kind}@x.test>\n")
            file.write("MIME-Version: 1.0\n")
            if kind < 5:
                file.write(
                    f"Content-Type: text/plain; charset=utf-8\n\n{text(random.choice((500, 2000, 8000)))}\n"
                )
            elif kind < 9:
                quoted = ">From the start\n" if kind < 7 else ""
                file.write(
                    f"Content-Type: multipart/alternative; boundary=b{number}\n\n--b{number}\n"
                    f"Content-Type: text/plain; charset=utf-8\n\n{text(2000)}{quoted}--b{number}\n"
                    f"Content-Type: text/html; charset=utf-8\n\n<p>{text(6000)}</p>\n--b{number}--\n\n"
                )
            else:
                data = ("QUJDREVG" * 9 + "\n") * 350
                file.write(
                    f"Content-Type: multipart/mixed; boundary=b{number}\n\n--b{number}\n"
                    f"Content-Type: text/plain\n\n{text(1000)}--b{number}\n"
                    "Content-Type: application/pdf; name=x.pdf\n"
                    "Content-Disposition: attachment; filename=x.pdf\n"
                    f"Content-Transfer-Encoding: base64\n\n{data}--b{number}--\n\n"
                )
