"""``mailtools queue list``."""

import json
import os
import re
import sys
from pathlib import Path

import pexpect
import pytest

from mailtools.core.queue.store import HOLD
from mailtools.services.queue import listing
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.spools import Queue, add

# What `postqueue -p` and `postqueue -j` of Postfix 3.7.11 said of a queue like the one in `like_postfix`.
MAILQ = """\
----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------
4jY8GK5YFBzCjdC        309 Mon Nov 23 14:58:49 alice@example.org
                       (connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               bob@example.com
                                               carol@example.net

4jY8GK5ZM8zCjdD       9298 Mon Nov 23 14:58:49 MAILER-DAEMON
                       (connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               dave@example.com

4jY8GK5bPBzCjdF        444 Mon Nov 23 14:58:49 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example
                       (connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               bob@example.com

4jY8GK5cJ1zCjdG        335 Mon Nov 23 14:58:49 "a b"@example.org
                       (connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               "q \\"r"@example.com

4jY8GK5gdzzCjdM!       308 Mon Nov 23 14:58:49 held@example.org
(delivery temporarily suspended: connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               bob@example.com
                                               x@y.example

-- 10 Kbytes in 5 Requests.
"""
POSTQUEUE = (
    '{"queue_name": "deferred", "queue_id": "4jY8GK5ZM8zCjdD", "arrival_time": 1795445929, "message_size": 9298, '
    '"forced_expire": false, "sender": "MAILER-DAEMON", "recipients": [{"address": "dave@example.com", '
    '"delay_reason": "connect to 127.0.0.1[127.0.0.1]:9: Connection refused"}]}'
)
ARRIVED = 1795445929
REFUSED = "connect to 127.0.0.1[127.0.0.1]:9: Connection refused"


@pytest.fixture
def like_postfix(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """The same messages, by the ids that Postfix gave them."""
    names = iter(re.findall(r"^(4jY\w+)", MAILQ, re.MULTILINE))
    monkeypatch.setattr(clock, "identity", lambda: next(names))
    age = clock.now() - ARRIVED

    def keep(size: int, *recipients: str, **named: object) -> None:
        message = b"Subject: x\n\n" + b"y" * (size - 16) + b"\n"  # three lines: so many octets as sent
        add(spool, *recipients, message=message, age=age, **({"reply": REFUSED} | named))  # type: ignore[arg-type]

    keep(309, "bob@example.com", "carol@example.net")
    keep(9298, "dave@example.com", sender="")
    keep(444, "bob@example.com", sender=f"{'a' * 60}@{'b' * 60}.example")
    keep(335, '"q \\"r"@example.com', sender='"a b"@example.org')
    suspended = f"delivery temporarily suspended: {REFUSED}"
    keep(308, "bob@example.com", "x@y.example", sender="held@example.org", state=HOLD, reply=suspended)
    return spool


def sorted_mailq(text: str) -> list[str]:
    head, _, rest = text.partition("\n")
    *messages, last = rest.split("\n\n")
    return [head, *sorted(messages), last]


def test_mailq_is_postfix_s(like_postfix: Spool, queue: Queue) -> None:
    done = queue("list", "--mailq", env={"TZ": "UTC"})
    assert (done.code, done.err) == (0, "")
    assert sorted_mailq(done.out) == sorted_mailq(MAILQ)


def test_json_has_the_keys_of_postqueue(like_postfix: Spool, queue: Queue) -> None:
    found = {record["queue_id"]: record for record in queue.json("list")}
    expected = json.loads(POSTQUEUE)
    record = found[expected["queue_id"]]
    for key, value in expected.items():
        if key != "recipients":
            assert record[key] == value
    assert [list(expected)] == [list(record)[: len(expected)]]
    (recipient,) = record["recipients"]
    assert recipient.items() >= expected["recipients"][0].items()
    assert recipient["state"] == "deferred"
    assert record["reverse_path"] == ""
    assert (record["attempts"], record["done"]) == (1, [])
    assert record["due"] > ARRIVED


def test_mailq_of_nothing(queue: Queue) -> None:
    assert queue("list", "--mailq") == (0, "Mail queue is empty\n", "")


def test_mailq_marks_reasons_and_numbers(spool: Spool, queue: Queue) -> None:
    identity = add(spool, "sent@a.example", "one@a.example", reply="451 \x1b[2J " + "x" * 100, sent=1)
    fresh = add(spool)
    lease = spool.claim(fresh)
    lines = queue("list", "--mailq").out.splitlines()
    assert any(line.startswith(f"{fresh}* ") for line in lines)
    assert any(line.startswith(f"{identity} ") for line in lines)
    assert f"(451 ␛[2J {'x' * 100})" in lines
    assert not any("sent@a.example" in line for line in lines)
    assert lines[-1] == "-- 0 Kbytes in 2 Requests."
    assert lease
    lease.finish()
    lease.close()
    assert queue("list", "--mailq").out.endswith("\n\n-- 0 Kbytes in 1 Request.\n")


def test_mailq_when_only_some_have_a_reason() -> None:
    from mailtools.core.message.recipient import Recipient
    from mailtools.core.queue import journal
    from mailtools.core.queue.envelope import QueueEnvelope
    from mailtools.core.queue.journal import DEFERRED, Result
    from mailtools.core.queue.store import Listed

    envelope = QueueEnvelope("0abc-1", 0.0, "a@b", tuple(Recipient(f"r{n}@c") for n in range(4)))
    entry = journal.apply(
        journal.QueueEntry(envelope, (journal.RecipientState(),) * 4),
        journal.attempt(1, Result((1, 2), DEFERRED, "no")),
    )
    text = listing.mailq(Listed(entry, "deferred"), str)
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "r0@c", "(no)", "r1@c", "r2@c", "(reason unavailable)", "r3@c",
    ]  # fmt: skip


def test_tab_separated(spool: Spool, queue: Queue) -> None:
    fresh = add(spool, sender="")
    late = add(
        spool, "sent@a.example", "one@a.example", "two@b.example", reply="451 one\r\n451\ttwo \u202e", sent=1
    )
    held = add(spool, state=HOLD)
    done = queue("list")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.out.splitlines()}
    assert (done.code, set(rows)) == (0, {fresh, late, held})
    iso = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(iso, rows[fresh][1])
    assert rows[fresh][:1] + rows[fresh][2:] == ["incoming", "60", "<>", "bob@example.com", "0", "now", "-"]
    assert rows[late][3:6] == ["alice@example.org", "one@a.example (+1)", "1"]
    assert re.fullmatch(iso, rows[late][6])
    assert rows[late][7] == "451 one␍␊451␉two <U+202E>"
    assert (rows[held][0], rows[held][6]) == ("hold", "-")


def test_json_of_one_whose_recipients_are_done(spool: Spool, queue: Queue) -> None:
    add(spool, "sent@a.example", "one@a.example", reply="451 later", sent=1, envid="x+2By", ret="HDRS")
    (record,) = queue.json("list")
    assert [recipient["address"] for recipient in record["recipients"]] == ["one@a.example"]
    assert (
        record["done"][0].items() >= {"address": "sent@a.example", "state": "sent", "reply": "250 ok"}.items()
    )
    assert (record["envid"], record["ret"]) == ("x+2By", "HDRS")
    assert "delay_reason" not in record["done"][0]


def test_one_never_tried_has_no_reason(spool: Spool, queue: Queue) -> None:
    add(spool)
    (record,) = queue.json("list")
    assert record["recipients"] == [{"address": "bob@example.com", "state": "due"}]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), "abcd"),
        (("--all",), "abcd"),
        (("--from", "alice@*"), "ad"),
        (("--from", "ALICE@example.org"), "ad"),
        (("--from", "<>"), "b"),
        (("--from", ""), "b"),
        (("--to", "*@one.example"), "ac"),
        (("--to", "nobody"), ""),
        (("--site", "one.example"), "ac"),
        (("--site", "ONE.Example."), "ac"),
        (("--site", "example"), ""),
        (("--site", "done.example"), ""),  # nobody waits there any more
        (("--state", "deferred"), "a"),
        (("--state", "hold"), "d"),
        (("--state", "incoming"), "bc"),
        (("--state", "active"), ""),
        (("--older", "1h"), "cd"),
        (("--older", "1h", "--state", "hold"), "d"),
        (("--older", "1h", "--site", "one.example", "--from", "carol@*"), "c"),
        (("--older", "1h", "--from", "<>"), ""),
    ],
)
def test_options_that_select(spool: Spool, queue: Queue, options: tuple[str, ...], found: str) -> None:
    made = {
        add(spool, "x@done.example", "x@one.example", reply="451 later", sent=1): "a",
        add(spool, "x@two.example", sender=""): "b",
        add(spool, "x@One.Example", sender="carol@example.org", age=7200): "c",
        add(spool, "x@two.example", state=HOLD, age=7200): "d",
    }
    done = queue("list", *options)
    assert "".join(sorted(made[line.split("\t")[0]] for line in done.out.splitlines())) == found
    assert done.code == (0 if found else 1)
    assert {made[record["queue_id"]] for record in queue.json("list", *options)} == set(found)


def test_ids(spool: Spool, queue: Queue) -> None:
    one, two, _ = add(spool), add(spool, state=HOLD), add(spool)
    assert [line.split("\t")[0] for line in queue("list", two, one, two).out.splitlines()] == [two, one]
    done = queue("list", "-", "--state", "hold", stdin=f"{one}\n\n {two} \n0none-1\n".encode())
    assert done.code == 66
    assert done.out.startswith(two)
    assert done.err == "mailtools: 0none-1: not in the queue; mailtools queue list shows what is\n"
    assert queue("list", one, "--state", "hold") == (1, "", "")
    assert queue("list", "\x1b[2J").err.startswith("mailtools: ␛[2J: not in the queue")
    assert queue("list", "--mailq", one, "0none-1").code == 66


@pytest.mark.parametrize(
    "args",
    [
        ("list", "--state", "lost"),
        ("list", "--older", "soon"),
        ("list", "--mailq", "--json"),
        ("list", "--all", "0a-1"),
    ],
)
def test_usage(queue: Queue, args: tuple[str, ...]) -> None:
    assert queue(*args).code == 64


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_queue_that_is_empty_or_not_there(spool: Spool, queue: Queue, form: tuple[str, ...]) -> None:
    assert queue("list", *form) == (1, "", "")
    assert not Path(spool.path).exists()
    spool.make()
    assert queue("list", *form) == (1, "", "")


def test_what_is_none_of_ours_is_told_and_the_rest_listed(spool: Spool, queue: Queue) -> None:
    good = add(spool)
    Path(spool.path, "incoming", "0bad-1.jsonl").write_bytes(b'{"version": 1}\n')
    done = queue("list")
    assert (done.code, done.out.split("\t")[0], done.out.count("\n")) == (0, good, 1)
    assert "moved to" in done.err


@pytest.mark.parametrize("form", [(), ("--json",), ("--mailq",)])
def test_a_large_queue_by_several_processes_is_the_same(
    spool: Spool, queue: Queue, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    for number in range(50):
        add(spool, f"\u4e00{number}@a.example", reply="451 \ud800\n later" if number % 2 else "", wait=1e4)
    Path(spool.path, "bad", "0bad-1.jsonl").write_bytes(b"")
    alone = queue.here("list", *form)
    monkeypatch.setattr(listing, "_WORTH_IT", 10)
    monkeypatch.setattr(listing, "_BATCH", 4)
    monkeypatch.setattr("mailtools.system.process.pipes.workers", lambda: 3)
    assert queue.here("list", *form)[:2] == alone[:2]
    assert "0bad-1" in alone.out
    assert alone.out.count("@a.example") == 50


def test_on_a_terminal(spool: Spool) -> None:
    late, first = add(spool, reply="451 " + "x" * 500), add(spool, age=500)
    child = pexpect.spawn(
        sys.executable, ["-m", "mailtools", "queue", "list", "--spool", spool.path],
        env=os.environ | {"TERM": "dumb"}, timeout=60, encoding="utf-8", dimensions=(40, 200),
    )  # fmt: skip
    lines = child.read().splitlines()
    assert lines[0].split() == [
        "id",
        "state",
        "arrived",
        "size",
        "sender",
        "recipients",
        "attempts",
        "due",
        "reason",
    ]
    assert [line.split()[0] for line in lines[1:]] == [first, late]
    assert lines[2].endswith("…")
    assert len(lines[2]) <= 200
