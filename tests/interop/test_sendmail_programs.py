"""Programs that hand their mail to /usr/sbin/sendmail hand it to `mailtools-sendmail`."""

import os
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from mailtools.system import clock

BODY = "Grüße aus Köln\n\nFrom here on, text.\n.\n..two dots\n"


class House:
    """A mail root, and a sendmail in a folder of its own that delivers into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.sendmail = folder / "bin" / "sendmail"
        self.sendmail.parent.mkdir()
        self.sendmail.write_text(
            f'#!/bin/sh\nMAILTOOLS_ROOT={self.root} exec {sys.executable} -m mailtools.sendmail -odq "$@"\n'
        )
        self.sendmail.chmod(0o755)

    def run(self, *args: str | Path, stdin: str = "", cwd: Path | None = None) -> None:
        environment = os.environ | {
            "LC_ALL": "C.UTF-8", "HOME": str(self.folder), "PATH": f"{self.sendmail.parent}:{os.environ['PATH']}",
        }  # fmt: skip
        done = subprocess.run(
            args, input=stdin.encode(), capture_output=True, check=False, timeout=60, cwd=cwd, env=environment
        )
        assert done.returncode == 0, (args[0], done.stdout[-2000:], done.stderr[-2000:])

    def inbox(self, user: str = "bob") -> list[str]:
        with (self.root / user / "INBOX.mbox").open("rb") as file:
            return [record.message().decode() for record in scan.records(file.read)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def mutt(house: House) -> None:
    (house.folder / "rc").write_text(
        f'set sendmail="{house.sendmail} -oem -oi"\nset from=alice@example.org\nset use_envelope_from=yes\n'
        "set allow_8bit=yes\nset copy=no\nset send_charset=utf-8\n"
    )
    house.run("mutt", "-n", "-F", house.folder / "rc", "-s", "interop", "-b", "eve@localhost", "--",
              "bob@localhost", stdin=BODY)  # fmt: skip


def s_nail(house: House) -> None:
    house.run("s-nail", "-:/", "-Sv15-compat", f"-Smta=file://{house.sendmail}", "-Sttycharset=utf-8",
              "-Smime-encoding=8b", "-Ssendcharsets=utf-8", "-Ssendwait", "-r", "alice@example.org",
              "-b", "eve@localhost", "-s", "interop", "bob@localhost", stdin=BODY)  # fmt: skip


def mailutils(house: House) -> None:
    house.run("mail.mailutils", "-n", "-E", f"set sendmail=sendmail://{house.sendmail}", "-r", "alice@example.org",
              "-a", "Bcc: eve@localhost", "-s", "interop", "bob@localhost", stdin=BODY)  # fmt: skip


def php(house: House) -> None:
    """What its mail() does: ``sendmail -t -i``, the fields it was given, CRLF."""
    fields = "To: bob@localhost\r\nSubject: interop\r\nFrom: alice@example.org\r\nBcc: eve@localhost\r\n"
    house.run(house.sendmail, "-t", "-i", "-falice@example.org", stdin=fields + "\r\n" + BODY)


def swaks(house: House) -> None:
    message = f"Subject: interop\nFrom: alice@example.org\n\n{BODY}"
    house.run("swaks", "--pipe", f"{house.sendmail} -bs", "--from", "alice@example.org",
              "--to", "bob@localhost,eve@localhost", "--data", "-", stdin=message)  # fmt: skip


class _Piped(smtplib.SMTP):
    """SMTP with a program on the other end of a socket pair."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self._command = command

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # type: ignore[override]
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        self.process = subprocess.Popen(self._command, stdin=theirs, stdout=theirs)
        theirs.close()
        return ours


def python(house: House) -> None:
    smtp = _Piped([str(house.sendmail), "-bs"])
    smtp.connect("localhost")
    message = f"Subject: interop\nFrom: alice@example.org\n\n{BODY}".replace("\n", "\r\n").encode()
    smtp.sendmail("alice@example.org", ["bob@localhost", "eve@localhost"], message, ["BODY=8BITMIME"])
    smtp.quit()
    assert smtp.process.wait(30) == 0


@pytest.mark.parametrize("deliver", [mutt, s_nail, mailutils, php, swaks, python])
def test_a_program_sends(house: House, deliver: Callable[[House], None]) -> None:
    deliver(house)
    (message,) = house.inbox()
    head, _, body = message.partition("\n\n")
    assert "\nSubject: interop" in head
    assert head.startswith("Return-Path: <alice@example.org>\nDelivered-To: bob@localhost\n")
    assert "eve" not in head
    if deliver is s_nail:  # it quotes From lines itself, on the way out
        body = body.replace("\n>From ", "\nFrom ")
    assert body.rstrip("\n") == BODY.rstrip("\n")
    assert len(house.inbox("eve")) == 1


def test_the_words_of_cron(house: House) -> None:
    """As Debian's cron runs it; what it writes is its own header and the job's output."""
    host = clock.host_name()
    fields = (
        "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> job\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX-Cron-Env: <SHELL=/bin/sh>\n"
    )
    house.run(
        house.sendmail,
        "-FCronDaemon",
        "-i",
        "-B8BITMIME",
        "-oem",
        "root",
        stdin=f"{fields}\n10%\r20%\n.\nend\n",
    )
    (message,) = house.inbox("root")
    assert f"\nFrom: root@{host} (Cron Daemon)\nTo: root@{host}\n" in message
    assert message.endswith("\n\n10%\n20%\n.\nend\n")


@pytest.mark.parametrize("option", ["--sendmail-cmd", "--smtp-server"])
def test_git_sends_patches(house: House, option: str) -> None:
    repository = house.folder / "repository"
    repository.mkdir()
    who = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
    house.run("git", "init", "-q", cwd=repository)
    for number in (1, 2):
        (repository / "file").write_text("ä\n" * number)
        house.run("git", "add", "file", cwd=repository)
        house.run("git", *who, "commit", "-q", "-m", f"Change {number}", cwd=repository)
    house.run("git", *who, "format-patch", "-q", "--root", "-o", "out", cwd=repository)
    patches = sorted(str(path) for path in (repository / "out").iterdir())
    house.run(
        "git", *who, "send-email", "--confirm=never", "--envelope-sender=auto", "--to=bob", "--suppress-cc=all", f"{option}={house.sendmail}",
        *patches, cwd=repository,
    )  # fmt: skip
    first, second = house.inbox()
    assert "\nSubject: [PATCH 1/2] Change 1\n" in first
    assert "\nSubject: [PATCH 2/2] Change 2\n" in second
    assert second.startswith("Return-Path: <alice@example.org>\n")
    other = house.folder / "other"
    house.run("git", "init", "-q", str(other))
    house.run("git", *who, "am", "-q", house.root / "bob/INBOX.mbox", cwd=other)
    assert (other / "file").read_text() == "ä\nä\n"
