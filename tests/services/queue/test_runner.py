"""services/queue/runner, couriers, sites, settle: queue runs against servers that behave, and others."""

import contextlib
import email
import email.policy
import gc
import mailbox
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.schedule import DAY, Schedule
from mailtools.core.queue.store import BAD
from mailtools.services.delivery.addressing import AddressingSettings, open_addressing
from mailtools.services.queue import courier, service
from mailtools.services.queue.courier import Courier
from mailtools.services.queue.runner import Orders, Runner
from mailtools.services.queue.service import Leaving
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.servers import eventually
from tests.sinks import EHLO, Sink, but, usual

AT_ONCE = Schedule((0.001,))
TEXT = b"Subject: %s\n\nhello\n.\n..two\nFrom here\n"


class Queue:
    """A spool with its runner, whose own domain is here.test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.warned: list[str] = []
        self.spool = Spool(str(root / ".spool"), self.warned.append)
        self.spool.make()

    def add(self, *recipients: str | Recipient, sender: str = "alice@here.test", octets: bytes = b"",
            subject: str = "x", **more: object) -> str:  # fmt: skip
        its = tuple(Recipient(one) if isinstance(one, str) else one for one in recipients)
        envelope = QueueEnvelope(clock.identity(), clock.now(), sender, its, **more)  # type: ignore[arg-type]
        return self.spool.add(envelope, [octets or TEXT % subject.encode()]).identity

    def runner(
        self, *routes: str, schedule: Schedule = AT_ONCE, timeout: float = 20.0, **orders: object
    ) -> Runner:
        local = open_addressing(
            AddressingSettings(str(self.root), domains=["here.test"]), "host.test", self.warned.append
        )
        leaving = Leaving(
            routes, resolver="127.0.0.1:1", timeout=timeout, orders=Orders(schedule, **orders)  # type: ignore[arg-type]
        )  # fmt: skip
        return service.make_runner(self.spool, local, leaving, self.said.append, self.warned.append)

    def run(self, *routes: str, **settings: object) -> bool:
        return self.runner(*routes, **settings).run(once=True)  # type: ignore[arg-type]

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.root / ".spool").rglob("*.*") if path.is_file())

    def state(self, identity: str) -> list[str]:
        (listed,) = self.spool.query([identity])
        return [recipient.state for recipient in listed.entry.recipients]

    def inbox(self, user: str) -> list[mailbox.mboxMessage]:
        path = self.root / user / "INBOX.mbox"
        return list(mailbox.mbox(path, create=False)) if path.exists() else []


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


# -- mail goes out --------------------------------------------------------------------------------------------


def test_what_was_accepted_goes_out_octet_for_octet(queue: Queue) -> None:
    octets = b"Subject: x\n\n" + "schön\n".encode() + b".\n.dot\n\n" + b"y" * 70_000 + b"\nno end"
    queue.add("bob@b.test", octets=octets)
    with Sink() as sink:
        assert queue.run(sink.route) is False
    assert [taken for _, _, taken in sink.taken] == [octets.replace(b"\n", b"\r\n") + b"\r\n"]
    assert queue.left() == []


def test_a_large_message_is_read_while_it_is_sent(queue: Queue) -> None:
    octets = b"Subject: x\n\n" + b"0123456789 " * 7 * 20_000 + b"\n" + b".\n" * 1000
    queue.add("bob@b.test", octets=octets)
    with Sink() as sink:
        queue.run(sink.route)
    assert sink.taken[0][2] == octets.replace(b"\n", b"\r\n")


def test_one_connection_carries_many_messages(queue: Queue) -> None:
    for number in range(60):
        queue.add(f"u{number}@b.test", subject=f"{number:02}")
    with Sink() as sink:
        queue.run(sink.route, per_site=2)
    assert sink.subjects() == [f"{number:02}" for number in range(60)]
    assert 1 <= sink.connections <= 4
    assert sink.most_open <= 2


def test_one_transaction_for_all_recipients_at_a_site(queue: Queue) -> None:
    queue.add("a@b.test", "b@b.test", "c@b.test")
    with Sink() as sink:
        queue.run(sink.route)
    assert [recipients for _, recipients, _ in sink.taken] == [("a@b.test", "b@b.test", "c@b.test")]


def test_each_domain_has_its_route(queue: Queue) -> None:
    queue.add("a@b.test", "b@c.test", "d@sub.c.test")
    with Sink() as one, Sink() as other:
        queue.run(
            f"b.test={one.route}", f"c.test={other.route}", f"*.c.test={other.route}", "smtp://127.0.0.1:1"
        )
    assert [its for _, its, _ in one.taken] == [("a@b.test",)]
    assert [its for _, its, _ in other.taken] == [("b@c.test", "d@sub.c.test")]
    assert queue.left() == []


def test_a_server_without_pipelining(queue: Queue) -> None:
    for number in range(3):
        queue.add("a@b.test", "b@b.test", subject=str(number))
    with Sink(but(EHLO=b"250 old\r\n")) as sink:
        queue.run(sink.route, per_site=1)
    assert sink.subjects() == ["0", "1", "2"]


def test_a_server_that_knows_helo_only(queue: Queue) -> None:
    queue.add("a@b.test")
    with Sink(but(EHLO=b"502 what\r\n")) as sink:
        queue.run(sink.route)
    assert sink.subjects() == ["x"]


def test_our_own_mailboxes_are_found_without_a_server(queue: Queue) -> None:
    queue.add("bob@here.test", "carol@here.test", "dave@b.test")
    with Sink() as sink:
        queue.run(sink.route)
    assert [its for _, its, _ in sink.taken] == [("dave@b.test",)]
    for user in ("bob", "carol"):
        (message,) = queue.inbox(user)
        assert message["Return-Path"] == "<alice@here.test>"
        assert message["Delivered-To"] == f"{user}@here.test"
    assert queue.left() == []


def test_a_locked_mailbox_keeps_no_other_mail_waiting(queue: Queue) -> None:
    (queue.root / "bob").mkdir()
    dotlock = queue.root / "bob/INBOX.mbox.lock"
    dotlock.write_text(f"{os.getppid()}\n")
    for number in range(3):
        queue.add("bob@here.test", subject=str(number))
    queue.add("no@b.test", sender="alice@here.test")
    queue.add("carol@here.test")
    with Sink(refusing("no@", b"550 5.1.1 no\r\n")) as sink:
        runner = queue.runner(sink.route)
        thread = threading.Thread(target=runner.run, args=(True,))
        thread.start()
        eventually(lambda: queue.inbox("carol") and queue.inbox("alice"), "other mail, and a DSN")
        assert queue.inbox("bob") == []
        dotlock.unlink()
        thread.join()
    assert len(queue.inbox("bob")) == 3
    assert queue.left() == []


# -- some of it does not --------------------------------------------------------------------------------------


def refusing(bad: str, answer: bytes) -> Callable[[str, str], bytes | None]:
    return lambda verb, argument: answer if verb == "RCPT" and bad in argument else usual(verb, argument)


def test_one_recipients_failure_is_not_repeated_for_the_others(queue: Queue) -> None:
    identity = queue.add("ok@b.test", "later@b.test")
    with Sink(refusing("later@", b"450 4.2.1 busy\r\n")) as sink:
        assert queue.run(sink.route) is True
    assert [its for _, its, _ in sink.taken] == [("ok@b.test",)]
    assert queue.state(identity) == ["sent", "due"]
    with Sink() as sink:
        eventually(lambda: queue.run(sink.route) is False, "the second attempt")
    assert [its for _, its, _ in sink.taken] == [("later@b.test",)]
    assert queue.left() == []


def test_a_refusal_ends_in_one_notice_to_the_sender(queue: Queue) -> None:
    queue.add("no@b.test", "ok@b.test", "never@b.test")
    rule = refusing("n", b"550 5.1.1 No such user\r\n")
    with Sink(
        lambda verb, argument: usual(verb, argument) if "ok@" in argument else rule(verb, argument)
    ) as sink:
        queue.run(sink.route)
        queue.run(sink.route)
    assert [its for _, its, _ in sink.taken] == [("ok@b.test",)]
    (notice,) = queue.inbox("alice")
    assert notice["Return-Path"] == "<>"
    assert notice.get_content_type() == "multipart/report"
    told = str(notice)
    assert "Final-Recipient: rfc822; no@b.test" in told
    assert "Final-Recipient: rfc822; never@b.test" in told
    assert "ok@b.test" not in told.replace("To: ok", "")
    assert "550 5.1.1 No such user" in told
    assert "Status: 5.1.1" in told
    assert queue.left() == []


@pytest.mark.parametrize(
    "rule",
    [but(MAIL=b"550 5.7.1 no\r\n"), but(DATA=b"554 5.5.1 no\r\n"), but(end=b"554 5.6.0 spam\r\n"),
     but(RCPT=b"553 no\r\n", DATA=b"554 no\r\n"), but(RCPT=b"553 no\r\n")],
    ids=["MAIL", "DATA", "the end", "RCPT and DATA", "RCPT, and 354"],
)  # fmt: skip
def test_a_refusal_at_any_stage_is_for_good(queue: Queue, rule: Callable[[str, str], bytes | None]) -> None:
    queue.add("no@b.test")
    with Sink(rule) as sink:
        queue.run(sink.route)
        queue.run(sink.route)
    assert sink.taken == [] or sink.taken[0][2] == b""
    assert len(queue.inbox("alice")) == 1
    assert queue.left() == []


@pytest.mark.parametrize(
    "rule",
    [but(greeting=b"421 4.3.2 busy\r\n"), but(greeting=b"554 not for you\r\n"), but(greeting=None),
     but(EHLO=b"421 no\r\n"), but(MAIL=b"450 4.1.8 later\r\n"), but(DATA=b"451 later\r\n"),
     but(end=b"452 4.3.1 full\r\n"), but(MAIL=None), but(end=b"421 going\r\n"), but(greeting=b"\xff\xfe\r\n"),
     but(MAIL=b"hello\r\n"), but(RCPT=b"250-half", DATA=None), but(end=b"250-half\r\n")],
)  # fmt: skip
def test_whatever_else_a_server_says_is_tried_again(
    queue: Queue, rule: Callable[[str, str], bytes | None]
) -> None:
    identity = queue.add("bob@b.test")

    def hangs_up(verb: str, argument: str) -> bytes | None:
        answer = rule(verb, argument)
        return None if answer is None or said_half.append(answer) else answer

    said_half: list[bytes] = []
    with Sink(rule) as sink:
        runner = queue.runner(sink.route)
        thread = threading.Thread(target=runner.run, args=(True,))
        thread.start()
        eventually(
            lambda: (queue.state(identity) == ["due"] and not thread.is_alive()) or _hang_up(sink), "an end"
        )
        thread.join()
    assert queue.inbox("alice") == []
    with Sink() as sink:
        eventually(lambda: queue.run(sink.route) is False, "the second attempt")
    assert sink.subjects() == ["x"]


def _hang_up(sink: Sink) -> bool:
    """A server in the middle of a reply goes away."""
    if len(sink.lines) > 2:
        for sock in sink._socks:
            with __import__("contextlib").suppress(OSError):
                sock.shutdown(2)
    return False


def test_what_failed_is_put_off_longer_each_time(queue: Queue) -> None:
    identity = queue.add("bob@b.test")
    queue.run("smtp://127.0.0.1:1", schedule=Schedule())
    (first,) = queue.spool.query([identity])
    assert 50 < first.entry.due - clock.now() < 70
    assert queue.run("smtp://127.0.0.1:1", schedule=Schedule()) is True  # not due: not tried
    (second,) = queue.spool.query([identity])
    assert second.entry.attempts == 1
    lease = queue.spool.claim(identity)
    assert lease is not None
    lease.reschedule(0.0)
    lease.close()
    queue.run("smtp://127.0.0.1:1", schedule=Schedule())
    (third,) = queue.spool.query([identity])
    assert 200 < third.entry.due - clock.now() < 280


# -- nobody keeps anybody out ---------------------------------------------------------------------------------


def test_dead_and_silent_sites_starve_nobody(queue: Queue) -> None:
    for number in range(30):
        for site in range(6):
            queue.add(f"u{number}@silent{site}.test", subject="silent")
        queue.add(f"u{number}@dead.test", subject="dead")
        queue.add(f"u{number}@live.test", subject=f"{number:02}")
    with Sink(but(greeting=b"")) as silent, Sink() as sink:
        runner = queue.runner(
            f"live.test={sink.route}", "dead.test=smtp://127.0.0.1:1",
            *(f"silent{site}.test={silent.route}" for site in range(6)),
            concurrency=2, schedule=Schedule(),
        )  # fmt: skip
        thread = threading.Thread(target=runner.run)
        thread.start()
        eventually(lambda: len(sink.taken) == 30, lambda: f"30 messages, not {len(sink.taken)}")
        runner.stop()
        for sock in silent._socks:
            sock.close()
        thread.join()
    assert silent.connections <= 6
    assert len(queue.left()) == 2 * 30 * 7


@pytest.mark.parametrize("stage", ["greeting", "MAIL"])
def test_silent_servers_give_their_places_to_others(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(courier, "_SLOW", 0.02)
    monkeypatch.setattr(courier, "_STALLED", 0.02)
    for number in range(6):
        queue.add(f"bob@silent{number}.test", subject="silent")
    queue.add("bob@live.test", subject="live")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Sink(but(**{stage: b""}))) for _ in range(6)]
        sink = stack.enter_context(Sink())
        routes = [f"silent{number}.test={one.route}" for number, one in enumerate(silent)]
        runner = queue.runner(f"live.test={sink.route}", *routes, concurrency=1, timeout=300.0)
        thread = threading.Thread(target=runner.run)
        thread.start()
        eventually(lambda: sink.subjects() == ["live"], "the mail for the server that answers")
        runner.stop()
        for sock in [sock for one in silent for sock in one._socks]:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
        thread.join()


def test_a_site_that_lets_few_of_us_in_gets_its_mail_all_the_same(queue: Queue) -> None:
    for number in range(100):
        queue.add(f"u{number}@b.test", subject=f"{number:03}")

    def rule(verb: str, argument: str) -> bytes | None:
        return b"421 too many connections\r\n" if verb == "" and sink.open > 1 else usual(verb, argument)

    with Sink(rule) as sink:
        queue.run(sink.route)
    assert sink.subjects() == [f"{number:03}" for number in range(100)]


def test_a_server_that_ends_sessions_after_some_messages_is_called_again(queue: Queue) -> None:
    for number in range(20):
        queue.add(f"u{number}@b.test", subject=f"{number:02}")
    count = iter(range(1000))

    def rule(verb: str, argument: str) -> bytes | None:
        return b"421 enough\r\n" if verb == "MAIL" and next(count) % 4 == 3 else usual(verb, argument)

    with Sink(rule) as sink:
        eventually(lambda: queue.run(sink.route, per_site=1) is False, "all of it")
    assert sink.subjects() == [f"{number:02}" for number in range(20)]


def test_two_runs_deliver_nothing_twice(queue: Queue) -> None:
    for number in range(200):
        queue.add(f"u{number}@b{number % 7}.test", subject=f"{number:03}")
    with Sink() as sink:
        others = [queue.runner(sink.route), Queue(queue.root).runner(sink.route), queue.runner(sink.route)]
        threads = [threading.Thread(target=runner.run, args=(True,)) for runner in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sink.subjects() == [f"{number:03}" for number in range(200)]
    assert queue.left() == []


def test_mail_on_hold_stays(queue: Queue) -> None:
    identity = queue.add("bob@b.test")
    lease = queue.spool.claim(identity)
    assert lease is not None
    lease.move("hold")
    lease.close()
    with Sink() as sink:
        queue.run(sink.route)
    assert sink.connections == 0
    assert queue.state(identity) == ["due"]


def test_only_one_site(queue: Queue) -> None:
    both = queue.add("a@b.test", "c@d.test")
    queue.add("e@f.test")
    with Sink() as sink:
        assert queue.run(sink.route, site="b.test") is True
    assert [its for _, its, _ in sink.taken] == [("a@b.test",)]
    assert queue.state(both) == ["sent", "due"]
    (listed,) = queue.spool.query([both])
    assert listed.entry.due == 0  # the others' time has not changed


def test_new_mail_is_seen_by_a_run_that_goes_on(queue: Queue) -> None:
    with Sink() as sink:
        runner = queue.runner(sink.route)
        thread = threading.Thread(target=runner.run)
        thread.start()
        for number in range(3):
            queue.add("bob@b.test", subject=str(number))
            eventually(lambda n=number: len(sink.taken) == n + 1, "the next message")
        runner.stop()
        thread.join()
    assert sink.connections <= 3


# -- senders are told -----------------------------------------------------------------------------------------


def reports(queue: Queue, user: str = "alice") -> list[str]:
    return [str(message) for message in queue.inbox(user)]


def test_a_failing_notice_tells_nobody(queue: Queue) -> None:
    queue.add("no@b.test", sender="gone@b.test")
    with Sink(refusing("@", b"550 5.1.1 no\r\n")) as sink:
        queue.run(sink.route)
        queue.run(sink.route)
    assert [line for line in sink.lines if line.startswith(b"MAIL")][-1].startswith(b"MAIL FROM:<>")
    assert queue.left() == []
    assert any("nobody to tell" in line for line in queue.warned)


def test_mail_is_given_up_after_its_time(queue: Queue) -> None:
    identity = queue.add("bob@b.test")
    schedule = Schedule((0.001,), expire=0.05, warn=100.0)
    eventually(
        lambda: not queue.run("smtp://127.0.0.1:1", schedule=schedule) and queue.inbox("alice"), "the end"
    )
    (notice,) = reports(queue)
    assert "Action: failed" in notice
    assert "Status: 4.4.7" in notice
    assert "Connection refused" in notice
    assert identity in notice


def test_a_delay_is_told_once(queue: Queue) -> None:
    queue.add("bob@b.test", Recipient("quiet@b.test", notify="FAILURE"))
    schedule = Schedule((0.001,), warn=0.01)
    eventually(
        lambda: queue.run("smtp://127.0.0.1:1", schedule=schedule) and queue.inbox("alice"), "a notice"
    )
    for _ in range(3):
        queue.run("smtp://127.0.0.1:1", schedule=schedule)
    (notice,) = reports(queue)
    assert "Action: delayed" in notice
    assert "Will-Retry-Until: " in notice
    assert "quiet@b.test" not in notice.partition("message/delivery-status")[2].partition("message/rfc822")[0]


def test_who_wants_no_notice_gets_none(queue: Queue) -> None:
    queue.add(Recipient("bob@b.test", notify="NEVER"), Recipient("carol@b.test", notify="SUCCESS,DELAY"))
    with Sink(but(RCPT=b"550 5.1.1 no\r\n")) as sink:
        queue.run(sink.route)
    assert queue.left() == []
    assert reports(queue) == []


def test_success_is_told_where_nobody_else_will(queue: Queue) -> None:
    queue.add(
        Recipient("bob@b.test", notify="SUCCESS"), Recipient("carol@here.test", notify="SUCCESS,FAILURE")
    )
    with Sink() as sink:
        queue.run(sink.route)
        queue.run(sink.route)
    (notice,) = reports(queue)
    assert "Action: relayed" in notice
    assert "Action: delivered" in notice
    assert queue.left() == []


def test_a_server_that_reports_itself_is_asked_to(queue: Queue) -> None:
    bob = Recipient("bob@b.test", notify="SUCCESS,FAILURE", orcpt="rfc822;robert@c.test")
    queue.add(bob, ret="HDRS", envid="QQ314159")
    with Sink(but(EHLO=EHLO.replace(b"SIZE 0", b"DSN"))) as sink:
        queue.run(sink.route)
    assert sink.taken[0][0] == "FROM:<alice@here.test> RET=HDRS ENVID=QQ314159"
    assert b"RCPT TO:<bob@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;robert@c.test\r\n" in sink.lines
    assert reports(queue) == []
    assert queue.left() == []


# -- what must not happen -------------------------------------------------------------------------------------


def test_a_clock_that_jumps_returns_no_mail(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = queue.add("bob@b.test")
    queue.run("smtp://127.0.0.1:1", schedule=Schedule())
    now = clock.now()
    for jump in (365 * DAY, -365 * DAY, 730 * DAY):
        monkeypatch.setattr(clock, "now", lambda j=jump: now + j)
        queue.run("smtp://127.0.0.1:1", schedule=Schedule())
        assert queue.state(identity) == ["due"]
    assert all("Action: failed" not in notice for notice in reports(queue))
    monkeypatch.setattr(clock, "now", lambda: now)
    with Sink() as sink:
        assert queue.run(sink.route, schedule=Schedule()) is False
    assert sink.subjects() == ["x"]


@pytest.mark.parametrize(
    "octets", [b"Subject: x\n\nend\r\n.\r\nMAIL FROM:<evil@x>\n", b"a: b\n\nnul\0\n", b""]
)
def test_octets_that_could_smuggle_never_go_out(queue: Queue, octets: bytes) -> None:
    identity = queue.add("bob@b.test")
    path = Path(queue.spool.path) / "messages" / f"{identity}.eml"
    if octets:
        stored = len(path.read_bytes())
        octets = octets.ljust(stored, b"x")[:stored]
        assert len(octets) == stored
    path.write_bytes(octets)
    queue.add("carol@b.test", subject="good")
    with Sink() as sink:
        queue.run(sink.route)
    assert sink.subjects() == ["good"]
    assert any("moved to" in line for line in queue.warned)
    assert [one.state for one in queue.spool.query([identity])] == [BAD]
    assert path.read_bytes() == octets


def test_an_answer_lost_after_the_message_may_double_it_and_nothing_else_does(queue: Queue) -> None:
    for number in range(5):
        queue.add("bob@b.test", subject=str(number))
    answers = iter([usual(".", ""), None])

    def rule(verb: str, argument: str) -> bytes | None:
        return next(answers, usual(".", "")) if verb == "." else usual(verb, argument)

    with Sink(rule) as sink:
        eventually(lambda: queue.run(sink.route, per_site=1) is False, "all of it")
    assert sorted(set(sink.subjects())) == ["0", "1", "2", "3", "4"]
    assert len(sink.taken) == 6


def test_a_run_that_is_stopped_leaves_everything_in_order(queue: Queue) -> None:
    for number in range(300):
        queue.add(f"u{number}@b{number % 3}.test", subject=f"{number:03}")
    with Sink() as sink:
        runner = queue.runner(sink.route)
        thread = threading.Thread(target=runner.run)
        thread.start()
        eventually(lambda: len(sink.taken) > 20, "some of it")
        runner.stop()
        thread.join()
        first = sink.subjects()
        queue.run(sink.route)
    assert sink.subjects() == [f"{number:03}" for number in range(300)]
    assert len(first) < 300


def test_the_notice_is_what_rfc_3464_says(queue: Queue) -> None:
    queue.add("no@b.test")
    with Sink(but(RCPT=b"550-5.1.1 No\x1b[31m such\r\n550 5.1.1 user\r\n")) as sink:
        queue.run(sink.route)
    (raw,) = queue.inbox("alice")
    notice = email.message_from_bytes(raw.as_bytes(), policy=email.policy.default)
    human, status, original = notice.iter_parts()
    assert human.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    per_message, per_recipient = status.get_payload()
    assert per_message["Reporting-MTA"].startswith("dns; ")
    assert per_recipient["Action"] == "failed"
    assert "\x1b" not in str(notice)


def test_a_server_that_dribbles_is_given_up(queue: Queue) -> None:
    """An octet now and then is no answer: or a few such servers would hold all connections."""
    queue.add("bob@slow.test", subject="slow")
    for number in range(20):
        queue.add(f"u{number}@live.test", subject=f"{number:02}")
    with Sink(but(MAIL=b"")) as slow, Sink() as sink:
        runner = queue.runner(f"slow.test={slow.route}", f"live.test={sink.route}", concurrency=1, timeout=1.0,
                              schedule=Schedule())  # fmt: skip
        thread = threading.Thread(target=runner.run, args=(True,))
        thread.start()
        while thread.is_alive():
            for sock in list(slow._socks):
                with contextlib.suppress(OSError):
                    sock.sendall(b"2")
            thread.join(0.2)
    assert sink.subjects() == [f"{number:02}" for number in range(20)]
    (listed,) = queue.spool.query()
    last = listed.entry.recipients[0].last
    assert last is not None
    assert "did not answer within 1 seconds" in last.reply


def test_nothing_is_left_behind_by_many_connections(queue: Queue) -> None:
    """Descriptors, threads, couriers: as many after 300 messages over 100 connections as before."""
    for number in range(300):
        queue.add(f"u{number}@b{number % 30}.test", subject=f"{number:03}")
    count = iter(range(10_000))

    def rule(verb: str, argument: str) -> bytes | None:
        return b"421 enough\r\n" if verb == "MAIL" and next(count) % 3 == 2 else usual(verb, argument)

    before = len(os.listdir("/proc/self/fd"))
    with Sink(rule) as sink:
        eventually(lambda: queue.run(sink.route, concurrency=3, per_site=1) is False, "all of it", 60)
        for sock in sink._socks:
            sock.close()
    assert sink.subjects() == [f"{number:03}" for number in range(300)]
    eventually(
        lambda: not [t for t in threading.enumerate() if t.name in ("clerk", sink.route)], "no threads"
    )
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "as many descriptors as before")
    gc.collect()
    couriers = [one for one in gc.get_objects() if isinstance(one, Courier)]
    assert not [one for one in couriers if str(one.site.target) == sink.route]


def test_a_journal_that_cannot_be_removed_hangs_nothing_and_sends_nothing_twice(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add("bob@b.test", subject="once")
    queue.add("ann@here.test", subject="local")
    unlink = os.unlink

    def broken(path: str, *args: object, **named: object) -> None:
        if str(path).endswith(".jsonl"):
            raise OSError(5, "Input/output error")
        unlink(path)

    with Sink() as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", broken)
            assert queue.run(sink.route) is True
        assert any("Input/output error" in line for line in queue.warned)
        eventually(lambda: queue.run(sink.route) is False, "the end of the queue")
        assert sink.subjects() == ["once"]
    assert len(queue.inbox("ann")) == 1


def test_an_error_that_nobody_expects_in_local_delivery_ends_no_run(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = queue.add("ann@here.test")

    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("mailtools.services.delivery.local.received_of", broken)
        assert queue.run() is True
    assert queue.state(identity) == ["due"]
    eventually(lambda: queue.run() is False, "the delivery")
    assert len(queue.inbox("ann")) == 1
