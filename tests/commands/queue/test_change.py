"""``mailtools queue hold``, ``release``, ``retry``, ``bounce``, ``delete``."""

import os
import sys
import threading
from pathlib import Path

import pexpect
import pytest

from mailtools.core.queue.store import HOLD
from mailtools.system.spool.spool import Spool
from tests.spools import Queue, add

VERBS = ("hold", "release", "retry", "bounce", "delete")


def states(queue: Queue) -> dict[str, str]:
    return {record["queue_id"]: record["queue_name"] for record in queue.json("list")}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_said_is_not_everything(spool: Spool, queue: Queue, verb: str) -> None:
    identity = add(spool)
    done = queue(verb)
    assert done.code == 64
    assert "--all" in done.err
    assert queue(verb, "--all", identity).code == 64
    assert states(queue) == {identity: "incoming"}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_matched_and_unknown(spool: Spool, queue: Queue, verb: str) -> None:
    identity = add(spool)
    assert queue(verb, "--from", "nobody") == (1, "", "")
    assert queue(verb, identity, "--from", "nobody") == (1, "", "")
    done = queue(verb, "0none-1")
    assert (done.code, done.out) == (66, "")
    assert "0none-1: not in the queue" in done.err
    assert states(queue) == {identity: "incoming"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_queue_that_is_not_there(spool: Spool, queue: Queue, verb: str) -> None:
    assert queue(verb, "--older", "1s") == (1, "", "")
    assert not Path(spool.path).exists()


def test_hold_release_retry(spool: Spool, queue: Queue) -> None:
    one, two = add(spool), add(spool, "x@two.example", reply="451 later")
    assert queue("hold", "--all") == (0, "", "")
    assert states(queue) == {one: "hold", two: "hold"}
    again = queue("hold", one)
    assert again.code == 1
    assert "on hold already" in again.err
    kept = queue("retry", two)
    assert kept.code == 1
    assert "release it first" in kept.err
    assert queue("release", "--site", "two.example") == (0, "", "")
    assert states(queue) == {one: "hold", two: "deferred"}
    assert queue("release", two).code == 1
    assert queue("retry", "--all") == (0, "", "")
    assert states(queue) == {one: "hold", two: "incoming"}
    assert [event["event"] for event in queue.json("log", two)][-3:] == ["hold", "release", "retry"]


def test_an_unknown_id_keeps_the_others_from_nothing(spool: Spool, queue: Queue) -> None:
    identity = add(spool)
    assert queue("hold", "0none-1", identity).code == 66
    assert states(queue) == {identity: "hold"}


def test_ids_from_a_pipe(spool: Spool, queue: Queue) -> None:
    held, other = add(spool, age=7200), add(spool)
    assert queue("hold", "-", stdin=queue("list", "--older", "1h").out.split("\t")[0].encode()).code == 0
    assert states(queue) == {held: "hold", other: "incoming"}


def test_delete(spool: Spool, queue: Queue) -> None:
    one, two, three = add(spool), add(spool, state=HOLD), add(spool, sender="")
    assert queue("delete", one) == (0, "", "")
    assert queue("delete", "--from", "<>") == (0, "", "")
    assert states(queue) == {two: "hold"}
    refused = queue("delete", "--all")
    assert refused.code == 64
    assert "-y" in refused.err
    assert queue("delete", "--all", "--state", "hold").code == 64
    assert queue("delete", "--all", "--state", "hold", "-y") == (0, "", "")
    assert [path for path in Path(spool.path).rglob("*") if path.is_file()] == []
    assert three


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1), ("\x03", 130)])
def test_delete_all_asks_on_a_terminal(spool: Spool, queue: Queue, answer: str, code: int) -> None:
    identity = add(spool)
    child = pexpect.spawn(
        sys.executable, ["-m", "mailtools", "queue", "delete", "--all", "--spool", spool.path],
        env=os.environ | {"TERM": "dumb"}, timeout=60, encoding="utf-8",
    )  # fmt: skip
    child.expect("ALL messages in .* tell nobody\\? \\[y/N\\]")
    child.sendline(answer) if answer != "\x03" else child.sendintr()
    child.read()
    child.close()
    assert child.exitstatus == code
    assert states(queue) == ({} if code == 0 else {identity: "incoming"})


def test_bounce_tells_the_sender_through_the_queue(spool: Spool, queue: Queue) -> None:
    identity = add(spool, "one@a.example", reply="451 mailbox busy")
    assert queue("bounce", identity) == (0, "", "")
    (notice,) = queue.json("list")
    assert (notice["sender"], notice["origin"]) == ("MAILER-DAEMON", "notices")
    assert [recipient["address"] for recipient in notice["recipients"]] == ["alice@example.org"]
    text = queue("show", "--body", notice["queue_id"]).out
    assert "Final-Recipient: rfc822; one@a.example\nAction: failed\nStatus: 5.0.0\n" in text
    assert "given up by the operator" in text
    assert "451 mailbox busy" in text
    # Nobody is told of that one.
    done = queue("bounce", "--all")
    assert done.code == 0
    assert "nobody to tell" in done.err
    assert states(queue) == {}


def test_bounce_where_nobody_wants_to_hear(spool: Spool, queue: Queue) -> None:
    from mailtools.core.message.recipient import Recipient
    from mailtools.core.queue.envelope import QueueEnvelope

    spool.add(
        QueueEnvelope("0abc-1", 1e9, "alice@example.org", (Recipient("bob@example.com", "NEVER"),)), [b"x\n"]
    )
    assert queue("bounce", "0abc-1") == (0, "", "")
    assert states(queue) == {}


def test_what_is_being_delivered_is_75_and_the_rest_is_done(spool: Spool, queue: Queue) -> None:
    busy, free = add(spool), add(spool)
    lease = spool.claim(busy)
    assert lease
    done = queue("hold", busy, free, "0none-1")
    assert done.code == 75
    assert f"{busy}: is being delivered right now" in done.err
    lease.close()
    assert states(queue) == {busy: "incoming", free: "hold"}


def test_a_delivery_that_ends_soon_is_waited_for(spool: Spool, queue: Queue) -> None:
    identity = add(spool)
    lease = spool.claim(identity)
    assert lease
    timer = threading.Timer(1.0, lease.close)
    timer.start()
    assert queue("hold", identity) == (0, "", "")
    timer.join()
    assert states(queue) == {identity: "hold"}


def test_a_spool_that_cannot_be_written(spool: Spool, queue: Queue, tmp_path: Path) -> None:
    import resource
    import subprocess

    identity = add(spool)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    for verb in ("hold", "retry", "bounce"):
        command = [sys.executable, "-m", "mailtools", "queue", verb, identity, "--spool", spool.path]
        done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
        assert done.returncode == 73
        assert "Traceback" not in done.stderr
    assert states(queue) == {identity: "incoming"}
