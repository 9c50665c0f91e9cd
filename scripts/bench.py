"""The measurements behind scripts/bench: each section yields rows and checks that its work was done."""

import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import bench_fetch
import bench_imap
import bench_queue
import bench_secure
from bench_tools import MAILTOOLS, ROOT, Row, free_port, greets, interleaved, missing, timed, wait_for


class Served(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    inbox: Path


def users(folder: Path) -> Path:
    """A users file with bob in it."""
    path = folder / "users"
    if not path.exists():
        subprocess.run([MAILTOOLS, "user", "add", "bob", "--users", str(path)], input=b"secret\n", check=True)
    return path


@contextlib.contextmanager
def serve(folder: Path, *options: str) -> Iterator[Served]:
    port = free_port()
    root = Path(tempfile.mkdtemp(dir=folder))
    process = subprocess.Popen(
        [MAILTOOLS, "-q", "serve-smtp", "--port", str(port), "--root", str(root), *options],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: greets(port))
        yield Served(port, process, root / "bob" / "INBOX.mbox")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        shutil.rmtree(root)


MAIN_CF = """compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
defer_transports = local smtp
default_process_limit = 200
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
maillog_file = {0}/log
maillog_file_prefixes = {0}
"""
MASTER_CF = """{0} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
retry unix - - n - - error
error unix - - n - - error
local unix - n n - - local
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
"""


@contextlib.contextmanager
def postfix(tls: bool = False) -> Iterator[int]:
    """An instance of its own: smtpd, cleanup, a queue that is synced; delivery is deferred."""
    import pwd

    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="bench-postfix-"))
    folder.chmod(0o755)
    port = free_port()
    for name in ("config", "queue", "data"):
        (folder / name).mkdir()
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    main_cf = MAIN_CF.format(folder)
    if tls:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=bench.test", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        main_cf += (
            f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {folder}/key.pem, {folder}/cert.pem\n"
        )
    (folder / "config" / "main.cf").write_text(main_cf)
    (folder / "config" / "master.cf").write_text(MASTER_CF.format(port))
    command = ["postfix", "-c", str(folder / "config")]
    subprocess.run([*command, "start"], check=True, capture_output=True)
    try:
        wait_for(lambda: greets(port))
        yield port
    finally:
        subprocess.run([*command, "stop"], check=False, capture_output=True)
        shutil.rmtree(folder)


def intake(folder: Path, quick: bool) -> Iterator[Row]:
    """Durable intake of 4 KiB messages, with sessions that send many."""
    if not shutil.which("smtp-source"):
        yield Row("intake", "", "", missing("smtp-source"), "", "")
        return
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serve(folder, "--users", str(users(folder))))
        peer = stack.enter_context(postfix()) if os.geteuid() == 0 else 0
        sent = 0
        for sessions, whole, target in ((1, 1000, "ahead"), (10, 5000, "4"), (100, 10_000, "5")):
            count = whole // 4 if quick else whole

            def load(port: int, sessions: int = sessions, count: int = count) -> float:
                return timed(["smtp-source", "-d", "-s", str(sessions), "-m", str(count), "-l", "4096", "-f",
                              "a@bench.test", "-t", "bob@localhost", f"127.0.0.1:{port}"])  # fmt: skip

            tasks = [lambda load=load: load(ours.port)] + ([lambda load=load: load(peer)] if peer else [])
            seconds = interleaved(3, *tasks)
            sent += 3 * count
            yield Row(
                f"intake, {sessions} sessions",
                f"{count / seconds[0]:.0f}/s",
                f"{count / seconds[1]:.0f}/s" if peer else "",
                "Postfix smtpd" if peer else "Postfix starts as root only",
                f"{seconds[1] / seconds[0]:.2f}" if peer else "",
                target,
            )
        found = int(
            subprocess.run(["grep", "-c", "^From ", str(ours.inbox)], capture_output=True, check=True).stdout
        )
        assert found == sent, f"{found} messages of {sent} arrived"


def large(folder: Path, quick: bool) -> Iterator[Row]:
    """One large message through send and serve-smtp."""
    size = (100 if quick else 500) * 1_000_000
    path = folder / "large.eml"
    with path.open("wb") as file:
        file.write(b"Subject: large\nFrom: a@b.test\n\n")
        block = (b"x" * 76 + b"\n") * 10_000
        for _ in range(size // len(block)):
            file.write(block)
    with serve(folder, "--max-size", "1G") as server:
        script = (
            "import resource,subprocess,sys;subprocess.run(sys.argv[1:],check=True,stdout=2);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        begin = time.perf_counter()
        with path.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-c", script, MAILTOOLS, "send", "--host", "127.0.0.1", "--port",
                 str(server.port), "bob@localhost"],
                stdin=file, capture_output=True, check=True,
            )  # fmt: skip
        seconds = time.perf_counter() - begin
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        theirs = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]
        assert server.inbox.stat().st_size > path.stat().st_size
    path.unlink()
    yield Row(
        f"{size // 1_000_000} MB message: send", f"{int(done.stdout) // 1024} MiB", "", "", "", "< 64 MiB"
    )
    yield Row("  serve-smtp", f"{theirs} MiB", "", "", "", "< 64 MiB")
    yield Row("  both, through to the disk", f"{size / seconds / 1e6:.0f} MB/s", "", "", "", "")


LISTER = """
import mailbox, sys
from email.header import decode_header, make_header
for n, m in enumerate(mailbox.mbox(sys.argv[1]), 1):
    row = [n, m['date']]
    for name in ('from', 'subject'):
        try: row.append(make_header(decode_header(str(m[name] or ''))))
        except Exception: row.append(m[name])
    print(*row, sep='\\t')
"""


def make_mbox(path: Path, messages: int) -> None:
    """Real mail if it is here, else our own, again and again."""
    import lzma

    corpus = Path(os.environ.get("MAILTOOLS_CORPUS") or ROOT.parent / "shared" / "corpus")
    packed = corpus / "easy-ham-2.mbox.xz"
    if packed.exists():
        text = lzma.decompress(packed.read_bytes())
        # Real archives have attachments too: the median of 4 KiB, a mean of 8.
        records = re.split(rb"(?<=\n\n)(?=From )", text)
        records = [r.rstrip(b"\n") + b"\n" + b"y" * 60 * (n % 120) + b"\n\n" for n, r in enumerate(records)]
    else:
        names = ("chinese", "nested", "words", "eight-bit")
        records = [
            b"From a@b Thu Aug 22 12:00:00 2002\n" + (ROOT / f"tests/corpus/{name}.eml").read_bytes() + b"\n"
            + b"text of a line of usual length, again and again, as in real mail.\n" * 60 * n + b"\n"
            for n, name in enumerate(names)
        ]  # fmt: skip
    with path.open("wb") as file:
        for number in range(0, messages, len(records)):
            file.write(b"".join(records[: messages - number]))


def scan(folder: Path, quick: bool) -> Iterator[Row]:
    """Counting and listing."""
    messages = 20_000 if quick else 100_000
    mbox = folder / "scan.mbox"
    make_mbox(mbox, messages)
    label = f"{messages:,} messages, {mbox.stat().st_size / 1e6:.0f} MB"
    expected = int(
        subprocess.run(["grep", "-c", "^From ", str(mbox)], capture_output=True, check=True).stdout
    )
    found = int(
        subprocess.run([MAILTOOLS, "mbox", "count", str(mbox)], capture_output=True, check=True).stdout
    )
    assert found == expected, f"{found} messages of {expected} counted"
    out = folder / "out"

    def count() -> float:
        return timed([MAILTOOLS, "mbox", "count", str(mbox)])

    peers = [(["grep", "-c", "^From "], "grep -c", "> 0.67"), (["messages", "-q"], "GNU messages", "")]
    for argv, name, target in peers:
        if shutil.which(argv[0]):
            ours, theirs = interleaved(5, count, lambda argv=argv: timed([*argv, str(mbox)], stdout=out))
            yield Row(
                f"count ({label})", f"{ours:.2f} s", f"{theirs:.2f} s", name, f"{theirs / ours:.2f}", target
            )
        else:
            yield Row("count", "", "", missing(argv[0]), "", "")

    def listing() -> float:
        return timed([MAILTOOLS, "mbox", "list", str(mbox)], stdout=out)

    share = folder / "share.mbox"
    make_mbox(share, messages // 10)
    ours, theirs = interleaved(3, listing, lambda: timed([sys.executable, "-c", LISTER, str(share)]) * 10)
    assert out.read_bytes().count(b"\n") == expected
    yield Row(f"list ({label})", f"{ours:.2f} s", f"{theirs:.1f} s", "Python mailbox (a tenth, times 10)",
              f"{theirs / ours:.1f}", "20")  # fmt: skip
    if shutil.which("frm"):
        ours, theirs = interleaved(
            1 if quick else 3, listing, lambda: timed(["frm", str(mbox)], codes=(0, 1))
        )
        yield Row("list", f"{ours:.2f} s", f"{theirs:.1f} s", "GNU frm", f"{theirs / ours:.1f}", "7")
    else:
        yield Row("list", "", "", missing("frm"), "", "")
    memory = peak([MAILTOOLS, "mbox", "list", str(mbox)])
    yield Row("list, memory of the largest process", f"{memory} MiB", "", "", "", "< 100 MiB")
    mbox.unlink()
    share.unlink()


def peak(argv: list[str]) -> int:
    script = (
        "import resource,subprocess,sys;subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, check=True)
    return int(done.stdout) // 1024


@contextlib.contextmanager
def sink() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        ["smtp-sink", "-u", os.environ.get("USER", "root"), f"127.0.0.1:{port}", "100"]
    )
    try:
        wait_for(lambda: greets(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def start(folder: Path, quick: bool) -> Iterator[Row]:
    """Whole processes: what a script waits for."""
    noop = folder / "noop.py"
    noop.write_text("import click\n@click.command()\ndef main(): pass\nmain()\n")
    message = folder / "m.eml"
    message.write_bytes(b"From: a@b.test\nTo: bob@localhost\nSubject: x\n\n" + b"text\n" * 800)
    runs = 10 if quick else 30

    def nothing() -> float:
        return timed([sys.executable, str(noop)])

    ours, click, bare = interleaved(
        runs, lambda: timed([MAILTOOLS, "--version"]), nothing,
        lambda: timed([sys.executable, "-I", "-c", "pass"]),
    )  # fmt: skip
    yield Row("--version", f"{ours * 1000:.0f} ms", f"{click * 1000:.0f} ms", "Click, doing nothing",
              f"{click / ours:.2f}", "> 0.80")  # fmt: skip
    yield Row("", "", f"{bare * 1000:.0f} ms", "python3 -I -c pass", f"{bare / ours:.2f}", "")
    if not shutil.which("smtp-sink"):
        yield Row("send of one message", "", "", missing("smtp-source"), "", "")
        return
    with sink() as port:
        host = ["--host", "127.0.0.1", "--port", str(port)]
        ours, click = interleaved(
            runs, lambda: timed([MAILTOOLS, "send", *host, "bob@localhost"], message), nothing
        )
        yield Row("send of one message", f"{ours * 1000:.0f} ms", f"{click * 1000:.0f} ms",
                  "Click, doing nothing", f"{click / ours:.2f}", "> 0.80")  # fmt: skip
        peers = {
            "msmtp": ["msmtp", "--host=127.0.0.1", f"--port={port}", "--from=a@b.test", "bob@localhost"],
            "swaks": ["swaks", "--server", "127.0.0.1", "--port", str(port), "--to", "bob@localhost",
                      "--data", "-"],
            "curl": ["curl", "-s", f"smtp://127.0.0.1:{port}", "--mail-from", "a@b.test", "--mail-rcpt",
                     "bob@localhost", "-T", "-"],
        }  # fmt: skip
        for name, argv in peers.items():
            if not shutil.which(name):
                yield Row("", "", "", missing(name), "", "")
                continue
            ours, theirs = interleaved(
                runs // 3, lambda: timed([MAILTOOLS, "send", *host, "bob@localhost"], message),
                lambda argv=argv: timed(argv, message),
            )  # fmt: skip
            yield Row(
                "", f"{ours * 1000:.0f} ms", f"{theirs * 1000:.0f} ms", name, f"{theirs / ours:.2f}", ""
            )


SENDER = """
import smtplib, sys
message = open(sys.argv[2], 'rb').read().replace(b'\\n', b'\\r\\n')
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as smtp:
    for _ in range(int(sys.argv[3])):
        smtp.sendmail('a@b.test', ['bob@localhost'], message)
"""


def send(folder: Path, quick: bool) -> Iterator[Row]:
    """Many messages over one connection."""
    if not shutil.which("smtp-sink"):
        yield Row("send --mbox", "", "", missing("smtp-source"), "", "")
        return
    count = 1000 if quick else 5000
    message = b"From: a@b.test\nTo: bob@localhost\nSubject: x\n\n" + b"text of usual length, again\n" * 140
    (folder / "m.eml").write_bytes(message)
    (folder / "m.mbox").write_bytes((b"From a@b Thu Aug 22 12:00:00 2002\n" + message + b"\n") * count)
    out = folder / "sent"
    with sink() as port:
        ours, theirs = interleaved(
            3,
            lambda: timed([MAILTOOLS, "send", "--host", "127.0.0.1", "--port", str(port), "--mbox",
                           str(folder / "m.mbox")], stdout=out),
            lambda: timed([sys.executable, "-c", SENDER, str(port), str(folder / "m.eml"), str(count)]),
        )  # fmt: skip
    assert out.read_bytes().count(b"sent\t") == count
    yield Row(f"send --mbox, {count} messages", f"{count / ours:.0f}/s", f"{count / theirs:.0f}/s",
              "smtplib, one connection", f"{theirs / ours:.2f}", "2000/s")  # fmt: skip


def secure(folder: Path, quick: bool) -> Iterator[Row]:
    """Intake over TLS by a user who logged in, and what idle connections cost."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serve(folder, "--users", str(users(folder)), "--tls-self-signed"))
        peer = stack.enter_context(postfix(tls=True)) if os.geteuid() == 0 and shutil.which("postfix") else 0
        sent = 0
        for sessions, whole, target in ((1, 1000, "ahead"), (10, 5000, "4"), (100, 10_000, "5")):
            count = whole // 4 if quick else whole
            tasks = [lambda s=sessions, c=count: bench_secure.load(ours.port, s, c, "bob secret")]
            if peer:
                tasks.append(lambda s=sessions, c=count: bench_secure.load(peer, s, c))
            seconds = interleaved(3, *tasks)
            sent += 3 * (count // sessions) * sessions
            yield Row(
                f"intake over TLS, {sessions} sessions",
                f"{count / seconds[0]:.0f}/s",
                f"{count / seconds[1]:.0f}/s" if peer else "",
                "Postfix smtpd" if peer else "Postfix starts as root only",
                f"{seconds[1] / seconds[0]:.2f}" if peer else "",
                target,
            )
        found = ours.inbox.read_bytes().count(b"\nFrom: a@bench.test")
        assert found == sent, f"{found} messages of {sent} arrived"
        count = 500 if quick else 5000
        for tls, target in ((False, "8 KiB"), (True, "64 KiB")):
            cost = bench_secure.idle(ours.port, ours.process.pid, count, tls)
            yield Row(
                f"{count} idle{' over TLS' if tls else ''}, each",
                f"{cost / 1024:.1f} KiB",
                "",
                "",
                "",
                target,
            )


def pop3(folder: Path, quick: bool) -> Iterator[Row]:
    """Mail out of serve-pop3."""
    box = folder / "pop3.mbox"
    make_mbox(box, 10_000)
    yield from bench_fetch.pop3(folder, quick, box, 10_000)


def fetch(folder: Path, quick: bool) -> Iterator[Row]:
    """Mail into an mbox, by POP3 and IMAP."""
    box = folder / "fetch.mbox"
    make_mbox(box, 10_000)
    yield from bench_fetch.fetch(folder, quick, box, 10_000)


SECTIONS = {
    "intake": intake,
    "secure": secure,
    "large": large,
    "scan": scan,
    "start": start,
    "send": send,
    "sendmail": bench_queue.sendmail,
    "queue": bench_queue.queue,
    "long-queue": bench_queue.long_queue,
    "pop3": pop3,
    "fetch": fetch,
    "imap": bench_imap.imap,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--quick", action="store_true", help="less work, rougher figures")
    parser.add_argument("--cpus", default="0,1", help="processors to use; default 0,1")
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    options = parser.parse_args()
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    os.environ["PATH"] += ":/usr/sbin"
    layout = "{:42} {:>10} {:>10}  {:36} {:>6}  {}"
    print(layout.format("", "mailtools", "peer", "", "ratio", "target"))
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bench-") as name:
        for section in options.section or SECTIONS:
            for row in SECTIONS[section](Path(name), options.quick):
                print(layout.format(*row), flush=True)
    print("ratio: how many times as fast as the peer, medians of runs in turn, on processors " + options.cpus)


if __name__ == "__main__":
    main()
