"""Passwords off the loop: right, wrong, remembered, too many."""

import threading
from queue import SimpleQueue

import pytest

from mailtools.core.auth.passwd import UserEntry
from mailtools.core.errors import ConfigurationError
from mailtools.system.process import pool
from mailtools.system.users import passwords
from mailtools.system.users.checker import Checker

BOB = UserEntry("bob", "PLAIN", "secret")


class Loop:
    """Runs in this thread what was posted."""

    def __init__(self) -> None:
        self.posted: SimpleQueue[object] = SimpleQueue()

    def turn(self) -> None:
        call = self.posted.get(timeout=20)
        assert callable(call)
        call()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_right_and_wrong(loop: Loop) -> None:
    one = Checker(loop.posted.put)
    answers: list[bool | None] = []
    for password in ("secret", "wrong"):
        one.check(BOB, password, answers.append)
        loop.turn()
    assert answers == [True, False]
    one.stop()


def test_a_right_one_is_remembered_until_the_entry_changes(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = passwords.check
    monkeypatch.setattr(passwords, "check", lambda e, p: (checked.append(p), check(e, p))[1])
    one = Checker(loop.posted.put)
    answers: list[bool | None] = []
    one.check(BOB, "secret", answers.append)
    loop.turn()
    one.check(BOB, "secret", answers.append)
    assert answers == [True, True]
    assert checked == ["secret"]
    one.check(BOB._replace(secret="other"), "secret", answers.append)
    loop.turn()
    one.check(BOB, "wrong", answers.append)
    loop.turn()
    one.check(BOB, "wrong", answers.append)
    loop.turn()
    assert answers == [True, True, False, False, False]
    one.stop()


def test_the_loop_goes_on_while_a_password_is_checked(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(passwords, "check", lambda *_: held.wait(20))
    one = Checker(loop.posted.put)
    answers: list[bool | None] = []
    one.check(BOB, "secret", answers.append)
    assert answers == []
    held.set()
    loop.turn()
    assert answers == [True]
    one.stop()


def test_a_queue_has_an_end(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(passwords, "check", lambda *_: held.wait(20))
    monkeypatch.setattr(pool, "_WAITING", 3)
    one = Checker(loop.posted.put)
    answers: list[bool | None] = []
    for number in range(20):
        one.check(BOB, str(number), answers.append)
    assert answers
    assert set(answers) == {None}
    held.set()
    while len(answers) < 20:
        loop.turn()
    one.stop()


@pytest.mark.parametrize("error", [ConfigurationError("no library"), KeyError("a bug")])
def test_what_cannot_be_checked_is_not_now(
    loop: Loop, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise error

    monkeypatch.setattr(passwords, "check", fail)
    one = Checker(loop.posted.put)
    answers: list[bool | None] = []
    for _ in range(10):  # and no thread is lost by it
        one.check(BOB, "secret", answers.append)
        loop.turn()
    assert answers == [None] * 10
    one.stop()
