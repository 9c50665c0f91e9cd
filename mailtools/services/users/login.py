"""Who may log in, and how: mechanisms on offer, passwords checked, guessing slowed.

One `Logins` a server, for whichever protocol it speaks; the protocol's session hands it the engine's
questions and is called back with the answer. Knows no reply.
"""

import hmac
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mailtools.core.auth import passwd
from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, Found
from mailtools.services.users.throttle import Guard
from mailtools.system import clock
from mailtools.system.net.listeners import is_local
from mailtools.system.users.checker import Checker
from mailtools.system.users.users_file import Users

_PLAIN = ("PLAIN", "LOGIN")

Question = CheckPassword | CheckDigest | FindKeys


class LoginRules(NamedTuple):
    """What an operator says of logging in."""

    users: Users | None = None
    anybody: bool = False  # any name and password, for development
    in_the_clear: bool = False  # without TLS beyond loopback


class Logins:
    """One server's logins. *later*: run a callback after so many seconds."""

    def __init__(
        self, rules: LoginRules, checker: Checker, later: Callable[[float, Callable[[], None]], Any]
    ) -> None:
        self._rules = rules
        self._checker = checker
        self._later = later
        self._guard = Guard()

    def mechanisms(self, peer: str, is_secure: bool, has_bindings: bool) -> tuple[str, ...]:
        """The SASL mechanisms for this client now, the best first; () where it must not log in."""
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
        """True where APOP can be offered."""
        users = self._rules.users
        return not self._rules.anybody and users is not None and users.have_plain

    def decide(self, question: Question, peer: str, answer: Callable[[bool | Found | None], None]) -> None:
        """Call *answer*, now or later, with what the engine wants to know."""
        if self._rules.anybody:
            answer(True)
            return
        wait = self._guard.attempt(peer, clock.monotonic())
        if wait:
            self._later(wait, lambda: self._decide(question, answer))
        else:
            self._decide(question, answer)

    def _decide(self, question: Question, answer: Callable[[bool | Found | None], None]) -> None:
        users = self._rules.users
        assert users is not None
        if isinstance(question, FindKeys):
            # Keys that are made of a password in the clear take 2 ms, too long for the loop.
            self._checker.run(lambda: Found(users.scram_keys(question.name), os.urandom(18).hex()), answer)
            return
        entry = users.find(question.name)
        if isinstance(question, CheckDigest):
            known = entry if entry is not None and entry.scheme == "PLAIN" else None
            expected = passwd.apop_digest(known or users.decoy(question.name), question.banner)
            answer(hmac.compare_digest(expected, question.digest) and known is not None)
            return
        is_known = entry is not None and bool(entry.scheme)
        checked = entry if entry is not None and is_known else users.decoy(question.name)
        # Not `is_right and is_known` alone: the time has to be the same as well (promise R7).
        self._checker.check(checked, question.password, lambda is_right: answer(is_right and is_known))

    def succeeded(self, peer: str) -> None:
        """A login of *peer* was right."""
        self._guard.succeeded(peer)
