"""services/submission/next_hop: which way a message goes, and why."""

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.services.submission.next_hop import Account, HopSettings, choose

NOTHING = HopSettings()
WORK = Account(
    "work", ("alice@work.example", "*@work.example"), HopSettings(host="mx.work.example", user="alice")
)
HOME = Account("home", ("*@*.example", "bob@home.example"), HopSettings(route="smtps://home.example"))
BOTH = {"work": WORK, "home": HOME}


@pytest.mark.parametrize(
    ("sender", "name", "why"),
    [
        ("alice@work.example", "work", "alice@work.example"),
        ("carol@work.example", "work", "*@work.example"),
        ("carol@WORK.example", "work", "*@work.example"),
        ("bob@home.example", "home", "bob@home.example"),
        ("x@other.org", "", "no account is for"),
        ("x@deep.other.example", "home", "*@*.example"),
        ("", "", "no account is for"),
    ],
)
def test_the_account_whose_from_fits_best(sender: str, name: str, why: str) -> None:
    hop = choose(NOTHING, "", BOTH, sender)
    assert hop.account == name
    assert why in hop.why
    assert str(hop.route) == {"work": "smtp://mx.work.example:587", "home": "smtps://home.example:465"}.get(
        name, "mx:"
    )


def test_the_only_account_is_for_everybody() -> None:
    assert choose(NOTHING, "", {"work": WORK}, "x@y.example").account == "work"


def test_what_the_command_line_says_goes_first() -> None:
    assert choose(HopSettings(host="h"), "work", BOTH, "alice@work.example").account == ""
    assert str(choose(HopSettings(route="unix:/s"), "", BOTH, "").route) == "unix:/s"
    hop = choose(HopSettings(tls="implicit", user="carol"), "work", BOTH, "")
    assert (hop.account, hop.connection.user, str(hop.route)) == (
        "work",
        "carol",
        "smtps://mx.work.example:465",
    )


def test_an_unknown_account() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'work'"):
        choose(NOTHING, "wrok", BOTH, "")


@pytest.mark.parametrize(
    ("connection", "tls", "route"),
    [
        (HopSettings(host="h"), "opportunistic", "smtp://h:25"),
        (HopSettings(host="h", user="u"), "starttls", "smtp://h:587"),
        (HopSettings(host="127.0.0.1", user="u"), "opportunistic", "smtp://127.0.0.1:587"),
        (HopSettings(host="h", tls="implicit"), "implicit", "smtps://h:465"),
        (HopSettings(host="h", port=26, tls="off"), "off", "smtp://h:26"),
        (HopSettings(route="smtps://h"), "implicit", "smtps://h:465"),
        (HopSettings(route="lmtp://h", user="u"), "starttls", "lmtp://h:24"),
        (HopSettings(host="127.0.0.1", cafile="ca.pem"), "starttls", "smtp://127.0.0.1:25"),
        (HopSettings(host="127.0.0.1", fingerprint="SHA256:00"), "starttls", "smtp://127.0.0.1:25"),
        (HopSettings(), "opportunistic", "mx:"),
    ],
)
def test_tls_and_ports_where_nothing_is_said(connection: HopSettings, tls: str, route: str) -> None:
    hop = choose(connection, "", {}, "")
    assert (hop.tls, str(hop.route)) == (tls, route)


def test_the_address_an_account_writes_as() -> None:
    assert WORK.address == "alice@work.example"
    assert Account("x", ("*@a", "?@b"), NOTHING).address == ""
