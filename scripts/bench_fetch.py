"""Mail out of a server: serve-pop3 beside Dovecot, fetch beside mpop, fetchmail, getmail6 and mbsync.

All read the same 10,000 messages from mbox files; whoever fetches writes one mbox (mbsync: a Maildir), synced
as the program does by itself.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench_tools import MAILTOOLS, Row, free_port, greets, interleaved, timed, wait_for

_PASSWORD = "secret"
_WINDOW = 500  # RETRs ahead

_DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = imap pop3
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
listen = 127.0.0.1
mail_max_userip_connections = 100
mail_location = mbox:{folder}/mail/%u:INBOX={folder}/mail/%u/inbox
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={folder}/mail/%u allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
}}
"""


@contextlib.contextmanager
def dovecot(box: Path) -> Iterator[tuple[Path, int, int]]:
    """An instance of its own with *box* as bob's INBOX: its folder, the ports of POP3 and IMAP."""
    folder = Path("/var/tmp") / f"mailtools-bench-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "mail" / "bob").mkdir(parents=True)
    pop3, imap = free_port(), free_port()
    shutil.copy(box, folder / "mail" / "bob" / "inbox")
    (folder / "passwords").write_text(f"bob:{_PASSWORD}\n")
    (folder / "dovecot.conf").write_text(_DOVECOT.format(folder=folder, imap=imap, pop3=pop3))
    for path in (folder / "mail", *(folder / "mail").rglob("*")):
        shutil.chown(path, "mail", "mail")
    process = subprocess.Popen(["dovecot", "-F", "-c", str(folder / "dovecot.conf")])
    try:
        wait_for(lambda: greets(pop3) and greets(imap))
        yield folder, pop3, imap
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ours(folder: Path, box: Path) -> Iterator[tuple[Path, int]]:
    """serve-pop3 with *box* as bob's INBOX: its mail root and port."""
    root = folder / "root"
    (root / "bob").mkdir(parents=True)
    shutil.copy(box, root / "bob" / "INBOX.mbox")
    (root / "users").write_text(f"bob:{{PLAIN}}{_PASSWORD}\n")
    port = free_port()
    process = subprocess.Popen(
        [MAILTOOLS, "serve-pop3", "--root", str(root), "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: greets(port))
        yield root, port
    finally:
        process.terminate()
        process.wait(30)


class Client:
    """A POP3 client that costs next to nothing."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.line()
        self.say(b"USER bob")
        self.say(f"PASS {_PASSWORD}".encode())
        self.messages = int(self.say(b"STAT").split()[1])

    def line(self) -> bytes:
        octets = b""
        while not octets.endswith(b"\n"):
            octets += self.sock.recv(4096)
        assert octets.startswith(b"+OK"), octets
        return octets

    def say(self, command: bytes) -> bytes:
        self.sock.sendall(command + b"\r\n")
        return self.line()

    def listing(self, command: bytes) -> None:
        self.sock.sendall(command + b"\r\n")
        tail = b""
        while tail != b"\r\n.\r\n":
            tail = (tail + self.sock.recv(1 << 18))[-5:]

    def retrieve(self) -> int:
        """Every message, `_WINDOW` RETRs ahead; how many octets came."""
        asked = got = total = 0
        tail = b""
        while got < self.messages:
            if asked < self.messages and asked - got < _WINDOW // 2:
                last = min(self.messages, asked + _WINDOW)
                self.sock.sendall(b"".join(b"RETR %d\r\n" % number for number in range(asked + 1, last + 1)))
                asked = last
            octets = self.sock.recv(1 << 18)
            assert octets
            total += len(octets)
            got += (tail + octets).count(b"\r\n.\r\n")
            tail = (tail + octets)[-4:]
        return total

    def close(self) -> None:
        self.sock.sendall(b"QUIT\r\n")
        self.sock.close()


def pop3(folder: Path, quick: bool, box: Path, messages: int) -> Iterator[Row]:
    """serve-pop3 beside Dovecot on the same mbox, cold and warm."""
    if not shutil.which("dovecot") or os.geteuid():
        print("pop3: Dovecot is measured as root, where it is installed")
        return
    with dovecot(box) as (its, theirs, _), ours(folder, box) as (root, port):

        def login(where: int, forget: Callable[[], None]) -> Callable[[], float]:
            def task() -> float:
                forget()
                begin = time.perf_counter()
                client = Client(where)
                seconds = time.perf_counter() - begin
                assert client.messages == messages
                client.close()
                return seconds

            return task

        def forget_ours() -> None:
            shutil.rmtree(root / "bob" / ".mailtools", ignore_errors=True)

        def forget_theirs() -> None:
            shutil.rmtree(its / "mail" / "bob" / ".imap", ignore_errors=True)

        def work(where: int, task: Callable[[Client], object]) -> Callable[[], float]:
            def timed_work() -> float:
                client = Client(where)
                begin = time.perf_counter()
                task(client)
                seconds = time.perf_counter() - begin
                client.close()
                return seconds

            return timed_work

        runs = 3 if quick else 5
        for what, task, target in (
            ("login, cold", (login(port, forget_ours), login(theirs, forget_theirs)), "1"),
            ("login, warm", (login(port, lambda: None), login(theirs, lambda: None)), "1"),
            ("UIDL", tuple(work(p, lambda c: c.listing(b"UIDL")) for p in (port, theirs)), "1"),
            ("LIST", tuple(work(p, lambda c: c.listing(b"LIST")) for p in (port, theirs)), "1"),
        ):
            mine, peer = interleaved(runs, *task)
            yield Row(
                f"pop3 {what}",
                f"{1000 * mine:.1f} ms",
                f"{1000 * peer:.1f}",
                "Dovecot",
                f"{peer / mine:.2f}",
                target,
            )
        mine, peer = interleaved(runs, *(work(p, Client.retrieve) for p in (port, theirs)))
        yield Row(
            "pop3 RETR pipelined", f"{messages / mine:.0f}/s", f"{messages / peer:.0f}/s", "Dovecot",
            f"{peer / mine:.2f}", "1.5",
        )  # fmt: skip


def fetch(folder: Path, quick: bool, box: Path, messages: int) -> Iterator[Row]:
    """`mailtools fetch` beside the programs that fetch, from one Dovecot."""
    if not shutil.which("dovecot") or os.geteuid():
        print("fetch: Dovecot is measured as root, where it is installed")
        return
    with dovecot(box) as (_, pop3_port, imap_port):
        password = folder / "password"
        password.write_text(f"{_PASSWORD}\n")
        for protocol, port in (("pop3", pop3_port), ("imap", imap_port)):
            peers = _peers(folder, protocol, port)
            for name in set(peers) - {p for p in peers if shutil.which(p.split(" ")[0])}:
                print(f"fetch: {name} is not installed")
                del peers[name]

            def mine(protocol: str = protocol, port: int = port) -> float:
                target = _fresh(folder / "ours")
                seconds = timed(
                    [MAILTOOLS, "fetch", f"--{protocol}", "--host", "127.0.0.1", "--port", str(port),
                     "--user", "bob", "--password-file", str(password), "--to", str(target / "box")]
                )  # fmt: skip
                assert (target / "box").read_bytes().count(b"\n\nFrom ") + 1 == messages
                return seconds

            slow = [name for name in peers if name.split(" ")[0] in ("fetchmail", "getmail")]
            for name in slow:  # half a minute and more each
                once, theirs = interleaved(1, mine, peers.pop(name))
                yield _row(protocol, name, messages, once, theirs)
            if peers:
                seconds, *others = interleaved(3 if quick else 5, mine, *peers.values())
                for name, theirs in zip(peers, others, strict=True):
                    yield _row(protocol, name, messages, seconds, theirs)


def _row(protocol: str, name: str, messages: int, mine: float, theirs: float) -> Row:
    return Row(
        f"fetch {protocol}",
        f"{messages / mine:.0f}/s",
        f"{messages / theirs:.0f}/s",
        name,
        f"{theirs / mine:.1f}",
        "5",
    )


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _peers(folder: Path, protocol: str, port: int) -> dict[str, Callable[[], float]]:
    """What the others do for the same, by their names."""
    home = folder / "home"

    def run(files: dict[str, str], argv: list[str], codes: tuple[int, ...] = (0,)) -> Callable[[], float]:
        def task() -> float:
            _fresh(home)
            for name in ("Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp", "getmail", "m"):
                (home / name).mkdir()
            for name, text in files.items():
                (home / name).write_text(text.format(home=home, port=port, password=_PASSWORD))
                (home / name).chmod(0o600)
            (home / "box").touch()
            folder.chmod(0o711)  # getmail delivers as another user where root calls it
            shutil.chown(home, "mail", "mail")
            shutil.chown(home / "box", "mail", "mail")
            return timed([word.format(home=home) for word in argv], codes=codes)

        return task

    found: dict[str, Callable[[], float]] = {}
    if protocol == "pop3":
        found["mpop"] = run(
            {"mpoprc": "account a\nhost 127.0.0.1\nport {port}\nuser bob\npassword {password}\ntls off\n"
             "auth user\nkeep on\nuidls_file {home}/uidls\ndelivery mbox {home}/box\n"},
            ["mpop", "-C", "{home}/mpoprc", "-q", "a"],
        )  # fmt: skip
    else:
        found["mbsync (Maildir)"] = run(
            {"mbsyncrc": "IMAPAccount a\nHost 127.0.0.1\nPort {port}\nUser bob\nPass {password}\n"
             "SSLType None\nAuthMechs LOGIN\n\nIMAPStore there\nAccount a\n\n"
             "MaildirStore here\nPath {home}/m/\nInbox {home}/Maildir\n\n"
             "Channel c\nFar :there:\nNear :here:\nSync Pull New\nCreate Near\nSyncState *\n"},
            ["mbsync", "-q", "-c", "{home}/mbsyncrc", "c"],
        )  # fmt: skip
    found["fetchmail"] = run(
        {"fetchmailrc": f"poll 127.0.0.1 service {{port}} protocol {protocol} user bob password {{password}} "
         "sslproto '' keep fetchall mda \"/bin/sh -c 'cat >> {home}/box'\"\n"},
        ["fetchmail", "-s", "-f", "{home}/fetchmailrc", "--pidfile", "{home}/pid", "-i", "{home}/ids"],
    )  # fmt: skip
    found["getmail (getmail6)"] = run(
        {"getmail/getmailrc": f"[retriever]\ntype = Simple{protocol.upper()}Retriever\nserver = 127.0.0.1\n"
         "port = {port}\nusername = bob\npassword = {password}\n"
         "[destination]\ntype = Mboxrd\npath = {home}/box\nuser = mail\n"
         "[options]\nverbose = 0\nread_all = true\ndelete = false\n"},
        ["getmail", "--getmaildir", "{home}/getmail"],
    )  # fmt: skip
    return found
