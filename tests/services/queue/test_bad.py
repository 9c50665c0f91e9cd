"""services/queue/bad: messages set aside are given up in time, and their senders told."""

from pathlib import Path

import pytest

from mailtools.core.queue.schedule import DAY, Schedule
from mailtools.core.queue.store import BAD, DEFERRED
from mailtools.services.queue import bad
from mailtools.services.queue.dsn import Notices
from mailtools.services.queue.job import Settlement
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.spools import add


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "spool"))


def put_aside(spool: Spool, sender: str = "alice@example.org", envelope: bytes | None = None) -> str:
    identity = add(spool, "bob@b.test", "carol@b.test", sender=sender, state=DEFERRED)
    if envelope is not None:
        Path(spool.path, DEFERRED, f"{identity}.jsonl").write_bytes(envelope)
    lease = spool.claim(identity)
    if lease:
        lease.set_aside("broken")
        lease.close()
    return identity


def expire(spool: Spool, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Look at the queue once a day for *days* days."""
    notices = Notices(spool.add, "host.test", Schedule())
    settlement = Settlement(Schedule(), notices.tell, lambda _: None, lambda _: None)
    now = clock.now()
    for day in range(1, days + 1):
        monkeypatch.setattr(clock, "now", lambda day=day: now + day * (DAY + 60))
        bad.expire(spool, settlement)


def test_it_is_given_up_when_any_message_is_and_the_sender_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = put_aside(spool)
    expire(spool, monkeypatch, 4)
    assert [one.state for one in spool.query()] == [BAD]
    expire(spool, monkeypatch, 5)
    (report,) = spool.query()
    assert list(spool.query([identity])) == []
    assert [one.address for one in report.entry.envelope.recipients] == ["alice@example.org"]
    assert report.entry.envelope.reverse_path == ""
    text = b"".join(spool.message(report.entry.envelope))
    assert b"bob@b.test" in text
    assert b"carol@b.test" in text
    assert b"Status: 5.3.0" in text
    assert b"Subject: lunch" in text


@pytest.mark.parametrize(("sender", "envelope"), [("", None), ("alice@example.org", b"\0\0\0\n")])
def test_nothing_is_removed_of_which_nobody_can_be_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, sender: str, envelope: bytes | None
) -> None:
    identity = put_aside(spool, sender, envelope)
    expire(spool, monkeypatch, 8)
    (listed,) = spool.query()
    assert (listed.entry.envelope.identity, listed.state) == (identity, BAD)
    assert Path(spool.path, "messages", f"{identity}.eml").exists()


def test_a_damaged_envelope_that_still_names_the_sender(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_aside(
        spool, envelope=b'{"reverse_path": "alice@example.org", "recipients": [{"address": "bob@b.test"}\n'
    )
    expire(spool, monkeypatch, 6)
    (report,) = spool.query()
    text = b"".join(spool.message(report.entry.envelope))
    assert b"bob@b.test" in text


def test_a_message_that_another_process_has_is_left(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = put_aside(spool)
    lease = spool.claim(identity, held=True)
    assert lease
    expire(spool, monkeypatch, 6)
    lease.close()
    assert spool.bad() == [identity]
