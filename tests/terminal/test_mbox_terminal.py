"""mbox commands on a real terminal: the table, the pager, refusing to wait for typing."""

import os
import sys
from pathlib import Path

import pexpect

MAILTOOLS = ["-m", "mailtools", "mbox"]


def run(*args: object, **env: str) -> tuple[int, str]:
    child = pexpect.spawn(
        sys.executable,
        [*MAILTOOLS, *map(str, args)],
        env=os.environ | {"TERM": "dumb", "COLUMNS": "90"} | env,
        dimensions=(40, 90),
        encoding="utf-8",
        timeout=60,
    )
    out = child.read()
    child.close()
    return child.exitstatus or 0, out.replace("\r\n", "\n")


def test_the_table_is_aligned_with_wide_letters(own: Path) -> None:
    code, out = run("list", own / "mixed.mbox")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["number", "date", "flags", "from", "subject", "size"]
    assert lines[2].startswith("     2  2026-01-06 10:00  -      王小明           会议通知 ")
    assert "\x1b" not in out
    assert len({len(line) for line in lines if line.isascii()}) == 1


def test_the_pager_gets_the_text(own: Path) -> None:
    code, out = run("show", own / "mixed.mbox", 8, PAGER="sed s/^/PAGED:/")
    assert code == 0
    assert "PAGED:Subject: ␛[31mred␛[0m" in out
    assert "\x1b[2J" not in out


def test_no_source_on_a_terminal_is_an_error_and_not_a_wait() -> None:
    code, out = run("list")
    assert code == 64
    assert "no SOURCE given" in out
