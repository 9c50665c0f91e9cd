"""services/fetch/remote: how long a server may take, which logins are tried, what their refusal means."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mailtools.core.auth.client import Mechanism
from mailtools.core.errors import MailError, PolicyError, ProtocolError, TemporaryError
from mailtools.core.pop3.client import Pop3Client
from mailtools.services.access import IMPLICIT, OFF, STARTTLS, Access
from mailtools.services.fetch import remote
from mailtools.services.fetch.remote import FetchTarget, FetchWishes, LoginAnswer, Wire
from mailtools.system import clock
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import LostConnectionError

OK = LoginAnswer(True, "in", False)
NO = LoginAnswer(False, "no", False)
WRONG = LoginAnswer(False, "wrong", False, is_final=True)
LATER = LoginAnswer(False, "later", True)


class Clock:
    """A monotonic clock that stands still."""

    now = 1000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(clock, "monotonic", lambda: fake.now)
    return fake


@pytest.fixture
def wire(time: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Wire]]:
    """Makes connections whose other end is in `wire.server`."""
    opened: list[Any] = []

    def connect(host: str, port: int, timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        opened.append(theirs)
        return ours

    monkeypatch.setattr(client_connection, "connect", connect)

    def make(**access: Any) -> Wire:
        target = FetchTarget("pop3", "host.test", 110, Access(**({"tls": OFF, "user": "bob"} | access)))
        made = Wire(target, Pop3Client())
        opened.append(made.pump)
        return made

    yield make
    for one in opened:
        one.close()


def test_a_source_is_named_by_protocol_user_host_and_port() -> None:
    assert FetchTarget("imap", "host.test", 993, Access(user="bob")).name == "imap://bob@host.test:993"


@pytest.mark.parametrize(
    ("wishes", "is_change"),
    [
        (FetchWishes(), False),
        (FetchWishes(since=1.0, max_size=1, limit=1), False),
        (FetchWishes(delete=True), True),
        (FetchWishes(delete_after=0.0), True),
        (FetchWishes(mark_seen=True), True),
    ],
)
def test_wishes_that_change_something_on_the_server(wishes: FetchWishes, is_change: bool) -> None:
    assert wishes.change == is_change


@pytest.mark.parametrize(
    ("came", "announced", "is_over"),
    [
        (256 << 20, 0, False),
        ((256 << 20) + 1, 0, True),
        ((256 << 20) + 2000, 1000, False),
        ((256 << 20) + 2001, 1000, True),
    ],
)
def test_the_announced_size_is_a_hint_but_no_message_is_endless(
    came: int, announced: int, is_over: bool
) -> None:
    assert remote.exceeds(came, announced) == is_over


# -- how long a server may take ------------------------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "patience"), [(1.0, 5.0), (30.0, 60.0), (100.0, 200.0)])
def test_a_server_has_twice_the_time_out_and_at_least_five_seconds(
    wire: Callable[..., Wire], timeout: float, patience: float
) -> None:
    assert wire(timeout=timeout).pump.deadline == 1000.0 + patience


def test_only_enough_octets_renew_the_deadline(wire: Callable[..., Wire], time: Clock) -> None:
    made = wire(timeout=30.0)
    time.now = 1010.0
    made.progress(4095)
    assert made.pump.deadline == 1060.0
    made.progress(1)
    assert made.pump.deadline == 1070.0
    time.now = 1020.0
    made.progress(4095)  # the count began again
    assert made.pump.deadline == 1070.0


def test_a_server_may_say_that_it_is_at_work_but_not_for_ever(wire: Callable[..., Wire], time: Clock) -> None:
    made = wire(timeout=30.0)
    for now in range(1000, 2770, 30):
        time.now = float(now)
        made.keep_alive()
        assert made.pump.deadline == now + 60
    time.now = 2790.0
    made.keep_alive()
    assert made.pump.deadline == 1000 + 1800
    made.renew()
    assert made.pump.deadline == 2790 + 60


def test_the_time_to_type_a_password_does_not_count(wire: Callable[..., Wire], time: Clock) -> None:
    def typed() -> str:
        time.now += 3600
        return "secret"

    made = wire(secret=typed, timeout=30.0)
    assert made.password() == "secret"
    assert made.pump.deadline == 1000.0 + 3600 + 60


# -- which logins are tried ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tls", "is_private", "is_safe"),
    [
        (OFF, False, False),
        (OFF, True, True),
        (STARTTLS, False, True),
        (IMPLICIT, False, True),
    ],
)
def test_a_login_is_safe_behind_tls_or_on_this_machine(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch, tls: str, is_private: bool, is_safe: bool
) -> None:
    monkeypatch.setattr(client_connection.Pump, "is_private", property(lambda _: is_private))
    assert wire(tls=tls).is_safe == is_safe


@pytest.mark.parametrize(
    ("offered", "answers", "tried", "error"),
    [
        (["PLAIN", "LOGIN"], [OK], ["PLAIN"], None),
        (["PLAIN", "LOGIN"], [NO, NO], ["PLAIN", "LOGIN"], "LOGIN"),
        (["PLAIN", "LOGIN"], [WRONG], ["PLAIN"], PolicyError),
        (["PLAIN"], [LATER], ["PLAIN"], TemporaryError),
        (["SCRAM-SHA-256", "PLAIN"], [OK], ["SCRAM-SHA-256"], None),
        (["SCRAM-SHA-256", "PLAIN"], [NO, OK], ["SCRAM-SHA-256", "PLAIN"], None),
        (["SCRAM-SHA-256", "PLAIN", "LOGIN"], [WRONG, NO, OK], ["SCRAM-SHA-256", "PLAIN", "LOGIN"], None),
        (["SCRAM-SHA-256", "PLAIN"], [LATER], ["SCRAM-SHA-256"], TemporaryError),
        (["SCRAM-SHA-256"], [WRONG], ["SCRAM-SHA-256"], "SCRAM-SHA-256"),
    ],
)
def test_after_a_refusal_the_next_mechanism_is_tried(
    wire: Callable[..., Wire],
    offered: list[str],
    answers: list[LoginAnswer],
    tried: list[str],
    error: type[MailError] | str | None,
) -> None:
    made = wire(secret=lambda: "secret")
    said: list[str] = []
    left = iter(answers)

    def attempt(name: str, steps: Mechanism) -> LoginAnswer:
        said.append(name)
        return next(left)

    if not isinstance(error, type):
        refused = remote.sasl_login(made, offered, attempt)
        assert (refused.how if refused else None) == error
    else:
        with pytest.raises(error):
            remote.sasl_login(made, offered, attempt)
    assert said == tried


@pytest.mark.parametrize(
    ("text", "is_busy"),
    [
        ("maildrop locked by another session", True),
        ("Unable to lock maildrop", True),
        ("mailbox in use", True),
        ("Mailbox is busy", True),
        ("Too many simultaneous connections. (Failure)", True),
        ("temporary failure in the authentication service", True),
        ("Please log in again later", True),
        ("Account locked", False),
        ("Your account is locked; contact support", False),
        ("Invalid login or password", False),
        ("blocked", False),
    ],
)
def test_a_text_says_that_the_server_is_busy(text: str, is_busy: bool) -> None:
    assert remote.is_busy(text) == is_busy


@pytest.mark.parametrize(
    ("farewell", "error", "words"),
    [
        ("the server closed the connection", PolicyError, "refused the login of bob with PLAIN: no$"),
        ("BYE: too many connections", TemporaryError, "too many connections"),
    ],
)
def test_a_server_that_hangs_up_after_it_refused_a_login_has_refused_it(
    wire: Callable[..., Wire], farewell: str, error: type[Exception], words: str
) -> None:
    def attempt(name: str, steps: Mechanism) -> LoginAnswer:
        if name == "PLAIN":
            return NO
        raise LostConnectionError(farewell)

    with pytest.raises(error, match=words):
        remote.sasl_login(wire(secret=lambda: "secret"), ["PLAIN", "LOGIN"], attempt)


@pytest.mark.parametrize(
    ("offered", "is_private"), [([], True), (["GSSAPI"], True), (["PLAIN", "LOGIN"], False)]
)
def test_no_secret_is_asked_for_if_no_mechanism_fits(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch, offered: list[str], is_private: bool
) -> None:
    monkeypatch.setattr(client_connection.Pump, "is_private", property(lambda _: is_private))
    asked: list[str] = []
    made = wire(secret=lambda: asked.append("secret") or "secret")

    def attempt(name: str, steps: Mechanism) -> LoginAnswer:
        raise AssertionError(name)

    assert remote.sasl_login(made, offered, attempt) == remote.NOTHING_FITS
    assert not asked


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (LoginAnswer(False, "no", False), PolicyError, "host.test refused the login of bob with PLAIN: no$"),
        (LoginAnswer(False, "busy", True), TemporaryError, "PLAIN: busy$"),
        (LoginAnswer(False, "no", False, "401 expired"), PolicyError, r"no \(401 expired\)$"),
    ],
)
def test_a_refused_login_says_who_what_and_why(
    answer: LoginAnswer, error: type[MailError], words: str
) -> None:
    target = FetchTarget("pop3", "host.test", 110, Access(user="bob"))
    with pytest.raises(error, match=words):
        remote.check_login(target, "PLAIN", answer)


def test_a_server_that_does_not_speak_tls_is_told_from_a_wrong_certificate(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wire(tls=IMPLICIT)
    for said, words in (
        ("WRONG_VERSION_NUMBER", "check --port and --tls"),
        ("expired", "host.test: expired$"),
    ):

        def start(layer: object, said: str = said) -> None:
            raise remote.RemoteProtocolError(said)

        monkeypatch.setattr(made.pump, "start_tls", start)
        with pytest.raises(ProtocolError, match=words):
            made.start_tls()
