"""Mail into our own mailboxes in an event loop: nobody waits for the mailbox of another."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import BadDataError, CannotWriteError, MailError
from mailtools.services.delivery import background
from mailtools.services.delivery.addressing import AddressingSettings, open_addressing
from mailtools.services.delivery.background import BackgroundMail
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes, prepare
from mailtools.system.net.poller import Poller
from mailtools.system.process.loop import Loop


class Mail:
    """Deliveries of a test, in a loop that the test turns."""

    def __init__(self, folder: Path, aliases: str = "", add: Callable[..., Any] | None = None) -> None:
        (folder / "users").write_text("bob:\ncarol:\n")
        (folder / "aliases").write_text(aliases)
        settings = AddressingSettings(
            str(folder), domains=["here.test"], aliases=str(folder / "aliases"), alias_commands=True
        )
        self.folder = folder
        self.warned: list[str] = []
        self.poller = Poller()
        self.done: dict[str, list[Outcome] | MailError] = {}
        loop = Loop(self.poller.post, self.poller.later, self.poller.watch)
        addressing = open_addressing(settings, "here.test", self.warned.append)
        self.mail = BackgroundMail(addressing, loop, add or (lambda *_: None), self.warned.append)

    def deliver(self, name: str, *recipients: str, read: Callable[[], Outgoing] | None = None) -> None:
        message = prepare(
            "m",
            [b"From: a@b.example\n\nhello"],
            Wishes(recipients, sender="a@b.example"),
            Stamps("now", "<m@x>"),
        )
        self.mail.deliver(read or (lambda: message), lambda result: self.done.update({name: result}))

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"only {sorted(self.done)}"
            self.poller.poll(0.1)

    def replies(self, name: str) -> list[str]:
        self.until(lambda: name in self.done)
        result = self.done[name]
        assert isinstance(result, list)
        return [str(outcome.reply) for outcome in result]

    def lock(self, user: str) -> Path:
        """Lock the mbox of *user* as another program does; return the dotlock."""
        (self.folder / user).mkdir(exist_ok=True)
        dotlock = self.folder / user / "INBOX.mbox.lock"
        dotlock.write_text(f"{os.getppid()}\n")
        return dotlock


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[Mail]:
    its = Mail(tmp_path)
    yield its
    its.mail.stop()
    its.poller.close()


STORED = "250 2.0.0 Ok: stored"
LOCKED = "451 4.3.0 Mailbox is locked, try again later"


def test_mail_is_stored_for_each_recipient(mail: Mail) -> None:
    mail.deliver("both", "bob@here.test", "carol@here.test", "eve@here.test")
    assert mail.replies("both") == [STORED, STORED, "550 5.1.1 No such user here"]
    for user in ("bob", "carol"):
        assert b"hello" in (mail.folder / user / "INBOX.mbox").read_bytes()


def test_a_locked_mailbox_keeps_no_other_waiting(mail: Mail) -> None:
    dotlock = mail.lock("bob")
    for number in range(10):
        mail.deliver(f"bob {number}", "bob@here.test")
    for number in range(10):
        mail.deliver(f"carol {number}", "carol@here.test")
    for number in range(10):
        assert mail.replies(f"carol {number}") == [STORED]
    assert not [name for name in mail.done if name.startswith("bob")]
    dotlock.unlink()
    for number in range(10):
        assert mail.replies(f"bob {number}") == [STORED]


def test_few_messages_wait_for_a_locked_mailbox(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LOCKED", 0.0)
    dotlock = mail.lock("bob")
    for number in range(30):
        mail.deliver(str(number), "bob@here.test")
    assert mail.replies("29") == [LOCKED]
    assert len(mail.done) == 10
    dotlock.unlink()
    assert mail.replies("0") == [STORED]


def test_a_mailbox_that_stayed_locked_rests(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    real = background.Committer
    monkeypatch.setattr(background, "Committer", lambda loop: real(loop, lock_timeout=0.0))
    dotlock = mail.lock("bob")
    mail.deliver("first", "bob@here.test")
    assert mail.replies("first") == [LOCKED]
    dotlock.unlink()
    mail.deliver("at once", "bob@here.test")
    assert mail.replies("at once") == [LOCKED]
    monkeypatch.setattr(background.clock, "monotonic", lambda: time.monotonic() + 61)
    mail.deliver("later", "bob@here.test")
    assert mail.replies("later") == [STORED]


def test_more_messages_than_fit_into_memory_are_delivered_too(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_AT_ONCE", 3)
    for number in range(20):
        mail.deliver(str(number), "bob@here.test")
    mail.until(lambda: len(mail.done) == 20)
    assert (mail.folder / "bob/INBOX.mbox").read_bytes().count(b"\nhello\n") == 20


def test_programs_and_other_servers(tmp_path: Path, open_folder: Path) -> None:
    added: list[Any] = []
    its = Mail(
        tmp_path, f"both: |cat >{open_folder}/got, x@y.test\nno: |exit 1\n", lambda *all: added.append(all)
    )
    its.deliver("m", "both@here.test", "no@here.test")
    assert its.replies("m") == [STORED, "554 5.3.0 The recipient's program refused the message"]
    assert [r.address for r in added[0][0].recipients] == ["x@y.test"]
    assert b"hello" in (open_folder / "got").read_bytes()
    its.mail.stop()


@pytest.mark.parametrize("error", [CannotWriteError("the spool"), RuntimeError("a bug")])
def test_a_spool_that_cannot_be_written(tmp_path: Path, error: Exception) -> None:
    def add(*_: object) -> None:
        raise error

    its = Mail(tmp_path, "x: a@one.test\n", add)
    its.deliver("m", "x@here.test")
    assert its.replies("m") == ["451 4.3.0 Mailbox cannot be written, try again later"]
    its.mail.stop()


@pytest.mark.parametrize("error", [BadDataError("a CR"), RuntimeError("a bug")])
def test_a_message_that_cannot_be_read_is_told(mail: Mail, error: Exception) -> None:
    def read() -> Outgoing:
        raise error

    mail.deliver("bad", "bob@here.test", read=read)
    mail.deliver("good", "bob@here.test")
    assert mail.replies("good") == [STORED]
    told = mail.done["bad"]
    assert isinstance(told, MailError)
    assert isinstance(told, BadDataError) is isinstance(error, BadDataError)
