"""The queue in numbers."""

from pathlib import Path

import pytest

from mailtools.core.queue.store import HOLD
from mailtools.services.queue import listing, statistics
from mailtools.services.queue.statistics import Group
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.spools import add


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "spool"))


def test_counts(spool: Spool) -> None:
    add(spool, "a@one.example", "b@ONE.example", "c@two.example", reply="451 later", age=500)
    add(spool, "a@one.example", reply="451 later", wait=60)
    add(spool, "a@one.example", state=HOLD, age=1000)
    stats = statistics.of_spool(spool, lambda _: True)
    assert {name: group.messages for name, group in stats.states.items()} == {"deferred": 2, "hold": 1}
    assert [(name, group.messages) for name, group in stats.sites.items()] == [
        ("one.example", 3),
        ("two.example", 1),
    ]
    assert stats.reasons == [("451 later", 2)]
    assert stats.total.octets == 3 * 60
    assert stats.total.oldest == pytest.approx(clock.now() - 1000, abs=60)
    assert stats.total.due == pytest.approx(clock.now() + 60, abs=50)
    assert stats.states["hold"].due is None
    assert stats == statistics.of(spool.query())


def test_sums() -> None:
    assert Group().plus(Group(1, 5, 7.0, None)) == Group(1, 5, 7.0, None)
    assert Group(1, 5, 7.0, None).plus(Group(2, 6, 3.0, 9.0)) == Group(3, 11, 3.0, 9.0)


def test_more_sites_than_can_be_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_MOST_NAMES", 2)
    for number in range(5):
        add(spool, f"a@site{number}.example")
    stats = statistics.of(spool.query())
    assert sum(group.messages for group in stats.sites.values()) == 5
    assert stats.sites["(others)"].messages == 3


def test_by_several_processes_it_is_the_same(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        add(spool, f"a@site{number % 3}.example", reply="451 \ud800 later" if number % 2 else "")
    alone = statistics.of_spool(spool, lambda _: True)
    monkeypatch.setattr(listing, "_WORTH_IT", 1)
    monkeypatch.setattr(listing, "_BATCH", 3)
    monkeypatch.setattr("mailtools.system.process.pipes.workers", lambda: 2)
    assert statistics.of_spool(spool, lambda _: True) == alone
    assert alone.total.messages == 20
