"""`mailtools-sendmail`: mail for the caller, for other users, and for other servers by accounts as `send` has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.system import clock
from mailtools.system.spool.spool import Spool
from tests.commands.sendmail.test_main import ME
from tests.servers import Server
from tests.sinks import Sink

HOST = clock.host_name()
MESSAGE = b"From: Ann <ann@work.example>\nSubject: test\n\nHello\n"
ACCOUNTS = """
[account.work]
from = ["ann@work.example", "*@lists.work.example"]
host = "smtp.work.example"
user = "ann"
password-command = "echo secret"
[account.home]
from = "ann@home.example"
route = "smtp://home.example:2525"
"""


class Caller:
    """A user with a home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / ".config" / "mailtools" / "config.toml"

    def run(
        self, *args: str, stdin: bytes = MESSAGE, env: dict[str, str] | None = None, queue: str = "-odq"
    ) -> subprocess.CompletedProcess[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAILTOOLS", "XDG"))}
        return subprocess.run(
            [sys.executable, "-m", "mailtools.sendmail", queue, *args], input=stdin, capture_output=True,
            check=False, timeout=60, env=kept | {"HOME": str(self.home)} | (env or {}),
        )  # fmt: skip

    def configure(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text)

    def queued(self) -> list[QueueEnvelope]:
        return [listed.entry.envelope for listed in Spool(str(self.home / "Mail/.spool")).query()]

    def inbox(self, user: str) -> Path:
        return self.home / "Mail" / user / "INBOX.mbox"


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


# -- users of this host ------------------------------------------------------------------------------------------


def test_mail_for_the_caller(caller: Caller) -> None:
    assert caller.run(ME).returncode == 0
    assert b"Hello" in caller.inbox(ME).read_bytes()


@pytest.mark.parametrize("name", ["somebody-else", "postmaster", "somebody-else@localhost", f"x@{HOST}"])
def test_mail_for_another_user_is_not_filed_in_the_caller_s_folder(caller: Caller, name: str) -> None:
    done = caller.run(name)
    assert done.returncode == 67
    assert f"No such user here, only {ME}".encode() in done.stderr
    assert not list(caller.home.rglob("*.mbox"))
    assert not caller.queued()


def test_nor_by_the_queue(caller: Caller) -> None:
    """Reports of success are sent by a queue run, which has the same rule."""
    assert caller.run("-N", "success,failure", ME, "x@example.org").returncode == 0
    spool = Spool(str(caller.home / "Mail/.spool"))
    (envelope,) = caller.queued()
    assert {one.address for one in envelope.recipients} == {f"{ME}@{HOST}", "x@example.org"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAILTOOLS", "XDG"))}
    mailtools = [sys.executable, "-m", "mailtools", "queue"]
    env = kept | {"HOME": str(caller.home)}
    subprocess.run([*mailtools, "delete", "--all", "-y"], env=env, check=True, timeout=60)
    added = subprocess.run(
        [*mailtools, "add", "-f", "", "somebody-else@localhost", f"{ME}@localhost"], input=MESSAGE, env=env,
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    assert added.stdout
    subprocess.run([*mailtools, "run", "--once"], env=env, check=False, timeout=60, capture_output=True)
    assert caller.inbox(ME).exists()
    assert not caller.inbox("somebody-else").exists()
    assert not list(spool.query())


# -- a server of this host ----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Server:
    root = tmp_path / "srv"
    root.mkdir()
    (root / "users").write_text("bob:{PLAIN}x\nann:{PLAIN}x\n")
    socket = tmp_path / "socket"
    with Server(root, "--domain", HOST, "--listen", "127.0.0.1:0", "--listen", f"unix:{socket}", "--relay",
                "--relay-from", "unix", "--no-deliver") as running:  # fmt: skip
        yield running  # type: ignore[misc]


def test_a_server_of_the_host_takes_mail_for_everybody(
    caller: Caller, server: Server, tmp_path: Path
) -> None:
    url = f"unix:{tmp_path}/socket"
    assert caller.run("--submit", url, "bob", "x@example.org").returncode == 0
    assert b"Hello" in (server.root / "bob" / "INBOX.mbox").read_bytes()
    (relayed,) = [listed.entry.envelope for listed in Spool(str(server.root / ".spool")).query()]
    assert [one.address for one in relayed.recipients] == ["x@example.org"]
    assert not (caller.home / "Mail").exists()


def test_and_says_who_does_not_exist(caller: Caller, server: Server, tmp_path: Path) -> None:
    caller.configure(f'[sendmail]\nsubmit = "unix:{tmp_path}/socket"\n')
    done = caller.run("nobody")
    assert done.returncode == 67
    assert b"No such user" in done.stderr
    assert not (caller.home / "Mail").exists()
    assert caller.run("nobody", "bob").returncode == 0
    (report,) = caller.queued()
    assert report.reverse_path == ""


def test_what_the_server_cannot_take_now_waits_in_the_caller_s_queue(caller: Caller, tmp_path: Path) -> None:
    url = f"unix:{tmp_path}/socket"
    assert caller.run("--submit", url, "bob", "x@example.org").returncode == 0
    (waiting,) = caller.queued()
    assert waiting.route == url
    assert [one.address for one in waiting.recipients] == [f"bob@{HOST}", "x@example.org"]


def test_without_a_folder_for_a_queue_it_is_75(caller: Caller, tmp_path: Path) -> None:
    done = caller.run("--submit", f"unix:{tmp_path}/socket", "bob", env={"HOME": "/proc/none"})
    assert done.returncode == 75
    assert b"not queued" in done.stderr


# -- accounts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("author", "account", "sender"),
    [
        ("ann@work.example", "work", "ann@work.example"),
        ("x@lists.work.example", "work", "x@lists.work.example"),
        ("ann@HOME.example", "home", "ann@HOME.example"),
        ("ann@other.example", "", f"{ME}@{HOST}"),
    ],
)
def test_the_account_whose_from_matches(caller: Caller, author: str, account: str, sender: str) -> None:
    caller.configure(ACCOUNTS)
    done = caller.run("-i", "bob@example.org", stdin=b"From: A <%s>\n\nx\n" % author.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    (envelope,) = caller.queued()
    assert (envelope.account, envelope.reverse_path) == (account, sender)


def test_the_only_account(caller: Caller) -> None:
    caller.configure(ACCOUNTS[: ACCOUNTS.index("[account.home]")])
    assert caller.run("-t", stdin=b"To: bob@example.org\n\nx\n").returncode == 0
    (envelope,) = caller.queued()
    assert (envelope.account, envelope.reverse_path) == ("work", "ann@work.example")


def test_the_sender_given_is_kept(caller: Caller) -> None:
    caller.configure(ACCOUNTS)
    assert caller.run("-f", "me@x.example", "bob@example.org").returncode == 0
    (envelope,) = caller.queued()
    assert (envelope.account, envelope.reverse_path) == ("work", "me@x.example")


def test_local_mail_needs_no_account(caller: Caller) -> None:
    caller.configure(ACCOUNTS)
    assert caller.run(ME, "bob@example.org").returncode == 0
    (envelope,) = caller.queued()
    assert [one.address for one in envelope.recipients] == ["bob@example.org"]
    assert envelope.account == "work"
    assert caller.inbox(ME).exists()


@pytest.mark.parametrize("way", ["sendmail", "mailtools sendmail"])
def test_the_queue_run_sends_by_the_account(caller: Caller, way: str) -> None:
    with Sink() as sink:
        caller.configure(f'[account.home]\nfrom = "ann@work.example"\nroute = "{sink.route}"\n')
        if way == "sendmail":
            done = caller.run("bob@example.org", queue="-odi")
        else:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAILTOOLS", "XDG"))}
            done = subprocess.run(
                [sys.executable, "-m", "mailtools", "sendmail", "-odi", "bob@example.org"], input=MESSAGE,
                capture_output=True, check=False, timeout=60, env=kept | {"HOME": str(caller.home)},
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
    ((mail, recipients, _),) = sink.taken
    assert "<ann@work.example>" in mail
    assert recipients == ("bob@example.org",)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('[send]\nroute = "smtp://relay.example:26"\n', 0, b""),
        ('[send]\nhost = "relay.example"\nport = 26\n', 0, b""),
        ('[send]\nhost = "relay.example"\nport = 26\nuser = "ann"\n', 78, b"make it an account"),
        ('[account.x]\nhos = "y"\n', 78, b"did you mean 'host'"),
        ('[account.x]\nuser = "y"\n', 78, b"needs a server"),
    ],
)
def test_the_server_for_send(caller: Caller, text: str, code: int, said: bytes) -> None:
    caller.configure(text)
    done = caller.run("bob@example.org")
    assert done.returncode == code
    assert said in done.stderr
    if not code:
        assert [one.route for one in caller.queued()] == ["smtp://relay.example:26"]
    else:
        assert not caller.queued()
    assert caller.run(ME).returncode == 0


def test_the_queue_run_that_it_starts_knows_its_local_names(caller: Caller, tmp_path: Path) -> None:
    """Mail that waits for a local recipient goes where it would have gone at once."""
    (tmp_path / "users").write_text("bob:{PLAIN}x\ncarol:{PLAIN}x\n")
    done = caller.run(
        "--root", str(tmp_path / "srv"), "--catch-all", "bob", "--users", str(tmp_path / "users"),
        "--plus-delimiter", "+", "-N", "success,failure", "-f", "", "anybody", "carol+x", queue="-odi",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "srv" / "bob" / "INBOX.mbox").exists()
    assert (tmp_path / "srv" / "carol" / "INBOX.mbox").exists()
