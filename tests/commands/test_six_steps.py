"""The six steps: A composes, it lies in A's queue, A's server calls B's and sends, B's stores it, B reads it."""

import json
import socket
from pathlib import Path

from tests.nameserver import Nameserver
from tests.servers import Server, eventually, mailtools

ALICE = ("--from", "alice@a.test", "-s", "Grüße aus A", "bob@b.test")
RELAY = ("--domain", "a.test", "--relay", "--relay-from", "127.0.0.0/8")


def world() -> Nameserver:
    return Nameserver({
        "a.test": {"MX": [(10, "mx.a.test")]}, "mx.a.test": {"A": ["127.0.0.2"]},
        "b.test": {"MX": [(20, "backup.b.test"), (10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.3"]},
    })  # fmt: skip


def test_from_a_to_b_step_by_step(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    with world() as names, Server(b, "--domain", "b.test", host="127.0.0.3") as server_b:
        leaving = ("--route", f"mx:{server_b.port}", "--resolver", names.address)
        with Server(a, *RELAY, "--no-deliver", host="127.0.0.2") as server_a:
            to_a = ("--host", "127.0.0.2", "--port", str(server_a.port))
            sent = mailtools("send", *to_a, *ALICE, stdin="Schöne Grüße,\nA\n".encode())
            assert sent.returncode == 0, sent.stderr
        assert sent.stdout.split(b"\t")[:3] == [b"sent", b"bob@b.test", b"250"]

        listed = mailtools("queue", "list", "--json", "--root", str(a))
        (waiting,) = [json.loads(line) for line in listed.stdout.splitlines()]
        assert waiting["sender"] == "alice@a.test"
        assert [recipient["address"] for recipient in waiting["recipients"]] == ["bob@b.test"]
        assert waiting["queue_name"] == "incoming"
        assert not (b / "bob").exists()

        ran = mailtools("-v", "queue", "run", "--once", "--root", str(a), *leaving)
        assert ran.returncode == 0, ran.stderr
        assert b"<bob@b.test> sent by mx.b.test: 250 2.0.0" in ran.stderr

    shown = mailtools("mbox", "show", str(b / "bob" / "INBOX.mbox"), "1")
    assert "Grüße aus A" in shown.stdout.decode()
    assert "Schöne Grüße," in shown.stdout.decode()
    assert mailtools("queue", "list", "--root", str(a)).stdout == b""


def test_from_a_to_b_and_back_by_servers_alone(tmp_path: Path) -> None:
    """A's server delivers by itself; what B does not want comes back to A as a notice."""
    a, b = tmp_path / "a", tmp_path / "b"
    b.mkdir()
    (b / "users").write_text("bob:{PLAIN}secret\n")
    with world() as names, Server(b, "--domain", "b.test", host="127.0.0.3") as server_b:
        leaving = ("--route", f"mx:{server_b.port}", "--resolver", names.address)
        with Server(a, *RELAY, *leaving, host="127.0.0.2") as server_a:
            to_a = ("--host", "127.0.0.2", "--port", str(server_a.port))
            assert mailtools("send", *to_a, *ALICE, "nobody@b.test", stdin=b"hello\n").returncode == 0
            eventually((b / "bob" / "INBOX.mbox").exists, "mail for bob")
            eventually((a / "alice" / "INBOX.mbox").exists, "a notice for alice")
    assert mailtools("mbox", "count", str(b / "bob" / "INBOX.mbox")).stdout == b"1\n"
    notice = mailtools("mbox", "show", "--raw", str(a / "alice" / "INBOX.mbox"), "1").stdout
    assert b"Final-Recipient: rfc822; nobody@b.test" in notice
    assert b"Status: 5.1.1" in notice
    assert (
        b"bob@b.test" not in notice.partition(b"message/delivery-status")[2].partition(b"message/rfc822")[0]
    )
    assert mailtools("queue", "list", "--root", str(a)).stdout == b""


def test_a_server_never_relays_to_itself(tmp_path: Path) -> None:
    """The MX of the domain leads to the relaying server: by its address, and by one of the same machine."""
    table = {name: {"MX": [(10, f"mx.{name}")]} for name in ("self.test", "near.test")} | {
        "mx.self.test": {"A": ["127.0.0.1"]},
        "mx.near.test": {"AAAA": ["::ffff:127.0.0.1"]},
    }
    with Nameserver(table) as names, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        leaving = ("--route", f"mx:{port}", "--resolver", names.address)
        number = listener.fileno()
        with Server(tmp_path, *RELAY, *leaving, "--listen", f"fd:{number}", pass_fds=(number,)):
            mail = ("--from", "alice@a.test", "-s", "x", "bob@self.test", "bob@near.test")
            sent = mailtools("send", "--host", "127.0.0.1", "--port", str(port), *mail, stdin=b"hello\n")
            assert sent.returncode == 0, sent.stderr
            eventually((tmp_path / "alice" / "INBOX.mbox").exists, "a notice for alice")
            eventually(
                lambda: not mailtools("queue", "list", "--root", str(tmp_path)).stdout, "an empty queue"
            )
    notices = mailtools("mbox", "cat", str(tmp_path / "alice" / "INBOX.mbox")).stdout
    assert notices.count(b"\nStatus: 5.4.6\n") == 2
    assert b"loops back to myself" in notices
    assert notices.count(b"Received: from") <= 2  # of `send`, in what the notices return
