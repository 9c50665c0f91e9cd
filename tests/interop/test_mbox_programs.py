"""Other programs read and write the mbox that `serve-smtp` writes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from mailtools.core.mbox.stored import shown
from tests.servers import Server, eventually, mailtools


def output(*args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(
        args, input=stdin, capture_output=True, check=False, timeout=60, env=os.environ | (env or {})
    )
    assert done.returncode == 0, (args, done.stderr[-2000:])
    return done.stdout


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    with Server(tmp_path / "root") as server:
        for number in range(7):
            client = server.connect()
            body = b"From line %d\r\nStatus: no field\r\n..\r\n" % number
            client.deliver(b"Subject: n%d\r\nFrom: a@b\r\n\r\n" % number + body, "bob@x")
            client.close()
        return server.inbox("bob")


def test_the_programs_count_alike(inbox: Path) -> None:
    octets = inbox.read_bytes()
    assert output("messages", "-q", str(inbox)).strip() == b"7"
    assert output("formail", "-s", "echo", "one", stdin=octets).count(b"one") == 7
    assert output("grep", "-c", "^From ", str(inbox)).strip() == b"7"
    assert mailtools("mbox", "count", str(inbox)).stdout.strip() == b"7"


def test_formail_splits_it(inbox: Path) -> None:
    octets = output("formail", "-s", "formail", "-xSubject:", stdin=inbox.read_bytes())
    assert octets.split() == [b"n%d" % number for number in range(7)]


class Doveadm:
    """``doveadm`` for one mbox. It refuses to work as root, and elsewhere than where its own user may go."""

    def __init__(self, folder: Path) -> None:
        self.inbox = folder / "inbox"
        self._home = folder
        self._config = folder / "dovecot.conf"
        self._config.write_text(
            f"mail_location = mbox:{folder}/dovecot:INBOX={self.inbox}:INDEX=MEMORY\n"
            f"mail_uid = mail\nmail_gid = mail\nfirst_valid_uid = 1\n"
            f"log_path = /dev/stderr\nssl = no\nbase_dir = {folder}/run\n"
        )
        (folder / "dovecot").mkdir()
        self.inbox.touch()
        for path in (folder, self.inbox, folder / "dovecot"):
            shutil.chown(path, "mail", "mail")

    def __call__(self, *words: str, stdin: bytes = b"") -> bytes:
        run = ("doveadm", "-c", str(self._config), "-o", f"mail_home={self._home}")
        return output(*run, *words, stdin=stdin, env={"USER": "mail"})

    def texts(self) -> bytes:
        return self("fetch", "hdr.subject text", "mailbox", "INBOX")


@pytest.fixture
def doveadm() -> Iterator[Doveadm]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="mailtools-dovecot-"))
    try:
        yield Doveadm(folder)
    finally:
        shutil.rmtree(folder)


def test_dovecot_reads_it(inbox: Path, doveadm: Doveadm, tmp_path: Path) -> None:
    doveadm.inbox.write_bytes(inbox.read_bytes())
    text = doveadm.texts()
    assert text.count(b"hdr.subject: n") == 7
    assert text.count(b"Status: no field\r\n") + text.count(b"Status: no field\n") == 7
    # It wrote its state into the header; ours goes on with the same file.
    with Server(tmp_path / "root", "--mbox", str(doveadm.inbox)) as server:
        assert server.connect().deliver(b"Subject: n7\r\n\r\nx\r\n", "bob@x").startswith(b"250")
    assert doveadm.texts().count(b"hdr.subject: n") == 8
    assert mailtools("mbox", "count", str(doveadm.inbox)).stdout.strip() == b"8"


def test_dovecot_quotes_no_from_line(doveadm: Doveadm, tmp_path: Path) -> None:
    """Only Content-Length tells where a message that it saved ends."""
    body = b"hello\n\nFrom bob@a.test Thu Aug 22 12:00:01 2002\nSubject: inner\n\n>From here\n"
    for number in range(3):
        doveadm("save", stdin=b"From: ann@a.test\nSubject: n%d\n\n" % number + body)
    assert doveadm.inbox.read_bytes().count(b"\nFrom bob@a.test") == 3
    assert mailtools("mbox", "count", str(doveadm.inbox)).stdout == b"3\n"
    with Server(tmp_path / "root", "--mbox", str(doveadm.inbox)) as server:
        assert server.connect().deliver(b"Subject: n3\r\n\r\nx\r\n", "bob@x").startswith(b"250")
    with doveadm.inbox.open("rb") as file:
        found = [record.message(shown) for record in scan.records(file.read)]
    assert found[:3] == [b"From: ann@a.test\nSubject: n%d\n\n" % number + body for number in range(3)]
    assert len(found) == 4
    assert doveadm.texts().count(b"hdr.subject: n") == 4


def test_procmail_delivers_beside_us(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        assert server.connect().deliver(b"Subject: ours\r\n\r\nx\r\n", "bob@x").startswith(b"250")
        inbox = server.inbox("bob")
        rc = tmp_path / "rc"
        rc.write_text(f"DEFAULT={inbox}\nLOCKSLEEP=1\n:0:\n{inbox}\n")
        loop = (
            'for n in $(seq 60); do { printf "From x@y Thu Aug 22 12:00:00 2002\\nSubject: foreign\\n\\n"; '
            f"seq 2000; }} | procmail {rc} || exit 1; done"
        )
        writer = subprocess.Popen(["sh", "-c", loop], env=os.environ | {"HOME": str(tmp_path)})
        count = 1
        while writer.poll() is None:
            client = server.connect(60)
            assert client.deliver(b"Subject: ours\r\n\r\n" + b"o\r\n" * 3000, "bob@x").startswith(b"250")
            client.close()
            count += 1
        assert writer.returncode == 0
    body = b"\n".join(b"%d" % n for n in range(1, 2001)) + b"\n"
    with inbox.open("rb") as file:
        messages = [record.message() for record in scan.records(file.read)]
    foreign = [m for m in messages if b"Subject: foreign\n" in m]
    ours = [m for m in messages if b"Subject: ours\n" in m]
    assert (len(foreign), len(ours), len(messages)) == (60, count, 60 + count)
    assert all(m.partition(b"\n\n")[2].rstrip() == body.rstrip() for m in foreign)
    assert all(set(m.partition(b"\n\n")[2].split()) <= {b"o", b"x"} for m in ours)


def test_a_lockfile_is_waited_for(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        assert server.connect().deliver(b"Subject: 1\r\n\r\nx\r\n", "bob@x").startswith(b"250")
        lock = f"{server.inbox('bob')}.lock"
        output("lockfile", lock)
        client = server.connect()
        client.envelope("bob@x")
        client.say(b"Subject: 2\r\n\r\nx\r\n.\r\n")
        before = server.inbox("bob").stat().st_size
        output("sh", "-c", "true")
        assert server.inbox("bob").stat().st_size == before
        os.unlink(lock)
        assert client.reply().startswith(b"250")
        eventually(lambda: not os.path.exists(lock), "the lock is given back")
