"""send: accounts of the configuration, secrets from everywhere but the command line, --explain, the queue."""

import json
import os
from pathlib import Path

import pytest

from tests.nameserver import Nameserver
from tests.servers import Server, eventually, mailtools
from tests.sinks import Sink, but
from tests.spools import queue_run

MESSAGE = b"From: Alice <alice@work.example>\nTo: bob@b.test\nSubject: x\n\nhello\n"
ENV = {**os.environ, "HOME": "/nonexistent", "NETRC": "/nonexistent"}


@pytest.fixture
def server(tmp_path: Path):
    """Ours, which wants a login and has a certificate of its own making."""
    root = tmp_path / "server"
    root.mkdir()
    (root / "users").write_text("alice:{PLAIN}secret\n")
    with Server(root, "--domain", "here.test", "--relay", "--no-deliver", "--tls-self-signed") as running:
        yield running


def config(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return "-C", str(path)


def fingerprint(server: Server) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    pems = [path.read_bytes() for path in (server.root / ".tls").iterdir()]
    certificate = x509.load_pem_x509_certificate(next(pem for pem in pems if b"BEGIN CERTIFICATE" in pem))
    return "SHA256:" + certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("mechanism", ["", "plain", "login", "scram-sha-256"])
def test_an_account_logs_in_over_tls(tmp_path: Path, server: Server, mechanism: str) -> None:
    auth = f'auth = "{mechanism}"' if mechanism else ""
    where = config(tmp_path, f"""
        [account.work]
        from = "alice@work.example"
        host = "127.0.0.1"
        port = {server.port}
        tls = "starttls"
        fingerprint = "{fingerprint(server)}"
        user = "alice"
        {auth}
        password-command = "echo secret"
    """)  # fmt: skip
    done = mailtools(*where, "send", "--transcript", str(tmp_path / "log"), stdin=MESSAGE, env=ENV)
    if mechanism == "scram-sha-256":  # the file has a plain password, of which keys are made
        assert done.returncode in (0, 77)
        return
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log").read_text()
    assert "STARTTLS" in log
    assert "secret" not in log
    assert "c2VjcmV0" not in log


def test_a_wrong_password_and_a_wrong_certificate(tmp_path: Path, server: Server) -> None:
    to = ("send", "--host", "127.0.0.1", "--port", str(server.port), "--user", "alice", "--queue", "auto",
          "--root", str(tmp_path / "mail"))  # fmt: skip
    password = tmp_path / "pw"
    password.write_text("wrong\n")
    right = ("--tls", "starttls", "--fingerprint", fingerprint(server))
    done = mailtools(*to, *right, "--password-file", str(password), stdin=MESSAGE, env=ENV)
    assert (done.returncode, b"535" in done.stdout) == (77, True), done.stdout
    password.write_text("secret\n")
    wrong = ("--tls", "starttls", "--fingerprint", "SHA256:" + "00" * 32)
    done = mailtools(*to, *wrong, "--password-file", str(password), stdin=MESSAGE, env=ENV)
    assert done.returncode == 76, done.stdout
    done = mailtools(*to, "--tls", "starttls", "--password-file", str(password), stdin=MESSAGE, env=ENV)
    assert done.returncode == 76, done.stdout
    done = mailtools(*to, *right, "--password-file", str(password), stdin=MESSAGE, env=ENV)
    assert done.returncode == 0, done.stdout


def test_required_tls_never_falls_back(tmp_path: Path) -> None:
    for answer in (b"250 plain\r\n", b"250-x\r\n250 STARTTLS\r\n"):
        with Sink(but(EHLO=answer, STARTTLS=b"454 4.7.0 not now\r\n")) as sink:
            done = mailtools("send", "--route", sink.route, "--tls", "starttls", stdin=MESSAGE, env=ENV)
            assert done.returncode in (75, 76, 77), done.stdout
            assert not any(line.startswith((b"MAIL", b"AUTH")) for line in sink.lines)


@pytest.mark.parametrize("source", ["file", "command", "environment", "netrc"])
def test_where_passwords_come_from(tmp_path: Path, server: Server, source: str) -> None:
    options, env = (), dict(ENV)
    if source == "file":
        (tmp_path / "pw").write_text("secret\nmore\n")
        options = ("--password-file", str(tmp_path / "pw"))
    elif source == "command":
        options = ("--password-command", "printf 'secret\\n'")
    elif source == "environment":
        env["MAILTOOLS_SEND_PASSWORD"] = "secret"
    else:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password secret\n")
        (tmp_path / "netrc").chmod(0o600)
        env["NETRC"] = str(tmp_path / "netrc")
    to = ("--host", "127.0.0.1", "--port", str(server.port), "--user", "alice")
    done = mailtools("send", *to, *options, stdin=MESSAGE, env=env)
    assert done.returncode == 0, done.stderr + done.stdout


def test_no_password_and_nobody_to_ask(server: Server) -> None:
    to = ("--host", "127.0.0.1", "--port", str(server.port), "--user", "alice")
    done = mailtools("send", *to, stdin=MESSAGE, env=ENV, prefix=("setsid", "-w"))
    assert done.returncode == 77
    assert b"--password-command" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[account.work]\nhots = "x"\n', b"line 2: unknown key 'account.work.hots'; did you mean 'host'?"),
        ('[account.work]\nport = "x"\n', b"line 2: account.work.port: 'x' has the wrong type"),
        ("[account.work]\nport = 70000\n", b"line 2: account.work.port: 70000 is not in the range"),
        ('[account.work]\ntls = "please"\n', b"account.work.tls: 'please' is not one of"),
        ('[account.work]\nauth = "cram-md5"\n', b"account.work.auth: 'cram-md5' is not one of"),
        ("[account.work]\ntls = true\n", b"account.work.tls: True is neither"),
        ("[account.work]\nfrom = 3\n", b"account.work.from is a string, or a list"),
        ('[account.work]\nhost = "h"\nroute = "smtp://h"\n', b"a route and a host exclude each other"),
        ("[account.work]\nport = 26\n", b"port 26 of which server?"),
        ('[account.work]\nroute = "mx:"\nuser = "u"\n', b"a login as u needs a server"),
        ('[account.work]\nhost = "h"\npassword-file = "f"\n', b"password-file of which user?"),
        ("account = 1\n", b"[account.NAME]"),
        ('[account.work]\ntimeout = "soon"\n', b"account.work.timeout"),
        ('[account.work]\nroute = "http://x"\n', b"not a route"),
    ],
)
def test_accounts_that_are_none(tmp_path: Path, text: str, words: bytes) -> None:
    done = mailtools(*config(tmp_path, text), "send", stdin=MESSAGE, env=ENV)
    assert done.returncode == 78
    assert words in done.stderr


def test_each_message_of_an_mbox_goes_by_its_account(tmp_path: Path) -> None:
    mbox = b"".join(
        b"From a@b Thu Aug 22 12:00:00 2002\nFrom: %s\nTo: bob@b.test\nSubject: %d\n\nx\n\n"
        % (sender, number)
        for number, sender in enumerate([b"a@one.test", b"b@one.test", b"c@two.test", b"d@one.test"])
    )
    with Sink() as one, Sink() as two:
        where = config(tmp_path, f"""
            [account.one]
            from = "*@one.test"
            route = "{one.route}"
            [account.two]
            from = "*@two.test"
            route = "{two.route}"
        """)  # fmt: skip
        done = mailtools(*where, "send", "--mbox", "-", stdin=mbox, env=ENV)
    assert done.returncode == 0, done.stderr
    assert one.subjects() == ["0", "1", "3"]
    assert two.subjects() == ["2"]


def test_explain_sends_nothing_and_says_why(tmp_path: Path) -> None:
    with Sink() as sink:
        where = config(
            tmp_path, f'[account.work]\nfrom = "*@work.example"\nroute = "{sink.route}"\nuser = "u"\n'
        )
        done = mailtools(*where, "send", "--explain", stdin=MESSAGE, env=ENV)
        as_json = mailtools(*where, "send", "--explain", "--json", stdin=MESSAGE, env=ENV)
    assert done.returncode == 0, done.stderr
    assert b"account 'work': <alice@work.example> is from '*@work.example'" in done.stdout
    assert json.loads(as_json.stdout)["account"] == "work"
    assert sink.connections == 0


def test_explain_names_the_hosts_of_mx_records() -> None:
    with Nameserver({"b.test": {"MX": [(10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.2"]}}) as names:
        asked = ("send", "--explain", "--resolver", names.address)
        done = mailtools(*asked, "--mx-network", "127.0.0.0/8", stdin=MESSAGE, env=ENV)
        refused = mailtools(*asked, stdin=MESSAGE, env=ENV)
    assert b"hosts of b.test: mx.b.test (127.0.0.2)" in done.stdout
    assert b"not public: mx.b.test has 127.0.0.2 (loopback)" in refused.stdout


def test_mx_records_lead_to_public_addresses_only() -> None:
    """Unless the operator permits a network, or names a port that strangers never use."""
    table = {"b.test": {"MX": [(10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.1"]}}
    with Nameserver(table) as names, Sink() as sink:
        refused = mailtools("send", "--resolver", names.address, "bob@b.test", stdin=MESSAGE, env=ENV)
        assert refused.returncode == 69, refused.stderr
        assert b"not public: mx.b.test has 127.0.0.1 (loopback)" in refused.stdout + refused.stderr
        literal = mailtools("send", "--resolver", names.address, "bob@[127.0.0.1]", stdin=MESSAGE, env=ENV)
        assert literal.returncode == 69, literal.stderr
        by_port = mailtools("send", "--route", f"mx:{sink.port}", "--resolver", names.address, "bob@b.test",
                            stdin=MESSAGE, env=ENV)  # fmt: skip
        assert by_port.returncode == 0, by_port.stderr
    assert len(sink.taken) == 1


def test_a_named_host_is_looked_up_at_the_nameserver_that_is_given() -> None:
    with Nameserver({"relay.test": {"A": ["127.0.0.1"]}}) as names, Sink() as sink:
        for server in (
            ("--route", f"smtp://relay.test:{sink.port}"),
            ("--host", "relay.test", "--port", str(sink.port)),
        ):
            done = mailtools(
                "send", *server, "--resolver", names.address, "bob@b.test", stdin=MESSAGE, env=ENV
            )
            assert done.returncode == 0, done.stderr
        unknown = mailtools("send", "--host", "other.test", "--resolver", names.address, "bob@b.test",
                            stdin=MESSAGE, env=ENV)  # fmt: skip
    assert unknown.returncode == 68
    assert len(sink.taken) == 2


def test_straight_to_the_servers_of_several_domains(tmp_path: Path) -> None:
    with Server(tmp_path / "b", "--domain", "b.test", host="127.0.0.2") as b, Nameserver({
        "b.test": {"MX": [(10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.2"]},
        "null.test": {"MX": [(0, ".")]}, "slow.test": "servfail",
    }) as names:  # fmt: skip
        done = mailtools("send", "--route", f"mx:{b.port}", "--resolver", names.address, "bob@b.test", "x@null.test",
                         "y@slow.test", "z@none.test", stdin=MESSAGE, env=ENV)  # fmt: skip
    lines = [line.split(b"\t")[:2] for line in done.stdout.splitlines()]
    assert lines == [[b"sent", b"bob@b.test"], [b"failed", b"x@null.test"], [b"failed", b"y@slow.test"],
                     [b"failed", b"z@none.test"]]  # fmt: skip
    assert done.returncode == 75
    assert mailtools("mbox", "count", str(b.inbox("bob"))).stdout == b"1\n"


# -- the queue ------------------------------------------------------------------------------------------------


def test_what_failed_for_now_is_queued_and_goes_out_by_its_account(tmp_path: Path, server: Server) -> None:
    text = f"""
        root = "{tmp_path / "mail"}"
        [account.work]
        from = "*@work.example"
        route = "smtp://127.0.0.1:%d"
        tls = "starttls"
        fingerprint = "{fingerprint(server)}"
        user = "alice"
        password-command = "echo secret"
    """
    with queue_run(tmp_path / "mail" / ".spool"):
        done = mailtools(*config(tmp_path, text % 1), "send", "--queue", "auto", stdin=MESSAGE, env=ENV)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"queued\tbob@b.test\t")
    log = mailtools(
        *config(tmp_path, text % 1), "queue", "log", "-", stdin=done.stdout.split()[3].rstrip(b":"), env=ENV
    )
    assert b"deferred\tbob@b.test" in log.stdout, log
    assert mailtools(*config(tmp_path, text % 1), "queue", "retry", "--all", env=ENV).returncode == 0
    where = config(tmp_path, text % server.port)
    (listed,) = mailtools(*where, "queue", "list", "--json", env=ENV).stdout.splitlines()
    assert json.loads(listed)["account"] == "work"
    ran = mailtools(*where, "-v", "queue", "run", "--once", env=ENV)
    assert ran.returncode == 0, ran.stderr
    assert b"sent by 127.0.0.1: 250" in ran.stderr
    (relayed,) = mailtools("queue", "list", "--json", "--root", str(server.root)).stdout.splitlines()
    assert json.loads(relayed)["origin"] == "alice"


def test_a_login_that_the_queue_would_not_know_is_not_queued(tmp_path: Path) -> None:
    to = ("--host", "127.0.0.1", "--port", "1", "--user", "u", "--queue", "auto", "--root", str(tmp_path))
    done = mailtools("send", *to, stdin=MESSAGE, env=ENV)
    assert done.returncode == 75
    assert b"not queued: --user is known to this command only" in done.stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--host", "127.0.0.1", "--user", "u"), b"--user is known to this command only"),
        (("--host", "127.0.0.1", "--cafile", "ca.pem"), b"--cafile is known to this command only"),
        (("--cafile", "ca.pem"), b"--cafile is known to this command only"),
        (("--route", "mx:", "--tls", "starttls"), b"--tls is known to this command only"),
        (("-A", "work", "--tls", "implicit"), b"--tls is known to this command only"),
        (("--route", "mbox:box"), b"an mbox is no server"),
        (("-A", "work", "--port", "26"), b"--port is known to this command only"),
        (("-A", "work", "--user", "carol"), b"--user is known to this command only"),
    ],
)
def test_what_the_queue_would_not_know_is_never_queued(
    tmp_path: Path, options: tuple[str, ...], why: bytes
) -> None:
    here = config(tmp_path, '[account.work]\nhost = "127.0.0.1"\nuser = "u"\n')
    done = mailtools(
        *here, "send", *options, "--queue", "always", "--root", str(tmp_path), stdin=MESSAGE, env=ENV
    )
    assert done.returncode == 78
    assert why in done.stdout + done.stderr
    assert not any((tmp_path / "Queue").rglob("*.msg"))


def test_one_account_for_many_senders_is_one_connection(tmp_path: Path) -> None:
    with Sink() as sink:
        here = config(tmp_path, f'[account.work]\nfrom = "*@a.test"\nroute = "{sink.route}"\n')
        box = b"".join(
            b"From x\nFrom: %s@a.test\nTo: b@b.test\n\nx\n\n" % who for who in (b"ann", b"bob", b"cy")
        )
        (tmp_path / "box").write_bytes(box)
        done = mailtools(*here, "send", "-t", "--mbox", str(tmp_path / "box"), env=ENV)
        assert done.returncode == 0, done.stderr
    assert len(sink.taken) == 3
    assert sink.connections == 1


def test_an_account_asked_for_goes_before_the_usual_server(tmp_path: Path) -> None:
    text = '[send]\nhost = "usual.test"\n[account.work]\nfrom = "*@a.test"\nhost = "work.test"\n'
    here = config(tmp_path, text)

    def route(*options: str) -> bytes:
        done = mailtools(*here, "send", "--explain", *options, "b@b.test", stdin=MESSAGE, env=ENV)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert b"route: smtp://usual.test:25" in route("--from", "x@b.test", "-s", "x")
    assert b"route: smtp://work.test:25" in route("--from", "x@a.test", "-s", "x")
    assert b"route: smtp://work.test:25" in route("-A", "work")
    assert b"route: smtp://asked.test:25" in route("-A", "work", "--host", "asked.test")
    assert b"route: smtp://asked.test:26" in route("--route", "smtp://asked.test:26")


def test_a_port_needs_its_server() -> None:
    done = mailtools("send", "--port", "2525", "b@b.test", stdin=MESSAGE, env=ENV)
    assert b"port 2525 of which server?" in done.stdout + done.stderr
    assert done.returncode == 78


def test_queue_always(tmp_path: Path) -> None:
    with Sink() as sink:
        done = mailtools("send", "--route", sink.route, "--queue", "always", "--root", str(tmp_path), "--json",
                         stdin=MESSAGE, env=ENV)  # fmt: skip
        assert json.loads(done.stdout)["status"] == "queued"
        assert sink.connections == 0
        assert mailtools("queue", "run", "--once", "--root", str(tmp_path), env=ENV).returncode == 0
        eventually(lambda: sink.subjects() == ["x"], "the message")


def test_a_copy_is_filed_with_its_bcc(tmp_path: Path) -> None:
    with Sink() as sink:
        done = mailtools("send", "--route", sink.route, "--fcc", str(tmp_path / "sent.mbox"),
                         stdin=MESSAGE.replace(b"\n\n", b"\nBcc: carol@c.test\n\nFrom here\n", 1), env=ENV)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Bcc" not in sink.taken[0][2]
    copy = (tmp_path / "sent.mbox").read_bytes()
    assert b"\nBcc: carol@c.test\n" in copy
    assert b"\n>From here\n" in copy


def test_partial_sends_to_those_who_are_taken(tmp_path: Path) -> None:
    def rule(verb: str, argument: str) -> bytes | None:
        return b"550 5.1.1 no\r\n" if verb == "RCPT" and "no@" in argument else but()(verb, argument)

    with Sink(rule) as sink:
        to = ("send", "--route", sink.route, "ok@b.test", "no@b.test")
        assert mailtools(*to, stdin=MESSAGE, env=ENV).returncode == 67
        assert sink.taken == []
        done = mailtools(*to, "--partial", stdin=MESSAGE, env=ENV)
    assert done.returncode == 67
    assert [recipients for _, recipients, _ in sink.taken] == [("ok@b.test",)]


def test_dsn_wishes_go_with_the_message(tmp_path: Path) -> None:
    with Sink(but(EHLO=b"250-x\r\n250 DSN\r\n")) as sink:
        done = mailtools("send", "--route", sink.route, "--dsn", "success,failure", "--ret", "hdrs", "--envid",
                         "a+b c", stdin=MESSAGE, env=ENV)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sink.taken[0][0].endswith("RET=HDRS ENVID=a+2Bb+20c")
    assert b"RCPT TO:<bob@b.test> NOTIFY=SUCCESS,FAILURE\r\n" in sink.lines


@pytest.mark.parametrize("bad", ['host = "h"\nfingerprint = "SHA256:zz"',
                                 'host = "127.0.0.1"\nport = PORT\nuser = "x"\npassword-file = "/nonexistent"'])  # fmt: skip
def test_a_broken_account_fails_its_own_messages_only(tmp_path: Path, bad: str) -> None:
    ehlo = b"250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n"
    with Sink(but(EHLO=ehlo)) as sink:
        where = config(
            tmp_path,
            f"""
[account.good]
from = "good@x.test"
route = "{sink.route}"
[account.bad]
from = "bad@x.test"
{bad.replace("PORT", str(sink.port))}
""",
        )
        mbox = tmp_path / "m.mbox"
        mbox.write_bytes(b"".join(
            b"From x Thu Aug 22 12:00:00 2002\nFrom: %b@x.test\nTo: bob@b.test\nSubject: %d\n\nx\n\n" % (who, n)
            for n, who in enumerate([b"good", b"bad", b"good"])
        ))  # fmt: skip
        done = mailtools(*where, "send", "--json", "--mbox", str(mbox), env=ENV)
        assert sink.subjects() == ["0", "2"]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["status"] for row in rows] == ["sent", "failed", "sent"], done.stdout
    assert done.returncode in (66, 78)


@pytest.mark.parametrize("what", ["password", "token"])
@pytest.mark.parametrize("command", ["false s3cret", "true s3cret", "X=s3cret false"])
def test_a_secret_command_that_fails_is_told_without_its_arguments(what: str, command: str) -> None:
    with Sink(but(EHLO=b"250-x\r\n250 AUTH PLAIN XOAUTH2\r\n")) as sink:
        done = mailtools("send", "--route", sink.route, "--user", "a", f"--{what}-command", command,
                         stdin=MESSAGE, env=ENV)  # fmt: skip
    assert done.returncode == 77
    assert f"the {what} command ".encode() in done.stdout
    assert b"s3cret" not in (done.stdout + done.stderr)
