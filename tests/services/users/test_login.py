"""services/users/login: what is offered to whom, which logins are right, and the delay for guesses."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, Found
from mailtools.services.users.login import LoginClient, LoginRules, Logins
from mailtools.system import clock
from mailtools.system.process.pool import Cancel
from mailtools.system.users import passwords
from mailtools.system.users.checker import Checker
from mailtools.system.users.users_file import Users

FAR, HERE = "192.0.2.1", "127.0.0.1"
HASHED = passwords.make("scram-sha-256", "secret")
BANNER = "<1.2@host>"


class AtOnce(Checker):
    """A checker that does its work at once. *is_busy*: it has no room for more."""

    def __init__(self) -> None:
        super().__init__(lambda task: task())
        self.is_busy = False

    def run(self, task: Callable[[], Any], done: Callable[[Any], None], owner: str = "") -> Cancel:
        done(None if self.is_busy else task())
        return lambda: False


class OnRequest(Checker):
    """A checker that does its work when the test says so."""

    def __init__(self) -> None:
        super().__init__(lambda task: task())
        self.waiting: list[Callable[[], None]] = []

    def run(self, task: Callable[[], Any], done: Callable[[Any], None], owner: str = "") -> Cancel:
        def work() -> None:
            done(task())

        self.waiting.append(work)
        return lambda: work in self.waiting and not self.waiting.remove(work)


class Timer:
    """The handle of a call that comes later."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call = seconds, call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Server:
    """The logins of a server with *lines* in its users file."""

    def __init__(self, folder: Path, lines: str = "", checker: Checker | None = None, **rules: Any) -> None:
        (folder / "users").write_text(lines)
        self.checker = AtOnce()
        self.later: list[Timer] = []
        users = Users(str(folder / "users")) if lines else None
        self.logins = Logins(LoginRules(users, **rules), checker or self.checker, self._later)

    def _later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.later.append(Timer(seconds, call))
        return self.later[-1]

    def ask(self, question: Any, peer: str = HERE) -> tuple[LoginClient, list[Any]]:
        """A new connection asks *question*; the list gets the answer."""
        answers: list[Any] = []
        client = self.logins.client(peer)
        (client.find_keys if isinstance(question, FindKeys) else client.check)(question, answers.append)
        return client, answers

    def answer(self, question: Any, peer: str = HERE) -> Any:
        """The answer to *question*; "waits" if there is none yet."""
        answers = self.ask(question, peer)[1]
        return answers[0] if answers else "waits"


PLAIN = ("PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("lines", "rules", "peer", "is_secure", "has_bindings", "offered"),
    [
        ("", {}, HERE, True, True, ()),
        ("bob:\n", {}, HERE, True, True, ()),  # nobody has a password
        ("bob:{PLAIN}x\n", {}, FAR, False, False, ()),
        ("bob:{PLAIN}x\n", {"in_the_clear": True}, FAR, False, False, ("SCRAM-SHA-256", *PLAIN)),
        ("bob:{PLAIN}x\n", {}, HERE, False, False, ("SCRAM-SHA-256", *PLAIN)),
        ("bob:{PLAIN}x\n", {}, "", False, False, ("SCRAM-SHA-256", *PLAIN)),
        ("bob:{PLAIN}x\n", {}, FAR, True, True, ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", *PLAIN)),
        (f"bob:{HASHED}\n", {}, FAR, True, False, ("SCRAM-SHA-256", *PLAIN)),
        (f"bob:{passwords.make('argon2id', 'x')}\n", {}, FAR, True, True, PLAIN),
        ("", {"anybody": True}, FAR, True, True, PLAIN),
        ("", {"anybody": True}, FAR, False, True, ()),
    ],
)
def test_mechanisms_that_are_offered(
    tmp_path: Path,
    lines: str,
    rules: dict[str, Any],
    peer: str,
    is_secure: bool,
    has_bindings: bool,
    offered: tuple[str, ...],
) -> None:
    assert Server(tmp_path, lines, **rules).logins.mechanisms(peer, is_secure, has_bindings) == offered


@pytest.mark.parametrize(
    ("lines", "rules", "is_offered"),
    [
        ("", {}, False),
        ("bob:{PLAIN}x\n", {}, True),
        (f"bob:{HASHED}\n", {}, False),
        ("bob:{PLAIN}x\n", {"anybody": True}, False),
    ],
)
def test_apop_needs_a_password_in_the_clear(
    tmp_path: Path, lines: str, rules: dict[str, Any], is_offered: bool
) -> None:
    assert Server(tmp_path, lines, **rules).logins.have_plain == is_offered


@pytest.mark.parametrize(
    ("name", "password", "is_right"),
    [
        ("bob", "secret", True),
        ("BOB", "secret", True),
        ("bob", "Secret", False),
        ("carol", "pw", True),
        ("carol", "", False),
        ("dan", "", False),  # has no password
        ("nobody", "secret", False),
    ],
)
def test_passwords(tmp_path: Path, name: str, password: str, is_right: bool) -> None:
    server = Server(tmp_path, f"bob:{HASHED}\ncarol:{{PLAIN}}pw\ndan:\n")
    assert bool(server.answer(CheckPassword(name, password))) == is_right


def test_a_name_that_does_not_exist_costs_a_hash_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    check = passwords.check
    monkeypatch.setattr(
        passwords, "check", lambda entry, word: checked.append(entry.scheme) or check(entry, word)
    )
    server = Server(tmp_path, f"bob:{HASHED}\n")
    for name, peer in (("bob", HERE), ("nobody", FAR)):
        assert server.answer(CheckPassword(name, "wrong"), peer) is False
    assert checked == ["SCRAM-SHA-256"] * 2


@pytest.mark.parametrize(
    ("name", "password", "is_right"),
    [("carol", "pw", True), ("carol", "x", False), ("bob", "secret", False), ("nobody", "pw", False)],
)
def test_digests_of_apop(tmp_path: Path, name: str, password: str, is_right: bool) -> None:
    server = Server(tmp_path, f"bob:{HASHED}\ncarol:{{PLAIN}}pw\n")
    digest = hashlib.md5((BANNER + password).encode(), usedforsecurity=False).hexdigest()
    assert server.answer(CheckDigest(name, BANNER, digest)) == is_right


def test_the_password_of_the_only_user_lets_no_other_name_in(tmp_path: Path) -> None:
    """Names that do not exist are checked against somebody's entry, for the time that it takes."""
    server = Server(tmp_path, "carol:{PLAIN}pw\n")
    digest = hashlib.md5(f"{BANNER}pw".encode(), usedforsecurity=False).hexdigest()
    assert not server.answer(CheckPassword("nobody", "pw"), HERE)
    assert not server.answer(CheckDigest("nobody", BANNER, digest), FAR)


def test_every_name_has_keys_each_time_with_another_nonce(tmp_path: Path) -> None:
    server = Server(tmp_path, f"bob:{HASHED}\n")
    names = ("bob", "bob", "nobody", "nobody")
    found = [server.answer(FindKeys(name), f"192.0.2.{n}") for n, name in enumerate(names)]
    assert all(isinstance(one, Found) for one in found)
    salts = [(one.keys.salt, one.keys.iterations) for one in found]  # which a client sees
    assert salts[0] == salts[1] != salts[2] == salts[3]
    assert len({one.nonce for one in found}) == 4


def test_a_checker_without_room_cannot_tell(tmp_path: Path) -> None:
    server = Server(tmp_path, f"bob:{HASHED}\n")
    server.checker.is_busy = True
    assert server.answer(CheckPassword("bob", "secret")) is None
    assert server.answer(FindKeys("bob"), FAR) is None


def test_with_anybody_any_password_is_right_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, anybody=True)
    assert [server.answer(CheckPassword("x", "y")) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    "question",
    [CheckPassword("bob", "x"), CheckDigest("bob", BANNER, "0" * 32), FindKeys("bob")],
    ids=lambda question: type(question).__name__,
)
def test_after_a_failure_the_next_login_of_that_address_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: Any
) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    server = Server(tmp_path, "bob:{PLAIN}secret\n")
    client, answers = server.ask(question, FAR)
    assert answers
    client.failed()
    _, answers = server.ask(CheckPassword("bob", "secret"), FAR)
    assert answers == []
    (timer,) = server.later
    assert timer.seconds > 0
    assert server.answer(CheckPassword("bob", "secret"), "198.51.100.1") is True  # others do not wait
    timer.call()
    assert answers == [True]


def test_after_a_success_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    server = Server(tmp_path, "bob:{PLAIN}secret\n")
    for _ in range(3):
        assert server.answer(CheckPassword("bob", "secret"), FAR) is True
        client, _ = server.ask(FindKeys("bob"), FAR)
        client.succeeded()
    assert server.later == []


def test_right_logins_at_the_same_time_are_not_slowed(tmp_path: Path) -> None:
    checker = OnRequest()
    server = Server(tmp_path, "bob:{PLAIN}secret\n", checker)
    asked = [server.ask(CheckPassword("bob", "secret"), FAR)[1] for _ in range(50)]
    assert len(checker.waiting) == 8
    while checker.waiting:
        checker.waiting.pop(0)()
    assert asked == [[True]] * 50
    assert server.later == []


def test_guesses_at_the_same_time_are_slowed(tmp_path: Path) -> None:
    checker = OnRequest()
    server = Server(tmp_path, "bob:{PLAIN}secret\n", checker)
    for _ in range(50):
        server.ask(CheckPassword("bob", "guess"), FAR)
    while checker.waiting:
        checker.waiting.pop(0)()
    assert len(server.later) == 42
    assert [timer.seconds for timer in server.later].count(15.0) > 35


def test_an_attempt_ends_with_its_connection(tmp_path: Path) -> None:
    """Nothing is left of it: no timer, no work for the checker; and its question has an answer."""
    checker = OnRequest()
    server = Server(tmp_path, "bob:{PLAIN}secret\n", checker)
    clients = [server.ask(CheckPassword("bob", "guess"), FAR) for _ in range(20)]
    checker.waiting.pop(0)()
    for client, _ in clients:
        client.leave()
    assert checker.waiting == []
    assert len(server.later) == 19 - 7
    assert all(timer.is_cancelled for timer in server.later)
    assert [answers for _, answers in clients] == [[False], *([[None]] * 19)]


@pytest.mark.parametrize("question", [CheckPassword("bob", "secret"), FindKeys("bob")])
def test_the_result_of_a_client_that_left_is_nobodys(tmp_path: Path, question: Any) -> None:
    checker = OnRequest()
    server = Server(tmp_path, "bob:{PLAIN}secret\n", checker)
    client, answers = server.ask(question, FAR)
    begun = checker.waiting.pop()
    client.leave()
    begun()
    client.leave()
    assert answers == [None]


def test_an_exchange_that_is_given_up_counts_as_a_guess(tmp_path: Path) -> None:
    server = Server(tmp_path, "bob:{PLAIN}secret\n")
    client, _ = server.ask(FindKeys("bob"), FAR)
    client.find_keys(FindKeys("bob"), lambda _: None)
    assert len(server.later) == 1


def test_a_login_that_nobody_could_check_is_no_guess(tmp_path: Path) -> None:
    server = Server(tmp_path, "bob:{PLAIN}secret\n")
    server.checker.is_busy = True
    for _ in range(3):
        assert server.answer(CheckPassword("bob", "secret"), FAR) is None
    assert server.later == []


@pytest.mark.parametrize(
    ("name", "user"),
    [("bob@example.org", "bob"), ("BOB@x", "bob"), ("bob", "bob"), ("ann@here.test", "ann@here.test"),
     ("a@b@c", "a@b")],
)  # fmt: skip
def test_names_with_a_domain(tmp_path: Path, name: str, user: str) -> None:
    lines = "bob:{PLAIN}secret\nann@here.test:{PLAIN}secret\na@b:{PLAIN}secret\n"
    server = Server(tmp_path, lines, without_domain=True)
    assert server.logins.user_of(name) == user
    assert server.answer(CheckPassword(name, "secret")) is True
    digest = hashlib.md5(f"{BANNER}secret".encode(), usedforsecurity=False).hexdigest()
    assert server.answer(CheckDigest(name, BANNER, digest), FAR) is True
    strict = Server(tmp_path, lines)
    assert strict.answer(CheckPassword(name, "secret")) is (name in ("bob", "ann@here.test"))
    found, its = (server.answer(FindKeys(one), "198.51.100.1") for one in (name, user))
    assert found.keys == its.keys
