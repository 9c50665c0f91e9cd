"""Logins: which mechanisms are offered, whether a password is right, and the delay for guessed passwords.

Each server has one `Logins`, whatever its protocol. The session gives it the engine's questions and is
called back with the answer. This module knows no reply.
"""

import hmac
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mailtools.core.auth import passwd
from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, Found
from mailtools.services.users.throttle import Attempt, Throttle, network
from mailtools.system import clock
from mailtools.system.net.listeners import is_local
from mailtools.system.process.pool import Cancel
from mailtools.system.users.checker import Checker
from mailtools.system.users.users_file import Users

_PLAIN = ("PLAIN", "LOGIN")


class LoginRules(NamedTuple):
    """The options of a server about logins."""

    users: Users | None = None
    anybody: bool = False  # any name and password, for development
    in_the_clear: bool = False  # without TLS beyond loopback
    without_domain: bool = False  # bob@example.org is bob, unless there is a user bob@example.org


class Logins:
    """The logins of one server. *later*: call a function after so many seconds."""

    def __init__(
        self, rules: LoginRules, checker: Checker, later: Callable[[float, Callable[[], None]], Any]
    ) -> None:
        self._rules = rules
        self._checker = checker
        self._later = later
        self._throttle = Throttle()

    def mechanisms(self, peer: str, is_secure: bool, has_bindings: bool) -> tuple[str, ...]:
        """Return the SASL mechanisms for this client, the strongest first; () if it may not log in."""
        rules = self._rules
        if not (is_secure or is_local(peer) or rules.in_the_clear):
            return ()
        if rules.anybody:
            return _PLAIN
        if rules.users is None or not rules.users.have_passwords:
            return ()
        if not rules.users.have_scram:
            return _PLAIN
        plus = ("SCRAM-SHA-256-PLUS",) if has_bindings else ()
        return (*plus, "SCRAM-SHA-256", *_PLAIN)

    @property
    def have_plain(self) -> bool:
        """True if APOP can be offered: it needs passwords in the clear (RFC 1939 §7)."""
        users = self._rules.users
        return not self._rules.anybody and users is not None and users.have_plain

    def client(self, peer: str) -> "LoginClient":
        """Return the logins of one connection; *peer*: its address."""
        return LoginClient(self, peer)

    def attempt(self, peer: str, begin: Callable[[float], None]) -> Attempt:
        """Return an attempt of *peer*; *begin* gets the seconds to wait."""
        return self._throttle.attempt(peer, clock.monotonic(), begin)

    def start(self, attempt: Attempt) -> None:
        """Begin an attempt, now or later."""
        self._throttle.start(attempt)

    def ended(self, attempt: Attempt, is_right: bool | None) -> None:
        """Note the end of an attempt."""
        self._throttle.ended(attempt, is_right)

    def wait(self, seconds: float, then: Callable[[], None]) -> Any:
        """Call *then* after *seconds*; return the loop's handle."""
        return self._later(seconds, then)

    @property
    def lets_anybody(self) -> bool:
        """True if any name and password is right."""
        return self._rules.anybody

    def user_of(self, name: str) -> str:
        """Return the user, in lower case, whom a client means that logs in as *name*."""
        name = name.lower()
        rules = self._rules
        if not rules.without_domain or "@" not in name:
            return name
        if rules.users is not None and rules.users.find(name) is not None:
            return name
        return name.rpartition("@")[0]

    @property
    def _users(self) -> Users:
        assert self._rules.users is not None  # no mechanism is offered otherwise
        return self._rules.users

    def find_keys(self, question: FindKeys, owner: str, answer: Callable[[Found | None], None]) -> Cancel:
        """Call *answer* later with SCRAM keys and a nonce."""
        users, name = self._users, self.user_of(question.name)
        # Making keys of a password in the clear takes 2 ms, which is too long for the loop.
        return self._checker.run(lambda: Found(users.scram_keys(name), os.urandom(18).hex()), answer, owner)

    def check_digest(self, question: CheckDigest) -> bool:
        """Return whether the digest of APOP is right."""
        users, name = self._users, self.user_of(question.name)
        entry = users.find(name)
        known = entry if entry is not None and entry.scheme == "PLAIN" else None
        expected = passwd.apop_digest(known or users.decoy(name), question.banner)
        return hmac.compare_digest(expected, question.digest) and known is not None

    def check_password(
        self, question: CheckPassword, owner: str, answer: Callable[[bool | None], None]
    ) -> Cancel:
        """Call *answer*, now or later, with whether the password is right; None if nobody can tell."""
        users, name = self._users, self.user_of(question.name)
        entry = users.find(name)
        is_known = entry is not None and bool(entry.scheme)
        checked = entry if entry is not None and is_known else users.decoy(name)

        def done(is_right: bool | None) -> None:
            answer(is_right and is_known)

        # A name that does not exist is checked as well: it must take the same time (promise R7).
        return self._checker.check(checked, question.password, done, owner)


class LoginClient:
    """The logins of one connection, one after another. What waits for them ends with `leave`."""

    __slots__ = ("_answer", "_attempt", "_cancel", "_logins", "_owner", "_peer", "_timer")

    def __init__(self, logins: Logins, peer: str) -> None:
        self._logins = logins
        self._peer = peer
        self._owner = network(peer)
        self._attempt: Attempt | None = None  # until it is known whether it was right
        self._answer: Callable[[Any], None] | None = None  # of the question that waits
        self._timer: Any = None
        self._cancel: Cancel | None = None

    def check(self, question: CheckPassword | CheckDigest, answer: Callable[[bool | None], None]) -> None:
        """Call *answer*, now or later, with whether the password or digest is right.

        None: nobody can tell now.
        """
        if self._logins.lets_anybody:
            answer(True)
            return

        def checked(is_right: bool | None) -> None:
            self._end(is_right)
            self._reply(is_right)

        def begin() -> None:
            if isinstance(question, CheckDigest):
                checked(self._logins.check_digest(question))
            else:
                self._cancel = self._logins.check_password(question, self._owner, checked)

        self._begin(begin, answer)

    def find_keys(self, question: FindKeys, answer: Callable[[Found | None], None]) -> None:
        """Call *answer*, now or later, with SCRAM keys and a nonce. The attempt ends with `succeeded`,
        `failed`, or the next one.
        """

        def found(keys: Found | None) -> None:
            if keys is None:
                self._end(None)
            self._reply(keys)

        def begin() -> None:
            self._cancel = self._logins.find_keys(question, self._owner, found)

        self._begin(begin, answer)

    def _begin(self, begin: Callable[[], None], answer: Callable[[Any], None]) -> None:
        self._end(False)  # the client gave up an exchange of SCRAM
        self._answer = answer

        def go_on() -> None:
            self._timer = None
            if self._answer is answer:
                begin()

        def in_turn(seconds: float) -> None:
            if seconds:
                self._timer = self._logins.wait(seconds, go_on)
            else:
                go_on()

        self._attempt = self._logins.attempt(self._peer, in_turn)
        self._logins.start(self._attempt)

    def _reply(self, value: Any) -> None:
        answer, self._answer, self._cancel = self._answer, None, None
        if answer is not None:
            answer(value)

    def _end(self, is_right: bool | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._logins.ended(attempt, is_right)

    def succeeded(self) -> None:
        """Note that the login succeeded."""
        self._end(True)

    def failed(self) -> None:
        """Note that the login failed."""
        self._end(False)

    def leave(self) -> None:
        """End what waits, because the client is gone; the question that waits is answered with None."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cancel is not None:
            self._cancel()
        self._end(False)
        self._reply(None)
