"""Rules of --fault: how they are written, when they act."""

import math
from pathlib import Path

import pytest

from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.reply import Reply
from mailtools.services.delivery.addressing import Addressing
from mailtools.services.smtp_server import service
from mailtools.services.smtp_server.faults import Fault, Faults, parse
from mailtools.services.users.login import LoginRules
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.net.server import Limits, ServerSettings


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rcpt drop", Fault("rcpt", "drop")),
        ("DATA stall times=3", Fault("data", "stall", times=3)),
        ('rcpt to=*@Grey.test reply "451 4.7.1 later on" times=1',
         Fault("rcpt", "reply", to="*@grey.test", reply=Reply(451, "4.7.1", "later on"), times=1)),
        ("mail from=a@* reply 550", Fault("mail", "reply", sender="a@*", reply=Reply(550, "", "As told"))),
        ("eod reply '421 bye' p=.5", Fault("eod", "reply", reply=Reply(421, "", "bye"), probability=0.5)),
        ("connect delay 1.5s every=2", Fault("connect", "delay", delay=1.5, every=2)),
        ("quit delay 100ms", Fault("quit", "delay", delay=0.1)),
    ],
)  # fmt: skip
def test_rules(text: str, fault: Fault) -> None:
    assert parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "", "rcpt", "nowhere drop", "rcpt jump", "rcpt drop stall", "rcpt reply", "rcpt reply 99", "rcpt reply '600 x'",
        "rcpt reply '350 x'", "rcpt reply '250 ok'", "rcpt delay", "rcpt delay soon", "rcpt drop times=0", "rcpt drop times=-1",
        "rcpt drop every=x", "rcpt drop p=2", "rcpt drop p=", "rcpt drop what=1", "rcpt 'drop", "to=x drop", "rcpt drop times=٣",
        "rcpt delay " + "9" * 400 + "s", "rcpt drop times=" + "9" * 5000, "rcpt reply '451 a\rb'",
    ],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


def acts(
    rules: list[str], *, seed: int = 1, stage: str = "rcpt", to: str = "b@x", count: int = 10
) -> list[bool]:
    faults = Faults([parse(rule) for rule in rules], seed)
    return [faults.choose(stage, "a@x", [to]) is not None for _ in range(count)]


def test_times_and_every() -> None:
    assert acts(["rcpt drop times=2"]) == [True, True] + [False] * 8
    assert acts(["rcpt drop every=3"]) == [False, False, True] * 3 + [False]
    assert acts(["rcpt drop every=3 times=1"]) == [False, False, True] + [False] * 7


def test_who_is_meant() -> None:
    assert all(acts(["rcpt to=*@X drop"]))
    assert not any(acts(["rcpt to=*@y drop"]))
    assert not any(acts(["rcpt drop"], stage="mail"))
    assert not any(acts(["rcpt from=b@* drop"]))
    faults = Faults([parse("eod to=c@* drop")])
    assert faults.choose("eod", "a@x", ["b@x", "c@x"]) is not None
    assert faults.choose("connect", "", []) is None


def test_chances_are_the_same_with_a_seed() -> None:
    first, again, other = (acts(["rcpt drop p=0.5"], seed=seed, count=100) for seed in (1, 1, 2))
    assert first == again != other
    assert 25 < sum(first) < 75
    assert not any(acts(["rcpt drop p=0"]))
    assert all(acts(["rcpt drop p=1"]))


def test_the_first_that_fits_acts() -> None:
    faults = Faults([parse("rcpt to=b@* reply '450 one' times=1"), parse("rcpt reply '550 two'")])
    codes = [
        fault.reply.code for _ in range(3) if (fault := faults.choose("rcpt", "", ["b@x"])) and fault.reply
    ]
    assert codes == [450, 550, 550]


@pytest.mark.parametrize("rules", [[], ["data stall"]])
def test_a_stall_is_not_ended_by_the_bound_of_our_own_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: list[str]
) -> None:
    told: list[ServerSettings] = []
    monkeypatch.setattr(
        service, "serve", lambda name, sockets, prepare, settings, ready: told.append(settings)
    )
    smtp = service.SmtpService(
        SmtpOffer("test"), Addressing(MailRoot(str(tmp_path))), LoginRules(None),
        faults=[parse(rule) for rule in rules],
    )  # fmt: skip
    service.run(smtp, [], ServerSettings(Limits()), lambda stop: None)
    assert (told[0].limits.silence == math.inf) is bool(rules)
