"""``mailtools queue stats``."""

import os
import re
import sys

import pexpect

from mailtools.core.queue.store import HOLD
from mailtools.system.spool.spool import Spool
from tests.spools import Queue, add


def fill(spool: Spool) -> list[str]:
    return [
        add(spool, "a@one.example", "c@two.example", reply="451 \x1b[2J\tlater", age=7200),
        add(spool, "a@one.example", state=HOLD),
        add(spool, "a@one.example"),
    ]


def test_tab_separated(spool: Spool, queue: Queue) -> None:
    fill(spool)
    done = queue("stats")
    iso = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
    assert done.code == 0
    assert [iso.sub("TIME", line).split("\t") for line in done.out.splitlines()] == [
        ["state", "deferred", "1", "60", "TIME", "TIME"],
        ["state", "hold", "1", "60", "TIME", "-"],
        ["state", "incoming", "1", "60", "TIME", "now"],
        ["site", "one.example", "3", "180", "TIME", "now"],
        ["site", "two.example", "1", "60", "TIME", "TIME"],
        ["total", "-", "3", "180", "TIME", "now"],
        ["reason", "451 ␛[2J␉later", "1"],
    ]


def test_json(spool: Spool, queue: Queue) -> None:
    identity = fill(spool)[0]
    (found,) = queue.json("stats")
    assert (found["messages"], found["octets"], found["due"]) == (3, 180, 0)
    assert [(state["state"], state["messages"]) for state in found["states"]] == [
        ("deferred", 1), ("hold", 1), ("incoming", 1),
    ]  # fmt: skip
    assert found["states"][1]["due"] is None
    assert found["sites"][0].keys() == {"site", "messages", "octets", "oldest", "due"}
    assert found["reasons"] == [{"reason": "451 \x1b[2J\tlater", "messages": 1}]
    assert queue.json("stats", identity, "--older", "1h")[0]["messages"] == 1
    assert queue.json("stats", "--site", "two.example")[0]["messages"] == 1


def test_nothing_and_unknown(spool: Spool, queue: Queue) -> None:
    assert queue("stats") == (1, "", "")
    fill(spool)
    assert queue("stats", "--from", "nobody") == (1, "", "")
    assert queue("stats", "0none-1").code == 66


def test_on_a_terminal(spool: Spool) -> None:
    fill(spool)
    child = pexpect.spawn(
        sys.executable, ["-m", "mailtools", "queue", "stats", "--spool", spool.path],
        env=os.environ | {"TERM": "dumb"}, timeout=60, encoding="utf-8",
    )  # fmt: skip
    out = child.read()
    assert "\x1b" not in out
    assert [line.split()[0] for line in out.splitlines() if line] == [
        "state", "deferred", "hold", "incoming", "all", "site", "one.example", "two.example", "messages", "1",
    ]  # fmt: skip
