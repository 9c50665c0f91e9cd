"""Pipelines of mbox commands: pipeline A equals pipeline B; exit codes; closed pipes."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boxes import FOLDER_DATA
from tests.servers import Scripted, mailtools

MAILTOOLS = f"{shlex.quote(sys.executable)} -m mailtools"


def sh(script: str, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    script = "set -o pipefail; " + script.replace("mailtools ", MAILTOOLS + " ")
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mailtools mbox count mixed.mbox", "grep -c '^From ' mixed.mbox"),
        ("mailtools mbox cat mixed.mbox", "cat mixed.mbox"),
        ("mailtools mbox cat < mixed.mbox", "mailtools mbox cat mixed.mbox"),
        ("mailtools mbox cat quoted.mbox mixed.mbox | mailtools mbox count", "echo 11"),
        ("gzip -c mixed.mbox | mailtools mbox list", "mailtools mbox list mixed.mbox"),
        ("mailtools mbox cat --cc x mixed.mbox | cat - quoted.mbox | mailtools mbox count", "echo 3"),
        ("mailtools mbox list -q is:read mixed.mbox | wc -l", "mailtools mbox count -q is:read mixed.mbox"),
        ("mailtools mbox list --sort size mixed.mbox", "mailtools mbox list mixed.mbox | sort -st'\t' -k6n"),
        ("mailtools mbox show --raw mixed.mbox 2", "tail -n +3 chinese.mbox | head -n -1"),
        ("mailtools mbox list --limit 2 mixed.mbox", "mailtools mbox list mixed.mbox | head -2"),
    ],
)  # fmt: skip
def test_the_same(own: Path, tmp_path: Path, one: str, other: str) -> None:
    for file in own.iterdir():
        (tmp_path / file.name).symlink_to(file)
    status = b"From x\n\n"
    (tmp_path / "chinese.mbox").write_bytes(
        status + b"Status: RO\n" + (own / "chinese.eml").read_bytes() + b"\n"
    )
    left, right = sh(one, tmp_path), sh(other, tmp_path)
    assert left.stdout == right.stdout != b""
    assert (left.stderr, right.stderr) == (b"", b"")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("mailtools mbox count mixed.mbox", 0),
        ("mailtools mbox count --from nobody-at-all mixed.mbox", 1),
        ("mailtools mbox count -q '(' mixed.mbox", 64),
        ("mailtools mbox list words.eml", 65),
        ("mailtools mbox list missing.mbox", 66),
        ("mailtools mbox list missing.mbox mixed.mbox", 66),
        ("mailtools mbox show --part 7 mixed.mbox 3", 65),
        ("head -c 300 mixed.mbox | gzip -c | head -c 60 | mailtools mbox count", 74),
    ],
)
def test_exit_codes(own: Path, script: str, code: int) -> None:
    done = sh(script, own)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 5


@pytest.mark.parametrize("command", ["list", "cat", "show", "list --json"])
def test_a_closed_pipe_ends_in_silence(own: Path, tmp_path: Path, command: str) -> None:
    large = tmp_path / "large.mbox"
    large.write_bytes((own / "mixed.mbox").read_bytes() * 300)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mailtools", "mbox", *command.split(), str(large)],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""


def test_a_locale_without_the_letters(own: Path) -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "mailtools", "mbox", "list", str(own / "mixed.mbox")],
        env=env, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 8


def test_no_command_shows_the_folder_data_of_pine(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    messages = b"".join(
        b"From ann@a.test Thu Aug 22 12:00:00 2002\nFrom: ann@a.test\nSubject: %b\n\nhello\n\n" % subject
        for subject in (b"one", b"two")
    )
    path.write_bytes(FOLDER_DATA + messages)
    assert mailtools("mbox", "count", str(path)).stdout == b"2\n"
    lines = mailtools("mbox", "list", str(path)).stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["1", "2"]
    assert b"Subject: one" in mailtools("mbox", "show", "1", str(path)).stdout
    assert mailtools("mbox", "cat", str(path)).stdout == messages
    with Scripted() as server:
        mailtools("send", "--mbox", str(path), "--route", f"smtp://127.0.0.1:{server.port}", "x@b.test")
    assert len(server.messages) == 2
