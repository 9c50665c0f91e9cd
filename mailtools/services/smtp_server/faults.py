"""``--fault``: make the server misbehave by rules, to test how clients retry.

A rule is ``STAGE [to=GLOB] [from=GLOB] ACTION [times=N] [every=N] [p=0.1]``. The first rule that matches a
stage acts; with a seed, the same session gets the same answers every time. `FaultySession` wraps a session
and passes on every event for which no rule acts. Knows no socket.
"""

import random
import re
import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from mailtools.core.smtp import events
from mailtools.core.smtp.events import Event
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.services.smtp_server.session import ReceiveSession

_STAGES: dict[type, str] = {
    events.Connected: "connect",
    events.Hello: "ehlo",
    events.MailFrom: "mail",
    events.RcptTo: "rcpt",
    events.MessageStart: "data",
    events.MessageEnd: "eod",
    events.Quit: "quit",
}
STAGES = tuple(_STAGES.values())
_REPLY = re.compile(r"([45][0-9]{2})(?: ([45]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: ([^\x00-\x1f\x7f]+))?")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Fault(NamedTuple):
    """One rule of ``--fault``."""

    stage: str
    action: str  # reply, delay, drop, stall
    to: str = ""
    sender: str = ""
    reply: Reply | None = None
    delay: float = 0.0  # seconds
    times: int = 0  # acts at most this often; 0: no limit
    every: int = 1  # acts on every Nth match only
    probability: float = 1.0  # of acting on a match


def parse(text: str) -> Fault:
    """Parse one rule. Raises ValueError with a sentence for the user."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if not words or words[0].lower() not in STAGES:
        raise ValueError(f"{text!r}: begins with a stage: {', '.join(STAGES)}")
    found: dict[str, Any] = {"stage": words[0].lower()}
    rest = iter(words[1:])
    for word in rest:
        key, equals, value = word.partition("=")
        if equals:
            found.update(_option(key, value))
        elif "action" in found:
            raise ValueError(f"{text!r}: one action only")
        else:
            found.update(_action(word, rest))
    if "action" not in found:
        raise ValueError(f"{text!r}: no action: reply 'CODE TEXT', delay DUR, drop or stall")
    return Fault(**found)


def _option(key: str, value: str) -> dict[str, Any]:
    if key == "to":
        return {"to": value.lower()}
    if key == "from":
        return {"sender": value.lower()}
    if key in ("times", "every") and _COUNT.fullmatch(value):
        return {key: int(value)}
    if key == "p" and re.fullmatch(r"0?\.[0-9]+|[01](\.0*)?", value):
        return {"probability": float(value)}
    raise ValueError(f"{key}={value}: not to= from= times=N every=N p=0.1")


def _action(word: str, rest: Any) -> dict[str, Any]:
    if word in ("drop", "stall"):
        return {"action": word}
    argument = next(rest, "")
    if word == "reply" and (match := _REPLY.fullmatch(argument)):
        return {"action": word, "reply": Reply(int(match[1]), match[2] or "", match[3] or "As told")}
    if word == "delay" and (match := _DURATION.fullmatch(argument)):
        return {"action": word, "delay": float(match[1]) * _SECONDS[match[2] or "s"]}
    raise ValueError(f"{word} {argument}: not reply 'CODE TEXT', delay DUR, drop or stall")


class Faults:
    """All rules of a server, and how often each has matched and acted."""

    def __init__(self, rules: Sequence[Fault], seed: int | None = None) -> None:
        self._rules = rules
        self._fitted = [0] * len(rules)
        self._acted = [0] * len(rules)
        self._random = random.Random(seed)

    def choose(self, stage: str, sender: str, recipients: Sequence[str]) -> Fault | None:
        """Return the rule that acts at *stage* (see STAGES), or None; count the match."""
        for number, rule in enumerate(self._rules):
            if rule.stage != stage or not _fits(rule, sender, recipients):
                continue
            if rule.times and self._acted[number] >= rule.times:
                continue
            self._fitted[number] += 1
            if self._fitted[number] % rule.every:
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            self._acted[number] += 1
            return rule
        return None


def _fits(rule: Fault, sender: str, recipients: Sequence[str]) -> bool:
    if rule.sender and not fnmatchcase(sender.lower(), rule.sender):
        return False
    return not rule.to or any(fnmatchcase(recipient.lower(), rule.to) for recipient in recipients)


class World(NamedTuple):
    """The connection's calls that a faulty session needs: delay (seconds), resume, drop."""

    later: Callable[[float, Callable[[], None]], Any]
    resume: Callable[[], None]
    drop: Callable[[], None]


class FaultySession:
    """Applies the rules to each event before the session sees it."""

    def __init__(
        self, session: ReceiveSession, engine: SmtpServerEngine, faults: Faults, world: World
    ) -> None:
        self._session = session
        self._engine = engine
        self._faults = faults
        self._world = world
        self._sender = ""
        self._recipients: list[str] = []

    def handle(self, event: Event) -> None:
        """Act on *event* by the first rule that matches; else pass it to the session."""
        stage = _STAGES.get(type(event))
        if isinstance(event, events.MailFrom):
            self._sender, self._recipients = event.reverse_path, []
        recipients = self._recipients
        if isinstance(event, events.RcptTo):
            recipients = [event.recipient]
            self._recipients.append(event.recipient)
        fault = self._faults.choose(stage, self._sender, recipients) if stage else None
        if fault is None:
            self._session.handle(event)
        else:
            self._act(fault, event)

    def lost(self) -> None:
        """Pass on that the client is gone."""
        self._session.lost()

    def _act(self, fault: Fault, event: Event) -> None:
        if fault.action == "delay":
            self._world.later(fault.delay, lambda: self._go_on(event))
            return
        if isinstance(event, events.MessageEnd):
            self._session.handle(events.MessageAborted("a fault, as told"))
        if fault.action == "drop":
            self._world.drop()
        elif fault.action == "stall":
            self._engine.abandon()
        elif fault.reply is not None:
            self._reply(event, fault.reply)

    def _reply(self, event: Event, reply: Reply) -> None:
        engine = self._engine
        if isinstance(event, events.Connected | events.MailFrom | events.RcptTo):
            engine.answer(event, reply)
        elif isinstance(event, events.MessageEnd):
            engine.answer(event, [reply] * (len(engine.accepted) if engine.offer.lmtp else 1))
        elif isinstance(event, events.Hello | events.MessageStart | events.Quit):
            engine.answer(event, reply)

    def _go_on(self, event: Event) -> None:
        if not self._engine.is_closed:
            self._session.handle(event)
            self._world.resume()
