"""``send``: what goes over the wire, what is printed, which exit code says how it went."""

import email
import email.utils
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.servers import DEADLINE, Scripted, Server, mailtools
from tests.spools import queue_run

MESSAGE = (
    b"From: ann@example.org\nTo: bob@example.org\nDate: Thu, 22 Aug 2002 12:00:00 +0000\n"
    b"Message-ID: <1@x>\nSubject: hi\n\nbody\n"
)
WIRE = MESSAGE.replace(b"\n", b"\r\n")
PLAIN_EHLO = b"250 test\r\n"


def send(server: Scripted, *args: str, message: bytes = MESSAGE, **env: str):  # type: ignore[no-untyped-def]
    return mailtools("send", "--host", "127.0.0.1", "--port", str(server.port), *args, stdin=message, env=env)


def bodies(server: Scripted) -> list[bytes]:
    return [message.partition(b"\r\n\r\n")[2] for message in server.messages]


def an_mbox(path: Path, *messages: bytes) -> str:
    path.write_bytes(b"".join(b"From x Thu Aug 22 12:00:00 2002\n" + m + b"\n" for m in messages))
    return str(path)


def numbered(*numbers: int) -> list[bytes]:
    return [MESSAGE + b"number %d\n" % number for number in numbers]


# -- exit codes at every stage -----------------------------------------------------------------------------

STAGES = {
    "all well": ({}, 0),
    "greeting 4yz": ({"greeting": b"421 4.3.2 busy\r\n"}, 75),
    "greeting 5yz": ({"greeting": b"554 no service here\r\n"}, 69),
    "greeting refused by policy": ({"greeting": b"554 5.7.1 not you\r\n"}, 77),
    "EHLO and HELO refused": ({"EHLO": b"502 no\r\n", "HELO": b"502 no\r\n"}, 69),
    "EHLO 4yz": ({"EHLO": b"451 4.3.0 later\r\n"}, 75),
    "MAIL 4yz": ({"MAIL": b"451 4.3.0 later\r\n"}, 75),
    "MAIL 5yz": ({"MAIL": b"550 5.1.8 no such sender\r\n"}, 69),
    "MAIL needs a login": ({"MAIL": b"530 5.7.0 authentication required\r\n"}, 77),
    "MAIL too large": ({"MAIL": b"552 5.3.4 too large\r\n"}, 65),
    "RCPT 4yz": ({"RCPT": b"450 4.2.0 greylisted\r\n"}, 75),
    "RCPT 5yz": ({"RCPT": b"550 5.1.1 no such user\r\n"}, 67),
    "RCPT against policy": ({"RCPT": b"554 5.7.1 relaying denied\r\n"}, 77),
    "DATA 4yz": ({"DATA": b"451 4.3.0 later\r\n"}, 75),
    "DATA 5yz": ({"DATA": b"554 5.5.1 no\r\n"}, 69),
    "after DATA 4yz": ({"end": b"452 4.3.1 full\r\n"}, 75),
    "after DATA 5yz": ({"end": b"554 5.6.0 spam\r\n"}, 65),
    "greeting garbage": ({"greeting": b"SSH-2.0-OpenSSH_9\r\n"}, 76),
    "reply garbage": ({"MAIL": b"hello there\r\n"}, 76),
    "codes that differ within a reply": ({"EHLO": b"250-a\r\n251 b\r\n"}, 76),
    "a positive reply where a 354 belongs": ({"DATA": b"250 ok\r\n"}, 76),
    "a reply line without end": ({"MAIL": b"250 " + b"x" * 100_000}, 76),
    "a reply of lines without end": ({"EHLO": b"250-x\r\n" * 5000}, 76),
    "closed without a greeting": ({"greeting": None}, 75),
    "closed at EHLO": ({"EHLO": None}, 75),
    "closed at MAIL": ({"MAIL": None}, 75),
    "closed after half a reply": ({"MAIL": lambda sock: sock.sendall(b"250 o")}, 75),
    "421 at any time": ({"RCPT": b"421 4.3.2 shutting down\r\n"}, 75),
    "closed after the final dot": ({"end": None}, 75),
    "half a reply after the final dot": ({"end": lambda sock: sock.sendall(b"2")}, 75),
    "garbage after the final dot": ({"end": b"\xff\xfe\r\n"}, 75),
    "QUIT never answered": ({"QUIT": None}, 0),
    "QUIT refused": ({"QUIT": b"500 what?\r\n"}, 0),
}  # fmt: skip


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("stage", STAGES)
def test_exit_codes(stage: str, ehlo: bytes) -> None:
    answers, code = STAGES[stage]
    with Scripted(**({"EHLO": ehlo} | answers)) as server:  # type: ignore[dict-item]
        done = send(server)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    assert done.stdout.startswith(
        b"sent\tbob@example.org\t250" if code == 0 else b"failed\tbob@example.org\t"
    )
    assert done.stdout.count(b"\n") == 1
    if answers not in ({}, {"QUIT": None}, {"QUIT": b"500 what?\r\n"}) and not stage.startswith(
        ("after DATA", "closed after the final", "half a reply after", "garbage after")
    ):
        assert not any(server.messages), "nothing may have been sent"


def test_a_connection_lost_after_the_final_dot_says_what_is_not_known() -> None:
    with Scripted(end=None) as server:
        done = send(server)
    assert done.returncode == 75
    assert b"may have been delivered" in done.stdout


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    done = mailtools("send", "--host", "127.0.0.1", "--port", str(port), stdin=MESSAGE)
    assert done.returncode == 75
    assert b"Connection refused" in done.stdout


def test_an_unknown_host() -> None:
    done = mailtools("send", "--host", "no-such-host.invalid", stdin=MESSAGE)
    assert done.returncode in (68, 75)  # 75 where no name server can be asked
    assert b"no-such-host.invalid" in done.stdout
    assert mailtools("send", "--host", "a..b", stdin=MESSAGE).returncode == 68


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "DATA", "end"])
def test_a_server_that_falls_silent(stage: str) -> None:
    with Scripted(**{stage: lambda sock: time.sleep(DEADLINE)}) as server:  # type: ignore[arg-type]
        done = send(server, "--timeout", "200ms")
    assert done.returncode == 75
    assert b"did not answer within 0.2 seconds" in done.stdout


def test_a_server_of_before_extensions() -> None:
    with Scripted(EHLO=b"500 5.5.1 what?\r\n") as server:
        assert send(server).returncode == 0
    assert [c[:4] for c in server.commands] == [b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]
    assert server.commands[2] == b"MAIL FROM:<ann@example.org>\r\n"
    assert server.messages == [WIRE]


def test_replies_of_many_lines_and_of_bare_newlines() -> None:
    with Scripted(greeting=b"220-hello\r\n220 you\r\n", EHLO=b"250-test\n250 SIZE\n") as server:
        assert send(server).returncode == 0
    assert b" SIZE=" in server.commands[1]


# -- one refused recipient ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(
    ("refusal", "code"), [(b"550 5.1.1 no such user\r\n", 67), (b"450 4.2.1 later\r\n", 75)]
)
def test_one_refused_recipient_fails_the_whole_message(ehlo: bytes, refusal: bytes, code: int) -> None:
    ok = b"250 2.1.5 ok\r\n"
    with Scripted(EHLO=ehlo, RCPT=[ok, refusal, ok]) as server:
        done = send(server, "a@x", "b@x", "c@x")
    assert done.returncode == code
    assert server.messages == []
    assert b"DATA\r\n" not in server.commands
    assert b"RSET\r\n" in server.commands
    lines = [line.split(b"\t") for line in done.stdout.splitlines()]
    assert [(line[0], line[1]) for line in lines] == [(b"failed", a) for a in (b"a@x", b"b@x", b"c@x")]
    assert lines[1][2] == refusal[:3]
    assert b"another recipient" in lines[0][3]


def test_a_server_that_closes_when_it_refuses_does_not_change_the_verdict(tmp_path: Path) -> None:
    """Some close instead of answering RSET: the refusal stands, and the next message gets its turn."""
    mbox = an_mbox(tmp_path / "m", *numbered(1, 2, 3))
    ok = b"250 2.1.5 ok\r\n"
    with Scripted(RCPT=[ok, b"550 5.1.1 no such user\r\n", ok], RSET=None) as server:
        done = send(server, "--mbox", mbox)
    assert done.returncode == 67, done.stdout
    assert [line.split(b"\t")[0] for line in done.stdout.splitlines()] == [b"sent", b"failed", b"sent"]
    assert [body[-4:] for body in bodies(server) if body] == [b" 1\r\n", b" 3\r\n"]


def test_temporary_failures_win(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(1, 2, 3))
    with Scripted(end=[b"554 5.6.0 spam\r\n", b"451 4.3.0 later\r\n", b"554 5.6.0 spam\r\n"]) as server:
        assert send(server, "--mbox", mbox).returncode == 75
    with Scripted(end=[b"250 ok\r\n", b"554 5.6.0 spam\r\n", b"250 ok\r\n"]) as server:
        assert send(server, "--mbox", mbox).returncode == 65


# -- an mbox -----------------------------------------------------------------------------------------------


def test_a_bad_message_does_not_keep_the_others_back(tmp_path: Path) -> None:
    one, two = numbered(1, 2)
    mbox = an_mbox(
        tmp_path / "m", one, b"To: a@x\n\nn\0l\n", b"To: a@x\n\nbare\rcr\n", b"Subject: x\n\ny\n", two
    )
    with Scripted() as server:
        done = send(server, "--mbox", mbox)
    assert done.returncode == 65
    assert [body[-4:] for body in bodies(server)] == [b" 1\r\n", b" 2\r\n"]
    assert server.connections == 1
    errors = done.stderr.decode().splitlines()
    assert [error.split(":")[2] for error in errors] == [" message 2", " message 3", " message 4"]
    assert "NUL" in errors[0] and "CR" in errors[1] and "no recipients" in errors[2]


@pytest.mark.parametrize("octets", [b"a\0b", b"a\rb", b"end\r"])
def test_what_smtp_cannot_carry_on_stdin(octets: bytes) -> None:
    with Scripted() as server:
        done = send(server, message=MESSAGE + octets)
    assert (done.returncode, server.messages) == (65, [])
    assert b"standard input" in done.stderr


def test_many_messages_over_one_connection(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(*range(200)))
    with Scripted() as server:
        done = send(server, "--mbox", mbox)
    assert done.returncode == 0, done.stderr
    assert server.connections == 1
    assert bodies(server) == [b"body\r\nnumber %d\r\n" % number for number in range(200)]
    assert done.stdout.count(b"sent\t") == 200


class Tired(Scripted):
    """Takes *most* messages a connection, then leaves in its own way."""

    def __init__(self, most: int, farewell: bytes | None, ehlo: bytes) -> None:
        taken = [0]

        def mail(sock: socket.socket) -> bytes | None:
            taken[0] += 1
            return farewell if taken[0] > most else b"250 ok\r\n"

        def greet(_: socket.socket) -> bytes:
            taken[0] = 0
            return b"220 test\r\n"

        super().__init__(greeting=greet, MAIL=mail, EHLO=ehlo)


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("farewell", [None, b"421 4.7.0 enough\r\n"], ids=["drop", "421"])
@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_closes_now_and_then(
    tmp_path: Path, most: int, farewell: bytes | None, ehlo: bytes
) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(*range(10)))
    with Tired(most, farewell, ehlo) as server:
        done = send(server, "--mbox", mbox, "--transcript", str(tmp_path / "transcript"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert bodies(server) == [b"body\r\nnumber %d\r\n" % number for number in range(10)]
    assert server.connections == -(-10 // most)
    assert (tmp_path / "transcript").read_bytes().count(b"C: EHLO") == server.connections


def test_a_server_that_closes_after_every_answer(tmp_path: Path) -> None:
    """It says 250 to the message and is gone, with the next commands on their way."""

    def last(sock: socket.socket) -> None:
        sock.sendall(b"250 2.0.0 done\r\n")

    mbox = an_mbox(tmp_path / "m", *numbered(*range(5)))
    with Scripted(end=last) as server:
        done = send(server, "--mbox", mbox)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bodies(server) == [b"body\r\nnumber %d\r\n" % number for number in range(5)]


def test_a_server_that_serves_nobody_is_not_called_for_each_message(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(*range(20)))
    with Scripted(greeting=b"421 4.3.2 busy\r\n") as server:
        done = send(server, "--mbox", mbox)
    assert done.returncode == 75
    assert server.connections == 1
    assert done.stdout.count(b"failed\t") == 20


def test_only_the_message_under_way_may_have_been_delivered(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(1, 2))
    with Scripted(end=None) as server:
        done = send(server, "--mbox", mbox)
    first, second = done.stdout.splitlines()
    assert done.returncode == 75
    assert b"may have been delivered" in first
    assert b"may have been delivered" not in second


def test_an_mbox_that_breaks_off_does_not_change_what_was_sent(tmp_path: Path) -> None:
    import gzip
    import random

    noise = random.Random(1)
    messages = [m + b"%x\n" % noise.getrandbits(400_000) for m in numbered(1, 2, 3)]
    plain = Path(an_mbox(tmp_path / "m", *messages)).read_bytes()
    packed = gzip.compress(plain)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(packed[: len(packed) * 4 // 5])
    with Scripted() as server:
        done = send(server, "--mbox", str(cut))
    assert done.returncode == 65, done.stdout + done.stderr
    assert b"cut off or damaged" in done.stderr
    assert len(server.messages) == 2
    assert done.stdout.count(b"sent\t") == 2
    assert b"failed" not in done.stdout


# -- what the server does not offer ------------------------------------------------------------------------

UTF8 = "From: ann@example.org\nTo: bob@example.org\nSubject: 会议\n\nbody\n".encode()
EIGHT_BIT = MESSAGE + b"\xe4\xf6\xfc\n"


@pytest.mark.parametrize(
    ("ehlo", "message", "code", "word"),
    [
        (b"250-test\r\n250 SMTPUTF8\r\n", EIGHT_BIT, 65, b"8BITMIME"),
        (b"250-test\r\n250 SMTPUTF8\r\n", UTF8, 65, b"8BITMIME"),
        (b"250-test\r\n250 8BITMIME\r\n", UTF8, 0, b""),
        (b"250-test\r\n250 8BITMIME\r\n", UTF8.replace(b"ann@", "änn@".encode()), 65, b"SMTPUTF8"),
        (b"250-test\r\n250 8BITMIME\r\n", MESSAGE.replace(b"bob@", "büro@".encode()), 65, b"SMTPUTF8"),
        (b"250-test\r\n250 SIZE 100\r\n", MESSAGE, 65, b"at most 100"),
        (b"250-test\r\n250 SIZE 1000\r\n", MESSAGE, 0, b""),
        (b"250-test\r\n250 SIZE 0\r\n", MESSAGE, 0, b""),
        (b"250-test\r\n250 SIZE\r\n", MESSAGE, 0, b""),
        (b"250-test\r\n250 8bitmime\r\n", EIGHT_BIT, 0, b""),
        (b"250-test\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n", UTF8, 0, b""),
    ],
)
def test_what_a_server_does_not_offer(ehlo: bytes, message: bytes, code: int, word: bytes) -> None:
    with Scripted(EHLO=ehlo) as server:
        done = send(server, "--body", "8bit", message=message)
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout
    assert len(server.messages) == (code == 0)


@pytest.mark.parametrize("ehlo", [PLAIN_EHLO, b"250-test\r\n250 SIZE 10000\r\n"])
def test_a_server_that_takes_7_bits_gets_7_bits(ehlo: bytes) -> None:
    text = "Grüße aus dem hohen Norden, wo es kalt ist\n".encode()
    with Scripted(EHLO=ehlo) as server:
        done = send(server, message=MESSAGE + text)
    assert done.returncode == 0, done.stdout + done.stderr
    [received] = server.messages
    assert received.isascii() and received.count(b"\r\n") == received.count(b"\n")
    assert received.startswith(WIRE.partition(b"\r\n\r\n")[0])
    parsed = email.message_from_bytes(received)
    assert parsed["Content-Transfer-Encoding"] == "quoted-printable"
    assert parsed["Content-Type"] == "text/plain; charset=utf-8"
    assert parsed.get_payload(decode=True) == (b"body\n" + text).replace(b"\n", b"\r\n")
    mail = next(command for command in server.commands if command.startswith(b"MAIL"))
    assert b"BODY" not in mail
    assert b"SIZE=" not in mail or b" SIZE=%d\r\n" % len(received) in mail


def test_a_message_that_was_re_encoded_in_vain_is_whole_at_the_second_try(tmp_path: Path) -> None:
    text = "Grüße aus dem hohen Norden, wo es kalt ist\n".encode()
    mbox = an_mbox(tmp_path / "m", *[MESSAGE + text] * 3)
    with Scripted(EHLO=PLAIN_EHLO, MAIL=[b"250 ok\r\n", None, b"250 ok\r\n"]) as server:
        done = send(server, "--mbox", mbox)
    assert (done.returncode, server.connections) == (0, 2)
    assert [b"Gr=C3=BC=C3=9Fe" in message for message in server.messages] == [True] * 3


@pytest.mark.parametrize("user", ["a b", "a>x", "a>\r\nRCPT TO:<eve@example.org", "\udcff"])
def test_a_user_whose_name_is_no_local_part_sends_by_number(user: str) -> None:
    with Scripted() as server:
        done = send(server, message=b"To: bob@example.org\n\nx\n", USER=user, EMAIL="")
    assert done.returncode == 0, done.stderr
    [mail] = [command for command in server.commands if command.startswith(b"MAIL")]
    assert mail.startswith(b"MAIL FROM:<uid%d@" % os.getuid())
    assert [c for c in server.commands if c.startswith(b"RCPT")] == [b"RCPT TO:<bob@example.org>\r\n"]


def test_a_copy_that_cannot_be_filed_is_told_apart_from_sending(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", *numbered(1, 2))
    (tmp_path / "file").write_bytes(b"no mbox\n")
    with Scripted() as server:
        done = send(server, "--mbox", mbox, "--fcc", str(tmp_path / "file" / "sent.mbox"))
    assert done.returncode == 73
    assert [line.split(b"\t")[0] for line in done.stdout.splitlines()] == [b"sent", b"sent"]
    assert len(server.messages) == 2
    assert done.stderr.count(b"do not send it again") == 2


@pytest.mark.parametrize("script", [{"RCPT": b"451 4.3.0 later\r\n"}, {"MAIL": None}], ids=["451", "drop"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_queue_that_cannot_be_written_is_told(
    tmp_path: Path, as_json: bool, script: dict[str, bytes | None]
) -> None:
    (tmp_path / "file").touch()
    with Scripted(**script) as server:
        spool = ("--queue", "auto", "--spool", str(tmp_path / "file" / "spool"))
        done = send(server, *spool, *["--json"] * as_json)
    assert done.returncode == 75
    assert b"; not queued: " in done.stdout


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "end"])
def test_a_message_that_was_re_encoded_in_vain_is_whole_in_the_queue(tmp_path: Path, stage: str) -> None:
    text = "Grüße\n".encode()
    with Scripted(EHLO=PLAIN_EHLO, **{stage: None}) as server, queue_run(tmp_path / "spool"):
        done = send(
            server, "--queue", "auto", "--json", "--spool", str(tmp_path / "spool"), message=MESSAGE + text
        )
    assert done.returncode == 0, done.stderr
    identity = json.loads(done.stdout)["queue_id"]
    shown = mailtools("queue", "show", "--spool", str(tmp_path / "spool"), identity)
    assert shown.returncode == 0 and b"body\n" in shown.stdout and text in shown.stdout


def test_7_bits_can_be_asked_for_and_8_bits_are_told_of() -> None:
    with Scripted() as server:
        assert send(server, "--body", "7bit", message=EIGHT_BIT).returncode == 0
        assert send(server, message=EIGHT_BIT).returncode == 0
    assert [message.isascii() for message in server.messages] == [True, False]
    assert [b"8BITMIME" in command for command in server.commands if command.startswith(b"MAIL")] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (b"DKIM-Signature: v=1; a=rsa-sha256\n", b"DKIM"),
        (b"Content-Type: multipart/signed; boundary=b\n", b"signed"),
        (b"Subject: \xe9\n", b"header"),
    ],
)
def test_what_cannot_be_made_7_bit_is_not_sent(header: bytes, word: bytes) -> None:
    message = header + MESSAGE.partition(b"\n\n")[0] + b"\n\n--b\n\n\xe9\n--b--\n"
    with Scripted(EHLO=PLAIN_EHLO) as server:
        done = send(server, message=message)
    assert (done.returncode, server.messages) == (65, [])
    assert word in done.stdout


def test_parameters_are_only_what_is_needed_and_offered() -> None:
    with Scripted() as server:
        for message in (MESSAGE, EIGHT_BIT, UTF8):
            assert send(server, message=message).returncode == 0
    mail = [c for c in server.commands if c.startswith(b"MAIL")]
    assert mail[0] == b"MAIL FROM:<ann@example.org> SIZE=%d\r\n" % len(WIRE)
    assert mail[1].endswith(b" BODY=8BITMIME\r\n")
    assert mail[2].endswith(b" BODY=8BITMIME SMTPUTF8\r\n")


@pytest.mark.parametrize(("ehlo", "together"), [(Scripted.EHLO, 3), (PLAIN_EHLO, 1)])
def test_commands_go_ahead_of_replies_only_where_that_is_offered(ehlo: bytes, together: int) -> None:
    most = []

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(DEADLINE)
            sock.sendall(b"220 test\r\n")
            while octets := sock.recv(1 << 16):
                lines = octets.splitlines()
                most.append(len(lines))
                for line in lines:
                    sock.sendall({b"EHLO": ehlo, b"DATA": b"354 go\r\n"}.get(line[:4], b"250 ok\r\n"))
                if lines[-1] == b"DATA":
                    message = b""
                    while not message.endswith(b"\r\n.\r\n"):
                        message += sock.recv(1 << 16)
                    sock.sendall(b"250 ok\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        port = str(listener.getsockname()[1])
        done = mailtools("send", "--host", "127.0.0.1", "--port", port, stdin=MESSAGE)
        thread.join(DEADLINE)
    assert done.returncode == 0, done.stdout
    assert max(most) == together


# -- the message stays as it is ----------------------------------------------------------------------------

HEAD = MESSAGE.partition(b"\n\n")[0] + b"\n\n"
BODIES = {
    "plain": b"one\ntwo\n",
    "CRLF": b"one\r\ntwo\r\n",
    "mixed line ends": b"one\r\ntwo\nthree\r\n",
    "no final newline": b"one\ntwo",
    "no final newline, CRLF": b"one\r\ntwo",
    "empty": b"",
    "a newline": b"\n",
    "newlines": b"\n\n\n\n",
    "dots": b".\n..\n. x\n.From\n...\n",
    "the end of a message": b"\r\n.\r\nMAIL FROM:<evil@example.org>\r\n",
    "a last dot": b"x\n.",
    "From lines": b"From here\n>From there\n>>From x\n\nFrom a@b Thu Aug 22 12:00:00 2002\n",
    "8-bit": bytes(range(128, 256)) + b"\n",
    "no character": b"\xff\xfe\x01\x02\x0b\x0c\x1c\x85\x7f\n",
    "white space": b" \n\t\n x \n\n",
    "a long line": b"x" * 5000 + b"\n",
    "large": b"0123456789abcde\n" * 20_000,
    "large, a long line": b"y" * 300_000 + b"\n.z\n",
    "a line of dots beyond all blocks": b"." * 3_000_000,
}


@pytest.mark.parametrize("name", BODIES)
def test_no_octet_of_the_body_changes(name: str) -> None:
    body = BODIES[name]
    with Scripted() as server:
        done = send(server, "bob@example.org", message=HEAD + body)
        dry = mailtools("send", "--dry-run", "bob@example.org", stdin=HEAD + body)
    assert done.returncode == dry.returncode == 0, done.stderr
    expected = (HEAD + body).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    expected += b"" if expected.endswith(b"\n") else b"\r\n"
    [received] = server.messages
    received = received[received.startswith(b".") :].replace(b"\n.", b"\n")
    assert received == expected
    assert dry.stdout == expected
    mail = next(c for c in server.commands if c.startswith(b"MAIL"))
    assert re.search(rb" SIZE=([0-9]+)", mail)[1] == b"%d" % len(expected)  # type: ignore[index]


def test_commands_in_a_body_are_no_commands() -> None:
    body = b"hello\n.\nRSET\nMAIL FROM:<evil@example.org>\n.\n"
    with Scripted() as server:
        assert send(server, message=HEAD + body).returncode == 0
    assert [c[:4] for c in server.commands] == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


@pytest.mark.parametrize("message", [b"no header at all\n", b"\nonly a body\n", b"x"])
def test_a_message_without_a_header(message: bytes) -> None:
    with Scripted() as server:
        assert send(server, "bob@x", message=message).returncode == 0
    assert bodies(server) == [message.removeprefix(b"\n").removesuffix(b"\n") + b"\r\n"]


def test_a_header_without_a_body() -> None:
    for message in (HEAD, HEAD[:-1], HEAD[:-2]):
        with Scripted() as server:
            assert send(server, message=message).returncode == 0
        assert server.messages == [HEAD.replace(b"\n", b"\r\n")]


def test_a_postmark_before_the_message_is_dropped() -> None:
    with Scripted() as server:
        assert send(server, message=b"From x Thu Aug 22 12:00:00 2002\n" + MESSAGE).returncode == 0
    assert server.messages == [WIRE]


def test_a_long_line_is_told_once_and_sent(tmp_path: Path) -> None:
    long = MESSAGE + b"y" * 999 + b"\nz\n" + b"y" * 2000 + b"\n"
    just = MESSAGE + b"y" * 998 + b"\n"
    with Scripted() as server:
        done = send(server, "--mbox", an_mbox(tmp_path / "m", long, just, long))
        silent = mailtools("-q", "send", "--host", "127.0.0.1", "--port", str(server.port), stdin=long)
    assert done.returncode == silent.returncode == 0
    assert done.stderr.count(b"998 octets") == 2
    assert silent.stderr == b""
    assert b"y" * 2000 + b"\r\n" in server.messages[0]


# -- header and envelope -----------------------------------------------------------------------------------


def sent(server: Scripted) -> tuple[bytes, list[bytes]]:
    """The envelope of the last message: reverse-path, forward-paths."""
    last = max(n for n, command in enumerate(server.commands) if command.startswith(b"MAIL"))
    paths = [re.search(rb"<(.*)>", c)[1] for c in server.commands[last:] if c[:4] in (b"MAIL", b"RCPT")]  # type: ignore[index]
    return paths[0], paths[1:]


@pytest.mark.parametrize(
    "bcc",
    [
        b"Bcc: secret@x\n",
        b"bcc : secret@x\n",
        b"BCC:\n secret@x,\n\tother@x\n",
        b"Bcc: secret@x\nSubject: between\nBcc: other@x\n",
        b"Bcc:\tsecret@x\n",
        b"Bcc:\n",
    ],
)
@pytest.mark.parametrize(("first", "newline"), [(True, b"\n"), (False, b"\r\n")])
def test_bcc_is_not_sent(bcc: bytes, first: bool, newline: bytes) -> None:
    message = bcc + MESSAGE if first else MESSAGE.replace(b"\n\n", b"\n" + bcc + b"\n")
    with Scripted() as server:
        assert send(server, message=message.replace(b"\n", newline)).returncode == 0
    [received] = server.messages
    assert b"secret@x" not in received and b"bcc" not in received.lower() and b"other@x" not in received
    assert received.replace(b"Subject: between\r\n", b"") == WIRE
    recipients = sent(server)[1]
    assert (b"secret@x" in recipients) == (b"secret@x" in bcc)
    assert recipients[0] == b"bob@example.org"


def test_a_field_that_only_begins_as_bcc_stays() -> None:
    message = b"Bcc-Note: x\nX-Bcc: y\n" + MESSAGE + b"Bcc: in the body\n"
    with Scripted() as server:
        assert send(server, message=message).returncode == 0
    assert server.messages == [message.replace(b"\n", b"\r\n")]


@pytest.mark.parametrize(
    ("header", "args", "recipients"),
    [
        (b"To: a@x\nCc: b@x\nBcc: c@x\n", (), "a@x b@x c@x"),
        (b"To: a@x, A <a@x>\nTo: d@x\n", (), "a@x d@x"),
        (b'To: friends: a@x, "B, b" <b@x>; , c@x\n', (), "a@x b@x c@x"),
        (b'To: "Doe, John" <"john doe"@x>\n', (), '"john doe"@x'),
        (b"To: =?utf-8?q?Bob=2C_b=40y?= <b@x>\n", (), "b@x"),
        (b"To: a@x (comment, not@here)\n", (), "a@x"),
        (b"To: a@x,\n\tb@x\n", (), "a@x b@x"),
        (b"To: a@x\n", ("b@x",), "b@x"),
        (b"To: a@x\nBcc: c@x\n", ("-t", "b@x"), "b@x a@x c@x"),
        (b"To: undisclosed-recipients:;\nCc: a@x\n", (), "a@x"),
        (b"Resent-To: z@x\nTo: a@x\n", (), "a@x"),
    ],
)
def test_recipients(header: bytes, args: tuple[str, ...], recipients: str) -> None:
    with Scripted() as server:
        done = send(server, *args, message=header + b"\nx\n")
    assert done.returncode == 0, done.stderr
    assert b" ".join(sent(server)[1]) == recipients.encode()


@pytest.mark.parametrize(
    "header", [b"Subject: x\n", b"To: undisclosed-recipients:;\n", b"To: root\n", b"To: a@b@c\n"]
)
def test_nobody_to_send_to(header: bytes) -> None:
    with Scripted() as server:
        done = send(server, message=header + b"\nx\n")
    assert (done.returncode, server.connections) == (65, 0)
    assert b"recipients" in done.stderr or b"not an address" in done.stderr


@pytest.mark.parametrize("address", ["bob", "a b@x", "a@x\r\nRCPT TO:<b@x>", "<a@x>", "a@x>", "@x", ""])
def test_an_argument_that_is_no_address(address: str) -> None:
    assert mailtools("send", "--host", "127.0.0.1", "--", address, stdin=MESSAGE).returncode == 64


@pytest.mark.parametrize(
    ("args", "header", "env", "path"),
    [
        ((), b"From: Ann <ann@x>\n", {}, b"ann@x"),
        ((), b"From: ann@x, b@x\nSender: s@x\n", {}, b"ann@x"),
        (("-f", ""), b"From: ann@x\n", {}, b""),
        (("-f", "<>"), b"From: ann@x\n", {}, b""),
        (("-f", "<z@x>"), b"From: ann@x\n", {}, b"z@x"),
        (("-f", "z@x"), b"From: ann@x\n", {}, b"z@x"),
        ((), b"", {"EMAIL": "env@x"}, b"env@x"),
        ((), b"", {"EMAIL": "Env Name <env@x>"}, b"env@x"),
        ((), b"From: nobody\n", {"EMAIL": "env@x"}, b"env@x"),
    ],
)
def test_the_sender(args: tuple[str, ...], header: bytes, env: dict[str, str], path: bytes) -> None:
    with Scripted() as server:
        done = send(server, *args, "bob@x", message=header + b"Subject: s\n\nx\n", **env)
    assert done.returncode == 0, done.stderr
    assert sent(server)[0] == path


def test_without_any_sender_it_is_the_user_at_this_host() -> None:
    for wrong in ("", "not an address", "<>"):
        with Scripted() as server:
            assert (
                send(server, "bob@x", message=b"Subject: s\n\nx\n", EMAIL=wrong, USER="ann").returncode == 0
            )
        assert sent(server)[0].startswith(b"ann@")


@pytest.mark.parametrize("sender", ["bob", "a@x\r\nRCPT TO:<b@x>", "a@x> SIZE=1"])
def test_a_sender_that_is_no_address(sender: str) -> None:
    with Scripted() as server:
        done = send(server, "-f", sender)
    assert (done.returncode, server.connections) == (65, 0)


def test_date_and_message_id_are_added_where_they_are_missing() -> None:
    for header in (b"", b"date: x\n", b"MESSAGE-ID : y\n", b"Date: x\nMessage-Id: y\n"):
        message = b"To: bob@x\n" + header + b"\nbody\n"
        with Scripted() as server:
            assert send(server, message=message).returncode == 0
        head, _, body = server.messages[0].partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert [name for name in lines if name.startswith(b"date")] != []
        assert sum(line.startswith(b"date") for line in lines) == 1
        assert sum(line.startswith(b"message-id") for line in lines) == 1
        assert head.startswith((b"To: bob@x\n" + header).replace(b"\n", b"\r\n").strip())
        assert body == b"body\r\n"


def test_the_added_fields_are_well_formed_and_differ(tmp_path: Path) -> None:
    mbox = an_mbox(tmp_path / "m", b"To: a@x\n\n1\n", b"To: a@x\n\n2\n")
    with Scripted() as server:
        assert send(server, "--mbox", mbox).returncode == 0
    found = [
        re.search(rb"\r\nDate: (.*)\r\nMessage-ID: (<[^<>\s@]+@[^<>\s@]+>)\r\n", m) for m in server.messages
    ]
    assert all(found)
    assert found[0][2] != found[1][2]  # type: ignore[index]
    when = email.utils.parsedate_to_datetime(found[0][1].decode())  # type: ignore[index]
    assert abs(when.timestamp() - time.time()) < 120


# -- what is printed ---------------------------------------------------------------------------------------


def test_lines_in_a_pipe() -> None:
    with Scripted() as server:
        done = send(server, "a@x", "b@x")
    assert done.stdout == b"sent\ta@x\t250\t2.0.0 done\nsent\tb@x\t250\t2.0.0 done\n"
    assert done.stderr == b""


def test_json_lines() -> None:
    with Scripted(RCPT=[b"250 ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 such user\r\n"]) as server:
        done = send(server, "--json", "a@x", "b@x")
    a, b = map(json.loads, done.stdout.splitlines())
    assert (a["status"], a["recipient"], a["code"]) == ("failed", "a@x", None)
    assert b == {
        "status": "failed", "recipient": "b@x", "code": 550, "enhanced": "5.1.1", "text": "no\nsuch user",
        "sender": "ann@example.org", "message": "standard input", "queue_id": None,
    }  # fmt: skip


def test_json_tells_of_messages_that_cannot_be_sent(tmp_path: Path) -> None:
    with Scripted() as server:
        done = send(server, "--json", "--mbox", an_mbox(tmp_path / "m", b"To: a@x\n\n\0\n", MESSAGE))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(row["status"] for row in rows) == ["failed", "sent"]
    assert any("message 1" in row["message"] and "NUL" in row["text"] for row in rows)


def test_control_characters_of_a_server_are_made_visible() -> None:
    with Scripted(end=b"550 5.0.0 \x1b[2Jred\x07 \xe2\x80\xae\r\n") as server:
        done = send(server)
        as_json = send(server, "--json")
    assert not {0x1B, 0x07} & set(done.stdout + as_json.stdout)
    assert "\u202e".encode() not in done.stdout + as_json.stdout


def test_the_transcript(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with Scripted() as server:
        assert send(server, "--transcript", str(path)).returncode == 0
        printed = send(server, "--transcript", "-")
    lines = path.read_bytes().splitlines()
    assert [line for line in lines if line.startswith(b"S: ")][:2] == [b"S: 220 test", b"S: 250-test"]
    assert b"C: RCPT TO:<bob@example.org>" in lines and b"C: body" in lines and b"C: ." in lines
    assert all(line.startswith((b"S: ", b"C: ")) for line in lines)
    assert b"S: 220 test\n" in printed.stdout and b"C: DATA\n" in printed.stdout


def test_a_transcript_that_cannot_be_written(tmp_path: Path) -> None:
    with Scripted() as server:
        done = send(server, "--transcript", str(tmp_path / "no" / "t"))
    assert done.returncode == 73
    assert server.messages == []


def test_dry_run_needs_no_server_and_shows_the_envelope() -> None:
    done = mailtools("send", "--dry-run", "-f", "", "a@x", "b@x", stdin=b"Bcc: c@x\n" + MESSAGE)
    assert (done.returncode, done.stdout) == (0, WIRE)
    assert done.stderr == b"envelope: from <> to <a@x> <b@x>\n"


def test_dry_run_is_what_a_server_receives(tmp_path: Path, own: Path) -> None:
    for source in sorted(own.glob("*.eml")):
        message = source.read_bytes()
        if b"\0" in message or b"\r" in message.replace(b"\r\n", b""):
            continue
        with Scripted() as server:
            done = send(server, "bob@x", message=message)
        dry = mailtools("send", "--dry-run", "bob@x", stdin=message)
        assert (done.returncode, dry.returncode) == (0, 0), source

        def without_stamps(octets: bytes, message: bytes = message) -> bytes:
            for name in (b"date", b"message-id"):
                if not re.search(rb"(?im)^" + name + rb"[ \t]*:", message.partition(b"\n\n")[0]):
                    octets = re.sub(rb"(?im)^" + name + rb":.*\r\n", b"", octets, count=1)
            return octets

        [received] = server.messages
        received = received[received.startswith(b".") :].replace(b"\n.", b"\n")
        assert without_stamps(received) == without_stamps(dry.stdout), source


# -- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--no-such-option",), 64, b"No such option"),
        (("--host", "a", "--route", "smtp://b"), 64, b"exclude"),
        (("--host", "a", "--port", "0"), 64, b"port"),
        (("--host", "a", "--port", "x"), 64, b"port"),
        (("--host", "a", "--timeout", "soon"), 64, b"duration"),
        (("--route", "http://x"), 78, b"smtp://HOST:PORT"),
        (("--route", "smtp://"), 78, b"smtp://HOST:PORT"),
        (("--route", "smtp://x:99999"), 78, b"1 to 65535"),
        (("--route", "smtp://x:"), 78, b"smtp://HOST:PORT"),
        (("--route", "unix:"), 78, b"smtp://HOST:PORT"),
        (("--host", "a", "--mbox", "/no/such/mbox"), 66, b"/no/such/mbox: no such file"),
        (("--host", "a", "--mbox", "/"), 65, b"directory"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], code: int, words: bytes) -> None:
    done = mailtools("send", *args, stdin=MESSAGE)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == b""


def test_what_is_no_mbox(tmp_path: Path) -> None:
    path = tmp_path / "not"
    path.write_bytes(MESSAGE)
    with Scripted() as server:
        done = send(server, "--mbox", str(path))
    assert (done.returncode, server.messages) == (65, [])
    assert str(path).encode() in done.stderr


def test_an_empty_mbox_is_no_failure(tmp_path: Path) -> None:
    with Scripted() as server:
        done = send(server, "--mbox", an_mbox(tmp_path / "m"))
    assert (done.returncode, done.stdout, server.connections) == (0, b"", 0)


@pytest.mark.parametrize("form", ["smtp://127.0.0.1:{}", "smtp://localhost:{}/"])
def test_routes(form: str) -> None:
    with Scripted() as server:
        done = mailtools("send", "--route", form.format(server.port), stdin=MESSAGE)
    assert done.returncode == 0, done.stdout
    assert server.messages == [WIRE]


def test_a_route_over_ipv6_and_over_a_unix_socket(tmp_path: Path) -> None:
    sock = tmp_path / "s"
    with Server(tmp_path / "root", "--listen", "[::1]:0", "--listen", f"unix:{sock}") as server:
        assert mailtools("send", "--route", f"smtp://[::1]:{server.port}", stdin=MESSAGE).returncode == 0
        assert mailtools("send", "--route", f"unix:{sock}", stdin=MESSAGE).returncode == 0
        text = server.inbox("bob").read_bytes()
    assert text.count(b"\nSubject: hi\n") == 2
    assert b"([IPv6:::1])\n" in text


@pytest.mark.parametrize(("args", "code"), [(("\udcff@x.test",), 64), (("-f", "\udcff@x.test"), 65)])
def test_an_argument_that_is_no_utf_8_is_no_address(args: tuple[str, ...], code: int) -> None:
    done = mailtools("send", "--route", "smtp://127.0.0.1:1", *args, stdin=MESSAGE)
    assert (done.returncode, b"address" in done.stderr or b"sender" in done.stderr) == (code, True)


@pytest.mark.parametrize(
    ("header", "place"),
    [
        (b"To: <bob@x> <carol@x>\n", b"To: '<bob@x> <carol@x>': a comma is missing behind >"),
        (
            b"To: dave@x\nCc: Eve Smith eve@x\n",
            b"Cc: 'Eve Smith eve@x': a comma, or <> around the address, is missing",
        ),
        (b"To: dave@x\nBcc: Bob <>\n", b"Bcc: 'Bob <>': no address between < and >"),
    ],
)
def test_a_list_that_is_wrong_is_told_before_anything_is_sent(header: bytes, place: bytes) -> None:
    with Scripted() as server:
        done = send(server, message=header + b"Subject: x\n\nhi\n")
        assert done.returncode == 65
        assert place in done.stderr
        assert server.connections == 0


@pytest.mark.parametrize("closed", [False, True], ids=["empty", "closed"])
@pytest.mark.parametrize(
    "words", [["send", "--host", "127.0.0.1", "--port", "1", "bob@x.test"], ["queue", "add", "bob@x.test"]]
)
def test_no_message_at_all_is_no_message(tmp_path: Path, words: list[str], closed: bool) -> None:
    redirection = "<&-" if closed else "</dev/null"
    line = f'exec "$0" -m mailtools "$@" --spool {tmp_path}/spool {redirection}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, *words], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 66, done.stderr
    assert b"no message" in done.stderr
    assert not (tmp_path / "spool").exists()
