"""The queue's measurements: to a sink beside Postfix, a long queue, and sendmail as a process."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench_tools import BIN, MAILTOOLS, Row, free_port, greets, interleaved, missing, timed, wait_for

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system import clock
from mailtools.system.spool.spool import Spool

SITES = 20
TEXT = b"Subject: x\n\n" + b"text of usual length, again\n" * 146

MAIN_CF = """compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
smtpd_peername_lookup = no
maillog_file = {0}/log
maillog_file_prefixes = {0}
transport_maps = texthash:{0}/config/transport
defer_transports = smtp
default_process_limit = 200
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
"""
MASTER_CF = """{0} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
retry unix - - n - - error
error unix - - n - - error
smtp unix - - n - - smtp
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """smtp-sink on every address of loopback: a site each."""
    port = free_port()
    process = subprocess.Popen(
        ["smtp-sink", "-u", "nobody", f"inet:{port}", "1000"], stdin=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: greets(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def fill(spool: Spool, count: int) -> None:
    spool.make()

    def some(first: int) -> None:
        for number in range(first, count, 4):
            recipient = Recipient(f"u{number}@site{number % SITES}.test")
            envelope = QueueEnvelope(clock.identity(), clock.now(), "a@bench.test", (recipient,))
            spool.add(envelope, [TEXT])

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Postfix:
    """An instance whose mail to the sites waits until it is told to deliver."""

    def __init__(self, port: int) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="bench-postfix-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        for name in ("config", "queue", "data"):
            (self.folder / name).mkdir()
        os.chown(self.folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
        (self.folder / "config" / "main.cf").write_text(MAIN_CF.format(self.folder))
        (self.folder / "config" / "master.cf").write_text(MASTER_CF.format(self.port))
        (self.folder / "config" / "transport").write_text(
            "".join(f"site{n}.test smtp:[127.0.0.{n + 1}]:{port}\n" for n in range(SITES))
        )
        self._command("postfix", "start")
        wait_for(lambda: greets(self.port))

    def _command(self, program: str, *args: str) -> None:
        argv = [program, "-c", str(self.folder / "config"), *args]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}"

    def fill(self, count: int) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as sock, sock.makefile("rb") as file:

            def ask(line: bytes) -> None:
                sock.sendall(line + b"\r\n")
                while file.readline()[3:4] == b"-":
                    pass

            file.readline()
            ask(b"EHLO bench")
            for number in range(count):
                ask(b"MAIL FROM:<a@bench.test>")
                ask(b"RCPT TO:<u%d@site%d.test>" % (number, number % SITES))
                ask(b"DATA")
                ask(TEXT.replace(b"\n", b"\r\n") + b".")
        wait_for(lambda: self._waiting("deferred") == count)

    def _waiting(self, *queues: str) -> int:
        return sum(len(files) for q in queues for _, _, files in os.walk(self.folder / "queue" / q))

    def deliver(self) -> float:
        """Seconds from the flush until nothing is left."""
        self._command("postconf", "-e", "defer_transports=")
        self._command("postfix", "reload")
        time.sleep(1.0)
        begin = time.perf_counter()
        self._command("postqueue", "-f")
        end = begin + 300
        while self._waiting("deferred", "active", "incoming", "maildrop") and time.perf_counter() < end:
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        self._command("postconf", "-e", "defer_transports=smtp")
        self._command("postfix", "reload")
        return seconds

    def stop(self) -> None:
        self._command("postfix", "stop")
        shutil.rmtree(self.folder)


def queue(folder: Path, quick: bool) -> Iterator[Row]:
    """A filled queue to a sink, twenty sites at once."""
    if not shutil.which("smtp-sink"):
        yield Row("queue run", "", "", missing("smtp-source"), "", "")
        return
    count = 1000 if quick else 4000
    with sink() as port, contextlib.ExitStack() as stack:
        peer = Postfix(port) if os.geteuid() == 0 else None
        if peer is not None:
            stack.callback(peer.stop)
        routes = [f"--route=site{n}.test=smtp://127.0.0.{n + 1}:{port}" for n in range(SITES)]
        spool = folder / "spool"
        run = [MAILTOOLS, "queue", "run", "--once", "--spool", str(spool), "--root", str(folder), *routes]

        def ours() -> float:
            return timed(run)

        def theirs() -> float:
            assert peer is not None
            return peer.deliver()

        found: list[list[float]] = [[], []]
        for _ in range(3):
            fill(Spool(str(spool)), count)
            if peer is not None:
                peer.fill(count)
            found[0] += interleaved(1, ours)
            assert not any((spool / "incoming").iterdir())
            if peer is not None:
                found[1] += interleaved(1, theirs)
        mine, other = (sorted(its)[1] if its else 0.0 for its in found)
    yield Row(
        f"queue run, {count} messages, {SITES} sites",
        f"{count / mine:.0f}/s",
        f"{count / other:.0f}/s" if other else "",
        "Postfix, its queue to the same sink" if other else "Postfix starts as root only",
        f"{other / mine:.2f}" if other else "",
        "2",
    )


def long_queue(folder: Path, quick: bool) -> Iterator[Row]:
    """100,000 messages: listing them, the first delivery, memory."""
    count = 10_000 if quick else 100_000
    spool = Spool(str(folder / "long"))
    print(f"  (filling a queue with {count} messages)", file=sys.stderr)
    unsynced(spool, count)
    listed = folder / "listed"
    where = ["--spool", spool.path, "--root", str(folder)]
    for option in ((), ("--json",), ("--mailq",)):
        seconds = timed([MAILTOOLS, "queue", "list", *option, *where], stdout=listed)
        yield Row(f"queue list {' '.join(option)}, {count}", f"{seconds:.2f} s", "", "", "", "2 s")
    assert listed.read_bytes().count(b"\n") > count
    if not shutil.which("smtp-sink"):
        return
    for number in (count, 1000):
        if number != count:
            shutil.rmtree(spool.path)
            unsynced(spool, number)
        first, memory = first_delivery(folder, spool, number)
        yield Row(f"first delivery out of {number}", f"{first:.2f} s", "", "", "", "1 s")
        yield Row("  memory after a while", f"{memory:.0f} MiB", "", "", "", "the same for both")


def unsynced(spool: Spool, count: int) -> None:
    """A queue in a hurry."""
    sync = os.fsync
    os.fsync = lambda _: None
    try:
        fill(spool, count)
    finally:
        os.fsync = sync


def first_delivery(folder: Path, spool: Spool, count: int) -> tuple[float, float]:
    """Seconds until the first message is delivered; resident MiB when it has delivered for a while."""
    taken = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=take, args=(listener, taken), daemon=True).start()
        begin = time.perf_counter()
        process = subprocess.Popen(
            [MAILTOOLS, "queue", "run", "--spool", spool.path, "--root", str(folder),
             "--route", f"smtp://127.0.0.1:{listener.getsockname()[1]}"],
        )  # fmt: skip
        assert taken.wait(60)
        first = time.perf_counter() - begin
        time.sleep(3)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                memory = int(line.split()[1]) / 1024
        process.terminate()
        process.wait()
    return first, memory


def take(listener: socket.socket, taken: threading.Event) -> None:
    """A sink that is slow: what waits for it is what memory is needed for."""

    def session(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as file, contextlib.suppress(OSError):
            sock.sendall(b"220 x\r\n")
            while line := file.readline():
                if line.startswith(b"DATA"):
                    sock.sendall(b"354 x\r\n")
                    while file.readline() not in (b".\r\n", b""):
                        pass
                    taken.set()
                    time.sleep(0.01)
                sock.sendall(b"250 x\r\n")

    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=session, args=(sock,), daemon=True).start()


def sendmail(folder: Path, quick: bool) -> Iterator[Row]:
    """A message handed in by a program, into an mbox or the spool."""
    message = folder / "m.eml"
    message.write_bytes(b"From: a@b.test\nTo: bob@localhost\nSubject: x\n\n" + b"text\n" * 800)
    program = str(BIN / "mailtools-sendmail")
    where = ["--root", str(folder / "mail"), "-odq", "-i"]
    for what, recipient in (("an mbox", "bob@localhost"), ("the spool", "bob@b.test")):
        ours, bare = interleaved(
            10 if quick else 30,
            lambda r=recipient: timed([program, *where, r], message),
            lambda: timed([sys.executable, "-I", "-c", "pass"]),
        )
        yield Row(f"mailtools-sendmail into {what}", f"{ours * 1000:.0f} ms", f"{bare * 1000:.0f} ms",
                  "python3 -I -c pass", f"{bare / ours:.2f}", "> 0.50")  # fmt: skip
