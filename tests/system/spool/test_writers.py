"""system/spool/writers: durable before it is told, also when the disk does not want."""

import threading
from pathlib import Path

from mailtools.core.errors import CannotWriteError, MailError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from mailtools.system.spool.writers import Spooler


def test_what_is_told_is_in_the_spool(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"))
    added = threading.Semaphore(0)
    spooler = Spooler(spool, lambda call: call(), added.release)
    told: dict[str, bool] = {}

    def submit(name: str) -> None:
        envelope = QueueEnvelope(name, clock.now(), "a@b.test", (Recipient("c@d.test"),))
        spooler.submit(
            envelope, [b"Subject: x\n\n"], lambda error: told.update({name: is_there(name, error)})
        )

    def is_there(name: str, error: MailError | None) -> bool:
        return error is None and [listed.entry.envelope.identity for listed in spool.query([name])] == [name]

    for number in range(50):
        submit(f"m{number}")
    spooler.stop()
    assert told == {f"m{number}": True for number in range(50)}
    assert all(added.acquire(blocking=False) for _ in range(50))


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    told: list[MailError | None] = []
    spooler = Spooler(Spool(str(tmp_path / "spool")), lambda call: call())
    envelope = QueueEnvelope("x", clock.now(), "a@b.test", (Recipient("c@d.test"),))

    def broken():
        raise ValueError("a bug")
        yield b""

    spooler.submit(envelope, [b"x"], told.append)
    spooler.submit(envelope, broken(), told.append)
    spooler.stop()
    assert len(told) == 2
    assert all(isinstance(error, CannotWriteError) for error in told)
