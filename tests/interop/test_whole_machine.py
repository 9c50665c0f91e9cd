"""/usr/sbin/sendmail replaced for a whole machine: two users, a system user without a home, cron's environment.

Runs in a mount namespace with its own /etc and /usr/sbin, so that nothing of this machine is changed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailtools
from mailtools.system import clock
from tests.servers import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: two users and a mount namespace")

HOST = clock.host_name()
USERS = {"alice": 61001, "bob": 61002, "daemon1": 61003}
CONFIG = '[sendmail]\nsubmit = "unix:{folder}/run/smtp"\n'


class Machine:
    """A machine with our sendmail, as its users see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "srv"
        for name in ("run", "srv", "home", "etc", "etc.work", "sbin", "sbin.work"):
            (folder / name).mkdir()
        shutil.copytree(Path(mailtools.__file__).parent, folder / "lib" / "mailtools")
        for name in ("alice", "bob"):
            (folder / "home" / name).mkdir()
            os.chown(folder / "home" / name, USERS[name], USERS[name])
        lines = [
            f"{name}:x:{number}:{number}:{name.title()}:{self.home(name)}:/bin/sh"
            for name, number in USERS.items()
        ]
        (folder / "etc" / "passwd").write_text(Path("/etc/passwd").read_text() + "\n".join(lines) + "\n")
        (folder / "etc" / "mailtools").mkdir()
        (folder / "etc" / "mailtools" / "config.toml").write_text(CONFIG.format(folder=folder))
        self.root.joinpath("users").write_text("alice:{PLAIN}x\nbob:{PLAIN}x\n")
        (folder / "aliases").write_text("root: bob\n")
        script = folder / "sbin" / "sendmail"
        script.write_text(
            f"#!/usr/bin/python3 -IS\nimport sys\nsys.path.insert(0, '{folder}/lib')\n"
            "from mailtools.sendmail import run\nrun()\n"
        )
        script.chmod(0o755)

    def home(self, user: str) -> str:
        return f"{self.folder}/home/{user}" if user in ("alice", "bob") else "/nonexistent"

    def server(self) -> Server:
        options = ["--domain", HOST, "--listen", "127.0.0.1:0", "--listen", f"unix:{self.folder}/run/smtp"]
        aliases = ["--aliases", str(self.folder / "aliases")]
        return Server(self.root, *options, *aliases, "--relay", "--relay-from", "unix", "--no-deliver")

    def cron(
        self, user: str, to: str, octets: bytes = b"Subject: Cron\n\noutput\n"
    ) -> subprocess.CompletedProcess[bytes]:
        """Mail the output of a job as Debian's cron does."""
        mounts = "; ".join(
            f"mount -t overlay o -o lowerdir={place},upperdir={self.folder}/{name},workdir={self.folder}/{name}.work {place}"
            for name, place in (("etc", "/etc"), ("sbin", "/usr/sbin"))
        )
        number = USERS[user]
        job = f"/usr/sbin/sendmail -i -FCronDaemon -B8BITMIME -oem {to}"
        run = f"exec setpriv --reuid={number} --regid={number} --clear-groups sh -c '{job}'"
        environment = {"HOME": self.home(user), "LOGNAME": user, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            ["unshare", "--mount", "sh", "-ec", f"{mounts}; cd /; {run}"], input=octets, env=environment,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    def inbox(self, user: str) -> bytes:
        path = self.root / user / "INBOX.mbox"
        return path.read_bytes() if path.exists() else b""

    def filed_at_home(self) -> list[Path]:
        return list((self.folder / "home").rglob("*.mbox"))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        # An overlay cannot lie on an overlay, which /tmp of a container may be.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", folder], check=True)
        try:
            yield Machine(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_cron_mails_its_user_and_root(machine: Machine) -> None:
    with machine.server():
        for user, to, reader in (
            ("alice", "alice", "alice"),
            ("bob", "root", "bob"),
            ("alice", "bob", "bob"),
        ):
            done = machine.cron(user, to)
            assert (done.returncode, done.stderr) == (0, b"")
            assert f"Return-Path: <{user}@{HOST}>\nDelivered-To: {to}@{HOST}".encode() in machine.inbox(
                reader
            )
    assert machine.inbox("bob").count(b"\noutput\n") == 2
    assert not machine.filed_at_home()


def test_a_system_user_without_a_home(machine: Machine) -> None:
    with machine.server():
        done = machine.cron("daemon1", "root")
        assert (done.returncode, done.stderr) == (0, b"")
    assert b"output" in machine.inbox("bob")
    done = machine.cron("daemon1", "root")
    assert done.returncode == 75
    assert b"not queued" in done.stderr


def test_a_name_that_does_not_exist(machine: Machine) -> None:
    with machine.server():
        done = machine.cron("alice", "nobody-such")
    assert done.returncode == 67
    assert not machine.filed_at_home()


def test_while_the_server_is_down_mail_waits_with_its_user(machine: Machine) -> None:
    assert machine.cron("alice", "bob").returncode == 0
    spool = machine.folder / "home" / "alice" / "Mail" / ".spool"
    assert len(list((spool / "messages").iterdir())) == 1
    assert spool.stat().st_uid == USERS["alice"]
    with machine.server():
        subprocess.run(
            [sys.executable, "-m", "mailtools", "queue", "retry", "--all", "--spool", str(spool)],
            check=True,
            timeout=60,
        )
        subprocess.run(
            [sys.executable, "-m", "mailtools", "queue", "run", "--once", "--spool", str(spool)],
            check=True,
            timeout=60,
        )
    assert b"output" in machine.inbox("bob")
