"""Changes to queued messages: under a lease, once, and whole whatever kills them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.queue.journal import FAILED
from mailtools.core.queue.store import DEFERRED, HOLD, INCOMING, Listed
from mailtools.services.queue import actions
from mailtools.services.queue.actions import BUSY, DONE, GONE, UNFIT, Action, Change
from mailtools.system.spool.spool import Spool
from tests.spools import add, killed_at


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "spool"))


def change(
    spool: Spool, action: Action, *chosen: tuple[str, str], wanted: Callable[[Listed], bool] = lambda _: True
) -> list[tuple[str, str]]:
    told: list[Change] = []
    actions.apply(spool, chosen, action, wanted, told.append, patience=0.1)
    return [(one.identity, one.outcome) for one in told]


def only(spool: Spool) -> Listed:
    (listed,) = spool.query()
    return listed


def bounce(spool: Spool) -> Action:
    return actions.bounce(spool, lambda _: None)


def test_hold_and_release(spool: Spool) -> None:
    identity = add(spool, reply="451 later")
    due = only(spool).entry.due
    assert change(spool, actions.hold("root"), (identity, DEFERRED)) == [(identity, DONE)]
    assert only(spool).state == HOLD
    assert spool.claim(identity) is None
    assert change(spool, actions.hold("root"), (identity, HOLD)) == [(identity, UNFIT)]
    assert change(spool, actions.release("root"), (identity, HOLD)) == [(identity, DONE)]
    assert only(spool).state == DEFERRED
    assert only(spool).entry.due == due
    assert list(spool.ready(due - 10)) == []
    assert list(spool.ready(due + 10)) == [identity]
    assert change(spool, actions.release("root"), (identity, DEFERRED)) == [(identity, UNFIT)]


def test_a_new_message_released_is_tried_at_once(spool: Spool) -> None:
    identity = add(spool, state=HOLD)
    assert change(spool, actions.release("root"), (identity, HOLD)) == [(identity, DONE)]
    assert only(spool).state == INCOMING


def test_retry_makes_it_due_and_is_seen_by_a_run(spool: Spool) -> None:
    identity = add(spool, reply="451 later")
    before = spool.arrivals()
    assert change(spool, actions.retry("root"), (identity, DEFERRED)) == [(identity, DONE)]
    assert spool.arrivals() != before
    assert list(spool.ready(0)) == [identity]
    assert only(spool).entry.due == 0


def test_retry_leaves_what_is_on_hold(spool: Spool) -> None:
    identity = add(spool, state=HOLD, reply="451 later")
    assert change(spool, actions.retry("root"), (identity, HOLD)) == [(identity, UNFIT)]
    assert only(spool).entry.due > 0


def test_what_is_being_delivered_is_waited_for_and_left(spool: Spool) -> None:
    identity, other = add(spool), add(spool)
    lease = spool.claim(identity)
    assert lease
    told = change(spool, actions.delete, (identity, INCOMING), (other, INCOMING))
    assert told == [(other, DONE), (identity, BUSY)]
    lease.close()
    assert change(spool, actions.delete, (identity, INCOMING)) == [(identity, DONE)]


def test_what_left_is_gone(spool: Spool) -> None:
    assert change(spool, actions.delete, ("0abc-1", INCOMING)) == [("0abc-1", GONE)]


def test_what_changed_since_it_was_chosen_is_looked_at_again(spool: Spool) -> None:
    identity = add(spool)
    told = change(spool, actions.delete, (identity, DEFERRED), wanted=lambda listed: listed.state == DEFERRED)
    assert told == [(identity, UNFIT)]
    assert only(spool).state == INCOMING


@pytest.mark.parametrize("state", [INCOMING, HOLD])
def test_bounce_tells_the_sender_of_those_who_waited(spool: Spool, state: str) -> None:
    identity = add(
        spool, "sent@a.example", "one@a.example", "two@b.example", reply="451 \x1b later", sent=1, state=state
    )
    assert change(spool, bounce(spool), (identity, state)) == [(identity, DONE)]
    notice = only(spool).entry.envelope
    assert notice.reverse_path == ""
    assert [recipient.address for recipient in notice.recipients] == ["alice@example.org"]
    text = b"".join(spool.message(notice)).decode()
    assert text.count("Status: 5.0.0") == 2
    assert "one@a.example" in text
    assert "two@b.example" in text
    assert "sent@a.example" not in text
    assert "given up by the operator" in text
    assert "451 ? later" in text or "451  later" in text
    assert len(list(Path(spool.path, "messages").iterdir())) == 1


def test_nobody_is_told_of_a_bounce_s_bounce(spool: Spool) -> None:
    identity = add(spool, sender="")
    assert change(spool, bounce(spool), (identity, INCOMING)) == [(identity, DONE)]
    assert list(spool.query()) == []


ACTIONS: dict[str, Callable[[Spool], Action]] = {
    "hold": lambda _: actions.hold("root"),
    "release": lambda _: actions.release("root"),
    "retry": lambda _: actions.retry("root"),
    "delete": lambda _: actions.delete,
    "bounce": bounce,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_kill_between_any_two_operations_loses_nothing(tmp_path: Path, name: str) -> None:
    number = 0
    while True:
        spool = Spool(str(tmp_path / str(number)))
        state = HOLD if name in ("release", "bounce") else DEFERRED
        identity = add(spool, reply="451 later", state=state)
        if not killed_at(number, lambda s=spool, i=identity, t=state: change(s, ACTIONS[name](s), (i, t))):
            break
        found = {listed.entry.envelope.identity: listed for listed in spool.query()}
        assert not list(Path(spool.path, "bad").iterdir())
        mine = found.pop(identity, None)
        if name in ("hold", "release", "retry"):
            assert mine
            assert mine.entry.pending == (0,)
        elif name == "bounce":
            # It waits, or its sender is told, or will be: by a run, for it is on hold no more then.
            told = [listed.entry.envelope.recipients[0].address for listed in found.values()]
            waits = mine is not None and mine.entry.pending
            # Between the verdict and the move it stays on hold; the same command again goes on.
            assert waits or told == ["alice@example.org"] or (mine and mine.entry.untold(FAILED, "FAILURE"))
        lease = spool.claim(identity, held=True)
        assert (lease is None) is (mine is None)
        number += 1
    assert number > 3
