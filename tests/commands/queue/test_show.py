"""``mailtools queue show`` and ``mailtools queue log``."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from mailtools.system.spool.spool import Spool
from tests.spools import MESSAGE, Queue, add

HEAD, BODY = b"From: alice@example.org\nSubject: lunch\n", b"How about noon?\n"


def test_envelope_then_the_message(spool: Spool, queue: Queue) -> None:
    identity = add(
        spool, "bob@example.com", "carol@example.net", reply="451 \x1b[2J later", sent=1, envid="x+2By"
    )
    done = queue("show", identity)
    envelope, _, message = done.out.partition("\n\n")
    lines = envelope.splitlines()
    assert (done.code, message) == (0, MESSAGE.decode())
    assert lines[0] == f"id: {identity}"
    assert lines[3:6] == ["sender: alice@example.org", "size: 60", "attempts: 1"]
    assert "envid: x+2By" in lines
    assert lines[-2:] == [
        "recipient: bob@example.com sent (250 ok)",
        "recipient: carol@example.net deferred (451 ␛[2J later)",
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--headers",), HEAD),
        (("--body",), BODY),
        (("--headers", "--body"), MESSAGE),
        (("--body", "--headers"), MESSAGE),
    ],
)
def test_parts(spool: Spool, queue: Queue, options: tuple[str, ...], found: bytes) -> None:
    assert queue("show", add(spool), *options) == (0, found.decode(), "")


def test_only_the_envelope(spool: Spool, queue: Queue) -> None:
    identity = add(spool, sender="")
    done = queue("show", identity, "--envelope")
    assert "sender: <>\n" in done.out
    assert "lunch" not in done.out
    both = queue("show", identity, "--envelope", "--headers").out
    assert both.endswith("\n\n" + HEAD.decode())
    (record,) = queue.json("show", identity)
    assert (record["queue_id"], record["sender"]) == (identity, "MAILER-DAEMON")


@pytest.mark.parametrize(
    ("message", "head", "body"),
    [
        (b"\nno header\n", b"", b"no header\n"),
        (b"Subject: no body\n", b"Subject: no body\n", b""),
        (b"Subject: x\n\n", b"Subject: x\n", b""),
        (b"Subject: x\n\n" + b"\xff\x01y" * 400_000 + b"\n", b"Subject: x\n", b"\xff\x01y" * 400_000 + b"\n"),
        (b"X: y\n" * 100_000 + b"\nbody\n", b"X: y\n" * 100_000, b"body\n"),
    ],
)
def test_octets_as_they_are(spool: Spool, queue: Queue, message: bytes, head: bytes, body: bytes) -> None:
    from tests.servers import mailtools

    identity = add(spool, message=message)
    assert mailtools("queue", "show", identity, "--headers", "--spool", spool.path).stdout == head
    assert (
        mailtools("queue", "show", "-", "--body", "--spool", spool.path, stdin=identity.encode()).stdout
        == body
    )


def test_a_message_that_is_being_delivered_can_be_looked_at(spool: Spool, queue: Queue) -> None:
    identity = add(spool)
    lease = spool.claim(identity)
    assert "state: active\n" in queue("show", identity).out
    assert lease


def test_a_message_that_is_not_what_was_accepted(spool: Spool, queue: Queue) -> None:
    identity = add(spool)
    Path(spool.path, "messages", f"{identity}.eml").write_bytes(b"another")
    done = queue("show", identity)
    assert done.code == 65
    assert "not the message that was accepted" in done.err
    assert queue("show", identity, "--envelope").code == 0


@pytest.mark.parametrize("verb", ["show", "log"])
def test_unknown_ids(spool: Spool, queue: Queue, verb: str) -> None:
    identity = add(spool)
    done = queue(verb, "0none-1", "../x", identity)
    assert done.code == 66
    assert identity in done.out
    assert done.err.count("not in the queue") == 2
    assert queue(verb).code == 64


def test_log(spool: Spool, queue: Queue) -> None:
    identity = add(spool, "bob@example.com", "carol@example.net", reply="451 later\n", sent=1, origin="smtp")
    queue("retry", identity)
    rows = [line.split("\t") for line in queue("log", identity).out.splitlines()]
    assert [row[1] for row in rows] == [identity] * 5
    assert [row[2:6] for row in rows] == [
        ["arrived", "-", "-", "-"],
        ["sent", "bob@example.com", "2.0.0", "-"],
        ["deferred", "carol@example.net", "4.3.0", "mx.example.com"],
        ["scheduled", "-", "-", "-"],
        ["retry", "-", "-", "-"],
    ]
    assert rows[0][6] == "60 octets from smtp"
    assert rows[2][6] == "451 later␊"
    assert rows[3][6].startswith("next attempt at 2")
    assert rows[4][6].startswith("by ")
    events = queue.json("log", identity)
    assert events[2]["text"] == "451 later\n"
    assert events[2]["at"] >= events[0]["at"] > 0


def test_log_of_a_journal_with_lines_of_strangers(spool: Spool, queue: Queue) -> None:
    identity = add(spool)
    with Path(spool.path, "incoming", f"{identity}.jsonl").open("ab") as file:
        file.write(b'x\n{"at": 5}\n{"at": 5, "event": "attempt", "recipients": [7, 0], "reply": {"a": 1}}\n')
        file.write(b'{"at": 5, "event": "\\u001b[2J"}\n{"at": 5, "ev')
    done = queue("log", identity)
    assert done.code == 0
    assert [line.split("\t")[2] for line in done.out.splitlines()] == [
        "arrived", "unreadable", "unreadable", "-", "␛[2J",
    ]  # fmt: skip


def test_on_a_terminal_no_control_is_left(spool: Spool) -> None:
    identity = add(
        spool,
        message=b"Subject: \x1b]0;title\x07\n\n\x9b2J \xe2\x80\xae \xff t\xc3\xbc\n",
        reply="451 \x1b[2J",
    )
    child = pexpect.spawn(
        sys.executable, ["-m", "mailtools", "queue", "show", identity, "--spool", spool.path],
        env=os.environ | {"TERM": "dumb"}, timeout=60, encoding="utf-8",
    )  # fmt: skip
    out = child.read()
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "␛]0;title␇" in out
    assert "tü" in out
