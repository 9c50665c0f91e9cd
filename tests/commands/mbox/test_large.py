"""A large mbox, which several processes read, gives the same lines as a small one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.cli import main
from mailtools.system.mbox import parallel

Run = Callable[..., str]


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    path = tmp_path / "many.mbox"
    with path.open("wb") as file:
        for number in range(400):
            fields = b"From: =?utf-8?q?J=C3=B6rg?= <j%d@x>\nSubject: n%d\nstatus: RO\n" % (number, number)
            if number % 3:
                fields += b"Status: RO\nDate: Thu, 22 Aug 2002 12:00:00 +0200\n"
            file.write(b"From a@b Thu Aug 22 12:00:00 2002\n%b\nbody\n\n" % fields)
    return path


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    def ran(*args: str) -> str:
        with pytest.raises(SystemExit):
            main(["mbox", *args])
        sys.stdout.flush()
        return capsysbinary.readouterr().out.decode()

    return ran


@pytest.mark.parametrize(
    "args",
    [
        ("list",),
        ("list", "--json"),
        ("list", "--subject", "n1"),
        ("list", "-q", "not body:body"),
        ("count",),
        ("count", "-u"),
        ("count", "--from", "jörg", "--subject", "9"),
    ],
)
def test_several_processes_say_the_same(
    mbox: Path, run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    alone = run(*args, str(mbox))
    monkeypatch.setattr(parallel, "_WORTH_IT", 1)
    monkeypatch.setattr(parallel, "_SHARE", 3000)
    monkeypatch.setattr(parallel, "workers", lambda: 3)
    assert run(*args, str(mbox)) == alone
