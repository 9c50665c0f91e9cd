"""services/queue/sites: who gets the next connection, and how long it may take."""

import math
from typing import Any

import pytest

from mailtools.core.errors import TemporaryError
from mailtools.core.smtp import route
from mailtools.services.queue.sites import Site, Sites, SiteTarget, Task

TASK: Any = Task(None, (0,))  # type: ignore[arg-type]
CONCURRENCY = 2
OPENING, MOST = 5 * CONCURRENCY, 20 * CONCURRENCY


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sites(clock: Clock) -> Sites:
    return Sites(CONCURRENCY, 5, lambda failures: 60.0 * failures, clock)


def target(name: str) -> SiteTarget:
    return SiteTarget(route.parse("mx:"), name)


def push(sites: Sites, *names: str) -> None:
    for name in names:
        sites.push(target(name), TASK)


def hired(sites: Sites) -> list[Site]:
    found = []
    while (site := sites.hire()) is not None:
        found.append(site)
    return found


def many(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}.test" for n in range(number)]


def test_a_connection_that_waits_for_a_silent_server_gives_its_place_to_another(sites: Sites) -> None:
    push(sites, *many("silent", OPENING), "live.test")
    silent = hired(sites)
    assert len(silent) == OPENING
    sites.slow_down(silent[0], is_delivering=False)
    assert [str(site.target) for site in hired(sites)] == ["live.test"]


def test_slow_connections_have_a_limit_too(sites: Sites) -> None:
    push(sites, *many("silent", 2 * MOST))
    count = 0
    while new := hired(sites):
        count += len(new)
        for site in new:
            sites.slow_down(site, is_delivering=False)
    assert count == MOST


def test_the_more_connections_are_being_made_the_shorter_new_ones_may_take(sites: Sites) -> None:
    push(sites, *many("silent", 2 * MOST))
    patience = []
    while new := hired(sites):
        patience.append(sites.patience)
        for site in new:
            sites.slow_down(site, is_delivering=False)
    assert patience == sorted(patience, reverse=True)
    assert patience[0] == math.inf
    assert patience[-1] == pytest.approx(15.0)


def test_a_slow_connection_that_goes_on_counts_again(sites: Sites) -> None:
    push(sites, *many("a", OPENING), "b.test")
    first = hired(sites)[0]
    sites.slow_down(first, is_delivering=False)
    sites.speed_up(first, is_delivering=False)
    assert hired(sites) == []


def test_a_delivery_that_stalls_gives_its_place_to_the_next(sites: Sites) -> None:
    went: list[str] = []
    push(sites, "a.test", "b.test", "c.test")
    found = hired(sites)
    for site in found:
        sites.connected(site, lambda name=str(site.target): went.append(name))  # type: ignore[misc]
    assert went == ["a.test", "b.test"]
    sites.slow_down(found[0], is_delivering=True)
    assert went == ["a.test", "b.test", "c.test"]
    sites.speed_up(found[0], is_delivering=True)
    sites.disconnected(found[0])
    assert sites.links == 2


def test_half_of_the_places_are_for_sites_that_did_not_fail(sites: Sites, clock: Clock) -> None:
    names = many("dead", OPENING)
    push(sites, *names)
    for site in hired(sites):
        assert sites.failed(site, TemporaryError("silent"))
        sites.take_all(site)
        sites.leave(site)
    clock.now += 3600
    push(sites, *names)
    assert len(hired(sites)) == OPENING // 2
    push(sites, *many("new", OPENING))
    assert [str(site.target)[:3] for site in hired(sites)] == ["new"] * (OPENING // 2)


def test_a_site_that_answers_again_is_trusted_again(sites: Sites, clock: Clock) -> None:
    push(sites, "a.test")
    (site,) = hired(sites)
    sites.failed(site, TemporaryError("silent"))
    sites.take_all(site)
    sites.leave(site)
    assert sites.dead(target("a.test"))
    clock.now += 61
    assert sites.dead(target("a.test")) is None
    push(sites, "a.test")
    (site,) = hired(sites)
    sites.connected(site, lambda: None)
    assert site.failures == 0


@pytest.mark.parametrize(("in_memory", "most"), [(0, 100), (500, 3), (1500, 1)])
def test_sites_that_do_not_answer_do_not_fill_the_memory(sites: Sites, in_memory: int, most: int) -> None:
    for _ in range(most):
        assert not sites.is_full(target("a.test"), in_memory)
        push(sites, "a.test")
    assert sites.is_full(target("a.test"), in_memory)


def test_a_site_that_delivers_keeps_its_tasks_in_memory(sites: Sites) -> None:
    push(sites, "a.test", "a.test", "a.test")
    (site, *_) = hired(sites)
    sites.connected(site, lambda: None)
    assert not sites.is_full(target("a.test"), 1900)
    sites.slow_down(site, is_delivering=True)
    assert sites.is_full(target("a.test"), 1900)
