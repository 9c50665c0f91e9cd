"""``mailtools fetch`` as a process, against servers that do as they are told."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mailtools.commands.output.fetched import FetchReport
from mailtools.services.access import OFF, Access
from mailtools.services.fetch import run
from mailtools.services.fetch.remote import FetchTarget, FetchWishes
from mailtools.services.fetch.sinks import MboxSink
from tests.boxes import number, open_drop, shown, subjects
from tests.scripted import Rule, ScriptedImap, ScriptedPop3, ScriptedServer
from tests.servers import eventually, mailtools

MESSAGES = [number(n) for n in range(5)]
NAMES = [f"{n:06d}" for n in range(5)]
ACCESS = Access(tls=OFF, user="bob", secret=lambda: "secret", timeout=5)
ENV = {"MAILTOOLS_FETCH_PASSWORD": "secret"}
BOTH = pytest.mark.parametrize("protocol", ["pop3", "imap"])

Server = ScriptedPop3 | ScriptedImap


def make(protocol: str, rules: dict[str, Rule] | None = None, tls: Path | None = None) -> Server:
    if protocol == "pop3":
        return ScriptedPop3(MESSAGES, rules, tls)
    return ScriptedImap({"INBOX": MESSAGES}, rules, tls)


def fetch(server: ScriptedServer, to: Path | str, *options: str, **env: str) -> "CompletedProcess[bytes]":
    protocol = "--pop3" if isinstance(server, ScriptedPop3) else "--imap"
    where = ("--to", str(to)) if to else ()
    host = "localhost" if server.context else "127.0.0.1"
    return mailtools(
        "fetch",
        protocol,
        "--host",
        host,
        "--port",
        str(server.port),
        "--user",
        "bob",
        *where,
        *options,
        env=ENV | env,
    )


# -- what comes, and when ------------------------------------------------------------------------------------


@BOTH
def test_new_mail_and_then_none(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        done = fetch(server, tmp_path / "box")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert fetch(server, tmp_path / "box").returncode == 1
        assert subjects(tmp_path / "box") == NAMES
        if isinstance(server, ScriptedPop3):
            server.messages[6] = number(6)
        else:
            server.mailboxes["INBOX"][6] = number(6)
        assert fetch(server, tmp_path / "box").returncode == 0
    assert subjects(tmp_path / "box") == [*NAMES, "000006"]


@BOTH
def test_what_was_fetched_is_deleted(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        assert fetch(server, tmp_path / "box", "--limit", "2", "--delete").returncode == 0
        left = server.messages if isinstance(server, ScriptedPop3) else server.mailboxes["INBOX"]
        assert sorted(left) == [3, 4, 5]
        assert fetch(server, tmp_path / "box", "--keep").returncode == 0
        assert sorted(left) == [3, 4, 5]
        assert fetch(server, tmp_path / "box", "--delete").returncode == 1  # by an earlier run
        assert not left
    assert subjects(tmp_path / "box") == NAMES


@BOTH
def test_what_was_fetched_is_deleted_later(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        left = server.messages if isinstance(server, ScriptedPop3) else server.mailboxes["INBOX"]
        assert fetch(server, tmp_path / "box", "--limit", "2").returncode == 0
        (state,) = (tmp_path / ".mailtools").glob("*.fetch-????????????????")
        state.write_text(re.sub(r",\d{10},", f",{int(time.time()) - 31 * 86400},", state.read_text()))
        assert fetch(server, tmp_path / "box", "--delete-after", "30d").returncode == 0
        assert sorted(left) == [3, 4, 5]  # the others were fetched just now
        assert fetch(server, tmp_path / "box", "--delete-after", "30d").returncode == 1
        assert sorted(left) == [3, 4, 5]
    assert subjects(tmp_path / "box") == NAMES


@BOTH
def test_sizes(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        large = number(9, 9000)
        if isinstance(server, ScriptedPop3):
            server.messages[6] = large
        else:
            server.mailboxes["INBOX"][6] = large
        assert fetch(server, tmp_path / "box", "--max-size", "5K").returncode == 0
        assert subjects(tmp_path / "box") == NAMES
        assert fetch(server, tmp_path / "box").returncode == 0
    assert subjects(tmp_path / "box") == [*NAMES, "000009"]


def test_since_in_pop3_is_told_by_the_date(tmp_path: Path) -> None:
    dates = (b"Thu, 22 Aug 2002 12:00:00 +0200", b"Mon, 23 Nov 2026 12:00:00 +0000", b"nonsense")
    with ScriptedPop3([b"Subject: x\r\nDate: %b\r\n\r\nx\r\n" % date for date in dates]) as server:
        assert fetch(server, tmp_path / "box", "--since", "2026-01-31").returncode == 0
        assert [line for line in server.commands if line.startswith("RETR")] == ["RETR 2", "RETR 3"]
        assert fetch(server, tmp_path / "box", "--since", "40y").returncode == 64


def test_since_in_imap_is_told_by_the_server(tmp_path: Path) -> None:
    with ScriptedImap(
        {"INBOX": MESSAGES}, {"UID SEARCH": lambda usual: usual.replace(b"1 2 3 ", b"")}
    ) as server:
        assert fetch(server, tmp_path / "box", "--since", "2026-01-31").returncode == 0
        assert "UID SEARCH SINCE 31-Jan-2026" in server.commands


@BOTH
def test_a_dry_run_changes_nothing(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        done = fetch(server, tmp_path / "box", "--dry-run", "--delete", "--limit", "2")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 2
        assert not [line for line in server.commands if re.match("RETR|DELE|SELECT|UID (FETCH|STORE)", line)]
    assert not (tmp_path / "box").exists()


@BOTH
def test_json(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        done = fetch(server, tmp_path / "box", "--json", "--delete", "--limit", "1")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["status"] for line in lines] == ["fetched", "deleted"]
        assert lines[0]["subject"] == "000000"
        assert lines[0]["from"] == "ann@a.test"
        assert (
            json.loads(fetch(server, tmp_path / "new", "--json", "--dry-run").stdout.splitlines()[0])[
                "status"
            ]
            == "new"
        )


# -- where it goes -------------------------------------------------------------------------------------------


@BOTH
def test_to_stdout(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        done = fetch(server, "-", "--root", str(tmp_path))
        assert done.stdout.count(b"From ann@a.test ") == 5
        assert fetch(server, "-", "--root", str(tmp_path)).returncode == 1


def test_the_usual_mbox(tmp_path: Path) -> None:
    with make("pop3") as server:
        assert fetch(server, "", "--root", str(tmp_path)).returncode == 0
    (inbox,) = tmp_path.glob("*/INBOX.mbox")
    assert subjects(inbox) == NAMES


@BOTH
def test_a_program_takes_each(protocol: str, tmp_path: Path) -> None:
    command = f"grep -q 000002 && exit 75; cat >> {tmp_path}/none; echo x >> {tmp_path}/count"
    with make(protocol) as server:
        done = fetch(server, "", "--pipe", command, "--delete", "--root", str(tmp_path))
        assert done.returncode == 75
        assert b"message 3 was not fetched" in done.stderr
        left = server.messages if isinstance(server, ScriptedPop3) else server.mailboxes["INBOX"]
        assert sorted(left) == [3]
        done = fetch(server, "", "--pipe", f"cat > {tmp_path}/message", "--delete", "--root", str(tmp_path))
        assert done.returncode == 0
        assert not left
    assert (tmp_path / "count").read_text() == "x\n" * 4
    assert (tmp_path / "message").read_bytes().replace(b"\n", b"\r\n") == MESSAGES[2]


def test_mailboxes_by_glob(tmp_path: Path) -> None:
    boxes = {"INBOX": MESSAGES[:1], "Lists.a": MESSAGES[1:2], "Lists.b": MESSAGES[2:3], "Entw&APw-rfe": MESSAGES[3:4],
             "..": MESSAGES[4:], "Lists.x/y": MESSAGES[4:]}  # fmt: skip
    with ScriptedImap(boxes, delimiter=".") as server:
        done = fetch(
            server, "", "--mailbox", "Lists/?", "--mailbox", "Entw*", "--to-dir", str(tmp_path / "all")
        )
        assert done.returncode == 0, done.stderr
        found = sorted(str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*.mbox"))
        assert found == ["Entw\u00fcrfe.mbox", "Lists/a.mbox", "Lists/b.mbox"]
        assert fetch(server, "", "--mailbox", "*", "--to-dir", str(tmp_path / "all")).returncode == 0
        assert fetch(server, "", "--mailbox", "*", "--to-dir", str(tmp_path / "all")).returncode == 1
        assert fetch(server, "", "--mailbox", "nothing/*", "--to-dir", str(tmp_path / "all")).returncode == 66
        assert fetch(server, "", "--mailbox", "*", "--root", str(tmp_path / "root")).returncode == 64
    inside = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.mbox")}
    assert inside == {"all"}


def test_nothing_is_marked_unless_asked(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}) as server:
        assert fetch(server, tmp_path / "box").returncode == 0
        assert 'EXAMINE "INBOX"' in server.commands
        assert not server.flags["INBOX"]
        assert fetch(server, tmp_path / "other", "--mark-seen").returncode == 0
        assert server.flags["INBOX"] == {uid: {"\\Seen"} for uid in range(1, 6)}


def test_without_uidplus_others_that_are_marked_stay(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, capabilities="IMAP4rev1") as server:
        server.flags["INBOX"][5] = {"\\Deleted"}
        done = fetch(server, tmp_path / "box", "--limit", "2", "--delete")
        assert done.returncode == 75
        assert b"1 others are marked" in done.stderr
        assert len(server.mailboxes["INBOX"]) == 5
        server.flags["INBOX"][5] = set()
        assert fetch(server, tmp_path / "box", "--delete").returncode == 0
        assert not server.mailboxes["INBOX"]


# -- habits --------------------------------------------------------------------------------------------------


def test_a_server_without_uidl(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES, capabilities="TOP") as server:
        done = fetch(server, tmp_path / "box")
        assert done.returncode == 76
        assert b"fetch them with --delete" in done.stderr
        assert fetch(server, tmp_path / "box", "--delete").returncode == 0
        assert not server.messages
    assert subjects(tmp_path / "box") == NAMES


def test_a_server_that_does_not_pipeline_is_asked_one_by_one(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES, capabilities="UIDL") as server:
        assert fetch(server, tmp_path / "box").returncode == 0
    assert subjects(tmp_path / "box") == NAMES


def test_names_that_changed_are_told(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES) as server:
        assert fetch(server, tmp_path / "box").returncode == 0
        server.names = lambda n: f"new-{n}"
        done = fetch(server, tmp_path / "box")
        assert done.returncode == 0
        assert b"no message has the name (UIDL)" in done.stderr


def test_new_mail_where_the_old_was_deleted_is_nothing_to_tell(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES) as server:
        assert fetch(server, tmp_path / "box", "--delete").returncode == 0
        server.messages = dict(enumerate(MESSAGES, 10))
        done = fetch(server, tmp_path / "box", "--delete")
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_validity_that_changed_is_told(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}) as server:
        assert fetch(server, tmp_path / "box").returncode == 0
        server.validity = 8
        done = fetch(server, tmp_path / "box")
        assert done.returncode == 0
        assert b"UIDVALIDITY 8" in done.stderr
    assert subjects(tmp_path / "box") == NAMES * 2


def test_an_empty_maildrop_and_an_empty_message(tmp_path: Path) -> None:
    for protocol in ("pop3", "imap"):
        empty = ScriptedPop3([]) if protocol == "pop3" else ScriptedImap({"INBOX": []})
        with empty as server:
            assert fetch(server, tmp_path / protocol).returncode == 1
        one = ScriptedPop3([b""]) if protocol == "pop3" else ScriptedImap({"INBOX": [b""]})
        with one as server:
            assert fetch(server, tmp_path / protocol).returncode == 0


@BOTH
def test_odd_messages_come_as_they_are(protocol: str, tmp_path: Path) -> None:
    odd = [
        b"From: a@b\r\nStatus: RO\r\nX-UID: 5\r\n\r\nFrom here\r\n>From there\r\n.\r\n..\r\n",
        b"From: a@b\r\n\r\nno end",
        b"From: a@b\r\n\r\nbare \r CR, NUL \0, \xff\r\n",
        b"\r\nno header\r\n",
        b"From: a@b\r\n\r\n" + b"x" * 2_000_000 + b"\r\n.\r\nFrom x\r\n" + b"y\r\n" * 300_000,
    ]
    server = (
        ScriptedPop3([m if m.endswith(b"\n") else m + b"\r\n" for m in odd])
        if protocol == "pop3"
        else ScriptedImap({"INBOX": odd})
    )
    with server:
        assert fetch(server, tmp_path / "box").returncode == 0
    drop = open_drop(tmp_path / "box")
    found = [shown(drop, n) for n in range(len(drop))]
    assert found == [m if m.endswith(b"\n") else m + b"\r\n" for m in odd]


def test_a_connection_that_ends_while_we_wait_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_FIRST_PAUSE", 0.05)
    stop = threading.Event()
    with ScriptedImap({"INBOX": MESSAGES[:2]}, {"IDLE": None}) as server:
        target = FetchTarget("imap", "127.0.0.1", server.port, ACCESS)
        options = {"as_json": False, "dry_run": False}
        order = run.Order(
            target,
            str(tmp_path / "box"),
            FetchWishes(),
            lambda _: MboxSink(str(tmp_path / "box")),
            is_stopping=stop.is_set,
        )
        thread = threading.Thread(
            target=run.fetch, args=(order, FetchReport(options, 0, several=False).watch(""))
        )
        thread.start()
        eventually(lambda: server.connections >= 2, "another connection")
        server.mailboxes["INBOX"][3] = MESSAGES[2]
        eventually(lambda: len(subjects(tmp_path / "box")) == 3, "the new message")
        server.rules = {}
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    assert subjects(tmp_path / "box") == NAMES[:3]


# -- what goes wrong -----------------------------------------------------------------------------------------


@BOTH
def test_a_wrong_password(protocol: str, tmp_path: Path) -> None:
    rules: dict[str, Rule] = {"PASS": b"-ERR [AUTH] no\r\n", "LOGIN": lambda _: b"TAG NO no\r\n"}
    with make(protocol, rules) as server:
        done = fetch(server, tmp_path / "box")
    assert done.returncode == 77
    assert b"refused the login of bob" in done.stderr
    assert b"secret" not in done.stderr


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({"": b"-ERR [SYS/TEMP] later\r\n"}, 75),
        ({"": None}, 75),
        ({"": b"HTTP/1.1 200 OK\r\n"}, 76),
        ({"": b"x" * 100_000}, 76),
        ({"PASS": b"-ERR [IN-USE] locked\r\n"}, 75),
        ({"PASS": None}, 75),
        ({"UIDL": None}, 75),
        ({"UIDL": b"+OK\r\nx y\r\n.\r\n"}, 75),
        ({"UIDL": b"+OK\r\n1\r\n.\r\n"}, 75),
        ({"UIDL": b"+OK\r\n99999999999999999999 x\r\n.\r\n"}, 75),
        ({"UIDL": b"-ERR no\r\n", "LIST": b"-ERR no\r\n"}, 75),
        ({"LIST": b"+OK\r\nnonsense\r\n.\r\n"}, 75),
        ({"RETR": None}, 75),
        ({"RETR": b"+OK\r\nhalf a mess"}, 75),
        ({"RETR": b"garbage\r\n"}, 76),
        ({"RETR": b"-ERR not now\r\n"}, 75),
        ({"QUIT": None}, 75),
        ({"QUIT": b"-ERR [SYS/TEMP] some remain\r\n"}, 75),
        ({"DELE": b"-ERR no\r\n"}, 75),
    ],
)  # fmt: skip
def test_pop3_servers_that_fail(tmp_path: Path, rules: dict[str, Rule], code: int) -> None:
    with ScriptedPop3(MESSAGES, rules) as server:
        done = fetch(server, tmp_path / "box", "--delete", "--timeout", "2s")
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        whole(server, tmp_path)


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({"": b"* BYE busy\r\n"}, 75),
        ({"": b"220 smtp\r\n"}, 76),
        ({"LOGIN": b"TAG NO [UNAVAILABLE] later\r\n"}, 75),
        ({"LOGIN": b"* BYE\r\n"}, 75),
        ({"EXAMINE": b"TAG NO no\r\n", "SELECT": b"TAG NO [NONEXISTENT] no\r\n"}, 66),
        ({"SELECT": b"* 5 EXISTS\r\nTAG OK\r\n"}, 76),
        ({"UID SEARCH": b"* SEARCH 1 x 3\r\n" + b"TAG OK\r\n", "UID FETCH": None}, 75),
        ({"UID SEARCH": b"* SEARCH 99999999999999999999\r\nTAG OK\r\n"}, 76),
        ({"UID SEARCH": b"TAG NO no\r\n"}, 75),
        ({"UID FETCH": b"TAG NO no\r\n"}, 75),
        ({"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\nTAG OK\r\n"}, 75),
        ({"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {9999999999999999999}\r\nabc"}, 75),
        ({"UID FETCH": b"* 1 FETCH (UID 1 FLAGS {99999999}\r\nabc"}, 76),
        ({"UID FETCH": b"* 1 FETCH " + b"(" * 100_000 + b"\r\nTAG OK\r\n"}, 75),
        ({"UID FETCH": b"* 1 FETCH (BODY[] {3}\r\nabc)\r\nTAG OK\r\n"}, 75),
        ({"UID FETCH": b"* 1 FETCH (UID 1 BODY[] NIL)\r\nTAG OK\r\n"}, 75),
        ({"UID FETCH": b"TAG OK\r\n"}, 75),
        ({"UID SEARCH": b"TAG OK\r\n", "UID FETCH": b"TAG OK\r\n"}, 75),
        ({"UID FETCH": lambda usual: usual[:300]}, 75),
        ({"UID STORE": b"TAG NO no\r\n"}, 75),
        ({"UID EXPUNGE": None}, 75),
    ],
)  # fmt: skip
def test_imap_servers_that_fail(tmp_path: Path, rules: dict[str, Rule], code: int) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        done = fetch(server, tmp_path / "box", "--delete", "--timeout", "2s")
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        whole(server, tmp_path)


def whole(server: Server, tmp_path: Path) -> None:
    """What is not in the mbox is on the server; the next run completes it."""
    left = server.messages if isinstance(server, ScriptedPop3) else server.mailboxes["INBOX"]
    here = subjects(tmp_path / "box") if (tmp_path / "box").exists() else []
    there = [NAMES[n - 1] for n in left]
    assert {*here, *there} >= set(NAMES)
    server.rules = {}
    assert fetch(server, tmp_path / "box", "--delete").returncode in (0, 1)
    assert set(subjects(tmp_path / "box")) >= set(NAMES)
    assert not left


@BOTH
@pytest.mark.parametrize("at", ["", "RETR", "UID FETCH", "UIDL", "EXAMINE"])
def test_a_server_that_says_nothing_is_given_up(protocol: str, at: str, tmp_path: Path) -> None:
    with make(protocol, {at: b""}) as server:
        if (protocol == "imap") == (at in ("RETR", "UIDL")):
            return
        done = fetch(server, tmp_path / "box", "--timeout", "500ms")
    assert done.returncode in ((0,) if at == "EXAMINE" and protocol == "pop3" else (75,))


@BOTH
def test_a_second_run_leaves(protocol: str, tmp_path: Path) -> None:
    from mailtools.system.mbox.fetch_state import Seen

    with make(protocol) as server:
        seen = Seen(str(tmp_path / "box"), f"{protocol}://bob@127.0.0.1:{server.port}")
        done = fetch(server, tmp_path / "box")
        assert done.returncode == 75
        assert b"is under way" in done.stderr
        assert not server.connections
        seen.close()


@BOTH
def test_no_room(protocol: str, tmp_path: Path) -> None:
    with make(protocol) as server:
        small = ["bash", "-c", 'ulimit -f 1; exec "$0" "$@"']
        done = mailtools(
            "fetch", f"--{protocol}", "--host", "127.0.0.1", "--port", str(server.port), "--user", "bob", "--delete",
            "--to", str(tmp_path / "box"), env=ENV, prefix=small,
        )  # fmt: skip
        assert done.returncode == 73, done.stderr
        left = server.messages if isinstance(server, ScriptedPop3) else server.mailboxes["INBOX"]
        assert len(left) == 5
        assert fetch(server, tmp_path / "box", "--delete").returncode == 0
    assert subjects(tmp_path / "box") == NAMES


# -- TLS and logins ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["implicit", "starttls"])
def test_tls(protocol: str, how: str, tmp_path: Path) -> None:
    with make(protocol, tls=tmp_path / "tls") as server:
        server.is_implicit = how == "implicit"
        done = fetch(server, tmp_path / "box", "--tls", how, "--cafile", server.cafile)
        assert done.returncode == 0, done.stderr
        done = fetch(server, tmp_path / "other", "--tls", how)
        assert done.returncode == 76
        assert not any("secret" in line for line in server.commands[-3:])


@BOTH
@pytest.mark.parametrize(
    "answer", [b"-ERR no\r\n", b"TAG NO no\r\n", b"+OK go\r\n+OK injected\r\n", b"TAG OK\r\n* OK x\r\n", None]
)
def test_tls_that_is_asked_for_never_falls_back(protocol: str, answer: bytes | None, tmp_path: Path) -> None:
    with make(protocol, {"STLS": answer, "STARTTLS": answer}) as server:
        done = fetch(server, tmp_path / "box", "--tls", "starttls")
        assert done.returncode in (75, 76)
        assert not [line for line in server.commands if re.match("USER|PASS|AUTH|LOGIN", line)]


def test_preauth_before_tls(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, {"": b"* PREAUTH in already\r\n"}, tls=tmp_path / "tls") as server:
        done = fetch(server, tmp_path / "box", "--tls", "starttls", "--cafile", server.cafile)
        assert done.returncode == 76
        assert not server.commands


def test_no_password_in_the_clear_beyond_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    from mailtools.core.errors import PolicyError
    from mailtools.system.net.client_connection import Pump

    monkeypatch.setattr(Pump, "is_private", property(lambda _: False))
    for protocol in ("pop3", "imap"):
        with make(protocol) as server:
            target = FetchTarget(protocol, "127.0.0.1", server.port, ACCESS)
            if protocol == "pop3":  # a digest tells nobody the password
                run.open_remote(target).leave()
                assert [line[:8] for line in server.commands if line.startswith("APOP")] == ["APOP bob"]
                server.rules = {"": b"+OK no banner\r\n"}
            with pytest.raises(PolicyError, match="overheard"):
                run.open_remote(target)
            assert not any("secret" in line for line in server.commands)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens(mechanism: str, tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, capabilities=f"IMAP4rev1 SASL-IR AUTH={mechanism}") as server:
        done = fetch(server, tmp_path / "box", "--token-command", "echo abc.def")
        assert done.returncode == 0, done.stderr
        assert [line.split()[1] for line in server.commands if line.startswith("AUTHENTICATE")] == [mechanism]
        done = fetch(server, tmp_path / "box", "--auth", "scram-sha-256")
        assert done.returncode == 77


def test_a_token_command_that_fails(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, capabilities="IMAP4rev1 AUTH=XOAUTH2") as server:
        done = fetch(server, tmp_path / "box", "--token-command", "exit 3")
        assert done.returncode == 77


# -- accounts ------------------------------------------------------------------------------------------------


def configured(tmp_path: Path, text: str) -> tuple[str, str]:
    (tmp_path / "config.toml").write_text(text)
    return "-C", str(tmp_path / "config.toml")


def test_all_accounts_at_once(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES[:2]) as one, ScriptedImap({"INBOX": MESSAGES[2:]}) as two:
        here = configured(
            tmp_path,
            f"""
[account.one]
fetch = "pop3://127.0.0.1:{one.port}"
user = "ann"
password-command = "echo x"
fetch-to = "{tmp_path}/one"
[account.two]
fetch = "imap://127.0.0.1:{two.port}"
user = "bob"
password-command = "echo x"
fetch-to = "{tmp_path}/two"
[account.three]
host = "nobody.test"
[account.four]
fetch = "pop3://127.0.0.1:1"
user = "cy"
password-command = "echo x"
fetch-to = "{tmp_path}/four"
""",
        )
        done = mailtools(*here, "fetch", "--all-accounts")
        assert done.returncode == 75  # 75 wins
        assert b"four: cannot connect" in done.stderr
        assert subjects(tmp_path / "one") == NAMES[:2]
        assert subjects(tmp_path / "two") == NAMES[2:]
        assert mailtools(*here, "fetch", "-A", "one").returncode == 1
        assert mailtools(*here, "fetch", "-A", "three").returncode == 78
        assert mailtools(*here, "fetch").returncode == 64
        done = mailtools(*here, "fetch", "-A", "two", "--to", str(tmp_path / "other"), "--json")
        assert json.loads(done.stdout.splitlines()[0])["account"] == "two"


@pytest.mark.parametrize("url", ["http://x", "imaps://", "imaps://u@h", "imap://h/INBOX", "pop3://h:x"])
def test_urls_that_are_none(tmp_path: Path, url: str) -> None:
    here = configured(tmp_path, f'[account.a]\nfetch = "{url}"\nuser = "u"\n')
    done = mailtools(*here, "fetch", env=ENV)
    assert done.returncode == 78
    assert b"write pop3s://HOST" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), b"fetch from where?"),
        (("--host", "h"), b"which protocol?"),
        (("--pop3", "--host", "h", "--mailbox", "x"), b"--mailbox is for IMAP only"),
        (("--pop3", "--host", "h", "--idle"), b"--idle is for IMAP only"),
        (("--imap", "--host", "h", "--to", "x", "--pipe", "y"), b"exclude each other"),
        (("--imap", "--host", "h", "--delete", "--keep"), b"exclude each other"),
        (("--imap", "--host", "h", "--to", "-", "--json"), b"both"),
        (("--imap", "--host", "h", "--to", "-", "--transcript", "-"), b"both"),
        (("--imap", "--host", "h", "--json", "--transcript", "-"), b"both"),
        (("--imap", "--host", "h", "--since", "2026-02-30"), b"is not a day of the calendar"),
        (("--all-accounts", "--host", "h"), b"excludes"),
    ],
)
def test_wrong_uses(options: tuple[str, ...], words: bytes) -> None:
    done = mailtools("fetch", *options, env=ENV)
    assert done.returncode == 64
    assert words in done.stderr


def test_a_closed_pipe_ends_in_silence(tmp_path: Path) -> None:
    with make("pop3") as server:
        done = mailtools(
            "fetch", "--pop3", "--host", "127.0.0.1", "--port", str(server.port), "--user", "bob", "--to", "-",
            "--root", str(tmp_path), env=ENV, prefix=["bash", "-c", '"$0" "$@" | true; exit "${PIPESTATUS[0]}"'],
        )  # fmt: skip
    assert (done.returncode, done.stderr) in ((0, b""),)


# -- nothing stands in the way ---------------------------------------------------------------------------------


def test_every_message_that_does_not_come_is_named(tmp_path: Path) -> None:
    rules: dict[str, Rule] = {"UID FETCH": lambda usual: usual.replace(b"* 2 FETCH", b"* 2 FLAGS")}
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        done = fetch(server, tmp_path / "box")
        assert done.returncode == 75
        assert b"message 2 was not fetched: the server did not give it" in done.stderr
        assert subjects(tmp_path / "box") == [name for n, name in enumerate(NAMES) if n != 1]
        server.rules = {}
        assert fetch(server, tmp_path / "box").returncode == 0
        assert set(subjects(tmp_path / "box")) == set(NAMES)


def test_a_mailbox_that_is_refused_is_named_and_the_others_are_fetched(tmp_path: Path) -> None:
    def rule(usual: bytes) -> bytes:
        return b"TAG NO it is being repaired\r\n" if b"2 EXISTS" in usual else usual

    boxes = {"INBOX": MESSAGES[:1], "Lists/a": MESSAGES[1:3], "Lists/b": MESSAGES[3:4]}
    with ScriptedImap(boxes, {"EXAMINE": rule}) as server:
        done = fetch(server, "", "--mailbox", "*", "--mailbox", "none/*", "--to-dir", str(tmp_path / "dir"))
    assert done.returncode == 75
    assert b"does not open 'Lists/a': it is being repaired" in done.stderr
    assert b"no mailbox 'none/*'" in done.stderr
    assert sorted(path.name for path in (tmp_path / "dir").rglob("*.mbox")) == ["INBOX.mbox", "b.mbox"]


def test_a_message_of_a_known_uidl_and_other_content_is_not_lost(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES[:2]) as server:
        assert fetch(server, tmp_path / "box").returncode == 0
        server.messages[1] = MESSAGES[2]
        done = fetch(server, tmp_path / "box", "--delete")
        assert done.returncode == 0, done.stderr
        assert not server.messages
    assert subjects(tmp_path / "box") == [NAMES[0], NAMES[1], NAMES[2]]


def test_messages_that_share_a_uidl_are_all_fetched(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES[:3], {"UIDL": b"+OK\r\n1 same\r\n2 same\r\n3 same\r\n.\r\n"}) as server:
        assert fetch(server, tmp_path / "box", "--delete").returncode == 0
        assert not server.messages
    assert subjects(tmp_path / "box") == NAMES[:3]


@pytest.mark.parametrize("is_file", [True, False])
def test_stdout_that_is_a_file_is_synced_before_anything_is_deleted(tmp_path: Path, is_file: bool) -> None:
    script = """
import os, sys
real = os.fsync
def fsync(number):
    if number == 1:
        os.write(2, b"SYNC")
    real(number)
os.fsync = fsync
from mailtools.cli import run
run()
"""
    with ScriptedPop3(MESSAGES) as server, open(tmp_path / "out", "wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", script, "fetch", "--pop3", "--host", "127.0.0.1", "--port", str(server.port),
             "--user", "bob", "--to", "-", "--delete"], env=os.environ | ENV | {"HOME": str(tmp_path)}, check=True,
            stdout=out if is_file else subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        assert done.stderr == b"SYNC" * is_file
        assert not server.messages
    if not is_file:
        (tmp_path / "out").write_bytes(done.stdout)
    assert subjects(tmp_path / "out") == NAMES


# -- transcripts and accounts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["login", "sasl"])
@BOTH
def test_a_transcript_shows_the_session_and_no_secret(protocol: str, how: str, tmp_path: Path) -> None:
    rules: dict[str, Rule] = {}
    if how == "sasl":
        rules["CAPA"] = b"+OK\r\nSASL PLAIN\r\nUIDL\r\n.\r\n"
        rules["CAPABILITY"] = b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\nTAG OK\r\n"
        rules["AUTHENTICATE"] = b"TAG OK\r\n"
        rules["AUTH"] = b"+OK\r\n"
    with make(protocol, rules) as server:
        done = fetch(server, tmp_path / "box", "--transcript", str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "log").read_text()
    assert "secret" not in text
    assert "AGJvYgBzZWNyZXQ=" not in text
    assert "***" in text
    assert "S: Subject: 000001" in text
    assert text.startswith("S: ")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_what_an_account_says_about_fetching_is_obeyed(tmp_path: Path) -> None:
    with ScriptedImap({"INBOX": [], "Lists/a": MESSAGES}) as server:
        (tmp_path / "config.toml").write_text(
            f'[account.x]\nfetch = "imap://127.0.0.1:{server.port}"\nuser = "bob"\nmailbox = "Lists/a"\n'
            f'limit = 2\ndelete = true\nfetch-to = "{tmp_path}/box"\npassword-command = "echo secret"\n'
        )
        config = ("-C", str(tmp_path / "config.toml"))
        assert mailtools(*config, "fetch").returncode == 0
        assert subjects(tmp_path / "box") == NAMES[:2]
        assert len(server.mailboxes["Lists/a"]) == 3
        assert mailtools(*config, "fetch", "--keep", "--limit", "1").returncode == 0
        assert len(server.mailboxes["Lists/a"]) == 3
        assert subjects(tmp_path / "box") == NAMES[:3]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('mailbox = "x"\nfetch = "pop3://127.0.0.1"', b"mailbox is for IMAP only"),
        ('fetch = "imap://h"\nlimit = "many"', b"account.x.limit"),
        ('fetch = "imap://h"\ndelete = "yes"', b"account.x.delete"),
        ('fetch = "imap://h"\nmailbox = [1]', b"account.x.mailbox"),
        ('fetch = "imap://h"\nsince = "3d"', b"unknown key 'account.x.since'"),
        ('fetch = "imap://127.0.0.1:1"\nfingerprint = "SHA256:aa"', b"fingerprint"),
        ('fetch = "imap://h"\npassword-command = ["pass", "hunter2"]', b"account.x.password-command"),
        ('fetch = "imap://bob:hunter2@h"', b"imap://***@h"),
        ('fetch = "imap://h"\nroute = "smtp://bob:hunter2@h"', b"smtp://***@h"),
    ],
)
def test_a_key_that_cannot_be_obeyed_is_refused_by_name(tmp_path: Path, line: str, said: bytes) -> None:
    (tmp_path / "config.toml").write_text(f"[account.x]\nuser = 'bob'\n{line}\n")
    done = mailtools("-C", str(tmp_path / "config.toml"), "fetch", env=ENV)
    assert done.returncode == 78, done.stderr
    assert said in done.stderr
    assert b"hunter2" not in done.stderr


def test_a_password_file_that_everybody_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("secret\n")
    with make("pop3") as server:
        for mode, is_told in ((0o644, True), (0o600, False)):
            (tmp_path / "pw").chmod(mode)
            done = fetch(server, tmp_path / "box", "--password-file", str(tmp_path / "pw"))
            assert (b"chmod 600" in done.stderr) == is_told
