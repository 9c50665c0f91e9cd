"""Real programs read and empty a maildrop of `serve-pop3`: what they get is what SMTP brought.

Each client is a function that fetches everything and gives back what it got, with LF. How it logged in, and
whether over TLS, is told by the server's transcript. Clients that can verify the certificate do.
"""

import os
import poplib
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pexpect
import pytest

from mailtools.core.mbox import scan, stored
from tests.conftest import OWN_CORPUS
from tests.servers import Pop3Server, Server

PASSWORD = "secret100%"
poplib._MAXLINE = 1 << 20  # type: ignore[attr-defined]  # mail has longer lines than the 2,048 it takes
WAYS = {"plain": [], "stls": ["--tls-self-signed"], "implicit": ["--tls-self-signed", "--implicit-tls"]}

BODY = b"Gr\xc3\xbc\xc3\x9fe\n\nFrom here on, text.\n>From quoted\n.\n..two dots\n.dot\n"
USUAL = [
    b"From: a@example.org\nTo: bob@localhost\nSubject: dots and From\n\n" + BODY,
    b"From: a@example.org\nSubject: a header alone\n\n",
    b"From: a@example.org\nSubject: empty lines at its end\n\n.\n\n\n\n",
    b"From: a@example.org\nStatus: RO\nX-Status: D\nX-UID: 7\nContent-Length: 3\nSubject: state\n\nnot ours\n",
    b"From: a@example.org\nSubject: a long line\n\n" + b"x" * 900 + b"\n" + b"y" * 20_000 + b"\n",
    b"From: a@example.org\nSubject: many lines\n\n" + b"".join(b"line %d\n" % n for n in range(20_000)),
]


def corpus() -> list[bytes]:
    """The messages written for these tests, LF for line ends; some are broken or hostile."""
    return [path.read_bytes() for path in sorted(OWN_CORPUS.glob("*.eml"))]


@dataclass
class Job:
    """What a client is to do."""

    server: Pop3Server
    way: str = "plain"
    mechanism: str = ""  # none: USER and PASS
    delete: bool = False
    password: str = PASSWORD
    user: str = "bob"
    said: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.port = self.server.port
        self.folder = self.server.root.parent
        self.certificate = self.server.root / ".tls" / "cert.pem"  # which to trust

    def file(self, name: str, content: str, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    def run(self, *args: str, right: Sequence[int] = (0,), stdin: bytes = b"", **env: str) -> bytes:
        """Run a program; what it says on stdout."""
        done = subprocess.run(
            args, input=stdin, capture_output=True, check=False, timeout=60,
            env=os.environ | {"LC_ALL": "C.UTF-8", "HOME": str(self.folder)} | env,
        )  # fmt: skip
        self.said = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
        if done.returncode not in right:
            raise RefusedError(self.said)
        return done.stdout


class RefusedError(Exception):
    """A program that did not do what it was told."""


Client = Callable[[Job], list[bytes]]


# -- clients -------------------------------------------------------------------------------------------------


def curl(job: Job, *options: str, path: str = "") -> bytes:
    """One command: *path* is a message's number, or empty for LIST."""
    scheme = "pop3s" if job.way == "implicit" else "pop3"
    told = [] if job.way == "plain" else ["--ssl-reqd", "--cacert", str(job.certificate)]
    told += ["--login-options", f"AUTH={job.mechanism}"] if job.mechanism else []
    login = job.file("curlrc", f'user = "{job.user}:{job.password}"\n')
    return job.run(
        "curl", "-sS", "--config", login, *told, *options, f"{scheme}://localhost:{job.port}/{path}"
    )


def curl_all(job: Job) -> list[bytes]:
    numbers = [line.split()[0].decode() for line in curl(job).splitlines() if line]
    found = [curl(job, path=number).replace(b"\r\n", b"\n") for number in numbers]
    if job.delete:  # one session each: the one that is left is always the first
        for _ in numbers:
            curl(job, "-X", "DELE", "-I", path="1")
    return found


def mpop(job: Job) -> list[bytes]:
    box = _maildir(job)
    rc = f"account a\nhost localhost\nport {job.port}\nuser {job.user}\npassword {job.password}\n"
    rc += f"delivery maildir {box}\nuidls_file {job.folder}/uidls\nreceived_header off\n"
    rc += f"keep {'off' if job.delete else 'on'}\nauth {job.mechanism.lower() or 'user'}\n"
    if job.way != "plain":
        rc += (
            f"tls on\ntls_trust_file {job.certificate}\ntls_starttls {'on' if job.way == 'stls' else 'off'}\n"
        )
    job.run("mpop", "-C", job.file("mpoprc", rc), "-Q", "a")
    return _taken(box)


def fetchmail(job: Job) -> list[bytes]:
    box = _maildir(job)
    job.file("pem", job.certificate.read_text() if job.way != "plain" else "")
    auth = {"": "password", "APOP": "password"}[job.mechanism]
    protocol = "APOP" if job.mechanism == "APOP" else "POP3"
    mda = _mda(job, box)
    rc = "set invisible\n"
    rc += f'poll localhost service {job.port} protocol {protocol} uidl auth {auth} bad-header accept\n  user "{job.user}" password'
    rc += f' "{job.password}" is root here mda "{mda}"  no rewrite pass8bits'
    rc += " no keep fetchall" if job.delete else " keep"
    rc += {"plain": ' sslproto ""', "stls": ' sslproto "auto"', "implicit": " ssl"}[job.way]
    rc += f' sslcertck sslcertfile "{job.folder}/pem"\n' if job.way != "plain" else "\n"
    ids = f"--idfile={job.folder}/ids"
    job.run("fetchmail", "-f", job.file("fetchmailrc", rc), ids, f"--pidfile={job.folder}/fetchmail.pid",
            right=(0, 1))  # 1: no mail  # fmt: skip
    if re.search("(?i)error|failed", job.said):
        raise RefusedError(job.said)
    return _taken(box)


def getmail(job: Job) -> list[bytes]:
    box = _maildir(job)
    kind = "SimplePOP3SSLRetriever" if job.way == "implicit" else "SimplePOP3Retriever"
    rc = f"[retriever]\ntype = {kind}\nserver = localhost\nport = {job.port}\nusername = {job.user}\n"
    rc += f"password = {job.password}\n"
    rc += f"ca_certs = {job.certificate}\n" if job.way == "implicit" else ""
    rc += "use_apop = true\n" if job.mechanism == "APOP" else ""
    rc += f"[destination]\ntype = MDA_external\npath = {_mda(job, box)}\nallow_root_commands = true\nunixfrom = false\n[options]\ndelete = {job.delete}\nread_all = false\n"
    rc += "delivered_to = false\nreceived = false\n"
    for known in job.folder.glob("oldmail-localhost-*"):  # the server has another port each time
        known.rename(job.folder / f"oldmail-localhost-{job.port}-{known.name.split('-', 3)[3]}")
    job.run("getmail", "--rcfile", job.file("getmailrc", rc), f"--getmaildir={job.folder}")
    return _taken(box)


def s_nail(job: Job) -> list[bytes]:
    scheme = "pop3s" if job.way == "implicit" else "pop3"
    login = f"{job.user}:{quote(job.password, safe='')}@"
    rc = "set v15-compat\nset folder-hook-none\nset pop3-auth=plain keep\nset pop3-bulk-load\n"
    rc += "set pop3-no-apop\n" if job.mechanism != "APOP" else ""
    rc += "set pop3-use-starttls\n" if job.way == "stls" else ""
    if job.way != "plain":
        rc += f"set tls-verify=strict tls-ca-no-defaults tls-ca-file={job.certificate}\n"
    out = job.folder / f"s-nail.{time.monotonic_ns()}"
    script = f"copy * maildir://{out}\n" + ("delete *\nquit\n" if job.delete else "exit\n")
    job.run("s-nail", "-:u", "-Y", script, "-f", f"{scheme}://{login}localhost:{job.port}",
            right=(0, 1), MAILRC=job.file("mailrc", rc))  # fmt: skip
    if not out.exists():
        if re.search("(?i)no mail|0 messages|no applicable", job.said):
            return []
        raise RefusedError(job.said)
    return _taken(out)


def mutt(job: Job) -> list[bytes]:
    scheme = "pops" if job.way == "implicit" else "pop"
    out = job.folder / "mutt.mbox"
    out.unlink(missing_ok=True)
    rc = (
        f'set pop_pass="{job.password}"\nset pop_authenticators="{job.mechanism.lower() or "user"}"\n'
        "set folder=~\nset confirmappend=no\nset confirmcreate=no\nset delete=yes\nset wait_key=no\n"
        "set sort=mailbox-order\nset pop_last=no\nset mbox_type=mbox\n"
        f"set ssl_starttls={'yes' if job.way == 'stls' else 'no'}\nset quit=yes\nset auto_tag=no\n"
        f"set ssl_force_tls={'no' if job.way == 'plain' else 'yes'}\nset pop_checkinterval=600\n"
    )
    rc += f'set certificate_file="{job.certificate}"\n' if job.way != "plain" else ""
    keys = f"<tag-pattern>~A<enter><tag-prefix-cond><copy-message><kill-line>{out}<enter><end-cond>"
    keys += "<delete-pattern>~A<enter><quit>" if job.delete else "<exit>"
    child = pexpect.spawn(
        "mutt", ["-n", "-F", job.file("muttrc", rc), "-f", f"{scheme}://{job.user}@localhost:{job.port}",
                 "-e", f'push "{keys}"'],
        env=os.environ | {"HOME": str(job.folder), "TERM": "vt100", "LC_ALL": "C.UTF-8"}, timeout=30,
        dimensions=(24, 100), encoding="utf-8", codec_errors="replace",
    )  # fmt: skip
    # A login refused leaves mutt without a mailbox, at its prompt.
    ended = child.expect(
        [pexpect.EOF, "There are no messages", "(?i)login failed|authentication failed|[(]r[)]eject"]
    )
    job.said = str(child.before)[-2000:]
    if ended == 1:  # and it forgets what it was told to do
        child.send("q")
        child.expect(pexpect.EOF)
    if ended == 2:
        child.close(force=True)
        raise RefusedError(job.said)
    if not out.exists():
        return []
    with out.open("rb") as file:
        return [record.message(stored.shown) for record in scan.records(file.read)]


def python(job: Job) -> list[bytes]:
    with_tls = ssl.create_default_context(cafile=job.certificate) if job.way != "plain" else None
    pop: poplib.POP3
    if job.way == "implicit":
        pop = poplib.POP3_SSL("localhost", job.port, timeout=20, context=with_tls)
    else:
        pop = poplib.POP3("localhost", job.port, timeout=20)
    try:
        if job.way == "stls":
            pop.stls(with_tls)
        if job.mechanism == "APOP":
            pop.apop(job.user, job.password)
        else:
            pop.user(job.user)
            pop.pass_(job.password)
        found = []
        for number in range(1, pop.stat()[0] + 1):
            found.append(b"".join(line + b"\n" for line in pop.retr(number)[1]))
            if job.delete:
                pop.dele(number)
    except poplib.error_proto as error:
        raise RefusedError(str(error)) from error
    pop.quit()
    return found


def _mda(job: Job, box: Path) -> str:
    """A program that files a message."""
    return job.file("mda", f'#!/bin/sh\ncat >"{box}/new/$(date +%s%N).$$"\n', 0o700)


def _maildir(job: Job) -> Path:
    box = job.folder / f"maildir.{time.monotonic_ns()}"
    for name in ("cur", "new", "tmp"):
        (box / name).mkdir(parents=True)
    return box


def _taken(box: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((box / "new").iterdir(), key=lambda p: p.stat().st_mtime_ns)]


# -- what they leave as it was -------------------------------------------------------------------------------

STATE, LONG = USUAL[3], USUAL[4]
_TRACE = re.compile(rb"\AReturn-Path: [^\n]*\nDelivered-To: [^\n]*\nReceived: [^\n]*\n(?:\t[^\n]*\n)*")
_LINES = re.compile(rb"^Lines: \d+\n", re.MULTILINE)

# Clients that change nothing get all; of the others: what a program changes by itself it is not given.
GIVEN: dict[Client, list[bytes]] = {
    curl_all: USUAL + corpus(),
    mpop: USUAL + corpus(),
    python: USUAL + corpus(),
    fetchmail: [m for m in USUAL + corpus() if m != LONG and b"this line is no field" not in m],
    getmail: USUAL,  # Python's email package writes the header of the corpus anew
    s_nail: [m for m in USUAL if m != STATE and not m.endswith(b"\n\n")],
    mutt: [m for m in USUAL if m != STATE],
}
TASKS = [
    pytest.param(client, way, id=f"{client.__name__}-{way}")
    for client in GIVEN
    for way in WAYS
    if (client, way) != (getmail, "stls")  # which it does not know
]


def sent(client: Client, message: bytes) -> bytes:
    """A message that a client got, without what we put before it and what the client did to it."""
    bare = _TRACE.sub(b"", message)
    assert bare != message, message[:500]
    if client is mutt:  # it counts the lines of what it files in an mbox
        bare = _LINES.sub(b"", bare)
        bare = bare.replace(b"\nFrom quoted", b"\n>From quoted")  # it knows no mboxrd
    if client is s_nail:  # it quotes From lines whatever it files in, and ends each with one empty line
        bare = bare.rstrip(b"\n") + b"\n"
        bare = bare.replace(b"\n>From here", b"\nFrom here").replace(b"\n>>From", b"\n>From")
    return bare


def check_all(client: Client, found: list[bytes]) -> None:
    assert [sent(client, m) for m in found] == GIVEN[client]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mail root with one user, whose password is there in the clear, for APOP."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "users").write_text(f"bob:{{PLAIN}}{PASSWORD}\n")
    (root / "users").chmod(0o600)
    return root


def deliver(root: Path, messages: Sequence[bytes]) -> None:
    with Server(root, "--domain", "localhost") as server:
        for message in messages:
            client = server.connect()
            octets = message.replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..")
            assert client.deliver(octets, "bob@localhost").startswith(b"250")
            client.close()


def serve(root: Path, way: str, *options: str) -> Pop3Server:
    return Pop3Server(root, *WAYS[way], "--transcript", str(root.parent / "sessions"), *options)


def transcript(server: Pop3Server) -> str:
    """End the server; the transcripts of its sessions."""
    server.stop()
    return "".join(
        path.read_text(errors="replace") for path in sorted((server.root.parent / "sessions").iterdir())
    )


def check_way(said: str, way: str) -> None:
    """Nothing but over TLS where it has to be."""
    sessions, with_tls = said.count("\nS: +OK "), len(re.findall(r"^# TLSv1\.[23] ", said, re.MULTILINE))
    assert (with_tls > 0) == (way != "plain"), said[-3000:]
    assert sessions
    assert not re.search("^C: (STLS)", said, re.MULTILINE) or way == "stls"


@pytest.mark.parametrize(("client", "way"), TASKS)
def test_a_client_reads_and_keeps(root: Path, client: Client, way: str) -> None:
    deliver(root, GIVEN[client])
    before = (root / "bob" / "INBOX.mbox").read_bytes()
    with serve(root, way) as server:
        job = Job(server, way)
        check_all(client, client(job))
        if client in (mpop, fetchmail, getmail):  # those that know a message again
            assert client(job) == []
        said = transcript(server)
    check_way(said, way)
    assert "\nC: DELE" not in said
    assert (root / "bob" / "INBOX.mbox").read_bytes() == before


@pytest.mark.parametrize(("client", "way"), TASKS)
def test_a_client_empties_it(root: Path, client: Client, way: str) -> None:
    deliver(root, GIVEN[client])
    with serve(root, way) as server:
        job = Job(server, way, delete=True)
        check_all(client, client(job))
        assert server.inbox("bob").read_bytes() == b""
        assert client(job) == []


@pytest.mark.parametrize("client", [mpop, fetchmail, getmail])
def test_what_is_known_stays_known(root: Path, client: Client) -> None:
    """Over a restart, a lost index, and another program's rewrite; only what is new is fetched."""
    first, second = GIVEN[client][:3], GIVEN[client][-2:]
    deliver(root, first)
    with serve(root, "plain") as server:
        assert len(client(Job(server))) == len(first)
    box = root / "bob" / "INBOX.mbox"
    for path in (root / "bob" / ".mailtools").iterdir():
        path.unlink()
    box.write_bytes(re.sub(rb"\nReturn-Path: ", rb"\nStatus: RO\nReturn-Path: ", box.read_bytes()))
    deliver(root, second)
    with serve(root, "plain") as server:
        job = Job(server)
        assert [sent(client, m) for m in client(job)] == second
        assert client(job) == []


@pytest.mark.parametrize(("client", "way"), TASKS)
def test_a_wrong_password_is_refused(root: Path, client: Client, way: str) -> None:
    deliver(root, USUAL[:1])
    with serve(root, way) as server:
        with pytest.raises(RefusedError):
            client(Job(server, way, password="wrong"))
        assert "\nS: -ERR [AUTH] " in transcript(server)
    assert (root / "bob" / "INBOX.mbox").stat().st_size


@pytest.mark.parametrize("client", GIVEN)
def test_a_certificate_it_does_not_trust(root: Path, tmp_path: Path, client: Client) -> None:
    """The clients do verify it, so that the tests above say something of it."""
    way = "implicit" if client is getmail else "stls"
    deliver(root, USUAL[:1])
    with serve(root, way) as server, Pop3Server(tmp_path / "other", "--dev", "--tls-self-signed") as other:
        job = Job(server, way)
        job.certificate = other.root / ".tls" / "cert.pem"
        with pytest.raises((RefusedError, ssl.SSLError, pexpect.TIMEOUT)):
            client(job)
        assert not re.search("^C: (USER|PASS|AUTH|APOP)", transcript(server), re.MULTILINE)


# -- logins --------------------------------------------------------------------------------------------------

LOGINS = [
    (curl_all, "+APOP", "APOP"),
    (curl_all, "PLAIN", "AUTH PLAIN"),
    (curl_all, "LOGIN", "AUTH LOGIN"),
    (mpop, "APOP", "APOP"),
    (mpop, "PLAIN", "AUTH PLAIN"),
    (mpop, "LOGIN", "AUTH LOGIN"),
    (mpop, "SCRAM-SHA-256", "AUTH SCRAM-SHA-256"),
    (fetchmail, "APOP", "APOP"),
    (getmail, "APOP", "APOP"),
    (s_nail, "APOP", "APOP"),
    (mutt, "APOP", "APOP"),
    (mutt, "PLAIN", "AUTH PLAIN"),
    (mutt, "SCRAM-SHA-256", "AUTH SCRAM-SHA-256"),
    (python, "APOP", "APOP"),
]


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize(("client", "mechanism", "verb"), LOGINS)
def test_a_login(root: Path, client: Client, mechanism: str, verb: str, is_right: bool) -> None:
    deliver(root, USUAL[:1])
    with serve(root, "plain") as server:
        job = Job(server, mechanism=mechanism)
        if is_right:
            check = client(job)
            assert [sent(client, m) for m in check] == USUAL[:1]
        else:
            job.password = "wrong"
            with pytest.raises(RefusedError):
                client(job)
        said = transcript(server)
    assert f"\nC: {verb}" in said, said
    assert "\nC: PASS" not in said
    assert ("\nS: -ERR [AUTH] " in said) != is_right


# -- single commands -----------------------------------------------------------------------------------------


def test_curl_asks_for_lists(root: Path) -> None:
    deliver(root, USUAL)
    with serve(root, "plain") as server:
        job = Job(server)
        sizes = [int(line.split()[1]) for line in curl(job).splitlines()]
        assert sizes == [len(curl(job, path=str(n))) for n in range(1, len(USUAL) + 1)]
        names = [line.split()[1] for line in curl(job, "-X", "UIDL").splitlines()]
        assert len(set(names)) == len(USUAL)
        top = curl(job, "-X", "TOP 1 2").replace(b"\r\n", b"\n")
        assert sent(curl_all, top) == USUAL[0][: USUAL[0].index(b"From here")]
        with pytest.raises(RefusedError):
            curl(job, path="99")


def test_every_call_of_poplib(root: Path) -> None:
    deliver(root, USUAL)
    with serve(root, "stls") as server:
        pop = poplib.POP3("localhost", server.port, timeout=20)
        assert "STLS" in pop.capa()
        pop.stls(ssl.create_default_context(cafile=server.root / ".tls" / "cert.pem"))
        capabilities = pop.capa()
        assert "STLS" not in capabilities
        assert "SCRAM-SHA-256" in capabilities["SASL"]
        assert capabilities["UTF8"] == ["USER"]
        pop.utf8()
        pop.user("bob")
        pop.pass_(PASSWORD)
        count, octets = pop.stat()
        listed = [tuple(map(int, line.split())) for line in pop.list()[1]]
        assert (count, octets) == (len(USUAL), sum(size for _, size in listed))
        assert pop.list(2) == b"+OK 2 %d" % listed[1][1]
        names = pop.uidl()[1]
        assert pop.uidl(3) == b"+OK " + names[2]
        for number, message in enumerate(USUAL, 1):
            lines = pop.retr(number)[1]
            assert sent(python, b"".join(line + b"\n" for line in lines)) == message
            assert sum(len(line) + 2 for line in lines) == listed[number - 1][1]
        assert sent(python, b"\n".join(pop.top(1, 0)[1]) + b"\n") == USUAL[0].partition(b"\n\n")[0] + b"\n\n"
        assert sent(python, b"\n".join(pop.top(1, 99)[1]) + b"\n") == USUAL[0]
        assert pop.noop() == b"+OK"
        pop.dele(1)
        assert pop.stat()[0] == count - 1
        pop.rset()
        assert pop.stat() == (count, octets)
        for number in (0, 1000):
            with pytest.raises(poplib.error_proto, match="-ERR"):
                pop.retr(number)
        pop.dele(2)
        pop.dele(4)
        pop.close()  # without QUIT
        pop = poplib.POP3("localhost", server.port, timeout=20)
        pop.apop("bob", PASSWORD)
        assert pop.uidl()[1] == names
        pop.dele(2)
        pop.dele(4)
        assert pop.quit().startswith(b"+OK")
        pop = poplib.POP3("localhost", server.port, timeout=20)
        pop.user("bob")
        pop.pass_(PASSWORD)
        assert [name.split()[1] for name in pop.uidl()[1]] == [names[n].split()[1] for n in (0, 2, 4, 5)]
        pop.quit()


def test_real_mail(root: Path, easy_ham: Path) -> None:
    """1,400 messages of real lists, by curl in one command, by mpop, and emptied by fetchmail."""
    deliver(root, [])
    (root / "bob").mkdir(exist_ok=True)
    (root / "bob" / "INBOX.mbox").write_bytes(easy_ham.read_bytes())
    with easy_ham.open("rb") as file:
        expected = [record.message(stored.shown) for record in scan.records(file.read)]
    expected = [m if m.endswith(b"\n") else m + b"\n" for m in expected]
    with serve(root, "plain") as server:
        assert mpop(Job(server)) == expected
        assert python(Job(server)) == expected
        assert len(fetchmail(Job(server, delete=True))) == len(expected)
        assert server.inbox("bob").read_bytes() == b""
