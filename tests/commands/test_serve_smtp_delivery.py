"""`mailtools serve-smtp`: aliases, filters, LMTP, large envelopes, faults, from outside."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from mailtools.core.mbox import scan
from tests.servers import DEADLINE, Dialogue, Server, eventually, mailtools

MESSAGE = b"Subject: x\r\n\r\nFrom me\r\n..dot\r\n"


def house(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "users").write_text("".join(f"{name}:\n" for name in names))
    return root


def messages(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [record.message().decode() for record in scan.records(file.read)]


def deliver(server: Server, *recipients: str, message: bytes = MESSAGE) -> bytes:
    client = server.connect()
    reply = client.deliver(message, *recipients)
    client.ask("QUIT")
    client.close()
    return reply


# -- where mail goes -----------------------------------------------------------------------------------------


def test_aliases_into_files_and_programs(tmp_path: Path, open_folder: Path) -> None:
    root = house(tmp_path / "root", "bob")
    (tmp_path / "aliases").write_text(
        f'all: bob, {tmp_path}/archive.mbox, |cat >{open_folder}/piped; echo "$SENDER $RECIPIENT" >>{open_folder}/piped\n'
        "later: |exit 75\nnever: |exit 1\nnull: /dev/null\nboth: bob, |exit 75\n"
    )
    with Server(root, "--aliases", str(tmp_path / "aliases"), "--alias-commands") as server:
        assert deliver(server, "all@localhost").startswith(b"250")
        assert deliver(server, "null@localhost").startswith(b"250")
        assert deliver(server, "later@localhost").startswith(b"451 4.3.0")
        assert deliver(server, "never@localhost").startswith(b"554 5.3.0")
        assert deliver(server, "both@localhost").startswith(b"451 4.3.0")
    (message,) = messages(tmp_path / "archive.mbox")
    assert message.endswith("Subject: x\n\nFrom me\n.dot\n")
    assert messages(server.inbox("bob"))[0] == message
    assert (open_folder / "piped").read_text() == message + "a@example.org all@localhost\n"


def test_what_a_peer_says_is_never_run(tmp_path: Path, open_folder: Path) -> None:
    """Addresses as values, whatever they hold (CVE-2019-10149's kin)."""
    root = tmp_path / "root"
    (tmp_path / "aliases").write_text(f"sh: |printf '%s' \"$SENDER\" >{open_folder}/sender\n")
    sender = f'"$(touch {open_folder}/run)`id`;|&"@x.test'
    with Server(root, "--aliases", str(tmp_path / "aliases"), "--alias-commands") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO x")
        assert client.ask(f"MAIL FROM:<{sender}>").startswith(b"250")
        assert client.ask("RCPT TO:<sh@localhost>").startswith(b"250")
        client.ask("DATA")
        client.say(b"Subject: $(id)\r\n.\r\n")
        assert client.reply().startswith(b"250")
        client.ask("QUIT")
    assert (open_folder / "sender").read_text() == sender
    assert not (open_folder / "run").exists()


def test_a_thousand_recipients_and_not_one_more(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--plus-delimiter", "+") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO x")
        client.ask("MAIL FROM:<>")
        client.say(b"".join(b"RCPT TO:<u%d+%d@x>\r\n" % (n % 10, n) for n in range(1001)))
        replies = [client.reply() for _ in range(1001)]
        assert {reply[:3] for reply in replies[:1000]} == {b"250"}
        assert replies[1000].startswith(b"452 4.5.3")
        client.ask("DATA")
        client.say(b"Subject: x\r\n.\r\n")
        assert client.reply().startswith(b"250")
        client.ask("QUIT")
    for number in range(10):
        (message,) = messages(server.inbox(f"u{number}"))
        assert message.count("Delivered-To: ") == 100


def test_a_mail_loop_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        hop = b"Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
        assert deliver(server, "bob@x", message=hop * 100 + b"\r\nHi\r\n").startswith(b"250")
        assert deliver(server, "bob@x", message=hop * 101 + b"\r\nHi\r\n").startswith(b"554 5.4.6")
        quoted = b"Subject: x\r\n\r\n" + b"Received: text\r\n" * 500
        assert deliver(server, "bob@x", message=quoted).startswith(b"250"), "a body counts nothing"
    assert len(messages(server.inbox("bob"))) == 2


def test_bdat_octet_for_octet_and_large(tmp_path: Path) -> None:
    body = b"Subject: x\r\n\r\n" + b".\r\nFrom x\r\n" * 60_000
    with Server(tmp_path / "root") as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO x")
        client.say(b"MAIL FROM:<>\r\nRCPT TO:<bob@x>\r\n")
        assert client.reply()[:3] == client.reply()[:3] == b"250"
        for at in range(0, len(body), 70_001):
            piece = body[at : at + 70_001]
            last = b" LAST" if at + 70_001 >= len(body) else b""
            client.say(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
            assert client.reply().startswith(b"250")
        client.ask("QUIT")
    (message,) = messages(server.inbox("bob"))
    assert message.endswith(body.replace(b"\r\n", b"\n").decode())


def test_the_envelope_is_told_whole(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--to-stdout", "json", stdout=-1) as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO x")
        client.ask("MAIL FROM:<a@x> RET=HDRS ENVID=QQ+2B1 BODY=8BITMIME")
        client.ask("RCPT TO:<bob@x> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@x")
        client.ask("RCPT TO:<ann@x>")
        client.ask("DATA")
        client.say(MESSAGE + b".\r\n")
        client.reply()
        client.ask("QUIT")
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.readline())
    assert told["recipients"] == ["bob@x", "ann@x"]
    assert (told["ret"], told["envid"], told["body"], told["protocol"]) == (
        "HDRS",
        "QQ+2B1",
        "8BITMIME",
        "ESMTP",
    )
    assert told["notify"] == {"bob@x": "SUCCESS,DELAY"}
    assert told["orcpt"] == {"bob@x": "rfc822;Bob@x"}


# -- LMTP ----------------------------------------------------------------------------------------------------


def test_lmtp_over_a_unix_socket_answers_for_each(tmp_path: Path) -> None:
    root = house(tmp_path / "root", "bob", "ann", "eve")
    (root / "ann").mkdir()
    (root / "ann" / "INBOX.mbox").mkdir()  # cannot be written
    path = tmp_path / "lmtp"
    with Server(root, "--lmtp", "--listen", f"unix:{path}", "--listen", "127.0.0.1:0") as server:
        assert os.stat(path).st_mode & 0o777 == 0o666
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        client = Dialogue(sock)
        assert b"LMTP" in client.reply()
        client.ask("LHLO x")
        client.ask("MAIL FROM:<a@x>")
        for name in ("bob", "ann", "eve"):
            assert client.ask(f"RCPT TO:<{name}@localhost>").startswith(b"250")
        client.ask("DATA")
        client.say(MESSAGE + b".\r\n")
        assert [client.reply()[:9] for _ in range(3)] == [b"250 2.0.0", b"451 4.3.0", b"250 2.0.0"]
        assert client.ask("QUIT").startswith(b"221")
        server.process.terminate()
        _, err = server.process.communicate(timeout=DEADLINE)
    assert f"listening lmtp unix:{path}\n" in err
    assert len(messages(server.inbox("bob"))) == len(messages(server.inbox("eve"))) == 1
    assert " with LMTP id " in messages(server.inbox("bob"))[0]


# -- filters -------------------------------------------------------------------------------------------------


def test_a_filter_changes_what_is_stored(tmp_path: Path) -> None:
    script = f"cat >{tmp_path}/seen; sed 's/^Subject:.*/Subject: [seen] '\"$SENDER\"'/' {tmp_path}/seen"
    with Server(tmp_path / "root", "--filter", script) as server:
        assert deliver(server, "bob@x", "ann@x").startswith(b"250")
    (message,) = messages(server.inbox("bob"))
    assert messages(server.inbox("ann"))[0].partition("Received:")[2] == message.partition("Received:")[2]
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("Received: from test ")
    assert seen.endswith("\nSubject: x\n\nFrom me\n.dot\n")
    assert message.endswith("\nSubject: [seen] a@example.org\n\nFrom me\n.dot\n")
    assert message.count("Received: ") == 1


@pytest.mark.parametrize(
    ("script", "reply", "stored"),
    [
        ("exit 75", b"451 4.7.1", 0),
        ("exit 69", b"554 5.7.1", 0),
        ("exit 77", b"554 5.7.1", 0),
        ("exit 99", b"250 2.0.0", 0),
        ("exit 1", b"451 4.3.0", 0),
        ("cat >/dev/null", b"451 4.3.0", 0),
        ("/no/such/program", b"451 4.3.0", 0),
        ("kill -9 $$", b"451 4.3.0", 0),
        ("printf 'a\\rb\\n'", b"451 4.3.0", 0),
        ("cat", b"250 2.0.0", 1),
        ("printf 'Subject: y\\r\\n\\r\\nno end'", b"250 2.0.0", 1),
        ("echo From x; cat", b"250 2.0.0", 1),
        ("yes a: b | head -c 1200000; cat", b"451 4.3.0", 0),
        ("echo From x", b"451 4.3.0", 0),
        ("head -c 70000 /dev/zero | tr '\\0' x", b"451 4.3.0", 0),
        ("setsid sleep 30 & cat", b"250 2.0.0", 1),
    ],
)
def test_a_filters_verdict(tmp_path: Path, script: str, reply: bytes, stored: int) -> None:
    with Server(tmp_path / "root", "--filter", script) as server:
        said = deliver(server, "bob@x")
        server.process.terminate()
        _, err = server.process.communicate(timeout=DEADLINE)
    assert said.startswith(reply)
    found = messages(server.inbox("bob"))
    assert len(found) == stored
    if "no end" in script:
        assert found[0].endswith("Delivered-To: bob@x\nSubject: y\n\nno end\n")
    assert ("filter" in err) == (reply == b"451 4.3.0")


def test_a_slow_filter_delays_nobody_else_and_is_waited_for(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"case $RECIPIENT in slow*) until [ -e {go} ]; do sleep 0.05; done;; esac; cat"
    server = Server(tmp_path / "root", "--filter", script)
    slow = server.connect()
    slow.envelope("slow@x")
    slow.say(MESSAGE + b".\r\n")
    assert deliver(server, "bob@x").startswith(b"250")
    server.process.send_signal(signal.SIGTERM)
    go.touch()
    assert slow.reply().startswith(b"250")
    assert server.stop() == 0
    assert len(messages(server.inbox("slow"))) == 1


def test_lmtp_and_a_filter(tmp_path: Path) -> None:
    with Server(house(tmp_path / "root", "bob", "ann"), "--lmtp", "--filter", "exit 77") as server:
        client = server.connect()
        client.reply()
        client.ask("LHLO x")
        client.ask("MAIL FROM:<a@x>")
        client.ask("RCPT TO:<bob@localhost>")
        client.ask("RCPT TO:<ann@localhost>")
        client.ask("DATA")
        client.say(MESSAGE + b".\r\n")
        assert [client.reply()[:3] for _ in range(2)] == [b"554", b"554"]
        assert client.ask("QUIT").startswith(b"221")


# -- faults --------------------------------------------------------------------------------------------------


def codes(server: Server, *lines: str) -> list[bytes]:
    client = server.connect()
    found = [client.reply()[:3]]
    found += [client.ask(line)[:3] for line in lines]
    client.close()
    return found


ENVELOPE = ("EHLO x", "MAIL FROM:<a@x>", "RCPT TO:<bob@grey.test>")


def test_greylisting_then_it_works(tmp_path: Path) -> None:
    rule = 'rcpt to=*@grey.test reply "451 4.7.1 Greylisted" times=1'
    with Server(tmp_path / "root", "--dev", "--fault", rule) as server:
        assert codes(server, *ENVELOPE, "QUIT")[-2] == b"451"
        assert codes(server, *ENVELOPE, "QUIT")[-2] == b"250"
        done = mailtools("send", "--host", "127.0.0.1", "--port", str(server.port), "bob@grey.test",
                         stdin=b"From: a@x\nSubject: x\n\nHi\n")  # fmt: skip
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("stage", "lines", "at"),
    [
        ("connect", (), 0),
        ("ehlo", ("EHLO x",), 1),
        ("mail", ("EHLO x", "MAIL FROM:<a@x>"), 2),
        ("rcpt", ENVELOPE, 3),
        ("data", (*ENVELOPE, "DATA"), 4),
        ("eod", (*ENVELOPE, "DATA", "Subject: x\r\n."), 5),
        ("quit", ("QUIT",), 1),
    ],
)
def test_every_stage(tmp_path: Path, stage: str, lines: tuple[str, ...], at: int) -> None:
    with Server(tmp_path / "root", "--fault", f"{stage} reply '454 4.3.0 as told' times=1",
                "--fault", f"{stage} delay 200ms times=1", "--fault", f"{stage} drop") as server:  # fmt: skip
        assert codes(server, *lines)[at] == b"454"
        started = time.monotonic()
        assert codes(server, *lines)[at][:1] in b"23"
        assert time.monotonic() - started > 0.19  # the loop's clock counts milliseconds
        assert codes(server, *lines)[at] == b""
    stored = messages(server.root / "bob" / "INBOX.mbox")
    assert len(stored) == (1 if stage == "eod" else 0)


def test_a_stall_ends_with_the_client(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--fault", "eod stall times=1") as server:
        client = server.connect()
        client.envelope("bob@x")
        client.say(MESSAGE + b".\r\n")
        other = server.connect()
        assert other.deliver(MESSAGE, "ann@x").startswith(b"250")
        other.ask("QUIT")
        client.close()
    assert messages(server.inbox("bob")) == []


def test_a_fault_at_the_end_in_lmtp_is_for_each(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--lmtp", "--fault", "eod to=ann@* reply '452 4.2.2 full'") as server:
        client = server.connect()
        client.reply()
        for line in ("LHLO x", "MAIL FROM:<>", "RCPT TO:<bob@x>", "RCPT TO:<ann@x>", "DATA"):
            client.ask(line)
        client.say(MESSAGE + b".\r\n")
        assert [client.reply()[:3] for _ in range(2)] == [b"452", b"452"]
        client.ask("QUIT")


@pytest.mark.parametrize("rule", ["rcpt", "rcpt jump", "nowhere drop", "rcpt reply 999"])
def test_a_rule_that_is_none_is_an_error_of_usage(tmp_path: Path, rule: str) -> None:
    done = mailtools("serve-smtp", "--root", str(tmp_path), "--port", "0", "--fault", rule)
    assert done.returncode == 64
    assert b"--fault" in done.stderr


def test_clients_that_vanish_while_their_message_is_handed_over(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"until [ -e {go} ]; do sleep 0.05; done; cat"
    with Server(tmp_path / "root", "--filter", script) as server:
        client = server.connect()
        client.envelope("bob@x")
        client.say(MESSAGE + b".\r\n")
        client.close()
        go.touch()
        eventually(lambda: messages(server.inbox("bob")), "the message that was whole")
        assert deliver(server, "ann@x").startswith(b"250")


class Impatient(Server):
    """A server that does not wait for what is under way when it ends."""

    program = (
        "-c",
        "from mailtools import cli; from mailtools.system.net import server; server.GRACE = 0.1; cli.run()",
    )


def test_a_filter_is_ended_with_the_server(tmp_path: Path) -> None:
    up = tmp_path / "up"
    seconds = f"98765.{os.getpid()}"  # only this run of the test has it in an argument
    with Impatient(tmp_path / "root", "--filter", f"touch {up}; exec sleep {seconds}") as server:
        client = server.connect()
        client.envelope("bob@x")
        client.say(MESSAGE + b".\r\n")
        eventually(up.exists, "the filter")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
    found = [p for p in Path("/proc").iterdir() if p.name.isdigit() and seconds.encode() in _argv(p)]
    assert found == []


def _argv(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_pipeline_of_messages_that_go_nowhere(tmp_path: Path) -> None:
    """Each is answered at once, inside of the answer before it."""
    (tmp_path / "aliases").write_text("null: /dev/null\n")
    with Server(tmp_path / "root", "--aliases", str(tmp_path / "aliases")) as server:
        client = server.connect()
        client.reply()
        client.ask("EHLO x")
        client.say(b"MAIL FROM:<a@x>\r\nRCPT TO:<null@x>\r\nBDAT 6 LAST\r\nabcd\r\n" * 1500)
        assert {client.reply()[:3] for _ in range(4500)} == {b"250"}
        client.ask("QUIT")


def test_an_include_that_is_a_pipe_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list")
    (tmp_path / "aliases").write_text(f"l: :include:{tmp_path}/list\nz: :include:/dev/zero\n")
    with Server(tmp_path / "root", "--aliases", str(tmp_path / "aliases")) as server:
        assert (
            codes(server, "EHLO x", "MAIL FROM:<>", "RCPT TO:<l@x>", "RCPT TO:<z@x>", "QUIT")[3:5]
            == [b"451"] * 2
        )


def test_lmtp_answers_for_each_also_after_a_chunk_that_was_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--lmtp") as server:
        client = server.connect()
        client.reply()
        for line in ("LHLO x", "MAIL FROM:<>", "RCPT TO:<bob@x>", "RCPT TO:<ann@x>"):
            client.ask(line)
        client.say(b"BDAT 5\r\na\nb\r\nBDAT 4 LAST\r\nHi\r\n")
        assert [client.reply()[:9] for _ in range(3)] == [b"554 5.6.0"] * 3
        client.say(b"NOOP\r\n")
        assert client.reply().startswith(b"250")
        client.ask("QUIT")


def test_clients_that_flood_delay_nobody(tmp_path: Path) -> None:
    """Whoever is newly there has a turn between any two of theirs: counted in replies, for clocks lie."""
    with Server(tmp_path / "root") as server:
        flood = server.connect()
        flood.reply()
        flood.sock.setblocking(False)
        other = server.connect()
        asked = 0
        sent = bytearray()
        for _ in range(40):  # what the server takes before it stops reading
            try:
                sent += b"NOOP\r\n" * flood.sock.send(b"NOOP\r\n" * 20_000)
            except BlockingIOError:
                break
        assert other.reply().startswith(b"220")
        for _ in range(5):
            assert other.ask("NOOP").startswith(b"250")
            asked += 1
        answered = 0
        flood.sock.setblocking(True)
        flood.sock.settimeout(DEADLINE)
        answered = flood.sock.recv(1 << 20, socket.MSG_PEEK).count(b"250 ")
        assert asked == 5
        assert answered < 2000 * 40, "others had a turn before all was done"
        other.ask("QUIT")
        flood.close()
