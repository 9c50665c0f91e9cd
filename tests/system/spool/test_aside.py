"""system/spool/aside: messages that cannot be read or sent stay, with the reason."""

import os
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError
from mailtools.core.queue.store import BAD, DEFERRED
from mailtools.system.spool import aside
from mailtools.system.spool.spool import Spool
from tests.spools import MESSAGE, add


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def spool(tmp_path: Path, warnings: list[str]) -> Spool:
    spool = Spool(str(tmp_path / "spool"), warnings.append)
    spool.make()
    return spool


def put_aside(spool: Spool, why: str = "its route is gone") -> str:
    identity = add(spool, reply="451 later")
    lease = spool.claim(identity)
    assert lease
    lease.set_aside(why)
    lease.close()
    return identity


def test_the_message_stays_in_the_queue_with_the_reason(spool: Spool, warnings: list[str]) -> None:
    identity = put_aside(spool)
    (listed,) = spool.query()
    assert (listed.state, listed.why) == (BAD, "its route is gone")
    assert listed.entry.envelope.reverse_path == "alice@example.org"
    assert b"".join(spool.message(listed.entry.envelope)) == MESSAGE
    assert [r["event"] for r in spool.records(identity)][-1] == "set-aside"
    assert "its route is gone; moved to" in warnings[0]


def test_no_run_gets_it_and_it_counts_as_mail_that_stays(spool: Spool) -> None:
    identity = put_aside(spool)
    assert spool.claim(identity) is None
    assert list(spool.ready(1e12)) == []
    assert spool.has_deferred()
    assert spool.bad() == [identity]


def test_it_comes_back_as_it_was(spool: Spool) -> None:
    before = add(spool, "x@x.test")
    identity = put_aside(spool)
    lease = spool.claim(identity, held=True)
    assert lease
    lease.bring_back()
    lease.move(DEFERRED)
    lease.close()
    (listed,) = spool.query([identity])
    assert (listed.state, listed.why, listed.entry.attempts) == (DEFERRED, "", 1)
    assert {one.entry.envelope.identity for one in spool.query()} == {before, identity}


@pytest.mark.parametrize(
    ("octets", "why"), [(None, "No such file"), (b"short", "not the message"), (b"\0" * len(MESSAGE), "NUL")]
)
def test_a_damaged_message_does_not_come_back(spool: Spool, octets: bytes | None, why: str) -> None:
    identity = put_aside(spool)
    path = Path(spool.path, "messages", f"{identity}.eml")
    path.unlink() if octets is None else path.write_bytes(octets)
    lease = spool.claim(identity, held=True)
    assert lease
    with pytest.raises(BadDataError, match=why):
        lease.bring_back()
    lease.close()
    assert spool.bad() == [identity]


@pytest.mark.parametrize("octets", [b"", b"{", b'{"version": 1}', b'{"version": 1}\n'])
def test_the_reason_is_a_line_of_its_own(spool: Spool, octets: bytes) -> None:
    path = Path(spool.path, DEFERRED, "0bad-1.jsonl")
    path.write_bytes(octets)
    aside.set_aside(spool.path, DEFERRED, path.name, "why not", lambda _: None)
    lines = Path(spool.path, BAD, path.name).read_bytes().split(b"\n")
    assert lines[0] == octets.rstrip(b"\n")
    assert b"why not" in lines[1]
    assert lines[2:] == [b""]


def test_what_was_put_there_by_hand(spool: Spool) -> None:
    identity = add(spool)
    os.rename(Path(spool.path, "incoming", f"{identity}.jsonl"), Path(spool.path, BAD, f"{identity}.jsonl"))
    (listed,) = spool.query()
    assert (listed.state, listed.why) == (BAD, "moved here by hand")


def test_a_second_journal_of_one_id_replaces_nothing(spool: Spool) -> None:
    identity = put_aside(spool)
    first = Path(spool.path, BAD, f"{identity}.jsonl").read_bytes()
    Path(spool.path, DEFERRED, f"{identity}.jsonl").write_bytes(b"other\n")
    assert spool.claim(identity) is None
    assert Path(spool.path, BAD, f"{identity}.jsonl").read_bytes() == first
    assert len(os.listdir(Path(spool.path, BAD))) == 2


def test_a_link_in_bad_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"secret")
    os.symlink(victim, Path(spool.path, BAD, "0bad-1.jsonl"))
    assert list(spool.query()) == []
    assert victim.read_bytes() == b"secret"
