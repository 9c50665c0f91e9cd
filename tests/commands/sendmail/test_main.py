"""`mailtools-sendmail`: the options of sendmail(8), every exit code, where messages go."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mailtools.commands.sendmail.options import Options, UsageError, parse
from mailtools.core.mbox import scan
from mailtools.core.queue import envelope as queue
from mailtools.services.submission.names import SendmailSettings, User
from mailtools.system import clock
from tests.servers import mailtools, unmeasured

HOST = clock.host_name()
ME = pwd.getpwuid(os.getuid()).pw_name
MESSAGE = b"Subject: test\n\nHello\n"


class House:
    """A mail root; what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAILTOOLS", "XDG"))}
        return kept | {"HOME": str(self.folder), "MAILTOOLS_ROOT": str(self.root)}

    def run(
        self, *args: str, stdin: bytes = MESSAGE, code: int = 0, queue: str = "-odq", **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "mailtools.sendmail", *([queue] if queue else []), *args], input=stdin,
            capture_output=True, check=False, timeout=60, env=self.environment, **more,  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stderr)
        assert b"Traceback" not in done.stderr
        assert bool(done.stderr) == bool(code), done.stderr
        return done  # type: ignore[no-any-return]

    def inbox(self, user: str) -> list[bytes]:
        path = self.root / user / "INBOX.mbox"
        if not path.exists():
            return []
        with path.open("rb") as file:
            return [record.message() for record in scan.records(file.read)]

    def queued(self) -> list[tuple[queue.QueueEnvelope, bytes]]:
        found = []
        for path in sorted((self.root / ".spool" / "incoming").glob("*.jsonl")):
            envelope = queue.decode(path.read_bytes().splitlines()[0])
            found.append((envelope, (self.root / ".spool/messages" / f"{path.stem}.eml").read_bytes()))
        return found

    def nothing(self) -> bool:
        return not self.queued() and not list(self.root.rglob("INBOX.mbox"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# -- the command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bob", {"addresses": ["bob"], "mode": "m", "delivery": "b", "sender": None, "ignore_dots": False}),
        ("-FCronDaemon -i -B8BITMIME -oem root", {"full_name": "CronDaemon", "ignore_dots": True, "addresses": ["root"]}),
        ("-F Cron bob", {"full_name": "Cron", "addresses": ["bob"]}),
        ("-t", {"from_header": True, "addresses": []}),
        ("-ti", {"from_header": True, "ignore_dots": True}),
        ("-t -i", {"from_header": True, "ignore_dots": True}),
        ("-oi -t", {"from_header": True, "ignore_dots": True}),
        ("-o i bob", {"ignore_dots": True, "addresses": ["bob"]}),
        ("-OIgnoreDots=true bob", {"ignore_dots": True}),
        ("-O IgnoreDots bob", {"ignore_dots": True}),
        ("-fann@x bob", {"sender": "ann@x", "addresses": ["bob"]}),
        ("-f ann@x bob", {"sender": "ann@x", "addresses": ["bob"]}),
        ("-r ann@x bob", {"sender": "ann@x"}),
        ("-rann@x bob", {"sender": "ann@x"}),
        ("-tifann@x", {"from_header": True, "ignore_dots": True, "sender": "ann@x"}),
        ("-f<> bob", {"sender": "<>"}),
        ("-i -- -bob ann", {"addresses": ["-bob", "ann"]}),
        ("bob -- -ann", {"addresses": ["bob"], "error": True}),
        ("bob -- ann", {"addresses": ["bob", "ann"]}),
        ("bob -t", {"error": True}),
        ("bob -X/etc/passwd", {"error": True}),
        ("-N success,delay bob", {"notify": "SUCCESS,DELAY"}),
        ("-Nnever bob", {"notify": "NEVER"}),
        ("-N never,failure bob", {"error": True}),
        ("-N often bob", {"error": True}),
        ("-R full bob", {"ret": "FULL"}),
        ("-Rhdrs bob", {"ret": "HDRS"}),
        ("-R all bob", {"error": True}),
        ("-V a+b bob", {"envid": "a+2Bb"}),
        ("-V é bob", {"error": True}),
        ("-bm bob", {"mode": "m"}),
        ("-b s", {"mode": "s"}),
        ("-bs", {"mode": "s"}),
        ("-ba", {"mode": "s"}),
        ("-bp", {"mode": "p"}),
        ("-bi", {"mode": "i"}),
        ("-I", {"mode": "i"}),
        ("-bv bob", {"mode": "v"}),
        ("-bd", {"mode": "d"}),
        ("-bd -q15m", {"error": True}),
        ("-bt", {"error": True}),
        ("-q", {"mode": "q"}),
        ("-q15m", {"mode": "q"}),
        ("-qIabc", {"mode": "q"}),
        ("-odi bob", {"delivery": "i"}),
        ("-odb bob", {"delivery": "b"}),
        ("-odq bob", {"delivery": "q"}),
        ("-odd bob", {"delivery": "q"}),
        ("-ODeliveryMode=q bob", {"delivery": "q"}),
        ("-O DeliveryMode=interactive bob", {"delivery": "i"}),
        ("-oem -oep -oew -om -o7 -o8 -oT5d -oA/etc/aliases -ozz bob", {"addresses": ["bob"]}),
        ("-em -e p -ew bob", {"addresses": ["bob"]}),
        ("-OTimeout.queuereturn=5d -O Whatever=1 bob", {"addresses": ["bob"]}),
        ("-B 7bit -U -G -n -m -s -c -x -v bob", {"addresses": ["bob"], "verbose": True}),
        ("-L tag -Ltag -X /dev/null -A c -Am -h 5 -h5 -M x -p smtp -D /dev/null -T1d bob", {"addresses": ["bob"]}),
        ("-d bob", {"addresses": ["bob"]}),
        ("-d0.1 bob", {"addresses": ["bob"]}),
        ("-C/etc/mailtools.toml bob", {"config": "/etc/mailtools.toml"}),
        ("-C x.toml bob", {"config": "x.toml"}),
        ("--root /srv --domain=a --domain b --alias-commands bob",
         {"long": {"root": "/srv", "domain": ["a", "b"], "alias-commands": True}, "addresses": ["bob"]}),
        ("--alias-commands=yes", {"error": True}),
        ("--rot /srv bob", {"error": True}),
        ("--root", {"error": True}),
        ("-f", {"error": True}),
        ("-Z bob", {"error": True}),
    ],
)  # fmt: skip
def test_spellings(line: str, expected: dict[str, object]) -> None:
    if expected.get("error"):
        with pytest.raises(UsageError):
            _run_modes(parse(line.split()))
        return
    found = parse(line.split())
    assert {name: getattr(found, name) for name in expected} == expected


def _run_modes(options: Options) -> None:
    """What -bd and -q are together is told when they are run."""
    if options.mode in ("d", "q"):
        raise UsageError("a server")


def test_an_empty_value_is_one() -> None:
    assert parse(["-f", "", "bob"]).sender == ""


# -- where it goes ------------------------------------------------------------------------------------------


def test_a_local_name(house: House) -> None:
    house.run("bob")
    (message,) = house.inbox("bob")
    lines = message.decode().split("\n")
    assert lines[0] == f"Return-Path: <{ME}@{HOST}>"
    assert lines[1] == f"Delivered-To: bob@{HOST}"
    assert lines[2] == f"Received: by {HOST} (mailtools, from userid {os.getuid()})"
    assert lines[4] == "Subject: test"
    assert {line.partition(":")[0] for line in lines[5:8]} == {"From", "Date", "Message-ID"}
    assert message.endswith(b"\n\nHello\n")
    assert not house.queued()


@pytest.mark.parametrize(
    "arguments",
    [["ann@example.org", "bob@example.com"], ["ann@example.org, bob@example.com"], ["ann@example.org bob@example.com"],
     ["Ann <ann@example.org>,bob@example.com"], ['"B, C" <ann@example.org>', "(c) bob@example.com"],
     ["ann@example.org", "bob@example.com", "ann@example.org"]],
)  # fmt: skip
def test_addresses_elsewhere(house: House, arguments: list[str]) -> None:
    house.run("-f", "me@here.example", *arguments)
    ((envelope, message),) = house.queued()
    assert envelope.reverse_path == "me@here.example"
    assert [recipient.address for recipient in envelope.recipients] == ["ann@example.org", "bob@example.com"]
    assert message.startswith(b"Received: by ")
    assert message.endswith(b"\n\nHello\n")
    assert envelope.stored == len(message)
    assert str(os.getuid()) in envelope.origin


def test_names_between_spaces(house: House) -> None:
    house.run("ann bob")
    assert house.inbox("ann")
    assert house.inbox("bob")


def test_here_and_elsewhere(house: House) -> None:
    house.run("bob", f"ann@{HOST.upper()}", "eve@localhost", "x@example.org")
    assert all(len(house.inbox(name)) == 1 for name in ("bob", "ann", "eve"))
    ((envelope, _),) = house.queued()
    assert [recipient.address for recipient in envelope.recipients] == ["x@example.org"]


def test_recipients_of_the_header_and_the_arguments(house: House) -> None:
    fields = b"To: ann, Bob <bob@example.org>\nCc: eve\nBcc: x@example.com\nSubject: t\n"
    house.run("-t", "zoe", stdin=fields + b"\nHi\n")
    assert all(house.inbox(name) for name in ("ann", "eve", "zoe"))
    ((envelope, message),) = house.queued()
    assert {recipient.address for recipient in envelope.recipients} == {"bob@example.org", "x@example.com"}
    assert b"Bcc" not in message
    assert f"To: ann@{HOST}, Bob <bob@example.org>\nCc: eve@{HOST}\n".encode() in message


def test_resent_fields_count_before_others(house: House) -> None:
    house.run("-t", stdin=b"To: ann\nResent-To: bob\nResent-From: x@y\n\nHi\n")
    assert house.inbox("bob")
    assert not house.inbox("ann")


def test_blind_copies_are_hidden_without_t_too(house: House) -> None:
    house.run("bob", stdin=b"Bcc: ann\n\nHi\n")
    assert b"Bcc" not in house.inbox("bob")[0]
    assert not house.inbox("ann")


@pytest.mark.parametrize(
    ("arguments", "reverse_path"),
    [([], f"{ME}@{HOST}"), (["-f", "a@b"], "a@b"), (["-f", ""], ""), (["-f<>"], ""), (["-rroot"], f"root@{HOST}"),
     (["-f", "Ann <ann@b>"], "ann@b"), (["--origin", "example.org"], f"{ME}@example.org")],
)  # fmt: skip
def test_the_sender_is_not_of_the_header(house: House, arguments: list[str], reverse_path: str) -> None:
    house.run(*arguments, "x@example.com", stdin=b"From: spoof@example.net\n\nHi\n")
    ((envelope, message),) = house.queued()
    assert envelope.reverse_path == reverse_path
    assert b"From: spoof@example.net\n" in message


def test_what_was_said_of_notices_is_kept(house: House) -> None:
    house.run("-Ndelay,failure", "-Rhdrs", "-V", "id=1", "x@example.com")
    ((envelope, _),) = house.queued()
    assert (envelope.ret, envelope.envid) == ("HDRS", "id+3D1")
    assert envelope.recipients[0].notify == "DELAY,FAILURE"


def test_who_wants_to_hear_of_success_is_told_by_a_run(house: House) -> None:
    house.run("-Nsuccess", "bob")
    assert not house.inbox("bob")
    assert [r.notify for r in house.queued()[0][0].recipients] == ["SUCCESS"]


def test_aliases(house: House) -> None:
    (house.folder / "aliases").write_text("root: bob, x@example.org\nall: ann, bob\nlog: |cat>out\n")
    house.run("--aliases", str(house.folder / "aliases"), "root", "all")
    assert len(house.inbox("bob")) == 1
    assert f"Delivered-To: root@{HOST}\nDelivered-To: all@{HOST}\n".encode() in house.inbox("bob")[0]
    assert len(house.inbox("ann")) == 1
    assert [r.address for r in house.queued()[0][0].recipients] == ["x@example.org"]


def test_an_alias_that_is_a_program(house: House, open_folder: Path) -> None:
    out = open_folder / "out"
    (house.folder / "aliases").write_text(f'log: "|cat >{out}", bob\n')
    house.run("--aliases", str(house.folder / "aliases"), "--alias-commands", "log")
    assert out.read_bytes().endswith(b"\n\nHello\n")
    assert out.read_bytes().count(b"Received: by") == 1
    assert len(house.inbox("bob")) == 1


def test_the_sender_gets_a_report_of_an_unknown_name_beside_others(house: House) -> None:
    house.root.mkdir()
    (house.root / "users").write_text("bob:\n")
    house.run("bob", "nobody")
    assert house.inbox("bob")
    ((envelope, report),) = house.queued()
    assert (envelope.reverse_path, [r.address for r in envelope.recipients]) == ("", [f"{ME}@{HOST}"])
    assert f"Final-Recipient: rfc822; nobody@{HOST}\nAction: failed\nStatus: 5.1.1".encode() in report


def test_users_and_tags(house: House) -> None:
    house.root.mkdir()
    (house.root / "users").write_text("# ours\nBob:{PLAIN}x\n")
    house.run("--plus-delimiter=+", "BOB+tag")
    house.run("--catch-all", "bob", "anybody")
    assert len(house.inbox("bob")) == 2


def test_a_locked_mbox_leaves_it_to_the_queue(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailtools.services.submission import sendmail

    monkeypatch.setattr(sendmail, "_LOCK_TIMEOUT", 0.0)
    house.run("bob")
    (house.root / "bob" / "INBOX.mbox.lock").write_text(f"{os.getppid()}\n")
    post = sendmail.Post(SendmailSettings(str(house.root)), User(0, "root"))
    given = sendmail.Submission((post.names.address("bob"),))
    accepted = post.accept(sendmail.read_message([MESSAGE]), given)
    assert accepted.is_queued
    assert [r.address for r in house.queued()[0][0].recipients] == [f"bob@{HOST}"]


# -- the message --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "body"), [(["-i"], b"a\n.\nb\n"), (["-oi"], b"a\n.\nb\n"), ([], b"a\n"), (["-t"], b"a\n")]
)
def test_a_dot(house: House, arguments: list[str], body: bytes) -> None:
    house.run(*arguments, "bob", stdin=b"To: bob\n\na\n.\nb\n")
    assert house.inbox("bob")[0].partition(b"\n\n")[2] == body


def test_text_without_a_header(house: House) -> None:
    house.run("bob", stdin=b"disk is full\nTo: nobody\n\nX: y\n")
    assert house.inbox("bob")[0].partition(b"\n\n")[2] == b"disk is full\nTo: nobody\n\nX: y\n"


def test_octets_stay(house: House) -> None:
    body = b"\xff\xfe Gr\xc3\xbc\xc3\x9fe\nFrom here\n>From there\n" + b"x" * 5000 + b"\n"
    house.run("-i", "bob", "x@example.org", stdin=b"Subject: t\nStatus: RO\nX-UID: 7\n\n" + body)
    assert house.inbox("bob")[0].endswith(b"\n\n" + body)
    assert b">Status: RO" in (house.root / "bob/INBOX.mbox").read_bytes()
    ((envelope, message),) = house.queued()
    assert message.endswith(b"\n\n" + body)
    assert envelope.needs_8bit


def test_a_large_message(house: House) -> None:
    body = b"From a line of text that is somewhat long\n" * 20000
    house.run("-i", "bob", "x@example.org", stdin=b"Subject: t\n\n" + body)
    assert house.inbox("bob")[0].endswith(b"\n\n" + body)
    assert house.queued()[0][1].endswith(b"\n\n" + body)


def test_nothing_at_all_is_a_message(house: House) -> None:
    house.run("bob", stdin=b"")
    assert house.inbox("bob")[0].endswith(b"\n\n")


def test_a_poor_environment(house: House) -> None:
    environment = {"MAILTOOLS_ROOT": str(house.root), "HOME": "/", "PATH": "/usr/bin:/bin", "LANG": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "mailtools.sendmail", "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"],
        input=b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@h> caf\xe9\n\n\xe9\n",
        env=environment, cwd="/", check=False, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (message,) = house.inbox("root")
    assert f"\nFrom: root@{HOST} (Cron Daemon)\nTo: root@{HOST}\n".encode() in message


# -- exit codes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "arguments", "stdin", "says"),
    [
        (64, [], MESSAGE, b"no recipients"),
        (64, ["-bd"], b"", b"serve-smtp"),
        (64, ["-Z"], b"", b"no such option"),
        (64, ["not an address@"], MESSAGE, b"not an address"),
        (64, ["bob@x\ny"], MESSAGE, b"not an address"),
        (64, ["a@b@c"], MESSAGE, b"not an address"),
        (64, ["-f", "x y@z w", "bob"], MESSAGE, b"one address"),
        (64, ['"bob ann@x'], MESSAGE, b"not an address"),
        (64, ["Bob, <ann@x"], MESSAGE, b"not an address"),
        (64, ["undisclosed-recipients:;"], MESSAGE, b"no recipients"),
        (64, ["-bv"], b"", b"name the addresses"),
        (65, ["bob"], b"Subject: x\n\n\0\n", b"NUL"),
        (65, ["-t"], b"Subject: x\n\nhi\n", b"no recipients"),
        (65, ["-t"], b"To: bob@@x\n\nhi\n", b"not an address"),
        (65, ["bob"], b"A: b\n" * 250_000, b"larger"),
        (67, ["--users", "USERS", "nobody"], MESSAGE, b"nobody"),
        (67, ["--users", "USERS", "nobody", "noone"], MESSAGE, b"noone"),
        (69, ["bob"], b"Received: x\n" * 101 + b"\nhi\n", b"loop"),
        (73, ["--root", "/proc/nowhere", "bob"], MESSAGE, b"/proc/nowhere"),
        (73, ["--spool", "/proc/nowhere", "x@example.org"], MESSAGE, b"/proc/nowhere"),
        (78, ["--users", "/nowhere", "bob"], MESSAGE, b"/nowhere"),
        (78, ["-C", "/nowhere", "bob"], MESSAGE, b"/nowhere"),
    ],
)  # fmt: skip
def test_exit_codes(house: House, code: int, arguments: list[str], stdin: bytes, says: bytes) -> None:
    (house.folder / "users").write_text("bob:\n")
    arguments = [str(house.folder / "users") if word == "USERS" else word for word in arguments]
    done = house.run(*arguments, stdin=stdin, code=code)
    assert says in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert house.nothing()


def test_octets_of_no_encoding_are_no_address(house: House) -> None:
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"mailtools.sendmail", b"b\xff@example.org"], input=MESSAGE,
        env=house.environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 64
    assert house.nothing()


def test_no_stdin(house: House) -> None:
    line = f"exec {sys.executable} -m mailtools.sendmail bob <&-"
    done = subprocess.run(["sh", "-c", line], env=house.environment, capture_output=True, check=False)
    assert done.returncode == 66
    assert house.nothing()


def test_no_stream_at_all(house: House) -> None:
    line = f"exec {sys.executable} -m mailtools.sendmail -bi <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], env=house.environment, check=False).returncode == 0
    line = f"exec {sys.executable} -m mailtools.sendmail bob >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], env=house.environment, input=MESSAGE, check=False)
    assert done.returncode == 0
    assert house.inbox("bob")[0].endswith(b"Hello\n")


def test_a_terminal_sees_no_controls(house: House) -> None:
    done = house.run("\x1b[31m@x y", code=64)
    assert b"\x1b" not in done.stderr


# -- configuration ------------------------------------------------------------------------------------------


@pytest.fixture
def configured(house: House) -> Callable[[str], House]:
    def write(text: str) -> House:
        folder = house.folder / ".config" / "mailtools"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(text)
        return house

    return write


def test_the_configuration_is_read(configured: Callable[[str], House]) -> None:
    house = configured('spool = "/nowhere"\n[sendmail]\nspool = "SPOOL"\ndomain = ["ours.example"]\n')
    path = house.folder / ".config/mailtools/config.toml"
    path.write_text(path.read_text().replace("SPOOL", str(house.root / ".spool")))
    house.run("bob@ours.example", f"ann@{HOST}")
    assert house.inbox("bob")
    assert house.queued()


def test_the_command_reads_the_same_configuration(configured: Callable[[str], House]) -> None:
    house = configured('[sendmail]\ndomain = "ours.example"\norigin = "ours.example"\n')
    done = mailtools("sendmail", "-odq", "-i", "bob", "x@example.org", stdin=MESSAGE, env=house.environment)
    assert done.returncode == 0, done.stderr
    assert b"Delivered-To: bob@ours.example\n" in house.inbox("bob")[0]
    assert house.queued()[0][0].reverse_path == f"{ME}@ours.example"


def test_a_configuration_that_is_named(house: House) -> None:
    path = house.folder / "named.toml"
    path.write_text('[sendmail]\norigin = "named.example"\n')
    for words in (("-C", str(path), "sendmail"), ("sendmail", "-C", str(path))):
        done = mailtools(*words, "-odq", "x@example.org", stdin=MESSAGE, env=house.environment)
        assert done.returncode == 0, done.stderr
    house.run("-C", str(path), "x@example.org")
    assert [envelope.reverse_path for envelope, _ in house.queued()] == [f"{ME}@named.example"] * 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sendmail]\n\ndomian = ['x']\n", b"line 3: unknown key 'sendmail.domian'; did you mean 'domain'?"),
        ("[sendmail]\nroot = 3\n", b"root: not a string"),
        ("[sendmail\n", b"not TOML"),
        ("sendmail = 1\n", b"[sendmail]"),
    ],
)
def test_a_broken_configuration_is_told(configured: Callable[[str], House], text: str, says: bytes) -> None:
    assert says in configured(text).run("bob", code=78).stderr


def test_the_environment_comes_before_the_file(configured: Callable[[str], House]) -> None:
    house = configured('[sendmail]\norigin = "a.example"\n')
    os.environ["MAILTOOLS_SENDMAIL_ORIGIN"] = "b.example"
    try:
        environment = house.environment | {"MAILTOOLS_SENDMAIL_ORIGIN": "b.example"}
        mailtools("sendmail", "-odq", "x@example.org", stdin=MESSAGE, env=environment)
        subprocess.run(
            [sys.executable, "-m", "mailtools.sendmail", "-odq", "x@example.org"], input=MESSAGE,
            env=environment, check=True,
        )  # fmt: skip
    finally:
        del os.environ["MAILTOOLS_SENDMAIL_ORIGIN"]
    assert [envelope.reverse_path for envelope, _ in house.queued()] == [f"{ME}@b.example"] * 2


# -- other modes --------------------------------------------------------------------------------------------


def test_verify(house: House) -> None:
    (house.folder / "users").write_text("bob:\n")
    done = house.run("--users", str(house.folder / "users"), "-bv", "bob", "x@example.org")
    assert f"bob@{HOST}... deliverable: local, ".encode() in done.stdout
    assert b"x@example.org... deliverable: by the queue\n" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "mailtools.sendmail", "--users", str(house.folder / "users"), "-bv", "eve"],
        env=house.environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 67
    assert b"eve... undeliverable: No such user here\n" in done.stdout


def session(house: House, *lines: bytes) -> list[bytes]:
    done = house.run("-bs", stdin=b"\r\n".join((*lines, b"")))
    return done.stdout.splitlines()


def test_a_session(house: House) -> None:
    replies = session(
        house, b"EHLO me", b"MAIL FROM:<me@here.example> ENVID=e1", b"RCPT TO:<bob@localhost>",
        b"RCPT TO:<x@example.org> NOTIFY=NEVER", b"DATA", b"Subject: t", b"", b"..", b"hi", b".", b"QUIT",
    )  # fmt: skip
    codes = [line[:3] for line in replies if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert house.inbox("bob")[0].endswith(b"\n\n.\nhi\n")
    ((envelope, _),) = house.queued()
    assert (envelope.reverse_path, envelope.envid) == ("me@here.example", "e1")


def test_a_session_refuses_whom_nobody_knows(house: House) -> None:
    house.root.mkdir()
    (house.root / "users").write_text("bob:\n")
    replies = session(
        house, b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<eve@localhost>", b"RCPT TO:<bob@localhost>"
    )
    assert [line[:3] for line in replies] == [b"220", b"250", b"250", b"550", b"250"]
    assert house.nothing()


def test_a_session_ends_loops(house: House) -> None:
    fields = [b"Received: x"] * 101
    replies = session(
        house, b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<bob@localhost>", b"DATA", *fields, b"", b".", b"QUIT"
    )
    assert replies[-2].startswith(b"554 5.4.6 ")
    assert house.nothing()


def test_a_session_that_is_cut_leaves_nothing(house: House) -> None:
    session(house, b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<bob@localhost>", b"DATA", b"Subject: half")
    assert house.nothing()


def test_names_of_the_program(house: House, tmp_path: Path) -> None:
    from mailtools.commands.sendmail import main

    for name in ("mailq", "newaliases"):
        (tmp_path / name).write_text("from mailtools.sendmail import run\nrun()\n")
    done = subprocess.run([sys.executable, tmp_path / "newaliases"], env=house.environment, check=False)
    assert done.returncode == 0
    assert main._PERSONALITIES["mailq"] == "p"


def test_the_program_is_a_script_without_an_import_of_its_own(house: House) -> None:
    root = Path(__file__).parents[3]
    script = root / "bin" / "mailtools-sendmail"
    lines = script.read_text().splitlines()
    assert lines[0] == "#!python"  # what pip replaces by the interpreter it installs for
    assert [line for line in lines if "import" in line and line[0] != "#"] == [
        "from mailtools.sendmail import run"
    ]
    environment = house.environment | {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, str(script), "bob"], env=environment, input=MESSAGE, check=True)
    assert house.inbox("bob")


def test_what_heavy_programs_do_not_load(house: House) -> None:
    """Start-up is most of a message's time."""
    line = (
        "import sys, os; before = set(sys.modules); import mailtools.sendmail; os._exit = lambda code: None; sys.argv[1:] = ['-odq', '%s'];"
        "mailtools.sendmail.run(); print(*(set(sys.modules) - before))"
    )
    for recipient in ("bob", "x@example.org"):
        done = subprocess.run(
            [sys.executable, "-c", line % recipient], env=unmeasured(house.environment), input=MESSAGE,
            capture_output=True, check=True,
        )  # fmt: skip
        loaded = set(done.stdout.decode().split())
        heavy = {
            "click",
            "asyncio",
            "ssl",
            "hashlib",
            "json",
            "re",
            "socket",
            "struct",
            "threading",
            "typing",
            "subprocess",
            "argon2",
            "cryptography",
            "email",
        }
        assert not loaded & heavy
    assert house.inbox("bob")
    assert house.queued()


# -- the queue ----------------------------------------------------------------------------------------------


def runs(house: House, delivery: str, *arguments: str) -> Sequence[str]:
    """What a run of the queue is started with; the runner here is a script that tells."""
    told = house.folder / "told"
    script = house.folder / "python"
    script.write_text(
        f'#!/bin/sh\nreadlink /proc/$$/fd/0 /proc/$$/fd/2 >{told}.fds\n'
        f'ps -o sid= -p $$ >{told}.sid\necho "$@" >{told}.new\nmv {told}.new {told}\n'
    )  # fmt: skip
    script.chmod(0o755)
    line = (
        f"import sys; import mailtools.sendmail as m; sys.executable = {str(script)!r};"
        f"sys.argv[1:] = {[delivery, *arguments]!r}; m.run()"
    )
    read, write = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-c", line], env=house.environment, input=MESSAGE, check=True, pass_fds=(write,)
        )
    finally:
        os.close(write)
    assert os.read(read, 1) == b""  # nobody holds the caller's pipe: else we would wait here
    os.close(read)
    return [str(told), str(script)]


def test_a_run_is_started_apart(house: House) -> None:
    from tests.servers import eventually

    told = Path(runs(house, "-odb", "--domain", "ours.example", "x@example.org")[0])
    eventually(told.exists, "the run")
    words = told.read_text().split()
    assert words[:5] == ["-P", "-m", "mailtools", "queue", "run"]
    assert words[5:] == ["--once", "--root", str(house.root), "--spool", str(house.root / ".spool"), "--domain",
                         "ours.example"]  # fmt: skip
    assert Path(f"{told}.fds").read_text().split() == ["/dev/null", "/dev/null"]
    assert int(Path(f"{told}.sid").read_text()) != os.getsid(0)


def test_a_run_in_front_is_waited_for(house: House) -> None:
    assert Path(runs(house, "-odi", "x@example.org")[0]).exists()


def test_no_run_for_mail_that_is_delivered(house: House) -> None:
    assert not Path(runs(house, "-odi", "bob")[0]).exists()


def test_json_of_the_journal_is_one_line(house: House) -> None:
    house.run("-f", 'x"y@example.org', "z@example.org", code=64)
    house.run("-f", '"x y"@example.org', "z@example.org")
    (path,) = (house.root / ".spool/incoming").iterdir()
    assert json.loads(path.read_text())["reverse_path"] == '"x y"@example.org'


def test_the_queue_is_listed_and_run(house: House) -> None:
    house.run("bob", "x@example.org")
    assert b"x@example.org" in house.run("-bp").stdout
    assert b"empty" not in house.run("-bp").stdout


def test_the_sender_is_told_whom_nobody_knows(house: House) -> None:
    house.root.mkdir()
    (house.root / "users").write_text("bob:\nann:\n")
    house.run("-f", "bob", "ann", "nobody", queue="-odi")
    assert len(house.inbox("ann")) == 1
    subprocess.run([sys.executable, "-m", "mailtools.sendmail", "-q"], env=house.environment, check=True)
    (notice,) = house.inbox("bob")
    assert f"Final-Recipient: rfc822; nobody@{HOST}\n".encode() in notice
    assert not house.queued()


# -- recipients that are no addresses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "good", "bad"),
    [
        (
            b"To: <bob@a.test> <carol@a.test>, dave@a.test\n",
            ["dave@a.test"],
            [b"<bob@a.test> <carol@a.test>"],
        ),
        (b"To: dave@a.test\nCc: Eve Smith eve@a.test\n", ["dave@a.test"], [b"Eve Smith eve@a.test"]),
        (
            b"To: dave@a.test, bob@@x, a@[<x>]\nBcc: eve@a.test\n",
            ["dave@a.test", "eve@a.test"],
            [b"bob@@x", b"a@["],
        ),
    ],
)
def test_with_t_the_good_recipients_get_it_and_the_sender_hears_of_the_rest(
    house: House, header: bytes, good: list[str], bad: list[bytes]
) -> None:
    house.run("-t", "-f", "ann@a.test", stdin=header + b"Subject: lunch\n\nhi\n")
    found = {envelope.reverse_path: (envelope, octets) for envelope, octets in house.queued()}
    assert [r.address for r in found["ann@a.test"][0].recipients] == good
    notice, octets = found[""]
    assert [r.address for r in notice.recipients] == ["ann@a.test"]
    assert b"Action: failed" in octets
    assert b"Status: 5.1.3" in octets
    assert b"Subject: lunch" in octets
    for entry in bad:
        assert entry in octets.replace(b"\n\t", b"").replace(b"\n ", b" ")


def test_an_argument_that_is_no_address_does_not_stop_the_others(house: House) -> None:
    house.run("-f", "ann@a.test", "bob@a.test", "x y@@z", "carol@a.test")
    found = {envelope.reverse_path: (envelope, octets) for envelope, octets in house.queued()}
    assert [r.address for r in found["ann@a.test"][0].recipients] == ["bob@a.test", "carol@a.test"]
    assert b"x y@@z" in found[""][1]


def test_without_a_good_recipient_nothing_is_sent(house: House) -> None:
    for arguments, stdin, code in (
        (["-t"], b"To: <a@x> <b@x>\n\nhi\n", 65),
        (["-t"], b"To: zoe q@x\n\nhi\n", 65),
        (["zoe@@x"], MESSAGE, 64),
    ):
        assert b"not an address" in house.run(*arguments, stdin=stdin, code=code).stderr
    assert house.nothing()


def test_nobody_is_told_at_the_null_reverse_path(house: House) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mailtools.sendmail", "-odq", "-f", "<>", "-t"],
        input=b"To: dave@a.test, <a@x> <b@x>\n\nhi\n", capture_output=True, check=False, env=house.environment,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"nobody to tell" in done.stderr
    ((envelope, _),) = house.queued()
    assert [r.address for r in envelope.recipients] == ["dave@a.test"]
