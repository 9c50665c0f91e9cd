"""The options that compose, without a terminal: what they make, and what they refuse."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from mailtools.commands.options.compose import Composed, compose_options, composed
from mailtools.system import clock


class Probe:
    """A command with the options, and what it composed."""

    def __init__(self) -> None:
        self.result: Composed | None = None

    def run(self, *arguments: str, body: str | bytes = "") -> Result:
        @click.command()
        @click.argument("recipients", nargs=-1)
        @click.option("--mbox")
        @compose_options
        @click.pass_context
        def command(ctx: click.Context, /, **options: Any) -> None:
            self.result = composed(options, ctx)

        return CliRunner().invoke(command, arguments, input=body)

    def message(self, *arguments: str, body: str | bytes = "") -> EmailMessage:
        done = self.run(*arguments, body=body)
        if done.exception:
            raise done.exception
        assert self.result is not None
        message = message_from_bytes(self.result.octets, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("EMAIL", "Bob <bob@example.org>")
    monkeypatch.chdir(tmp_path)
    return Probe()


def test_nothing_asks_for_composing(probe: Probe) -> None:
    assert probe.run("ann@example.org", body="Subject: a message\n\n").exit_code == 0
    assert probe.result is None


def test_subject_and_stdin(probe: Probe) -> None:
    message = probe.message(
        "-s", "grün", "ann@example.org", "Carol, D <c@d.e>".replace(",", ""), body="text ü\n"
    )
    assert message["Subject"] == "grün"
    assert message["From"] == "Bob <bob@example.org>"
    assert message["To"] == "ann@example.org, Carol D <c@d.e>"
    assert message.get_content() == "text ü\n"


def test_all_the_fields(probe: Probe) -> None:
    message = probe.message(
        "-s", "", "--to", "a@b.c, d@e.f", "--to", "a@b.c", "--cc", '"Doe, J" <j@x.org>', "--bcc", "s@x.org",
        "--from", "Ann <ann@x.org>", "--reply-to", "r@x.org", "--header", "X-A: b", "--header", "Cc: k@x.org",
        "-b", "-", "g@h.i",
    )  # fmt: skip
    assert message["To"] == "a@b.c, d@e.f, g@h.i"
    assert message["Cc"] == '"Doe, J" <j@x.org>, k@x.org'
    assert (message["Bcc"], message["From"], message["Reply-To"]) == ("s@x.org", "Ann <ann@x.org>", "r@x.org")
    assert (message["Subject"], message["X-A"]) == (None, "b")
    assert message.get_content() == "-\n"


def test_text_of_a_file_and_attachments(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"latin gr\xfcn\n")
    (tmp_path / "bild.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "größe.txt").write_bytes(b"1\n")
    message = probe.message(
        "--to", "a@b.c", "-b", "@body", "-a", "bild.png", "-a", "größe.txt", body="unread"
    )
    text, *files = message.iter_parts()
    assert text.get_content() == "latin grün\n"  # type: ignore[attr-defined]
    assert [(file.get_content_type(), file.get_filename()) for file in files] == [
        ("image/png", "bild.png"),
        ("text/plain", "größe.txt"),
    ]


def test_html_brings_its_text_along(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<h1>Hi</h1><p>there")
    text, html = probe.message("--html", "page.html", "a@b.c").iter_parts()
    assert text.get_content().split() == ["Hi", "there"]  # type: ignore[attr-defined]
    assert html.get_content_type() == "text/html"
    text, _ = probe.message("--html", "page.html", "-b", "mine", "a@b.c").iter_parts()
    assert text.get_content() == "mine\n"  # type: ignore[attr-defined]


def test_a_reply(probe: Probe, own: Path) -> None:
    message = probe.message(
        "--reply-to-message", f"{own / 'mixed.mbox'}:1", "--reply-all", "x@y.z", body="Yes.\n"
    )
    assert message["Subject"].startswith("Re: ")
    assert message["In-Reply-To"]
    assert message["References"].endswith(message["In-Reply-To"])
    assert "x@y.z" in message["To"]
    assert "\n> " in message.get_content()
    assert message.get_content().endswith("\n\nYes.\n")


def test_a_forward(probe: Probe, own: Path) -> None:
    message = probe.message("--forward", f"{own / 'mixed.mbox'}:1", "a@b.c", "-b", "FYI")
    text, original = message.iter_parts()
    assert message["Subject"].startswith("Fwd: ")
    assert text.get_content() == "FYI\n"  # type: ignore[attr-defined]
    assert original.get_content_type() == "message/rfc822"


def test_a_draft_of_ones_own_is_sent_and_stays(probe: Probe, tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.write_text("To: a@b.c\nSubject: one\n\ntext\n")
    message = probe.message("--draft", "draft", "-s", "two", "--from", "x@y.z", "d@e.f", body="unread")
    assert (message["To"], message["Subject"], message["From"]) == ("a@b.c, d@e.f", "two", "x@y.z")
    assert message.get_content() == "text\n"
    assert probe.result is not None
    probe.result.sent()
    assert draft.exists()
    assert probe.message("--draft", "draft", "-b", "other").get_content() == "other\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-s", "x"], "no recipients"),
        (["-s", "a\nBcc: b@c.d", "a@b.c"], "control character"),
        (["-s", "x", "a@b.c\r\nBcc: d@e.f"], "control character"),
        (["-s", "x", "root"], "not an address: 'root'"),
        (["-s", "x", "--header", "X: a\nBcc: b@c.d", "a@b.c"], "control character"),
        (["-s", "x", "--header", "Content-Type: text/html", "a@b.c"], "made from the draft"),
        (["-s", "x", "--header", "nonsense", "a@b.c"], "write it as 'Name: value'"),
        (["-s", "x", "--from", "a@b.c, d@e.f", "a@b.c"], "one writer"),
        (["--draft", "x", "--forward", "m:1"], "--draft and --forward exclude each other"),
        (["-s", "x", "--reply-all", "a@b.c"], "--reply-all needs --reply-to-message"),
        (["--reply-all"], "--reply-all belongs to"),
        (["--from", "a@b.c", "d@e.f"], "--from belongs to"),
        (["--reply-to", "a@b.c", "d@e.f"], "--reply-to belongs to"),
        (["--mbox", "m", "-s", "x"], "--mbox sends existing messages"),
        (["--edit", "a@b.c"], "--edit needs a terminal"),
    ],
)
def test_wrong_uses(probe: Probe, arguments: list[str], why: str) -> None:
    done = probe.run(*arguments, body="text")
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 2  # a UsageError: the entry point makes it 64
    assert why in done.output
    assert probe.result is None


def test_no_address_to_write_from(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL", "")
    monkeypatch.setattr(clock, "host_name", lambda: "no host")
    done = probe.run("-s", "x", "a@b.c")
    assert "give --from, or set $EMAIL" in str(done.exception)
