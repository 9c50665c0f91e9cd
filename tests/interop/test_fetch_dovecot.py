"""fetch beside a real server: Dovecot over POP3 and IMAP, in the clear and under TLS."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.system.mbox import index
from mailtools.system.tls.certificates import self_signed
from tests.boxes import append, number, subjects
from tests.interop.test_servers import free_port
from tests.servers import DEADLINE, eventually, mailtools

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_failure_delay = 0
first_valid_uid = 1
mail_location = mbox:{folder}/mail/%u:INBOX={folder}/mail/%u/inbox
auth_mechanisms = plain login scram-sha-256
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
    port = {ports[0]}
  }}
  inet_listener imaps {{
    port = {ports[1]}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {ports[2]}
  }}
  inet_listener pop3s {{
    port = {ports[3]}
    ssl = yes
  }}
}}
"""
ENV = {"MAILTOOLS_FETCH_PASSWORD": "secret"}
BOTH = pytest.mark.parametrize("protocol", ["pop3", "imap"])


class Dovecot:
    """An instance of its own; bob's mailboxes are mbox files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "mail" / "bob"
        self.home.mkdir(parents=True)
        self.cafile, key = self_signed(str(folder), "localhost")
        ports = [free_port() for _ in range(4)]
        self.ports = dict(zip(("imap", "imaps", "pop3", "pop3s"), ports, strict=True))
        (folder / "passwords").write_text("bob:secret\n")
        self.config = folder / "dovecot.conf"
        self.config.write_text(CONFIG.format(folder=folder, cert=self.cafile, key=key, ports=ports))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(self.config)])
        eventually(lambda: (self.folder / "run" / "auth-master").exists(), "Dovecot")

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(DEADLINE)

    def fill(self, messages: list[bytes]) -> None:
        """As bob's INBOX; what was there is gone."""
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        append(self.home / "inbox", *messages)
        shutil.rmtree(self.home / ".mailtools", ignore_errors=True)
        for path in (self.home.parent, self.home, *self.home.rglob("*")):
            shutil.chown(path, "mail", "mail")

    def save(self, mailbox: str, message: bytes) -> None:
        run = ["doveadm", "-c", str(self.config)]
        subprocess.run(
            [*run, "mailbox", "create", "-u", "bob", mailbox], check=False, stderr=subprocess.DEVNULL
        )
        subprocess.run([*run, "save", "-u", "bob", "-m", mailbox], input=message, check=True)

    def flags(self, mailbox: str = "INBOX") -> list[str]:
        done = subprocess.run(
            ["doveadm", "-c", str(self.config), "fetch", "-u", "bob", "flags", "mailbox", mailbox],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return re.findall(r"flags: (.*)", done.stdout)


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with tempfile.TemporaryDirectory(prefix="mailtools-dovecot-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        server = Dovecot(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def fetch(server: Dovecot, service: str, to: Path, *options: str) -> "subprocess.CompletedProcess[bytes]":
    return mailtools(
        "fetch", f"--{service.removesuffix('s')}", "--host", "localhost", "--port", str(server.ports[service]),
        "--user", "bob", "--to", str(to), *options, env=ENV,
    )  # fmt: skip


def names(path: Path) -> set[str]:
    box = index.open_box(str(path))
    box.close()
    return set(box.catalog.names())


@BOTH
def test_real_mail_comes_whole(protocol: str, dovecot: Dovecot, easy_ham: Path, tmp_path: Path) -> None:
    dovecot.fill([])
    shutil.copy(easy_ham, dovecot.home / "inbox")
    shutil.chown(dovecot.home / "inbox", "mail", "mail")
    before = names(easy_ham)
    assert fetch(dovecot, protocol, tmp_path / "box").returncode == 0
    came = names(tmp_path / "box")
    assert len(came) == len(before)
    assert len(came - before) < 30  # Dovecot leaves `>From ` lines quoted
    assert fetch(dovecot, protocol, tmp_path / "box").returncode == 1


@BOTH
@pytest.mark.parametrize(
    ("tls", "options"),
    [
        ("off", ()),
        ("off", ("--auth", "plain")),
        ("off", ("--auth", "scram-sha-256")),
        ("starttls", ("CA",)),
        ("implicit", ("CA",)),
        ("implicit", ("CA", "--auth", "login")),
    ],
)
def test_ways_in(protocol: str, tls: str, options: tuple[str, ...], dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.fill([number(n) for n in range(3)])
    service = protocol + "s" * (tls == "implicit")
    given = [
        word for option in options for word in (("--cafile", dovecot.cafile) if option == "CA" else (option,))
    ]
    done = fetch(dovecot, service, tmp_path / "box", "--tls", tls, *given)
    assert done.returncode == 0, done.stderr
    assert subjects(tmp_path / "box") == [f"{n:06d}" for n in range(3)]


@BOTH
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_that_nobody_vouches_for(
    protocol: str, tls: str, dovecot: Dovecot, tmp_path: Path
) -> None:
    done = fetch(dovecot, protocol + "s" * (tls == "implicit"), tmp_path / "box", "--tls", tls)
    assert done.returncode == 76
    assert not (tmp_path / "box").exists()


@BOTH
def test_a_wrong_password(protocol: str, dovecot: Dovecot, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong\n")
    done = fetch(dovecot, protocol, tmp_path / "box", "--password-file", str(tmp_path / "password"))
    assert done.returncode == 77


@BOTH
def test_deleting(protocol: str, dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.fill([number(n) for n in range(5)])
    assert fetch(dovecot, protocol, tmp_path / "box", "--delete", "--limit", "2").returncode == 0
    assert len(dovecot.flags()) == 3
    assert fetch(dovecot, protocol, tmp_path / "box", "--delete").returncode == 0
    assert dovecot.flags() == []
    assert subjects(tmp_path / "box") == [f"{n:06d}" for n in range(5)]


def test_flags_stay_as_they_are(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.fill([number(n) for n in range(3)])
    assert fetch(dovecot, "imap", tmp_path / "box").returncode == 0
    assert not any("\\Seen" in flags for flags in dovecot.flags())
    assert fetch(dovecot, "imap", tmp_path / "other", "--limit", "1", "--mark-seen").returncode == 0
    assert sum("\\Seen" in flags for flags in dovecot.flags()) == 1


def test_mailboxes_sizes_and_days(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.fill([number(0)])
    for mailbox in ("Lists/work", "Lists/home", "Entw\u00fcrfe"):
        dovecot.save(mailbox, number(1))
    dovecot.save("Lists/work", number(2, 20_000))
    where = ("--mailbox", "Lists/*", "--mailbox", "Entw*", "--to-dir", str(tmp_path / "all"))
    done = mailtools("fetch", "--imap", "--host", "localhost", "--port", str(dovecot.ports["imap"]), "--user", "bob",
                     *where, "--max-size", "5K", "--since", "1d", env=ENV)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {
        str(path.relative_to(tmp_path / "all")): subjects(path) for path in (tmp_path / "all").rglob("*.mbox")
    }
    assert found == {f"{name}.mbox": ["000001"] for name in ("Lists/work", "Lists/home", "Entw\u00fcrfe")}


def test_mail_that_comes_while_we_wait(dovecot: Dovecot, tmp_path: Path) -> None:
    """IDLE; the server ends and begins again; a signal ends us in order."""
    dovecot.fill([number(0)])
    process = subprocess.Popen(
        [sys.executable, "-m", "mailtools", "fetch", "--imap", "--host", "127.0.0.1", "--port",
         str(dovecot.ports["imap"]), "--user", "bob", "--to", str(tmp_path / "box"), "--idle"],
        stderr=subprocess.PIPE, env=os.environ | ENV,
    )  # fmt: skip

    def here() -> list[str]:
        return subjects(tmp_path / "box") if (tmp_path / "box").exists() else []

    eventually(lambda: here() == ["000000"], here)
    dovecot.save("INBOX", number(1))
    eventually(lambda: here() == ["000000", "000001"], here)
    dovecot.stop()
    dovecot.start()
    dovecot.save("INBOX", number(2))
    eventually(lambda: here() == ["000000", "000001", "000002"], here)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
