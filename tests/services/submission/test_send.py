"""services/submission/send: results in the order of the messages, whatever becomes of each."""

import mailbox
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, ConfigurationError, RefusedError, TemporaryError
from mailtools.core.smtp.reply import Reply
from mailtools.services.submission import send
from mailtools.services.submission.prepare import Unsendable
from mailtools.services.submission.send import ALWAYS, AUTO, NEVER, AtOnce, Queueing, Uncopied, Way
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes, prepare
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.spools import queue_run

TEMPORARY, PERMANENT = TemporaryError("451 later"), RefusedError("554 no")


def message(number: int, *recipients: str) -> Outgoing:
    wishes = Wishes(recipients or ("bob@b.test",), sender="a@a.test")
    return prepare(f"m{number}", [b"Subject: %d\n\ntext\n" % number], wishes, Stamps("now", f"<{number}@x>"))


class Late:
    """A carrier that knows the outcome of a message when the next one comes."""

    def __init__(self) -> None:
        self.waiting: list[Outgoing] = []
        self.said: list[str] = []

    def put(self, message: Outgoing) -> Iterator[list[Outcome]]:
        yield from self.drain()
        self.waiting.append(message)

    def drain(self) -> Iterator[list[Outcome]]:
        while self.waiting:
            message = self.waiting.pop()
            yield [Outcome(message, r.address, None, None) for r in message.recipients]

    def end(self) -> None:
        assert not self.waiting
        self.said.append("end")

    def close(self) -> None:
        self.said.append("close")


def failing(*errors: Exception | None) -> AtOnce:
    """A carrier whose recipients meet *errors*, one for each."""

    def deliver(message: Outgoing) -> list[Outcome]:
        return [Outcome(message, r.address, None, e) for r, e in zip(message.recipients, errors, strict=True)]  # type: ignore[arg-type]

    return AtOnce(deliver)


def names(results: Iterator[send.Result]) -> list[str]:
    return [r.name if isinstance(r, Unsendable | Uncopied) else r[0].message.name for r in results]


def queueing(tmp_path: Path, when: str = AUTO, why_not: str = "") -> Queueing:
    return Queueing(when, str(tmp_path / "spool"), why_not=why_not)


def test_without_a_queue_run_nothing_is_queued(tmp_path: Path) -> None:
    way = Way(failing(TEMPORARY), queueing(tmp_path))
    ((outcome,),) = send.send([message(1)], lambda _: way, "", False)
    assert isinstance(outcome.error, TemporaryError)
    assert "451 later; not queued: no queue run works on" in str(outcome.error)
    assert "mailtools queue run" in str(outcome.error)
    assert list(Spool(str(tmp_path / "spool")).query()) == []


def test_the_first_failure_is_in_the_journal(tmp_path: Path) -> None:
    reply = Reply(451, "4.7.1", "greylisted")
    outcome = Outcome(message(1), "bob@b.test", reply, TemporaryError(str(reply)), "mx.b.test")
    way = Way(AtOnce(lambda _: [outcome]), queueing(tmp_path))
    with queue_run(tmp_path / "spool"):
        ((queued,),) = send.send([outcome.message], lambda _: way, "", False)
    (listed,) = Spool(str(tmp_path / "spool")).query()
    (state,) = listed.entry.recipients
    assert queued.queued == listed.entry.envelope.identity
    assert state.last is not None
    assert (state.last.reply, state.last.status, state.last.remote) == (
        "451 4.7.1 greylisted",
        "4.7.1",
        "mx.b.test",
    )
    assert listed.entry.attempts == 1
    assert 30 < listed.entry.due - clock.now() < 90


def test_a_recipient_that_the_queue_cannot_keep_is_refused_alone(tmp_path: Path) -> None:
    its = queueing(tmp_path, ALWAYS)
    odd = message(1, "a@b.test", "b@b.test")
    recipients = (odd.recipients[0], odd.recipients[1]._replace(orcpt="x" * 3000))
    way = Way(send.into_queue(its), its)
    ((good, bad),) = send.send([odd._replace(recipients=recipients)], lambda _: way, "", False)
    assert good.queued
    assert isinstance(bad.error, BadDataError)
    (listed,) = Spool(str(tmp_path / "spool")).query()
    assert [r.address for r in listed.entry.envelope.recipients] == ["a@b.test"]


def test_what_cannot_be_sent_is_told_in_its_place(tmp_path: Path) -> None:
    carrier = Late()
    way = Way(carrier, queueing(tmp_path))
    bad = Unsendable("bad", BadDataError("bad"))
    messages = [bad, message(1), bad, message(2), message(3), bad]
    found = names(send.send(iter(messages), lambda _: way, "", False))
    assert found == ["bad", "m1", "bad", "m2", "m3", "bad"]
    assert carrier.said == ["end", "close"]


def test_messages_with_another_next_hop_wait_for_those_before(tmp_path: Path) -> None:
    first, second = Late(), Late()
    ways = {"m1": Way(first, queueing(tmp_path)), "m2": Way(second, queueing(tmp_path))}
    results = send.send(iter([message(1), message(2)]), lambda m: ways[m.name], "", False)
    assert names(results) == ["m1", "m2"]
    assert (first.said, second.said) == (["end"], ["end", "close"])


def test_a_message_without_a_way_is_unsendable(tmp_path: Path) -> None:
    way = Way(Late(), queueing(tmp_path))

    def way_of(message: Outgoing) -> Way:
        if message.name == "m2":
            raise ConfigurationError("no account")
        return way

    found = list(send.send(map(message, range(1, 4)), way_of, "", False))
    assert names(iter(found)) == ["m1", "m2", "m3"]
    assert isinstance(found[1], Unsendable)
    assert str(found[1].error) == "m2: no account"


def test_what_was_sent_is_told_before_an_error_of_the_input(tmp_path: Path) -> None:
    carrier = Late()

    def messages() -> Iterator[Outgoing]:
        yield message(1)
        raise OSError("the disk")

    results = send.send(messages(), lambda _: Way(carrier, queueing(tmp_path)), "", False)
    assert next(results)[0].message.name == "m1"  # type: ignore[index,union-attr]
    with pytest.raises(OSError, match="the disk"):
        next(results)
    assert carrier.said == ["close"]


@pytest.mark.parametrize(
    ("when", "errors", "partial", "queued"),
    [
        (AUTO, (TEMPORARY, TEMPORARY), False, ["a@b.test", "b@b.test"]),
        (AUTO, (TEMPORARY, None), False, ["a@b.test"]),
        (AUTO, (TEMPORARY, PERMANENT), False, []),
        (AUTO, (TEMPORARY, PERMANENT), True, ["a@b.test"]),
        (AUTO, (PERMANENT, None), True, []),
        (NEVER, (TEMPORARY, TEMPORARY), False, []),
    ],
)
def test_temporary_failures_are_queued(
    tmp_path: Path, when: str, errors: tuple[Exception | None, ...], partial: bool, queued: list[str]
) -> None:
    way = Way(failing(*errors), queueing(tmp_path, when))
    with queue_run(tmp_path / "spool"):
        ((outcomes),) = send.send([message(1, "a@b.test", "b@b.test")], lambda _: way, "", partial)
    assert isinstance(outcomes, list)
    assert [o.recipient for o in outcomes if o.queued] == queued
    spool = Spool(str(tmp_path / "spool"))
    found = [r.address for listed in spool.query() for r in listed.entry.envelope.recipients]
    assert found == queued


def test_a_message_that_the_queue_cannot_send_is_not_queued(tmp_path: Path) -> None:
    way = Way(failing(TEMPORARY), queueing(tmp_path, why_not="--user is known to this command only"))
    ((outcome,),) = send.send([message(1)], lambda _: way, "", False)
    assert str(outcome.error) == "451 later; not queued: --user is known to this command only"
    assert isinstance(outcome.error, TemporaryError)


def test_always_queues_without_trying(tmp_path: Path) -> None:
    its = queueing(tmp_path, ALWAYS)
    way = Way(send.into_queue(its), its)
    ((outcome,),) = send.send([message(1)], lambda _: way, "", False)
    assert outcome.queued
    assert outcome.error is None
    refused = its._replace(why_not="an mbox is no server")
    ((outcome,),) = send.send([message(1)], lambda _: Way(send.into_queue(refused), refused), "", False)
    assert isinstance(outcome.error, ConfigurationError)


def test_a_copy_is_filed_of_what_was_sent(tmp_path: Path) -> None:
    fcc = tmp_path / "sent.mbox"
    for carrier in (Late(), failing(PERMANENT), failing(None)):
        list(send.send([message(1)], lambda _, c=carrier: Way(c, queueing(tmp_path, NEVER)), str(fcc), False))  # type: ignore[misc]
    assert [m["Subject"] for m in mailbox.mbox(fcc)] == ["1", "1"]


def test_a_copy_that_cannot_be_filed_is_told_and_never_temporary(tmp_path: Path) -> None:
    way = Way(Late(), queueing(tmp_path))
    _, uncopied = send.send([message(1)], lambda _: way, str(tmp_path), False)
    assert isinstance(uncopied, Uncopied)
    assert not isinstance(uncopied.error, TemporaryError)
    assert "do not send it again" in str(uncopied.error)


def test_by_domain_sends_a_transaction_to_each_domain(tmp_path: Path) -> None:
    asked: list[str] = []

    def open_link(domain: str) -> object:
        asked.append(domain)
        raise TemporaryError(f"no host of {domain}")

    carrier = send.by_domain(open_link, False)  # type: ignore[arg-type]
    one = message(1, "a@one.test", "b@two.test", "c@ONE.test")
    ((a, b, c),) = carrier.put(one)
    assert asked == ["one.test", "two.test"]
    assert [str(o.error) for o in (a, b, c)] == [
        "no host of one.test", "no host of two.test", "no host of one.test"
    ]  # fmt: skip
    assert {o.message.name for o in (a, b, c)} == {"m1"}
    assert a.message is one
