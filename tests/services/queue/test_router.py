"""services/queue/router: the site of each recipient, by domain, by the message's own route, by account."""

import pytest

from mailtools.core.errors import ConfigurationError, TemporaryError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.smtp.route import Route
from mailtools.services.queue.router import Router
from mailtools.services.queue.service import parse_routes
from mailtools.services.queue.sites import SiteTarget
from mailtools.system.dns.resolver import Resolver
from tests.servers import smtp_target

ACCOUNTS = {
    "work": lambda: smtp_target(Route("smtp", "127.0.0.1", 1), timeout=5.0),
    "bare": lambda: smtp_target(Route("mx", port=25)),
}


def router(*texts: str) -> Router:
    default, by_domain = parse_routes(texts, ACCOUNTS)
    return Router(default, by_domain, ACCOUNTS, Resolver("127.0.0.1:1"), 5.0, "here.test")


def envelope(**more: str) -> QueueEnvelope:
    return QueueEnvelope("x", 0.0, "a@a.test", (Recipient("b@b.test"),), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("x@b.test", "smtp://one:25"),
        ("x@B.TEST", "smtp://one:25"),
        ("x@sub.b.test", "smtp://two:25"),
        ("x@very.sub.b.test", "smtp://two:25"),
        ("x@ab.test", "lmtp://rest:24"),
        ("x@[127.0.0.1]", "lmtp://rest:24"),
    ],
)
def test_routes_by_domain(address: str, expected: str) -> None:
    found = router("b.test=smtp://one", "*.b.test=smtp://two", "lmtp://rest").target(envelope(), address)
    assert str(found) == expected


def test_mx_records_are_a_site_for_each_domain() -> None:
    its = router("mx:2525")
    assert its.target(envelope(), "x@B.Test.") == SiteTarget(Route("mx", port=2525), "b.test")


def test_a_message_that_knows_its_way_takes_it() -> None:
    its = router("b.test=smtp://one")
    by_route = its.target(envelope(route="smtp://own:26", tls="starttls"), "x@b.test")
    assert by_route == SiteTarget(Route("smtp", "own", 26), "", "starttls")
    by_mx = its.target(envelope(route="mx:26"), "x@b.test")
    assert by_mx == SiteTarget(Route("mx", port=26), "b.test")
    by_account = its.target(envelope(route="smtp://own", account="work"), "x@b.test")
    assert by_account is not None
    assert by_account.account == "work"
    assert by_route != its.target(envelope(route="smtp://own:26"), "x@b.test"), "TLS is not shared"


def test_an_account_for_everything() -> None:
    target = router("account:work").target(envelope(), "x@b.test")
    assert target is not None
    assert str(target) == "work"
    with pytest.raises(TemporaryError, match="Connection refused"):
        router("account:work").link(target)


@pytest.mark.parametrize(("account", "words"), [("gone", "no account 'gone'"), ("bare", "names no server")])
def test_accounts_that_lead_nowhere_wait(account: str, words: str) -> None:
    with pytest.raises(TemporaryError, match=words):
        router().link(SiteTarget(Route("mx", port=25), account=account))


@pytest.mark.parametrize("text", ["account:gone", "mbox:x", "http://x", "b.test=", "b.test=mbox:/x"])
def test_routes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_routes([text], ACCOUNTS)
