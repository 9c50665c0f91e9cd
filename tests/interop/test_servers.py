"""`send` delivers to real servers."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import eventually, mailtools

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.test
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
defer_transports = local smtp
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
smtputf8_enable = yes
"""
MASTER = """
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
retry unix - - n - - error
error unix - - n - - error
local unix - n n - - local
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return sock.recv(3) == b"220"
    except OSError:
        return False


@pytest.fixture
def postfix() -> Iterator[tuple[int, Path]]:
    """An instance of its own, that keeps what it gets in its queue."""
    if os.geteuid() != 0:
        pytest.fail("Postfix starts as root only: run scripts/interop as root")
    folder = Path("/var/tmp") / f"mailtools-postfix-{os.getpid()}"
    port = free_port()
    for name in ("config", "queue", "data"):
        (folder / name).mkdir(parents=True)
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    (folder / "config" / "main.cf").write_text(MAIN.format(folder=folder))
    (folder / "config" / "master.cf").write_text(MASTER.format(port=port))
    subprocess.run(["postfix", "-c", str(folder / "config"), "start"], check=True, capture_output=True)
    try:
        eventually(lambda: answers(port), "Postfix's greeting")
        yield port, folder
    finally:
        subprocess.run(["postfix", "-c", str(folder / "config"), "stop"], check=True, capture_output=True)
        shutil.rmtree(folder)


def test_postfix_takes_what_send_sends(postfix: tuple[int, Path]) -> None:
    port, folder = postfix
    message = "From: a@x.test\nTo: bob@localhost\nSubject: Grüße\n\nFrom me\n.\nGrüße\n".encode() * 1
    done = mailtools("send", "--host", "127.0.0.1", "--port", str(port), stdin=message)
    assert done.returncode == 0, (done.stdout, done.stderr)
    queue = [path for path in (folder / "queue").rglob("*") if path.is_file() and len(path.name) > 8]
    deadline = time.monotonic() + 20
    text = b""
    while b"Subject" not in text and time.monotonic() < deadline:
        queue = [
            p for name in ("incoming", "active", "deferred") for p in (folder / "queue" / name).rglob("*")
        ]
        for path in (path for path in queue if path.is_file()):
            text += subprocess.run(
                ["postcat", "-c", str(folder / "config"), "-bh", str(path)], capture_output=True, check=False
            ).stdout
    assert "Subject: Grüße\n".encode() in text
    assert text.endswith("From me\n.\nGrüße\n".encode())


def test_postfix_takes_a_whole_mbox(postfix: tuple[int, Path]) -> None:
    port, _ = postfix
    mbox = b"".join(
        b"From a@b Thu Aug 22 12:00:00 2002\nFrom: a@x.test\nSubject: %d\n\n>From %d\n\n" % (n, n)
        for n in range(200)
    )
    done = mailtools(
        "send", "--host", "127.0.0.1", "--port", str(port), "--mbox", "-", "bob@localhost", stdin=mbox
    )
    assert done.returncode == 0, done.stdout[-500:]
    assert done.stdout.count(b"sent\t") == 200
