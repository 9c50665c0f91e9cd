"""serve-smtp --relay: mail for others, from those who may; from nobody else, however it is written."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.system.spool.spool import Spool
from tests.servers import Server, eventually, mailtools
from tests.sinks import Sink

MESSAGE = b"Subject: relayed\r\n\r\nhello\r\n"
STRANGE = [  # RFC 5321 Appendix F.2, and what came after it
    "x@other.test", "x%other.test@here.test", "other.test!x@here.test", "@here.test:x@other.test",
    "@here.test,@other.test:x@other.test", '"x@other.test"@here.test', '"x%other.test"', "x@other.test@here.test",
    "x@[127.0.0.1]", "x@[127.0.0.2]", "x@[IPv6:::1]", "x@here.test.other.test", "x@OTHER.test.", "x%other.test",
    "here.test!x@other.test", "x@here.test%other.test", "<x@other.test>", "x@", "@other.test",
]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Server]:
    """A server with users, that relays for those who log in and delivers nothing yet."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "users").write_text("alice:{PLAIN}secret\nbob:{PLAIN}secret\n")
    with Server(root, "--domain", "here.test", "--relay", "--no-deliver") as server:
        yield server


def waiting(server: Server) -> list[tuple[str, ...]]:
    """The recipients of each message in the queue."""
    found = Spool(str(server.root / ".spool")).query()
    return sorted(tuple(r.address for r in one.entry.envelope.recipients) for one in found)


def login(client) -> None:
    assert client.reply().startswith(b"220")
    assert client.ask("EHLO test").startswith(b"250")
    plain = base64.b64encode(b"\0alice\0secret").decode()
    assert client.ask(f"AUTH PLAIN {plain}").startswith(b"235")


@pytest.mark.parametrize("address", STRANGE)
def test_a_stranger_relays_nothing(site: Server, address: str) -> None:
    client = site.connect()
    client.reply()
    client.ask("EHLO test")
    for sender in ("", "alice@here.test", "x@other.test"):
        assert client.ask(f"MAIL FROM:<{sender}>").startswith(b"250")
        assert client.ask(f"RCPT TO:<{address}>").startswith((b"550", b"553", b"501")), address
        client.ask("RSET")
    client.close()
    assert waiting(site) == []


def test_who_logged_in_relays(site: Server) -> None:
    client = site.connect()
    login(client)
    client.ask("MAIL FROM:<alice@here.test>")
    assert client.ask("RCPT TO:<x@other.test>").startswith(b"250")
    assert client.ask("RCPT TO:<y@third.test>").startswith(b"250")
    assert client.ask("RCPT TO:<bob@here.test>").startswith(b"250")
    assert client.ask("RCPT TO:<nobody@here.test>").startswith(b"550 5.1.1")
    assert client.ask("DATA").startswith(b"354")
    client.say(MESSAGE + b".\r\n")
    assert client.reply().startswith(b"250")
    client.close()
    assert waiting(site) == [("x@other.test", "y@third.test")], "one entry for all that are elsewhere"
    assert mailtools("mbox", "count", str(site.inbox("bob"))).stdout == b"1\n"


def test_a_login_that_failed_relays_nothing(site: Server) -> None:
    client = site.connect()
    client.reply()
    client.ask("EHLO test")
    wrong = base64.b64encode(b"\0alice\0wrong").decode()
    assert client.ask(f"AUTH PLAIN {wrong}").startswith(b"535")
    client.ask("MAIL FROM:<alice@here.test>")
    assert client.ask("RCPT TO:<x@other.test>").startswith(b"550 5.7.1")
    client.close()


@pytest.mark.parametrize(
    ("net", "answer"), [("127.0.0.0/8", b"250"), ("192.0.2.0/24", b"550 5.7.1"), ("::/0", b"550")]
)
def test_networks(tmp_path: Path, net: str, answer: bytes) -> None:
    with Server(
        tmp_path / "root", "--domain", "here.test", "--relay", "--relay-from", net, "--no-deliver"
    ) as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO test")
        client.ask("MAIL FROM:<alice@here.test>")
        assert client.ask("RCPT TO:<x@other.test>").startswith(answer)
        client.close()


def test_aliases_lead_to_other_servers(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("team: bob, carol@other.test\n")
    with Sink() as sink, Server(tmp_path / "root", "--domain", "here.test", "--relay", "--route", sink.route,
                                "--aliases", str(tmp_path / "aliases")) as server:  # fmt: skip
        assert server.connect().deliver(MESSAGE, "team@here.test").startswith(b"250")
        eventually(lambda: sink.taken, "the copy")
        assert [recipients for _, recipients, _ in sink.taken] == [("carol@other.test",)]
        assert mailtools("mbox", "count", str(server.inbox("bob"))).stdout == b"1\n"


def test_what_is_accepted_goes_out_with_its_trace_and_dsn_wishes(tmp_path: Path) -> None:
    with Sink() as sink, Server(tmp_path / "root", "--domain", "here.test", "--relay", "--relay-from", "127.0.0.1",
                                "--route", sink.route) as server:  # fmt: skip
        client = server.connect()
        client.reply()
        client.ask("EHLO test")
        client.ask("MAIL FROM:<alice@here.test> RET=HDRS ENVID=abc")
        assert client.ask("RCPT TO:<x@other.test> NOTIFY=NEVER").startswith(b"250")
        client.ask("DATA")
        client.say(b"Subject: relayed\r\n\r\n..dot\r\nFrom here\r\n.\r\n")
        assert client.reply().startswith(b"250")
        client.close()
        eventually(lambda: sink.taken, "the message")
    (octets,) = [octets for _, _, octets in sink.taken]
    assert octets.startswith(b"Received: from test ([127.0.0.1])\r\n")
    assert octets.endswith(b"Subject: relayed\r\n\r\n.dot\r\nFrom here\r\n")


def test_wrong_usage(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path), "--port", "0", "--total-timeout", "1s")
    assert mailtools("serve-smtp", *root, "--relay-from", "127.0.0.1").returncode == 64
    done = mailtools("serve-smtp", *root, "--relay", "--relay-from", "127.0.0.1/33")
    assert (done.returncode, b"--relay-from" in done.stderr) == (78, True)
    assert mailtools("serve-smtp", *root, "--relay", "--route", "http://x").returncode == 78


def forwarding(tmp_path: Path, *aliases: str) -> Server:
    root = tmp_path / "root"
    root.mkdir()
    (root / "users").write_text("bob:{PLAIN}secret\n")
    (tmp_path / "aliases").write_text("".join(f"{alias}\n" for alias in aliases))
    options = ("--domain", "here.test", "--relay", "--no-deliver", "--aliases", str(tmp_path / "aliases"))
    return Server(root, *options)


def test_a_message_that_the_queue_cannot_keep_is_refused_before_it_is_accepted(tmp_path: Path) -> None:
    """A NUL from a stranger, to an alias that forwards: SMTP cannot carry it (RFC 5321 §4.5.2)."""
    with forwarding(tmp_path, "away: x@other.test") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO test")
        for body, code in ((b"nul \0 here\r\n", b"554 5.6.0"), (b"fine\r\n", b"250")):
            assert client.ask("MAIL FROM:<stranger@x.test>").startswith(b"250")
            assert client.ask("RCPT TO:<away@here.test>").startswith(b"250")
            assert client.ask("DATA").startswith(b"354")
            client.say(b"Subject: x\r\n\r\n" + body + b".\r\n")
            assert client.reply().startswith(code)
        client.close()
        assert waiting(server) == [("x@other.test",)]
        assert not list((server.root / ".spool" / "bad").iterdir())


@pytest.mark.parametrize(
    ("target", "recipient"),
    [
        ("Admin <admin@elsewhere.test>", "admin@elsewhere.test"),
        ("<a@b.test>", "a@b.test"),
        ('"Smith, Bob" <bob@b.test> (home)', "bob@b.test"),
        ('"a<b"@x.test', '"a<b"@x.test'),
    ],
)
def test_an_alias_forwards_to_a_mailbox_with_a_display_name(
    tmp_path: Path, target: str, recipient: str
) -> None:
    with forwarding(tmp_path, f"away: {target}") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO test")
        client.ask("MAIL FROM:<stranger@x.test>")
        assert client.ask("RCPT TO:<away@here.test>").startswith(b"250")
        client.ask("DATA")
        client.say(MESSAGE + b".\r\n")
        assert client.reply().startswith(b"250")
        client.close()
        assert waiting(server) == [(recipient,)]


@pytest.mark.parametrize("target", ["zoe q@x.test", "bob, <a@x.test> <b@x.test>", "a..b@x.test", "a@[<x>]"])
def test_mail_for_an_alias_with_a_bad_target_is_refused_for_now(tmp_path: Path, target: str) -> None:
    with forwarding(tmp_path, "good: bob", f"away: {target}") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO test")
        client.ask("MAIL FROM:<stranger@x.test>")
        assert client.ask("RCPT TO:<away@here.test>").startswith(b"451 4.3.5")
        assert client.ask("RCPT TO:<good@here.test>").startswith(b"250")
        client.close()
    assert f"{tmp_path}/aliases: line 2: away: " in server.logged


def test_parameters_that_rcpt_accepts_can_be_read_back(site: Server) -> None:
    client = site.connect()
    login(client)
    long = "rfc822;" + "+41" * 500
    assert client.ask(f"MAIL FROM:<alice@here.test> ENVID={'+41' * 100} SMTPUTF8").startswith(b"250")
    assert client.ask(f"RCPT TO:<a@other.test> ORCPT={long}").startswith(b"250")
    assert client.ask("RCPT TO:<b@other.test> ORCPT=utf-8;ü@x").startswith(b"250")
    assert client.ask('RCPT TO:<"a<b"@other.test>').startswith(b"250")
    assert client.ask("DATA").startswith(b"354")
    client.say(MESSAGE + b".\r\n")
    assert client.reply().startswith(b"250")
    client.close()
    assert waiting(site) == [("a@other.test", "b@other.test", '"a<b"@other.test')]
