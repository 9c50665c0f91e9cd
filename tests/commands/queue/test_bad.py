"""Messages set aside, as the commands of ``mailtools queue`` show and change them."""

import json
from pathlib import Path

import pytest

from mailtools.core.queue.store import DEFERRED
from mailtools.system.spool.spool import Spool
from tests.spools import Queue, add


@pytest.fixture
def identity(spool: Spool) -> str:
    """A message whose file was cut short, as a run found it."""
    identity = add(spool, reply="451 later", wait=-1)
    path = Path(spool.path, "messages", f"{identity}.eml")
    path.write_bytes(path.read_bytes()[:-1])
    return identity


def run_once(queue: Queue) -> int:
    return queue("run", "--once", "--domain", "example.com", "--root", f"{queue.spool}.root").code


def mend(spool: Spool, identity: str) -> None:
    with open(Path(spool.path, "messages", f"{identity}.eml"), "ab") as file:
        file.write(b"\n")


def test_a_run_tells_of_it_each_time_by_its_exit_code(queue: Queue, identity: str) -> None:
    assert run_once(queue) == 75
    assert run_once(queue) == 75
    assert [one["queue_name"] for one in queue.json("list")] == ["bad"]


def test_list_show_log_and_stats_say_why(queue: Queue, identity: str) -> None:
    run_once(queue)
    why = "not the message that was accepted"
    (record,) = queue.json("list", "--state", "bad")
    assert why in record["reason"]
    cells = queue("list").out.rstrip("\n").split("\t")
    assert (cells[1], cells[7]) == ("bad", "-")
    assert why in cells[8]
    shown = queue("show", "--envelope", identity).out
    assert "state: bad" in shown
    assert why in shown
    assert "alice@example.org" in shown
    assert why in queue("log", identity).out
    mailq = queue("list", "--mailq").out
    assert f"{identity}!" in mailq
    assert why in mailq
    stats = json.loads(queue("stats", "--json").out)
    assert [(one["state"], one["messages"], one["due"]) for one in stats["states"]] == [("bad", 1, None)]
    assert why in stats["reasons"][0]["reason"]


def test_retry_brings_it_back_once_it_is_in_order(spool: Spool, queue: Queue, identity: str) -> None:
    run_once(queue)
    refused = queue("retry", identity)
    assert refused.code == 65
    assert "not the message that was accepted" in refused.err
    mend(spool, identity)
    assert queue("retry", identity) == (0, "", "")
    assert [one["queue_name"] for one in queue.json("list")] == ["incoming"]


def test_bounce_tells_the_sender(queue: Queue, identity: str) -> None:
    run_once(queue)
    assert queue("bounce", identity) == (0, "", "")
    (report,) = queue.json("list")
    assert [one["address"] for one in report["recipients"]] == ["alice@example.org"]


def test_bounce_of_a_message_whose_sender_is_gone(spool: Spool, queue: Queue) -> None:
    identity = add(spool, state=DEFERRED)
    Path(spool.path, DEFERRED, f"{identity}.jsonl").write_bytes(b"\0\n")
    queue("list")
    done = queue("bounce", identity)
    assert done.code == 65
    assert "nobody can be told" in done.err
    assert len(queue.json("list")) == 1
    assert queue("hold", identity).code == 1
    assert queue("release", identity).code == 1
    assert queue("delete", identity) == (0, "", "")
    assert queue("list").code == 1
    assert not Path(spool.path, "messages", f"{identity}.eml").exists()
