"""Real programs deliver to `serve-smtp` over TLS and with AUTH, and Postfix does so too, also by LMTP.

Each test looks at what arrived, at the protocol in its Received field, and at the server's transcript for how
the client logged in. Clients that can verify the certificate do.
"""

import functools
import os
import pwd
import re
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from mailtools.core.mbox import scan
from tests.interop.test_clients import BODY, MESSAGE
from tests.interop.test_servers import MAIN, MASTER, answers, free_port
from tests.servers import Server, eventually, mailtools

CRLF = MESSAGE.replace("\n", "\r\n").encode()
PASSWORD = "secret & 100%"
USERS = {"bob": "argon2id", "sam": "scram-sha-256"}

# How to connect: a way, the server's options for it, the protocol in Received without and with a login.
WAYS = {
    "starttls": (["--tls-self-signed"], "ESMTPS", "ESMTPSA"),
    "implicit": (["--tls-self-signed", "--implicit-tls"], "ESMTPS", "ESMTPSA"),
    "plain": ([], "ESMTP", "ESMTPA"),
}


@dataclass
class Job:
    """What a client is to do."""

    server: Server
    way: str
    mechanism: str = ""  # none: no login
    user: str = "bob"
    password: str = PASSWORD

    def __post_init__(self) -> None:
        self.port = self.server.port
        self.scheme = "smtps" if self.way == "implicit" else "smtp"
        self.certificate = self.server.root / ".tls" / "cert.pem"  # which to trust

    def file(self, name: str, content: str | bytes) -> str:
        path = self.server.root.parent / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)


Client = Callable[[Job], tuple[bool, str]]  # whether it says that it is done, what it says


def run(*args: str, stdin: str = "", env: dict[str, str] | None = None) -> tuple[bool, str]:
    with tempfile.TemporaryFile() as file:  # gsasl takes the end of a pipe for an error
        file.write(stdin.encode())
        file.seek(0)
        done = subprocess.run(
            args, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60,
            env=os.environ | {"LC_ALL": "C.UTF-8"} | (env or {}),
        )  # fmt: skip
    return done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]


def swaks(job: Job) -> tuple[bool, str]:
    options, env = [], {}
    if job.way != "plain":
        options += ["--tls" if job.way == "starttls" else "--tls-on-connect"]
        options += ["--tls-verify", "--tls-ca-path", str(job.certificate)]
    if job.mechanism:
        options += ["--auth", job.mechanism, "--auth-user", job.user]
        env["SWAKS_OPT_auth_password"] = job.password
    return run("swaks", "--server", "127.0.0.1", "--port", str(job.port), "--from", "alice@example.org",
               "--to", "bob@localhost", "--data", "-", *options, stdin=MESSAGE, env=env)  # fmt: skip


def curl(job: Job) -> tuple[bool, str]:
    options = ["--cacert", str(job.certificate), "--ssl-reqd"] if job.way != "plain" else []
    if job.mechanism:
        options += ["--login-options", f"AUTH={job.mechanism}"]
        options += ["--config", job.file("curlrc", f'user = "{job.user}:{job.password}"\n')]
    return run("curl", "-sS", f"{job.scheme}://localhost:{job.port}", "--mail-from", "alice@example.org",
               "--mail-rcpt", "bob@localhost", "-T", job.file("message", CRLF), *options)  # fmt: skip


def msmtp(job: Job) -> tuple[bool, str]:
    options = [f"--tls={'off' if job.way == 'plain' else 'on'}", f"--auth={job.mechanism.lower() or 'off'}"]
    if job.way != "plain":
        options += [f"--tls-starttls={'on' if job.way == 'starttls' else 'off'}"]
        options += [f"--tls-trust-file={job.certificate}"]
    if job.mechanism:
        options += [f"--user={job.user}", f"--passwordeval=cat {job.file('password', job.password)}"]
    return run("msmtp", "--host=localhost", f"--port={job.port}", "--from=alice@example.org", *options,
               "bob@localhost", stdin=MESSAGE)  # fmt: skip


def s_nail(job: Job) -> tuple[bool, str]:
    login = f"{job.user}:{quote(job.password, safe='')}@" if job.mechanism else ""
    rc = f"set mta={job.scheme}://{login}localhost:{job.port} smtp-auth={job.mechanism.lower() or 'none'}\n"
    if job.way != "plain":
        rc += f"set tls-verify=strict tls-ca-no-defaults tls-ca-file={job.certificate}\n"
    rc += "set smtp-use-starttls\n" if job.way == "starttls" else ""
    return run("s-nail", "-:u", "-Sv15-compat", "-Sttycharset=utf-8", "-Smime-encoding=8b",
               "-Ssendcharsets=utf-8", "-Ssendwait", "-r", "alice@example.org", "-s", "interop",
               "bob@localhost", stdin=BODY, env={"MAILRC": job.file("mailrc", rc)})  # fmt: skip


def mutt(job: Job) -> tuple[bool, str]:
    login = f"{job.user}@" if job.mechanism else ""
    secure = "no" if job.way == "plain" else "yes"
    rc = (
        f'set smtp_url="{job.scheme}://{login}localhost:{job.port}"\nset from=alice@example.org\n'
        f"set copy=no\nset ssl_starttls={secure}\nset ssl_force_tls={secure}\nset ssl_usesystemcerts=no\n"
        f'set certificate_file="{job.certificate}"\nset allow_8bit=yes\nset send_charset=utf-8\n'
    )
    if job.mechanism:
        rc += f'set smtp_authenticators="{job.mechanism.lower()}"\nset smtp_pass="{job.password}"\n'
    return run("mutt", "-n", "-F", job.file("muttrc", rc), "-s", "interop", "--", "bob@localhost", stdin=BODY,
               env={"HOME": str(job.server.root.parent)})  # fmt: skip


def python(job: Job) -> tuple[bool, str]:
    context = ssl.create_default_context(cafile=job.certificate) if job.way != "plain" else None
    kind = functools.partial(smtplib.SMTP_SSL, context=context) if job.way == "implicit" else smtplib.SMTP
    try:
        with kind("localhost", job.port, timeout=20) as smtp:
            if job.way == "starttls":
                smtp.starttls(context=context)
            smtp.ehlo()
            if job.mechanism:
                smtp.user, smtp.password = job.user, job.password
                smtp.auth(job.mechanism, getattr(smtp, f"auth_{job.mechanism.lower()}"))
            smtp.sendmail("alice@example.org", ["bob@localhost"], CRLF, ["BODY=8BITMIME"])
    except (OSError, smtplib.SMTPException) as error:
        return False, repr(error)
    return True, ""


def gsasl(job: Job) -> tuple[bool, str]:
    """It logs in, then sends what it reads as fast as it can. The one here that can bind a login to TLS."""
    # It binds to tls-unique in TLS 1.2, to tls-exporter in 1.3, which Python's ssl cannot give to the server.
    binding = "--priority=NORMAL:-VERS-TLS1.3" if job.mechanism.endswith("-PLUS") else "--no-cb"
    stdin = "MAIL FROM:<alice@example.org> BODY=8BITMIME\r\nRCPT TO:<bob@localhost>\r\n"
    stdin += f"BDAT {len(CRLF)} LAST\r\n{CRLF.decode()}QUIT\r\n"  # unlike after DATA, no waiting
    return run("gsasl", "--client", "--smtp", f"--connect=localhost:{job.port}", "--starttls", "--quiet",
               f"--x509-ca-file={job.certificate}", binding, f"--mechanism={job.mechanism}",
               f"--authentication-id={job.user}", f"--password={job.password}", stdin=stdin)  # fmt: skip


CLIENTS = [swaks, curl, msmtp, s_nail, mutt, python]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mail root with users."""
    root = tmp_path / "root"
    for name, scheme in USERS.items():
        done = mailtools("user", "add", name, "--scheme", scheme, "--root", str(root),
                         stdin=f"{PASSWORD}\n".encode())  # fmt: skip
        assert done.returncode == 0, done.stderr
    return root


def serve(root: Path, way: str) -> Server:
    return Server(root, *WAYS[way][0], "--domain", "localhost", "--transcript", str(root.parent / "sessions"))


def sessions(server: Server) -> str:
    """End the server; the transcripts of its sessions."""
    server.stop()
    return "".join(path.read_text() for path in sorted((server.root.parent / "sessions").iterdir()))


def arrived(server: Server, user: str = "bob") -> tuple[str, str, str]:
    """The one message in a mailbox: its protocol, its header, its body."""
    with server.inbox(user).open("rb") as file:
        (message,) = [record.message().decode() for record in scan.records(file.read)]
    head, _, body = message.partition("\n\n")
    protocols = re.findall(r"^Received: [^\n]*\n\tby [^\n]* \(mailtools\) with (\w+) id ", head, re.MULTILINE)
    assert protocols, head
    return protocols[0], head, body


def perform(client: Client, root: Path, *task: str) -> tuple[Job, bool, str, str]:
    with serve(root, task[0]) as server:
        job = Job(server, *task)
        return job, *client(job), sessions(server)


def check_delivery(client: Client, root: Path, *task: str) -> None:
    """A client does its job."""
    job, done, said, transcript = perform(client, root, *task)
    assert done, (said, transcript)
    logins = re.findall(r"^C: AUTH (\S+)", transcript, re.MULTILINE)
    assert logins == ([job.mechanism] if job.mechanism else []), (transcript, said)
    assert len(re.findall(r"^# TLSv1\.[23] ", transcript, re.MULTILINE)) == (job.way != "plain"), transcript
    protocol, head, body = arrived(job.server)
    helo = client is s_nail and not job.mechanism  # it says HELO then, for which there is no other keyword
    assert protocol == ("SMTP" if helo else WAYS[job.way][2 if job.mechanism else 1])
    assert "Return-Path: <alice@example.org>\nDelivered-To: bob@localhost\n" in head
    assert "\nSubject: interop" in head
    if client is s_nail:  # it quotes From lines itself, on the way out
        body = body.replace("\n>From ", "\nFrom ")
    assert body.rstrip("\n") == BODY.rstrip("\n")


def check_refusal(client: Client, root: Path, *task: str) -> None:
    """A client cannot log in, says so and delivers nothing."""
    job, done, said, transcript = perform(client, root, *task)
    assert f"\nC: AUTH {job.mechanism}" in transcript, (said, transcript)
    assert "\nS: 535 5.7.8 " in transcript
    assert not re.search("^C: (MAIL|DATA|BDAT)", transcript, re.MULTILINE)
    assert not done, said
    assert not job.server.inbox("bob").exists()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", ""])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_delivers(root: Path, client: Client, way: str, mechanism: str) -> None:
    check_delivery(client, root, way, mechanism)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_refused(root: Path, client: Client, way: str) -> None:
    check_refusal(client, root, way, "PLAIN", "bob", "wrong")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_certificate_it_does_not_trust(root: Path, tmp_path: Path, client: Client) -> None:
    """The clients do verify it, so that the tests above say something of it."""
    with serve(root, "starttls") as server, Server(tmp_path / "other", "--tls-self-signed") as other:
        job = Job(server, "starttls", "PLAIN")
        job.certificate = other.root / ".tls" / "cert.pem"
        done, said = client(job)
        assert not done, said
        assert "\nC: AUTH" not in sessions(server)
        assert not server.inbox("bob").exists()


# SCRAM: Debian's curl 7.88 is built without libgsasl; swaks, s-nail and smtplib do not know it at all. msmtp
# 1.8.23 and mutt 2.2.12 do not bind a login to TLS (-PLUS), which leaves gsasl for that.
SCRAM = [*((client, "SCRAM-SHA-256") for client in (msmtp, mutt, gsasl)), (gsasl, "SCRAM-SHA-256-PLUS")]
TASKS = [
    (*each, way) for each in SCRAM for way in WAYS if gsasl not in each or way == "starttls"
]  # all it speaks


@pytest.mark.parametrize(("client", "mechanism", "way"), TASKS)
def test_scram(root: Path, client: Client, mechanism: str, way: str) -> None:
    check_delivery(client, root, way, mechanism, "sam")


@pytest.mark.parametrize(("user", "password"), [("sam", "wrong"), ("bob", PASSWORD), ("eve", PASSWORD)])
@pytest.mark.parametrize(("client", "mechanism"), SCRAM)
def test_scram_is_refused(root: Path, client: Client, mechanism: str, user: str, password: str) -> None:
    """A wrong password; a user whose password is kept in another form; nobody."""
    check_refusal(client, root, "starttls", mechanism, user, password)


class Postfix:
    """An instance of its own, that hands on what it gets as told."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.fail("Postfix starts as root only: run scripts/interop as root")
        self.folder = folder
        self.port = free_port()
        folder.chmod(0o755)
        for name in ("config", "queue", "data"):
            (folder / name).mkdir()
        os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)

    def file(self, name: str, content: str) -> Path:
        path = self.folder / "config" / name
        path.write_text(content)
        return path

    def start(self, **settings: str) -> None:
        # No name twice: each daemon would warn in the log, even the one that writes it, waiting for itself.
        settings = {"mydestination": "", "defer_transports": "", "smtp_host_lookup": "native"} | settings
        main = dict(line.split(" =", 1) for line in MAIN.format(folder=self.folder).strip().split("\n"))
        self.file("main.cf", "".join(f"{name} = {value}\n" for name, value in (main | settings).items()))
        daemons = "tlsmgr unix - - n 1000? 1 tlsmgr\nlmtp unix - - n - - lmtp\n"
        self.file("master.cf", MASTER.format(port=self.port) + daemons)
        self.command("start")
        eventually(lambda: answers(self.port), "Postfix's greeting")

    def command(self, name: str) -> int:
        command = ["postfix", "-c", str(self.folder / "config"), name]
        return subprocess.run(command, check=name == "start", capture_output=True, timeout=60).returncode

    def send(self, sender: str, *recipients: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as smtp:
            assert not smtp.sendmail(sender, recipients, CRLF, ["BODY=8BITMIME"])

    def outcome(self, recipient: str) -> str:
        """What came of it, from the log: the DSN status, a word and the reason."""
        line = re.compile(rf" to=<{re.escape(recipient)}>, .* dsn=([\d.]+), status=(.*)")
        log = self.folder / "log"
        eventually(lambda: line.search(log.read_text()), log.read_text)
        return " ".join(line.findall(log.read_text())[0])


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with tempfile.TemporaryDirectory(prefix="mailtools-postfix-", dir="/var/tmp") as folder:
        postfix = Postfix(Path(folder))
        yield postfix
        if (Path(folder) / "config" / "main.cf").exists():
            assert postfix.command("stop") == 0


VERIFY = {"smtp_tls_security_level": "verify", "smtp_tls_CAfile": "ours"}
WRAPPER = VERIFY | {"smtp_tls_wrappermode": "yes"}
HANDOVERS = [  # what Postfix is told, the way of the server, how it logs in
    pytest.param({}, "plain", "", id="plain"),
    pytest.param({}, "plain", "PLAIN", id="plain+auth"),
    pytest.param({"smtp_tls_security_level": "encrypt"}, "starttls", "", id="encrypt"),
    pytest.param(VERIFY, "starttls", "", id="verify"),
    pytest.param(VERIFY, "starttls", "PLAIN", id="verify+plain"),
    pytest.param(VERIFY, "starttls", "SCRAM-SHA-256", id="verify+scram"),
    pytest.param(WRAPPER, "implicit", "", id="wrapper"),
    pytest.param(WRAPPER, "implicit", "PLAIN", id="wrapper+auth"),
]


def relay(postfix: Postfix, server: Server, told: dict[str, str], mechanism: str, password: str) -> str:
    """Start Postfix and let it send bob a message; the outcome."""
    told = told | {"relayhost": f"[localhost]:{server.port}"}
    if "smtp_tls_CAfile" in told:
        certificate = (server.root / ".tls" / "cert.pem").read_text()
        told["smtp_tls_CAfile"] = str(postfix.file("server.pem", certificate))
    if mechanism:
        user = "sam" if mechanism.startswith("SCRAM") else "bob"
        passwords = postfix.file("passwords", f"{told['relayhost']} {user}:{password}\n")
        told |= {"smtp_sasl_auth_enable": "yes", "smtp_sasl_security_options": "noanonymous"}
        told |= {"smtp_sasl_password_maps": f"texthash:{passwords}", "smtp_sasl_mechanism_filter": mechanism}
    postfix.start(**told)
    postfix.send("alice@example.org", "bob@localhost")
    return postfix.outcome("bob@localhost")


@pytest.mark.parametrize(("told", "way", "mechanism"), HANDOVERS)
def test_postfix_relays(root: Path, postfix: Postfix, told: dict[str, str], way: str, mechanism: str) -> None:
    with serve(root, way) as server:
        assert relay(postfix, server, told, mechanism, PASSWORD).startswith("2.0.0 sent ")
        transcript = sessions(server)
        assert re.findall(r"^C: AUTH (\S+)", transcript, re.MULTILINE) == ([mechanism] if mechanism else [])
        protocol, head, body = arrived(server)
        assert protocol == WAYS[way][2 if mechanism else 1]
        assert "Return-Path: <alice@example.org>\nDelivered-To: bob@localhost\n" in head
        assert body == BODY


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_postfix_with_a_wrong_password_keeps_it(root: Path, postfix: Postfix, mechanism: str) -> None:
    with serve(root, "starttls") as server:
        outcome = relay(postfix, server, VERIFY, mechanism, "wrong")
    assert outcome.startswith("4.7.8 deferred (SASL authentication failed; ")
    assert not server.inbox("bob").exists()


@pytest.mark.parametrize("by", ["unix", "tcp"])
def test_postfix_hands_over_by_lmtp(root: Path, postfix: Postfix, by: str) -> None:
    """To one who is known and one who is not; the sender gets the second one's bounce, by LMTP too."""
    path = f"unix:{postfix.folder}/lmtp"
    listen = ["--listen", path, "--listen", "127.0.0.1:0"]
    with Server(root, "--lmtp", "--domain", "localhost", *listen) as server:
        transport = f"lmtp:{path}" if by == "unix" else f"lmtp:127.0.0.1:{server.port}"
        postfix.start(default_transport=transport)
        postfix.send("sam@localhost", "bob@localhost", "nobody@localhost")
        assert postfix.outcome("bob@localhost").startswith("2.0.0 sent ")
        assert postfix.outcome("nobody@localhost").startswith("5.1.1 bounced ")
        assert postfix.outcome("sam@localhost").startswith("2.0.0 sent ")
        server.stop()
        protocol, head, body = arrived(server)
        assert protocol == "LMTP"
        assert "Return-Path: <sam@localhost>\nDelivered-To: bob@localhost\n" in head
        assert body == BODY
        protocol, head, body = arrived(server, "sam")
        assert protocol == "LMTP"
        assert "Return-Path: <>\n" in head
        assert "\nFinal-Recipient: rfc822; nobody@localhost\n" in body
        assert "\nStatus: 5.1.1\n" in body
        assert not server.inbox("nobody").exists()
