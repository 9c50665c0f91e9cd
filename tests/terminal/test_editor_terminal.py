"""Composing in an editor on a terminal: the dialogue, and that no draft is ever lost."""

import fcntl
import os
import signal
import stat
import sys
import termios
import time
from array import array
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pexpect
import pytest

# A command that composes and "sends" into the file `sent`; an address with "fail" in it cannot be sent to.
PROBE = """
import sys, time
import click
from mailtools.commands.options.compose import compose_options, composed
from mailtools.core.errors import TemporaryError

@click.command()
@click.argument("recipients", nargs=-1)
@compose_options
@click.pass_context
def command(ctx, /, **options):
    composition = composed(options, ctx)
    if composition is None:
        click.echo("nothing composed")
        return
    with composition:
        if b"fail@" in composition.octets:
            raise TemporaryError("cannot be sent now")
        open("sent", "wb").write(composition.octets)
        composition.sent()
"""
RUN = "import sys; from mailtools import cli; cli.COMMANDS['probe'] = ('probe', 'Probe.'); cli.run()"


class Place:
    """A folder with the probe, an editor, and a home of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drafts = path / "state" / "mailtools" / "drafts"
        (path / "probe.py").write_text(PROBE)
        self.environment = {
            **os.environ, "TERM": "dumb", "PYTHONPATH": f"{path}:{Path(__file__).parents[2]}",
            "XDG_STATE_HOME": str(path / "state"), "XDG_CONFIG_HOME": str(path / "config"),
            "EMAIL": "Bob <bob@example.org>", "VISUAL": self.editor("ed", "exit 0"), "COLUMNS": "200",
        }  # fmt: skip
        self.environment.pop("EDITOR", None)

    def editor(self, name: str, script: str) -> str:
        """A program that does *script* to the draft, $1."""
        file = self.path / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return str(file)

    def run(self, *arguments: str, **environment: str) -> "pexpect.spawn[str]":
        return pexpect.spawn(
            sys.executable, ["-c", RUN, "probe", *arguments], cwd=str(self.path), timeout=30,
            env=self.environment | environment, encoding="utf-8", dimensions=(40, 200),
        )  # fmt: skip

    def kept(self) -> list[Path]:
        return sorted(self.drafts.glob("*/draft.eml")) if self.drafts.exists() else []

    def sent(self) -> EmailMessage:
        message = message_from_bytes((self.path / "sent").read_bytes(), policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def has_sent(self) -> bool:
        return (self.path / "sent").exists()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ended(child: "pexpect.spawn[str]") -> tuple[int, str]:
    out = child.read()
    child.close()
    return child.exitstatus if child.exitstatus is not None else -(child.signalstatus or 0), out


def wait_until_read(child: "pexpect.spawn[str]") -> None:
    """Wait until nothing that was typed waits in the terminal."""
    waiting = array("i", [1])
    deadline = time.monotonic() + 30
    with open(
        f"/proc/{child.pid}/fd/0", "rb", buffering=0, opener=lambda p, f: os.open(p, f | os.O_NOCTTY)
    ) as terminal:
        while waiting[0] and time.monotonic() < deadline:
            fcntl.ioctl(terminal, termios.FIONREAD, waiting)
            time.sleep(0.01)
    assert not waiting[0]


def test_what_the_editor_wrote_is_sent_and_the_draft_goes(place: Place) -> None:
    (place.path / "a b.txt").write_text("attached\n")
    script = (
        'sed -i -e "s/^Subject:.*/Subject: grün/" -e "s/^Attach:.*/Attach: a b.txt/" "$1"; echo Hällo >> "$1"'
    )
    child = place.run("--edit", "-s", "old", "ann@example.org", VISUAL=place.editor("e", script))
    child.expect("To: ann@example.org")
    child.expect(r"Attached: a b.txt, text/plain, 9 octets")
    child.expect(r"\[s\]end, \[e\]dit again, \[k\]eep, \[d\]rop\? ")
    assert len(place.kept()) == 1
    assert stat.S_IMODE(place.kept()[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(place.kept()[0].parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.drafts.stat().st_mode) == 0o700
    child.sendline("s")
    assert ended(child)[0] == 0
    message = place.sent()
    assert message["Subject"] == "grün"
    assert message["From"] == "Bob <bob@example.org>"
    text, attached = message.iter_parts()
    assert text.get_content() == "Hällo\n"  # type: ignore[attr-defined]
    assert attached.get_filename() == "a b.txt"
    assert not list(place.drafts.iterdir())


def test_the_editor_may_have_options_and_visual_goes_before_editor(place: Place) -> None:
    editor = place.editor("my editor", 'echo "$1" >> "$2"')
    child = place.run("--edit", "a@b.c", VISUAL=f"'{editor}' one", EDITOR="false")
    child.expect("rop")
    child.sendline("send")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "one\n"


def test_a_mistake_leads_back_into_the_editor(place: Place) -> None:
    script = 'if grep -q ^To:.*nowhere "$1"; then sed -i "s/^To:.*/To: ann@example.org/" "$1"; else sed -i "s/^To:.*/To: nowhere/" "$1"; fi'
    child = place.run("--edit", "-b", "precious", VISUAL=place.editor("e", script))
    child.expect("line 2: To: not an address: 'nowhere'")
    child.expect(r"\? ")
    assert "[s]end" not in (child.before or "")
    child.sendline("s")  # not offered, not taken
    child.expect(r"\[e\]dit again")
    child.sendline("e")
    child.expect(r"\[s\]end")
    child.sendline("s")
    assert ended(child)[0] == 0
    assert place.sent()["To"] == "ann@example.org"
    assert place.sent().get_content() == "precious\n"


def test_no_recipients_cost_no_text(place: Place) -> None:
    child = place.run("--edit", "-b", "precious")
    child.expect("no recipients; name them in To, Cc or Bcc")
    child.expect(r"\[e\]dit again, \[k\]eep")
    child.sendline("k")
    code, out = ended(child)
    assert code == 1
    assert str(place.kept()[0]) in out
    assert "precious" in place.kept()[0].read_text()


def test_drop_removes_it_and_nothing_is_sent(place: Place) -> None:
    child = place.run("--edit", "a@b.c")
    child.expect("rop")
    child.sendline("d")
    assert ended(child)[0] == 1
    assert not place.has_sent
    assert not place.kept()


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda child: child.sendintr(), 130),
        (lambda child: child.sendeof(), 1),
        (lambda child: child.kill(signal.SIGTERM), 143),
        (lambda child: child.kill(signal.SIGHUP), 129),
    ],
    ids=["ctrl-c", "eof", "term", "hup"],
)
def test_whatever_ends_the_question_the_draft_is_kept_and_told(
    place: Place, leave: Callable[[Any], None], code: int
) -> None:
    child = place.run("--edit", "-b", "precious", "a@b.c")
    child.expect(r"rop\? ")
    leave(child)
    assert ended(child)[0] == code
    assert "precious" in place.kept()[0].read_text()
    assert not place.has_sent


def test_the_path_is_told_at_ctrl_c(place: Place) -> None:
    child = place.run("--edit", "a@b.c")
    child.expect(r"rop\? ")
    child.sendintr()
    _, out = ended(child)
    assert f"the draft is kept: {place.kept()[0]}" in out
    assert f"mailtools send --edit --draft {place.kept()[0]}" in out


@pytest.mark.parametrize("line", ["{}", "X='1' {}"], ids=["alone", "by the shell"])
def test_ctrl_c_in_the_editor_is_the_editors(place: Place, line: str) -> None:
    script = 'trap "echo survived >> \\"$1\\"; exit 0" INT; echo ready; while :; do sleep 0.1; done'
    child = place.run("--edit", "a@b.c", VISUAL=line.format(place.editor("e", script)))
    child.expect("ready")
    child.sendintr()
    child.expect(r"rop\? ")
    child.sendline("s")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "survived\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_while_the_editor_runs(place: Place, number: signal.Signals) -> None:
    script = 'echo $$ > pid; echo precious >> "$1"; echo ready; exec sleep 30'
    child = place.run("--edit", "a@b.c", VISUAL=place.editor("e", script))
    child.expect("ready")
    child.kill(number)
    if number == signal.SIGKILL:
        os.kill(int((place.path / "pid").read_text()), signal.SIGTERM)  # nobody else ends it now
    code, out = ended(child)
    assert code in (143, -9)
    assert ("the draft is kept" in out) == (number == signal.SIGTERM)
    assert "precious" in place.kept()[0].read_text()


def test_an_editor_that_fails(place: Place) -> None:
    for editor in (place.editor("e", 'echo precious >> "$1"; exit 3'), "/does/not/exist"):
        child = place.run("--edit", "-b", "precious", "a@b.c", VISUAL=editor)
        code, out = ended(child)
        assert code == 78
        assert "the editor" in out
        assert "the draft is kept" in out
    assert len(place.kept()) == 2
    assert all("precious" in draft.read_text() for draft in place.kept())


def test_no_editor_at_all(place: Place) -> None:
    child = place.run("--edit", "-b", "precious", "a@b.c", VISUAL="", EDITOR="", PATH="/nowhere")
    code, out = ended(child)
    assert code == 78
    assert "no editor here; set $VISUAL or $EDITOR" in out
    assert place.kept()


def test_an_editor_that_returns_at_once_loses_nothing(place: Place) -> None:
    child = place.run("--edit", "a@b.c")
    child.expect(r"rop\? ")
    with place.kept()[0].open("a") as draft:
        draft.write("written later\n")
    child.sendline("s")
    child.expect("the draft has changed meanwhile; look at it again")
    child.expect(r"rop\? ")
    assert not place.has_sent
    child.sendline("s")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "written later\n"


def test_an_editor_that_takes_the_file_away(place: Place) -> None:
    child = place.run("--edit", "a@b.c", VISUAL=place.editor("e", 'rm "$1"'))
    child.expect("the draft is gone")
    child.expect(r"rop\? ")
    child.sendline("k")
    assert ended(child)[0] == 1


def test_a_draft_outlives_a_failure_and_is_sent_later(place: Place) -> None:
    child = place.run("--edit", "-s", "late", "-b", "precious", "fail@example.org")
    child.expect(r"rop\? ")
    child.sendline("s")
    code, out = ended(child)
    assert code == 75
    (draft,) = place.kept()
    assert f"the draft is kept: {draft}" in out
    draft.write_text(draft.read_text().replace("fail@", "ann@"))
    code, _ = ended(place.run("--draft", str(draft)))
    assert code == 0
    assert place.sent()["Subject"] == "late"
    assert place.sent().get_content() == "precious\n"
    assert not place.kept()


def test_going_on_with_a_kept_draft(place: Place) -> None:
    child = place.run("--edit", "-b", "one\n", "a@b.c")
    child.expect(r"rop\? ")
    child.sendline("k")
    ended(child)
    (draft,) = place.kept()
    child = place.run(
        "--edit", "--draft", str(draft), "-s", "new", VISUAL=place.editor("e", 'echo two >> "$1"')
    )
    child.expect("Subject: new")
    child.expect(r"rop\? ")
    assert place.kept() == [draft]
    child.sendline("s")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "one\ntwo\n"
    assert not place.kept()


def test_a_file_of_ones_own_is_a_draft_that_stays(place: Place) -> None:
    own = place.path / "template"
    own.write_text("To: a@b.c\nbroken\n\ntext\n")
    child = place.run("--edit", "--draft", str(own), VISUAL=place.editor("e", 'sed -i /broken/d "$1"'))
    child.expect(r"rop\? ")
    child.sendline("s")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "text\n"
    assert own.read_text() == "To: a@b.c\nbroken\n\ntext\n"
    code, out = ended(place.run("--draft", str(own)))
    assert code == 65
    assert "line 2: no header field: 'broken'" in out


def test_a_reply_in_the_editor(place: Place, own: Path) -> None:
    script = 'cp "$1" seen; echo Yes. >> "$1"'
    child = place.run(
        "--edit", "--reply-to-message", f"{own / 'mixed.mbox'}:1", VISUAL=place.editor("e", script)
    )
    child.expect(r"rop\? ")
    child.sendline("s")
    assert ended(child)[0] == 0
    seen = (place.path / "seen").read_text()
    assert "wrote:\n> " in seen
    assert "In-Reply-To: <" in seen
    assert place.sent()["In-Reply-To"] in seen
    assert place.sent().get_content().endswith("Yes.\n")


def test_a_forward_in_the_editor_keeps_the_message_with_the_draft(place: Place, own: Path) -> None:
    child = place.run("--edit", "--forward", f"{own / 'mixed.mbox'}:1", "a@b.c")
    child.expect(r"Attached: forwarded.eml, message/rfc822")
    child.expect(r"rop\? ")
    (draft,) = place.kept()
    assert f"Attach: {draft.parent / 'forwarded.eml'}" in draft.read_text()
    child.sendline("s")
    assert ended(child)[0] == 0
    assert [part.get_content_type() for part in place.sent().iter_parts()] == ["text/plain", "message/rfc822"]


def test_without_an_editor_the_text_is_typed(place: Place) -> None:
    child = place.run("-s", "hello", "a@b.c")
    child.expect("a line of one dot, or Ctrl-D, ends it")
    child.sendline("first")
    child.sendline(".")
    assert ended(child)[0] == 0
    assert place.sent().get_content() == "first\n"
    assert not place.kept()


def test_what_was_typed_is_kept(place: Place) -> None:
    child = place.run("-s", "hello", "a@b.c")
    child.expect("ends it")
    child.sendline("precious")
    child.expect("precious\r\n")
    wait_until_read(child)  # a terminal throws away what nobody has read when Ctrl-C is typed
    child.sendintr()
    code, out = ended(child)
    assert code == 130
    assert str(place.kept()[0]) in out
    assert "precious" in place.kept()[0].read_text()
