"""Real programs deliver to `serve-smtp`; what arrives is what they sent."""

import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from tests.servers import Server

BODY = "Grüße aus Köln\n\nFrom here on, text.\n.\n..two dots\n"
MESSAGE = f"From: alice@example.org\nTo: bob@localhost\nSubject: interop\n\n{BODY}"


def run(*args: str, stdin: str = "", cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    import os

    done = subprocess.run(
        args, input=stdin.encode(), capture_output=True, check=False, timeout=60, cwd=cwd,
        env=os.environ | (env or {}),
    )  # fmt: skip
    assert done.returncode == 0, (args[0], done.stdout[-2000:], done.stderr[-2000:])


def swaks(port: int, folder: Path) -> None:
    run("swaks", "--server", "127.0.0.1", "--port", str(port), "--from", "alice@example.org",
        "--to", "bob@localhost", "--data", "-", stdin=MESSAGE)  # fmt: skip


def curl(port: int, folder: Path) -> None:
    (folder / "m").write_bytes(MESSAGE.replace("\n", "\r\n").encode())
    run("curl", "-sS", f"smtp://127.0.0.1:{port}", "--mail-from", "alice@example.org", "--mail-rcpt",
        "bob@localhost", "-T", str(folder / "m"))  # fmt: skip


def msmtp(port: int, folder: Path) -> None:
    run("msmtp", "--host=127.0.0.1", f"--port={port}", "--from=alice@example.org", "--auth=off", "--tls=off",
        "bob@localhost", stdin=MESSAGE)  # fmt: skip


def s_nail(port: int, folder: Path) -> None:
    run("s-nail", "-:/", "-Sv15-compat", f"-Smta=smtp://127.0.0.1:{port}", "-Ssmtp-auth=none",
        "-Sttycharset=utf-8", "-Smime-encoding=8b", "-Ssendcharsets=utf-8", "-r", "alice@example.org",
        "-s", "interop", "bob@localhost", stdin=BODY, env={"LC_ALL": "C.UTF-8"})  # fmt: skip


def mutt(port: int, folder: Path) -> None:
    (folder / "rc").write_text(
        f'set smtp_url="smtp://127.0.0.1:{port}"\nset from=alice@example.org\nset ssl_starttls=no\n'
        "set allow_8bit=yes\nset copy=no\nset send_charset=utf-8\nset ssl_force_tls=no\n"
    )
    run("mutt", "-n", "-F", str(folder / "rc"), "-s", "interop", "--", "bob@localhost", stdin=BODY,
        env={"LC_ALL": "C.UTF-8", "HOME": str(folder)})  # fmt: skip


def python(port: int, folder: Path) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
        smtp.sendmail(
            "alice@example.org", ["bob@localhost"], MESSAGE.replace("\n", "\r\n").encode(), ["BODY=8BITMIME"]
        )


@pytest.mark.parametrize("deliver", [swaks, curl, msmtp, s_nail, mutt, python])
def test_a_client_delivers(tmp_path: Path, deliver: Callable[[int, Path], None]) -> None:
    with Server(tmp_path / "root") as server:
        deliver(server.port, tmp_path)
        with server.inbox("bob").open("rb") as file:
            (message,) = [record.message().decode() for record in scan.records(file.read)]
    head, _, body = message.partition("\n\n")
    assert "\nSubject: interop" in head
    assert "Return-Path: <alice@example.org>\nDelivered-To: bob@localhost\n" in head
    if deliver is s_nail:  # it quotes From lines itself, on the way out
        body = body.replace("\n>From ", "\nFrom ")
    assert body.rstrip("\n") == BODY.rstrip("\n")


def test_many_with_the_load_generator_of_postfix(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        for reuse in ([], ["-d"]):
            run("smtp-source", *reuse, "-s", "20", "-m", "400", "-l", "2000", "-f", "a@b.test",
                "-t", "bob@localhost", f"127.0.0.1:{server.port}")  # fmt: skip
        with server.inbox("bob").open("rb") as file:
            assert scan.count(file.read) == 800
