"""The power fails, before any sync and at the end: what was told to be stored is there, whole.

Between two syncs the kernel writes back what it likes, in any order. `WRITTEN_BACK` has the cases in which
that hurts most.
"""

import os
import pwd
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from mailtools.cli import command
from mailtools.core.errors import BadDataError
from mailtools.core.mbox import scan
from mailtools.system.mbox import index, rewrite
from tests import disks
from tests.boxes import append, number
from tests.disks import Disk, after_reboot, new_disk, stopped_before_sync
from tests.servers import Pop3Server, Server, mailtools
from tests.sinks import Sink

# Imported once: each of many forked processes would have to.
for _name in ("commands.fetch", "commands.queue.add", "commands.queue.run", "commands.sendmail.main",
              "commands.user", "services.queue.service", "services.fetch.run", "services.fetch.pop3"):  # fmt: skip
    import_module(f"mailtools.{_name}")

MOST_SYNCS = 60
SOME = 1 << 15  # octets: what was there before, and the beginning of what is new


@pytest.fixture(params=list(disks.MOUNTS))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with new_disk(tmp_path, request.param) as made:
        yield made


def nothing(disk: Disk) -> None:
    pass


def names_alone(disk: Disk) -> None:
    disk.write_back_names()


def beginnings(disk: Disk) -> None:
    for file in disk.files():
        disk.write_back(file, slice(0, SOME))
    disk.write_back_names()


def ends(disk: Disk) -> None:
    for file in disk.files():
        disk.write_back(file, slice(SOME, None))
    disk.write_back_names()


def small_files(disk: Disk) -> None:
    for file in disk.files():
        if file.stat().st_size < SOME:
            disk.write_back(file)
    disk.write_back_names()


def large_files(disk: Disk) -> None:
    for file in disk.files():
        if file.stat().st_size >= SOME:
            disk.write_back(file)
    disk.write_back_names()


WRITTEN_BACK = (nothing, names_alone, beginnings, ends, small_files, large_files)
some_cases = pytest.mark.parametrize("write_back", (nothing, names_alone, ends))


@pytest.fixture(params=WRITTEN_BACK)
def write_back(request: pytest.FixtureRequest) -> Callable[[Disk], None]:
    """Writes back what the kernel may have written when the power fails."""
    chosen: Callable[[Disk], None] = request.param
    return chosen


class Failures:
    """The power fails at each moment of a call."""

    def __init__(self, disk: Disk, write_back: Callable[[Disk], None]) -> None:
        self.disk = disk
        self._write_back = write_back

    def each(self, prepare: Callable[[], object], call: Callable[[], object]) -> Iterator[tuple[Path, bool]]:
        """(what is found after it, whether *call* was done) for a failure before each sync and at the end."""
        for moment in range(MOST_SYNCS):
            self.disk.clear()
            prepare()
            self.disk.sync()
            process = stopped_before_sync(moment, call)
            try:
                self._write_back(self.disk)
                with self.disk.after_power_failure() as found:
                    process.kill()
                    yield found, process.is_done
            finally:
                process.kill()
            if process.is_done:
                return
        raise AssertionError("it goes on syncing")


@pytest.fixture
def failures(disk: Disk, write_back: Callable[[Disk], None]) -> Failures:
    return Failures(disk, write_back)


def whole(path: Path) -> set[int]:
    """The messages of `large` that are whole.

    Behind the last one there may be octets that no write of ours brought: a length without its content.
    """
    found = set()
    with suppress(FileNotFoundError, BadDataError), path.open("rb") as file:
        for record in scan.records(file.read):
            match = re.search(rb"(?m)^Subject: ([0-9]{6})$", record.message())
            if match and large(int(match[1])).replace(b"\r\n", b"\n") in record.message():
                found.add(int(match[1]))
    return found


def large(n: int) -> bytes:
    """A message of several pages."""
    return number(n, 9000)


def command_here(*words: str, stdin: bytes = b"", to: Path = Path(os.devnull)) -> Callable[[], int]:
    """A call of `mailtools` that a forked process can make; it returns the exit code."""

    def call() -> int:
        os.dup2(os.memfd_create("stdin"), 0)
        os.dup2(os.open(to, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        os.write(0, stdin)
        os.lseek(0, 0, os.SEEK_SET)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        try:
            command(words)
        except SystemExit as end:
            sys.stdout.flush()
            return int(end.code or 0)
        return 0

    return call


def test_what_was_appended_is_there(failures: Failures) -> None:
    path = failures.disk.path / "bob/INBOX.mbox"
    for found, is_done in failures.each(
        lambda: append(path, *map(large, range(3))), lambda: append(path, *map(large, range(3, 6)))
    ):
        mbox = found / "bob/INBOX.mbox"
        assert whole(mbox) >= set(range(6 if is_done else 3))
        after_reboot(lambda m=mbox: append(m, large(9)) or True)
        assert whole(mbox) >= {*range(6 if is_done else 3), 9}


def test_what_was_appended_to_a_new_mbox_is_there(failures: Failures) -> None:
    path = failures.disk.path / "bob/INBOX.mbox"
    for found, is_done in failures.each(lambda: None, lambda: append(path, *map(large, range(3)))):
        if is_done:
            assert whole(found / "bob/INBOX.mbox") == {0, 1, 2}


def test_an_mbox_is_the_old_one_or_the_new_one(failures: Failures) -> None:
    path = failures.disk.path / "INBOX.mbox"

    def remove() -> None:
        box = index.open_box(str(path))
        box.close()
        rewrite.remove(str(path), box.catalog, [1, 3])

    for found, is_done in failures.each(lambda: append(path, *map(large, range(6))), remove):
        left = whole(found / "INBOX.mbox")
        assert left == {0, 2, 4, 5} or (not is_done and left == set(range(6)))
        after_reboot(lambda f=found, n=left: len(index.open_box(str(f / "INBOX.mbox")).catalog) == len(n))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Pop3Server]:
    """On another machine, whose power does not fail."""
    with Pop3Server(tmp_path / "root", "--dev") as running:
        yield running


class Fetching:
    """Four new messages wait on the server, and three are in the mbox already."""

    def __init__(self, server: Pop3Server) -> None:
        self.server = server
        self.inbox = server.inbox("bob")

    def fetch(self, to: str, root: Path, file: Path = Path(os.devnull)) -> Callable[[], int]:
        """The call. A server may not have noticed yet that the last run is gone."""
        once = command_here(
            "fetch", "--pop3", "--host", "127.0.0.1", "--port", str(self.server.port), "--user", "bob",
            "--root", str(root), "--to", to, "--delete", to=file,
        )  # fmt: skip

        def call() -> int:
            while True:
                code = once()
                if code != 75:
                    return code

        return call

    def prepare(self, to: Path) -> None:
        self.inbox.unlink(missing_ok=True)
        append(self.inbox, *map(large, range(3)))
        after_reboot(lambda: self.fetch(str(to), to.parent)() == 0)
        append(self.inbox, *map(large, range(3, 7)))

    def left(self) -> set[int]:
        return whole(self.inbox)


def test_what_fetch_deletes_on_the_server_is_in_the_mbox(
    failures: Failures, server: Pop3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILTOOLS_FETCH_PASSWORD", "x")
    job = Fetching(server)
    to = failures.disk.path / "home.mbox"
    moments = 0
    for found, _ in failures.each(lambda: job.prepare(to), job.fetch(str(to), to.parent)):
        mbox = found / "home.mbox"
        assert whole(mbox) | job.left() == set(range(7))
        after_reboot(lambda m=mbox: job.fetch(str(m), m.parent)() in (0, 1))
        assert whole(mbox) == set(range(7))
        assert not job.left()
        moments += 1
    assert moments > 3


QUEUED = "From: alice@here.test\nTo: carol@b.test\nSubject: large\n\n" + "A line of some length.\n" * 1000


@some_cases
@pytest.mark.parametrize("way", ["queue add", "sendmail"])
def test_what_was_queued_is_delivered(failures: Failures, way: str) -> None:
    at = ("--root", str(failures.disk.path))
    words = {
        "queue add": ("queue", "add", *at, "-f", "alice@here.test", "carol@b.test"),
        "sendmail": ("sendmail", *at, "-odq", "-f", "alice@here.test", "carol@b.test"),
    }[way]
    with Sink() as sink:
        for found, is_done in failures.each(lambda: None, command_here(*words, stdin=QUEUED.encode())):
            run = (
                "queue", "run", "--root", str(found), "--domain", "here.test", "--route", sink.route, "--once",
            )  # fmt: skip
            after_reboot(lambda r=run: command_here(*r)() in (0, 75))
            assert len(sink.taken) == 1 if is_done else len(sink.taken) <= 1
            for _, recipients, octets in sink.taken:
                assert recipients == ("carol@b.test",)
                assert octets.endswith(QUEUED.partition("\n\n")[2].replace("\n", "\r\n").encode())
            sink.taken.clear()


@some_cases
def test_what_sendmail_delivered_is_in_the_mbox(failures: Failures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", pwd.getpwuid(os.getuid()).pw_name)
    me = pwd.getpwuid(os.getuid()).pw_name
    path = failures.disk.path
    deliver = command_here("sendmail", "--root", str(path), me, stdin=QUEUED.encode())
    for found, is_done in failures.each(lambda: None, deliver):
        if is_done:
            assert QUEUED.partition("\n\n")[2].encode() in (found / me / "INBOX.mbox").read_bytes()


@some_cases
def test_a_password_is_the_old_one_or_the_new_one(failures: Failures) -> None:
    path = failures.disk.path

    def user(what: str, root: Path, name: str) -> Callable[[], int]:
        return command_here("user", what, "bob", "--root", str(root), "--password-file", str(path / name))

    def prepare() -> None:
        for name in ("old", "new"):
            (path / name).write_text(f"{name}\n")
            (path / name).chmod(0o600)
        after_reboot(lambda: user("add", path, "old")() == 0)

    for found, is_done in failures.each(prepare, user("passwd", path, "new")):
        users = (found / "users").read_text()
        checks = [
            mailtools(
                "user", "check", "bob", "--root", str(found), "--password-file", str(path / name)
            ).returncode
            for name in ("old", "new")
        ]
        assert sorted(checks) == [0, 77], users
        assert checks[1] == 0 or not is_done


@some_cases
def test_what_fetch_wrote_into_a_file_is_there(
    failures: Failures, server: Pop3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fetch --to - --delete > file``."""
    monkeypatch.setenv("MAILTOOLS_FETCH_PASSWORD", "x")
    job = Fetching(server)

    def prepare() -> None:
        job.inbox.unlink(missing_ok=True)
        append(job.inbox, *map(large, range(4)))

    for found, _ in failures.each(prepare, job.fetch("-", failures.disk.path, failures.disk.path / "file")):
        assert whole(found / "file") | job.left() == set(range(4))


def test_a_reply_of_250_is_said_after_the_sync(disk: Disk, write_back: Callable[[Disk], None]) -> None:
    with Server(disk.path / "root", "--dev") as server:
        for n in range(3):
            user = f"user{n % 2}"
            answer = server.connect().deliver(large(n), f"{user}@localhost")
            assert answer.startswith(b"250"), answer
            write_back(disk)
            with disk.after_power_failure() as found:
                assert n in whole(found / "root" / user / "INBOX.mbox")
