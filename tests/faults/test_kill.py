"""SIGKILL at any moment: what was answered 250 is there, and nothing torn stands as a message."""

import mailbox
import os
import random
import signal
import smtplib
import threading
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from mailtools.core.mbox.record import make_postmark
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import appending
from mailtools.system.mbox.appending import Append, NewRecord
from tests.servers import Server, eventually

SIZES = (10, 3000, 30_000)  # lines; the last one is spilled to a file


class Client(threading.Thread):
    """Sends numbered messages until the server is gone; notes which were answered 250."""

    def __init__(self, port: int, first: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.first, self.random = port, first, random.Random(seed)
        self.accepted: list[int] = []
        self.end = ""

    def run(self) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as smtp:
                for number in range(self.first, self.first + 1000):
                    lines = f"line {number}\n" * self.random.choice(SIZES)
                    smtp.sendmail("a@b", "bob@x", f"Subject: {number}\n\n{lines}END {number}\n")
                    self.accepted.append(number)
        except (OSError, smtplib.SMTPException) as error:
            self.end = repr(error)


def wait_for(clients: list[Client], enough: int) -> None:
    """Until so many messages were answered 250."""
    eventually(lambda: sum(len(c.accepted) for c in clients) >= enough, lambda: [c.end for c in clients])


def test_nothing_answered_is_lost_and_nothing_torn_stands(tmp_path: Path) -> None:
    chance = random.Random(2002)
    accepted: list[int] = []
    for turn in range(12):
        server = Server(tmp_path / "root")
        clients = [Client(server.port, turn * 100_000 + n * 1000, n) for n in range(6)]
        for client in clients:
            client.start()
        enough = chance.randint(0, 60)
        wait_for(clients, enough)
        server.kill()
        for client in clients:
            client.join()
            accepted += client.accepted
    with Server(tmp_path / "root") as server:
        server.connect().deliver(b"Subject: last\r\n\r\nEND last\r\n", "bob@x")
        inbox = server.inbox("bob")
    found = []
    for message in mailbox.mbox(inbox, create=False):
        subject = message["subject"]
        assert message.get_payload().rstrip().endswith(f"END {subject}"), f"torn: {subject}"
        found.append(subject)
    assert len(found) == len(set(found)), "a message twice that nobody sent twice"
    assert set(map(str, accepted)) <= set(found)
    assert found[-1] == "last"


STEPS = ("open_at", "_write", "fdatasync", "close", "release")


def record(number: int) -> NewRecord:
    body = Buffer()
    body.append(b"body %d\n" % number * 5000)
    return NewRecord(make_postmark("a@b", "Thu Aug 22 12:00:00 2002") + b"Subject: %d\n\n" % number, body)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    path = str(tmp_path / "in.mbox")
    assert appending.append(path, [record(1)])
    child = os.fork()
    if not child:
        owner = {"open_at": appending._Note, "close": appending._Note, "release": appending.MboxLock}.get(
            step, appending.os if step == "fdatasync" else appending
        )
        real = getattr(owner, step)

        def deadly(*args: object) -> object:
            if moment == "after":
                real(*args)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(owner, step, deadly)
        appending.append(path, [record(2), record(3)])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert appending.append(path, [record(4)])
    with open(path, "rb") as file:
        messages = [r.message() for r in scan.records(file.read)]
    numbers = [int(m.split(b"\n")[0].removeprefix(b"Subject: ")) for m in messages]
    assert numbers in ([1, 4], [1, 2, 3, 4])
    assert all(m.count(b"body") == 5000 for m in messages)


def test_killed_in_the_middle_of_the_write(tmp_path: Path) -> None:
    path = str(tmp_path / "in.mbox")
    assert appending.append(path, [record(1)])
    whole = Path(path).read_bytes()
    for cut in (1, 40, 70, 20_000):
        batch = Append(path, [record(2), record(3)])
        assert batch.begin()
        torn = record(2).head + b"".join(record(2).body.blocks())
        with open(path, "ab") as file:
            file.write(torn[:cut])
        os.close(batch.descriptor)  # as if killed: no end, no note closed, the dotlock left
        Path(f"{path}.lock").write_text("999999999\n")
        os.utime(f"{path}.lock", (0, 0))
        batch.descriptor = -1
        batch._lock = None
        assert appending.append(path, [record(4)])
        assert Path(path).read_bytes().startswith(whole + b"From a@b Thu Aug 22 12:00:00 2002\nSubject: 4\n")
        os.truncate(path, len(whole))


def test_what_another_program_wrote_behind_a_torn_tail_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "in.mbox")
    assert appending.append(path, [record(1)])
    batch = Append(path, [record(2)])
    assert batch.begin()
    foreign = b"From x@y Thu Aug 22 12:00:00 2002\nSubject: 9\n\nforeign\n\n"
    with open(path, "ab") as file:
        file.write(record(2).head + b"half a li\n\n" + foreign)
    os.close(batch.descriptor)
    os.unlink(f"{path}.lock")
    assert appending.append(path, [record(4)])
    assert foreign in Path(path).read_bytes()


def test_a_note_of_another_boot_is_not_believed(tmp_path: Path) -> None:
    path = str(tmp_path / "in.mbox")
    assert appending.append(path, [record(1), record(2)])
    whole = Path(path).read_bytes()
    note = tmp_path / ".mailtools" / "in.mbox.append"
    fields = note.read_text().split(" ")
    note.write_text(" ".join(["+", "another-boot", *fields[2:]]))
    assert appending.append(path, [record(3)])
    assert Path(path).read_bytes().startswith(whole)
