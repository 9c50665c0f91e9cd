"""Guessing is slowed; nobody is locked out."""

from mailtools.services.users.throttle import Attempt, Throttle

HERE = "192.0.2.1"


class Tries:
    """Attempts and the seconds that each of them waits; None: until another one has ended."""

    def __init__(self) -> None:
        self.throttle = Throttle()
        self.waits: list[float | None] = []

    def begin(self, address: str = HERE, now: float = 0.0) -> Attempt:
        number = len(self.waits)
        self.waits.append(None)
        attempt = self.throttle.attempt(address, now, lambda wait: self.waits.__setitem__(number, wait))
        self.throttle.start(attempt)
        return attempt

    def fail(self, address: str = HERE, now: float = 0.0) -> float | None:
        attempt = self.begin(address, now)
        self.throttle.ended(attempt, False)
        return self.waits[-1]


def test_waits_grow_to_an_end_and_a_success_begins_anew() -> None:
    tries = Tries()
    assert [tries.fail() for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 15, 15, 15]
    assert tries.fail("192.0.2.2") == 0
    tries.throttle.ended(tries.begin(), True)
    assert tries.waits[-1] == 15
    assert tries.fail(now=1.0) == 0


def test_right_logins_at_the_same_time_do_not_wait_for_a_time() -> None:
    tries = Tries()
    attempts = [tries.begin() for _ in range(100)]
    for attempt in attempts:
        tries.throttle.ended(attempt, True)
    assert set(tries.waits) == {0}


def test_many_guesses_at_a_time_wait_as_well() -> None:
    """A hundred connections at once gain little: a few attempts are free, the others count as failed."""
    tries = Tries()
    attempts = [tries.begin() for _ in range(100)]
    assert tries.waits == [0] * 8 + [None] * 92
    for attempt in attempts:
        tries.throttle.ended(attempt, False)
    assert tries.waits[8] == 0.5
    assert tries.waits.count(15) > 85


def test_an_attempt_that_waits_and_is_given_up_never_begins() -> None:
    tries = Tries()
    attempts = [tries.begin() for _ in range(10)]
    tries.throttle.ended(attempts[8], False)
    tries.throttle.ended(attempts[0], True)
    tries.throttle.ended(attempts[1], True)
    assert tries.waits[8:] == [None, 0]


def test_an_end_counts_once_and_no_result_is_no_failure() -> None:
    tries = Tries()
    attempt = tries.begin()
    tries.throttle.ended(attempt, None)
    tries.throttle.ended(attempt, False)
    assert tries.fail() == 0
    assert tries.fail() == 0.5


def test_a_guess_that_fails_after_a_success_counts() -> None:
    tries = Tries()
    tries.fail()
    guess, right = tries.begin(), tries.begin()
    tries.throttle.ended(right, True)
    tries.throttle.ended(guess, False)
    assert tries.fail() == 0.5


def test_what_was_long_ago_is_forgotten() -> None:
    tries = Tries()
    for _ in range(5):
        tries.fail()
    assert tries.fail(now=800.0) == 8
    assert tries.fail(now=1800.0) == 0


def test_a_network_is_one_customer() -> None:
    tries = Tries()
    tries.fail("2001:db8::1")
    assert tries.fail("2001:db8::2") == 0.5
    assert tries.fail("2001:db8:0:1::2") == 0
    assert tries.fail("fe80::1%eth0") == 0
    assert tries.fail("") == 0


def test_memory_is_bounded() -> None:
    tries = Tries()
    for number in range(20_000):
        tries.fail(f"host-{number}")
    assert len(tries.throttle._addresses) == 10_000
