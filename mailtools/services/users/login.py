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
from mailtools.services.users.throttle import Throttle
from mailtools.system import clock
from mailtools.system.net.listeners import is_local
from mailtools.system.users.checker import Checker
from mailtools.system.users.users_file import Users

_PLAIN = ("PLAIN", "LOGIN")


class LoginRules(NamedTuple):
    """The options of a server about logins."""

    users: Users | None = None
    anybody: bool = False  # any name and password, for development
    in_the_clear: bool = False  # without TLS beyond loopback


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

    def check(
        self, question: CheckPassword | CheckDigest, peer: str, answer: Callable[[bool | None], None]
    ) -> None:
        """Call *answer*, now or later, with whether the password or digest is right."""
        if self._rules.anybody:
            answer(True)
        elif isinstance(question, CheckDigest):
            self._in_turn(peer, lambda: self._check_digest(question, answer))
        else:
            self._in_turn(peer, lambda: self._check_password(question, answer))

    def find_keys(self, question: FindKeys, peer: str, answer: Callable[[Found | None], None]) -> None:
        """Call *answer* later with SCRAM keys and a nonce."""
        self._in_turn(peer, lambda: self._find_keys(question, answer))

    def _in_turn(self, peer: str, begin: Callable[[], None]) -> None:
        """Call *begin* now, or later if too many logins of *peer* failed."""
        wait = self._throttle.attempt(peer, clock.monotonic())
        if wait:
            self._later(wait, begin)
        else:
            begin()

    @property
    def _users(self) -> Users:
        assert self._rules.users is not None  # no mechanism is offered otherwise
        return self._rules.users

    def _find_keys(self, question: FindKeys, answer: Callable[[Found | None], None]) -> None:
        users = self._users
        # Making keys of a password in the clear takes 2 ms, which is too long for the loop.
        self._checker.run(lambda: Found(users.scram_keys(question.name), os.urandom(18).hex()), answer)

    def _check_digest(self, question: CheckDigest, answer: Callable[[bool | None], None]) -> None:
        users = self._users
        entry = users.find(question.name)
        known = entry if entry is not None and entry.scheme == "PLAIN" else None
        expected = passwd.apop_digest(known or users.decoy(question.name), question.banner)
        answer(hmac.compare_digest(expected, question.digest) and known is not None)

    def _check_password(self, question: CheckPassword, answer: Callable[[bool | None], None]) -> None:
        users = self._users
        entry = users.find(question.name)
        is_known = entry is not None and bool(entry.scheme)
        checked = entry if entry is not None and is_known else users.decoy(question.name)
        # A name that does not exist is checked as well: it must take the same time (promise R7).
        self._checker.check(checked, question.password, lambda is_right: answer(is_right and is_known))

    def succeeded(self, peer: str) -> None:
        """Note that a login of *peer* succeeded."""
        self._throttle.succeeded(peer)
