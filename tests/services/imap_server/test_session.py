"""services/imap_server/session: one task at a time, whatever the client and the clock do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import DiskFullError
from mailtools.core.imap.server import ImapOffer, ImapServerEngine
from mailtools.services.imap_server import selected
from mailtools.services.imap_server.opened import OpenMailboxes
from mailtools.services.imap_server.session import ImapPorts, ImapSession
from mailtools.services.mailbox.mailbox import Mailbox, NewMessage
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.mbox.mailroot import MailRoot
from tests.boxes import append, number


class Room:
    """A session whose workers and clock do nothing by themselves."""

    def __init__(self, root: Path) -> None:
        self.tasks: list[Callable[[], None]] = []
        self.timers: list[Callable[[], None]] = []
        self.said = b""

        def run(task: Callable[[], Any], done: Callable[[Any], None], owner: str) -> None:
            self.tasks.append(lambda: done(task()))

        def later(seconds: float, call: Callable[[], None]) -> None:
            self.timers.append(call)

        self.engine = ImapServerEngine(ImapOffer("host"))
        logins = Logins(LoginRules(anybody=True), None, later)  # type: ignore[arg-type]
        ports = ImapPorts(MailRoot(str(root)), run, lambda _: None, lambda _: None, later, OpenMailboxes())
        self.session = ImapSession(self.engine, logins, "127.0.0.1", ports, self.turn)
        self.turn()

    def turn(self) -> None:
        while (event := self.engine.next_event()) is not None or self.engine.has_more:
            if event is not None:
                self.session.handle(event)
        self.said += self.engine.data_to_send()

    def say(self, octets: bytes) -> None:
        self.engine.receive_data(octets)
        self.turn()

    def work(self) -> None:
        """Let the workers do all that waits."""
        while self.tasks:
            self.tasks.pop(0)()
            self.turn()


def room(tmp_path: Path) -> Room:
    append(tmp_path / "bob" / "INBOX.mbox", *map(number, range(3)))
    found = Room(tmp_path)
    found.say(b"a LOGIN bob x\r\n")
    found.work()
    found.say(b"b SELECT INBOX\r\n")
    found.work()
    assert b"b OK [READ-WRITE]" in found.said
    return found


def test_a_look_for_news_and_the_next_command_do_not_meet(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"c IDLE\r\n")
    assert len(found.tasks) == 1
    found.say(b"DONE\r\nd STORE 1 +FLAGS (\\Seen)\r\n")
    assert len(found.tasks) == 1, "the command waits for the look"
    found.work()
    assert b"d OK stored" in found.said


def test_a_session_that_ends_while_a_worker_is_busy(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"c STORE 1 +FLAGS (\\Flagged)\r\nd NOOP\r\n")
    found.engine.receive_eof()
    found.session.lost()
    found.engine.close_with(421, "", "gone")
    found.turn()
    found.work()
    assert b"X-Status: F\n" in (tmp_path / "bob" / "INBOX.mbox").read_bytes()
    assert not found.tasks


def test_flags_are_written_some_seconds_after_a_change(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"c STORE 1 +FLAGS (\\Flagged)\r\n")
    found.work()
    assert b"X-Status" not in (tmp_path / "bob" / "INBOX.mbox").read_bytes()
    for timer in found.timers:
        timer()
    found.work()
    assert b"X-Status: F\n" in (tmp_path / "bob" / "INBOX.mbox").read_bytes()


def test_a_mailbox_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    found = room(tmp_path)
    found.say(b"c CREATE x\r\nd SELECT x\r\n")
    found.work()
    (tmp_path / "bob" / "x.mbox").unlink()
    found.said = b""
    found.say(b"e NOOP\r\n")
    found.work()
    assert found.said.startswith(b"* BYE")
    assert not (tmp_path / "bob" / "x.mbox").exists()


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = room(tmp_path)
    found.say(b"c CREATE x\r\n")
    found.work()
    monkeypatch.setattr(selected, "_AT_ONCE", 1)
    real, calls = Mailbox.append, []

    def full(box: Mailbox, messages: list[NewMessage], patience: float = 1.0) -> list[int]:
        calls.append(1)
        if len(calls) == 3:
            raise DiskFullError("no room")
        return real(box, messages, patience)

    monkeypatch.setattr(Mailbox, "append", full)
    found.say(b"d COPY 1:3 x\r\n")
    found.work()
    assert b"d NO [OVERQUOTA]" in found.said
    assert (tmp_path / "bob" / "x.mbox").read_bytes() == b""
