"""core/queue/decision: what follows from the state of a queued message."""

from typing import Any

import pytest

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import decision, journal
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.decision import DueNotice
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DEFERRED, DELAYED, FAILED, SENT, QueueEntry, Result, parse
from mailtools.core.queue.schedule import Schedule

T = 1_800_000_000.0
SCHEDULE = Schedule((60.0, 300.0), expire=7200.0, warn=3600.0)


def entry(*records: dict[str, Any], sender: str = "alice@a.test", notify: str = "") -> QueueEntry:
    recipients = tuple(Recipient(f"r{n}@b.test", notify) for n in range(2))
    return parse(envelopes.encode(QueueEnvelope("0abc-1", T, sender, recipients)) + journal.encode(records))


def tried(at: float, result: str, *numbers: int, reply: str = "x", final: bool = True) -> dict[str, Any]:
    return journal.attempt(T + at, Result(numbers, result, reply, "", "mx.test", final))


def test_a_recipient_that_waits_is_tried_again_and_again() -> None:
    found = decision.decide(entry(tried(1, DEFERRED, 0, 1)), SCHEDULE, T + 1, 0.5)
    assert found == ((), 60.0)
    later = entry(tried(1, DEFERRED, 0, 1), journal.scheduled(T + 1, T + 61), tried(61, DEFERRED, 0, 1))
    assert decision.decide(later, SCHEDULE, T + 61, 0.5).wait == 300.0


def test_when_nobody_waits_the_message_is_finished() -> None:
    assert decision.decide(entry(tried(1, SENT, 0, 1)), SCHEDULE, T + 1, 0.5) == ((), None)


@pytest.mark.parametrize(
    ("notify", "result", "notices"),
    [
        ("", FAILED, (DueNotice(FAILED, (0,)),)),
        ("NEVER", FAILED, ()),
        ("SUCCESS", FAILED, ()),
        ("SUCCESS", SENT, (DueNotice(SENT, (0,)),)),
        ("FAILURE,SUCCESS", SENT, (DueNotice(SENT, (0,)),)),
        ("", SENT, ()),
    ],
)
def test_the_sender_is_sent_the_notices_it_wants(
    notify: str, result: str, notices: tuple[DueNotice, ...]
) -> None:
    found = decision.decide(entry(tried(1, result, 0), notify=notify), SCHEDULE, T + 1, 0.5)
    assert found == (notices, 60.0)


def test_a_server_that_sends_notices_itself_leaves_none_for_us() -> None:
    relayed = entry(tried(1, SENT, 0, 1, final=False), notify="SUCCESS")
    assert decision.decide(relayed, SCHEDULE, T + 1, 0.5).notices == ()


def test_the_null_reverse_path_gets_no_notice() -> None:
    assert decision.decide(entry(tried(1, FAILED, 0, 1), sender=""), SCHEDULE, T + 1, 0.5) == ((), None)


def test_a_delay_is_told_once() -> None:
    late = entry(tried(3600, DEFERRED, 0, 1))
    assert decision.decide(late, SCHEDULE, T + 3600, 0.5).notices == (DueNotice(DELAYED, (0, 1)),)
    told = entry(tried(3600, DEFERRED, 0, 1), journal.told(T + 3600, DELAYED, (0, 1), "0def-2"))
    assert decision.decide(told, SCHEDULE, T + 3700, 0.5).notices == ()


def test_recipients_are_given_up_with_their_last_replies() -> None:
    waiting = entry(tried(7000, DEFERRED, 0, reply="451 full"))
    assert decision.expired(waiting, SCHEDULE, T + 7100) == []
    assert decision.expired(waiting, SCHEDULE, T + 7200) == [
        Result((0,), FAILED, "451 full", "4.4.7", "mx.test"),
        Result((1,), FAILED, "no attempt succeeded", "4.4.7", ""),
    ]
    assert decision.expired(entry(tried(1, SENT, 0, 1)), SCHEDULE, T + 9999) == []


def sent(*numbers: int) -> list[Result]:
    return [Result(numbers, SENT, "250 ok")]


def test_a_message_finishes_at_once_only_if_all_are_sent_and_nobody_is_told() -> None:
    assert decision.finishes(entry(), sent(0, 1))
    assert decision.finishes(entry(tried(1, SENT, 0)), sent(1))
    assert not decision.finishes(entry(), sent(0))
    assert not decision.finishes(entry(), [])
    assert not decision.finishes(entry(), [*sent(0), Result((1,), DEFERRED, "451 x")])
    assert not decision.finishes(entry(notify="SUCCESS"), sent(0, 1))
    assert not decision.finishes(entry(tried(1, FAILED, 0)), sent(1))


def test_only_old_messages_and_those_with_results_may_have_something_to_tell() -> None:
    assert not decision.takes_time(entry(tried(1, DEFERRED, 0, 1)), SCHEDULE, T + 1)
    assert decision.takes_time(entry(tried(1, SENT, 0)), SCHEDULE, T + 1)
    assert decision.takes_time(entry(tried(3600, DEFERRED, 0, 1)), SCHEDULE, T + 3600)
