"""Guessing is slowed; nobody is locked out."""

from mailtools.services.users.throttle import Throttle


def test_waits_grow_to_an_end_and_a_success_begins_anew() -> None:
    guard = Throttle()
    assert [guard.attempt("192.0.2.1", 0.0) for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 15, 15, 15]
    assert guard.attempt("192.0.2.2", 0.0) == 0
    guard.succeeded("192.0.2.1")
    assert guard.attempt("192.0.2.1", 1.0) == 0


def test_many_at_a_time_wait_as_well() -> None:
    """An attempt counts as failed until it is right: a hundred connections at once gain nothing."""
    guard = Throttle()
    waits = [guard.attempt("192.0.2.1", 0.0) for _ in range(100)]
    assert waits.count(15) > 90


def test_what_was_long_ago_is_forgotten() -> None:
    guard = Throttle()
    for _ in range(5):
        guard.attempt("192.0.2.1", 0.0)
    assert guard.attempt("192.0.2.1", 800.0) == 8
    assert guard.attempt("192.0.2.1", 1800.0) == 0


def test_a_network_is_one_customer() -> None:
    guard = Throttle()
    guard.attempt("2001:db8::1", 0.0)
    assert guard.attempt("2001:db8::2", 0.0) == 0.5
    assert guard.attempt("2001:db8:0:1::2", 0.0) == 0
    assert guard.attempt("fe80::1%eth0", 0.0) == 0
    assert guard.attempt("", 0.0) == 0


def test_memory_is_bounded() -> None:
    guard = Throttle()
    for number in range(20_000):
        guard.attempt(f"host-{number}", 0.0)
    assert len(guard._failures) == 10_000
