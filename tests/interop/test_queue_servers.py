"""The queue delivers to real servers: Postfix found by its MX record, Dovecot over LMTP, a login under TLS."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.test_send_tls_auth import PASSWORD, Submission, dovecot, postfix
from tests.interop.test_servers import postfix as open_postfix
from tests.nameserver import Nameserver
from tests.servers import Server, mailtools

__all__ = ["dovecot", "open_postfix", "postfix"]  # fixtures

MESSAGE = "From: a@a.test\nTo: bob@localhost\nSubject: queued {}\n\n.\nFrom me\nGrüße\n"


def add(root: Path, number: int, *recipients: str, sender: str = "a@a.test") -> None:
    done = mailtools("queue", "add", "--root", str(root), "-f", sender, *recipients,
                     stdin=MESSAGE.format(number).encode())  # fmt: skip
    assert done.returncode == 0, done.stderr


def run(root: Path, *options: str, config: Path | None = None) -> tuple[int, bytes]:
    where = ("-C", str(config)) if config else ()
    done = mailtools(
        *where, "-v", "queue", "run", "--once", "--root", str(root), "--domain", "a.test", *options
    )
    return done.returncode, done.stderr


@pytest.fixture
def names() -> Iterator[Nameserver]:
    table = {"localhost": {"MX": [(10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.1"]}}
    with Nameserver(table) as server:
        yield server


def test_postfix_by_its_mx_record(tmp_path: Path, open_postfix: tuple[int, Path], names: Nameserver) -> None:
    port, folder = open_postfix
    for number in range(50):
        add(tmp_path, number, "bob@localhost")
    code, said = run(tmp_path, "--route", f"mx:{port}", "--domain", "elsewhere", "--resolver", names.address)
    assert code == 0, said
    assert said.count(b"sent by mx.b.test: 250 2.0.0 Ok: queued as") == 50
    assert (folder / "log").read_text().count("message-id=<") == 50


def test_dovecot_over_lmtp_answers_for_each_recipient(tmp_path: Path, dovecot: Path) -> None:
    for number in range(20):
        add(tmp_path, number, "bob@b.test", "carol@b.test")
    code, said = run(tmp_path, "--route", f"unix:{dovecot / 'lmtp'}")
    assert code == 0, said
    stored = [path.read_bytes() for path in (dovecot / "mail").rglob("inbox") if "b.test" in str(path)]
    assert sum(octets.count(b"\nSubject: queued") for octets in stored) == 40


def test_a_smarthost_with_a_login_under_tls(tmp_path: Path, postfix: Submission) -> None:
    config = tmp_path / "config.toml"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    config.write_text(f"""
        [account.relay]
        host = "localhost"
        port = {postfix.port}
        tls = "starttls"
        cafile = "{postfix.certificate}"
        user = "bob"
        password-file = "{tmp_path / "password"}"
    """)  # fmt: skip
    before = len(postfix.log)
    for number in range(5):
        add(tmp_path, number, "bob@localhost")
    code, said = run(tmp_path, "--route", "account:relay", "--domain", "elsewhere", config=config)
    assert code == 0, said
    log = postfix.log[before:]
    assert "sasl_username=bob" in log
    assert "TLS connection established from localhost" in log
    listed = mailtools("queue", "list", "--json", "--root", str(tmp_path))
    assert [json.loads(line) for line in listed.stdout.splitlines()] == []


def test_postfix_delivers_to_us_and_we_on_to_dovecot(tmp_path: Path, dovecot: Path) -> None:
    """Three servers in a row: a client, our relay, Dovecot."""
    route = f"b.test=unix:{dovecot / 'lmtp'}"
    relay = ("--relay", "--relay-from", "127.0.0.0/8", "--domain", "a.test", "--route", route)
    before = sum(path.read_bytes().count(b"\nSubject: row") for path in (dovecot / "mail").rglob("inbox"))
    with Server(tmp_path / "root", *relay) as server:
        for _ in range(3):
            client = server.connect()
            said = client.deliver(b"Subject: row\r\n\r\nhello\r\n", "bob@b.test", "alice@a.test")
            assert said.startswith(b"250")
            client.close()
    code, said = run(tmp_path / "root", "--route", route)  # what was under way when the server ended
    assert code == 0, said
    after = sum(path.read_bytes().count(b"\nSubject: row") for path in (dovecot / "mail").rglob("inbox"))
    assert after - before == 3
    assert mailtools("mbox", "count", str(server.inbox("alice"))).stdout == b"3\n"
