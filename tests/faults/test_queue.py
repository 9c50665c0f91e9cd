"""The queue under SIGKILL, full disks and next hops that misbehave: delivered once or more, or told; never lost."""

import mailbox
import random
import resource
import signal
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.servers import Server, eventually
from tests.sinks import Sink, but, usual


def fill(root: Path, number: int, sites: int = 3, sender: str = "alice@here.test") -> Spool:
    spool = Spool(str(root / ".spool"))
    for n in range(number):
        envelope = QueueEnvelope(
            clock.identity(), clock.now(), sender, (Recipient(f"u{n}@b{n % sites}.test"),)
        )
        spool.add(envelope, [b"Subject: %04d\n\nhello\n" % n])
    return spool


def run(root: Path, *options: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "mailtools", "queue", "run", "--root", str(root), "--domain", "here.test",
         "--retry", "100ms", *options], stderr=subprocess.DEVNULL,
    )  # fmt: skip


def is_empty(root: Path) -> bool:
    states = ("incoming", "deferred", "hold", "bad")
    return not any(path for state in states for path in (root / ".spool" / state).iterdir())


def test_a_runner_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 400)
    chance = random.Random(1)
    kills = 0
    with Sink() as sink:
        while not is_empty(tmp_path):
            runner = run(tmp_path, "--route", sink.route, "--concurrency", "3", "--per-site", "1", "--once")
            if kills < 8:
                enough = len(sink.taken) + chance.randrange(1, 60)
                eventually(
                    lambda e=enough, r=runner: len(sink.taken) >= e or r.poll() is not None, "some mail"
                )
                runner.kill()
                kills += 1
            runner.wait()
    counts = Counter(sink.subjects())
    assert sorted(counts) == [f"{n:04}" for n in range(400)]
    # Three connections: what was on them when the kill came may come again, no more.
    assert sum(counts.values()) - len(counts) <= 3 * kills


def test_another_runner_takes_over_at_once_what_a_killed_one_had(tmp_path: Path) -> None:
    fill(tmp_path, 3, sites=1)
    with Sink(but(end=b"")) as silent, Sink() as sink:
        first = run(tmp_path, "--route", silent.route, "--per-site", "1")
        eventually(lambda: silent.lines, "the first message under way")
        second = run(tmp_path, "--route", sink.route)
        eventually(lambda: len(sink.taken) == 0 and second.poll() is None, "both run")
        first.kill()
        first.wait()
        eventually(lambda: sink.subjects() == ["0000", "0001", "0002"], lambda: sink.subjects())
        second.terminate()
        assert second.wait(30) == 0


def test_senders_of_refused_mail_are_told_across_kills(tmp_path: Path) -> None:
    fill(tmp_path, 40)
    chance = random.Random(2)
    with Sink(but(RCPT=b"550 5.1.1 no\r\n")) as sink:
        for _ in range(6):
            runner = run(tmp_path, "--route", sink.route, "--once")
            enough = len(sink.lines) + chance.randrange(1, 40)
            eventually(lambda e=enough, r=runner: len(sink.lines) >= e or r.poll() is not None, "some of it")
            runner.kill()
            runner.wait()
        while not is_empty(tmp_path):
            run(tmp_path, "--route", sink.route, "--once").wait()
    told = Counter()
    for notice in mailbox.mbox(tmp_path / "alice" / "INBOX.mbox", create=False):
        told.update({n for n in range(40) if f"rfc822; u{n}@b" in str(notice)})
    assert sorted(told) == list(range(40))
    assert sum(told.values()) <= 40 + 6


def test_a_relaying_server_that_is_killed_loses_nothing_it_accepted(tmp_path: Path) -> None:
    accepted: list[str] = []
    relay = ("--relay", "--relay-from", "127.0.0.0/8", "--domain", "here.test", "--retry", "100ms")
    number = iter(range(10_000))

    def submit(port: int) -> None:
        with suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            while True:
                subject = f"{next(number):05}"
                client.sendmail("alice@here.test", ["bob@b.test"], f"Subject: {subject}\n\nhello\n")
                accepted.append(subject)

    with Sink() as sink:
        for _ in range(4):
            with Server(tmp_path / "root", *relay, "--route", sink.route) as server:
                threads = [threading.Thread(target=submit, args=(server.port,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                before = len(accepted)
                eventually(lambda b=before: len(accepted) > b + 40, "some mail accepted")
                server.kill()
                for thread in threads:
                    thread.join()
        while not is_empty(tmp_path / "root"):
            run(tmp_path / "root", "--route", sink.route, "--once").wait()
    assert len(accepted) > 160
    assert set(accepted) <= set(sink.subjects())


def test_a_full_spool_is_452_and_its_end_is_seen(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    text = b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 2000
    relay = ("--relay", "--relay-from", "127.0.0.0/8", "--domain", "here.test", "--no-deliver")
    with Server(tmp_path / "root", *relay, preexec_fn=limited) as server:
        assert server.connect().deliver(text, "bob@b.test").startswith(b"452 4.3.1")
        assert is_empty(tmp_path / "root")
        assert not list((tmp_path / "root" / ".spool" / "messages").iterdir())
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert server.connect().deliver(text, "bob@b.test").startswith(b"250")
    assert not is_empty(tmp_path / "root")


def test_next_hops_of_every_kind_end_in_delivery(tmp_path: Path) -> None:
    """4yz, nothing, half a reply, garbage, gone after the message: by turns, until all is there."""
    fill(tmp_path, 60, sites=4)
    chance = random.Random(3)
    lock = threading.Lock()

    def rule(verb: str, argument: str) -> bytes | None:
        with lock:
            dice = chance.random()
        if verb in ("QUIT", "RSET") or dice > 0.12:
            return usual(verb, argument)
        return (b"451 4.3.0 later\r\n", None, b"250-half", b"\0\xff\r\n", b"421 busy\r\n")[
            int(dice * 1000) % 5
        ]

    with Sink(rule) as sink:
        runner = run(tmp_path, "--route", sink.route, "--timeout", "300ms")
        eventually(
            lambda: set(sink.subjects()) >= {f"{n:04}" for n in range(60)}, lambda: sink.subjects(), 60
        )
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(40) == 0
    assert not (tmp_path / "alice").exists(), "nothing was returned"
