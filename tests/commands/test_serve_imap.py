"""``mailtools serve-imap`` as a process, over sockets."""

import imaplib
import mailbox
import os
import re
import signal
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import append, number, subjects
from tests.servers import DEADLINE, ImapServer, Pop3Server, Server, eventually, mailtools


class Client:
    """Says lines, reads answers."""

    def __init__(self, server: ImapServer, *selected: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self.file = self.sock.makefile("rb")
        self.greeting = self.file.readline()
        assert self.ask("LOGIN bob secret")[-1].startswith("t OK")
        if selected:
            assert self.ask(f"SELECT {selected[0]}")[-1].startswith("t OK")

    def say(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def line(self) -> str:
        return self.file.readline().decode("utf-8", "replace").rstrip("\r\n")

    def ask(self, command: str) -> list[str]:
        """All lines of the answer."""
        self.say(f"t {command}\r\n".encode())
        return self.answer()

    def answer(self) -> list[str]:
        lines = [self.line()]
        while not lines[-1].startswith("t "):
            assert lines[-1], lines
            lines.append(self.line())
        return lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    append(root / "bob" / "INBOX.mbox", *map(number, range(5)))
    (root / "users").write_text("bob:{PLAIN}secret\nann:{PLAIN}pass word\n")
    return root


@pytest.fixture
def server(root: Path) -> Iterator[ImapServer]:
    with ImapServer(root, "--tls-self-signed") as server:
        yield server


def test_a_session_of_pythons_imaplib(server: ImapServer) -> None:
    box = imaplib.IMAP4("127.0.0.1", server.port, timeout=DEADLINE)
    assert "STARTTLS" in box.capabilities
    box.starttls(ssl._create_unverified_context())
    assert "STARTTLS" not in box.capabilities
    box.login("bob", "secret")
    assert box.select() == ("OK", [b"5"])
    assert box.search(None, "SUBJECT", "000003") == ("OK", [b"4"])
    _, found = box.fetch("4", "(UID RFC822)")
    assert found[0] is not None
    assert isinstance(found[0], tuple)
    assert found[0][1] == number(3)
    assert box.create("Archive/2026")[0] == "OK"
    assert box.append("Archive/2026", r"(\Seen)", imaplib.Time2Internaldate(0), number(9))[0] == "OK"
    assert box.copy("1:3", "Archive/2026")[0] == "OK"
    assert box.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
    assert box.expunge() == ("OK", [b"1"])
    assert box.select("Archive/2026") == ("OK", [b"4"])
    assert box.search(None, "SEEN") == ("OK", [b"1"])
    box.close()
    assert box.logout()[0] == "BYE"
    assert subjects(server.root / "bob/Archive/2026.mbox") == ["000009", "000000", "000001", "000002"]


def test_sessions_tell_each_other(server: ImapServer) -> None:
    one, other = Client(server, "INBOX"), Client(server, "INBOX")
    assert one.ask("STORE 2 +FLAGS (\\Flagged)")[0] == "* 2 FETCH (FLAGS (\\Flagged \\Recent))"
    assert other.ask("NOOP") == ["* 2 FETCH (FLAGS (\\Flagged))", "t OK done"]
    one.ask("STORE 1,3 +FLAGS.SILENT (\\Deleted)")
    assert one.ask("EXPUNGE") == ["* 1 EXPUNGE", "* 2 EXPUNGE", "t OK expunged"]
    # Numbers stay as the client knows them until it is told.
    assert other.ask("FETCH 1:5 UID") == [
        "* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)", "* 5 FETCH (UID 5)", "t OK done",
    ]  # fmt: skip
    append(server.inbox("bob"), number(9))
    answer = other.ask("NOOP")
    assert answer == ["* 1 EXPUNGE", "* 2 EXPUNGE", "* 4 EXISTS", "* 1 RECENT", "t OK done"]
    assert other.ask("UID SEARCH ALL")[0] == "* SEARCH 2 4 5 6"


def test_idle_tells_of_new_mail_and_flags(server: ImapServer) -> None:
    one, other = Client(server, "INBOX"), Client(server, "INBOX")
    other.say(b"t IDLE\r\n")
    assert other.line() == "+ idling"
    append(server.inbox("bob"), number(9))
    assert [other.line(), other.line()] == ["* 6 EXISTS", "* 1 RECENT"]
    one.ask("UID STORE 3 +FLAGS (\\Deleted)")
    assert other.line() == "* 3 FETCH (FLAGS (\\Deleted))"
    one.ask("EXPUNGE")
    assert other.line() == "* 3 EXPUNGE"
    other.say(b"DONE\r\n")
    assert other.answer() == ["t OK no longer idle"]


def test_idle_tells_what_other_servers_and_programs_do(server: ImapServer, tmp_path: Path) -> None:
    with ImapServer(server.root) as second, Server(server.root, "--domain", "example.org") as smtp:
        one, other = Client(server, "INBOX"), Client(second, "INBOX")
        one.say(b"t IDLE\r\n")
        other.say(b"t IDLE\r\n")
        assert [one.line(), other.line()] == ["+ idling", "+ idling"]
        sender = smtp.connect()
        assert sender.deliver(b"Subject: new\r\n\r\nx\r\n", "bob@example.org").startswith(b"250")
        sender.close()
        assert [one.line(), one.line()] == ["* 6 EXISTS", "* 6 RECENT"]
        assert [other.line(), other.line()] == ["* 6 EXISTS", "* 1 RECENT"]
        other.say(b"DONE\r\n")
        assert other.answer() == ["t OK no longer idle"]
        other.ask("STORE 6 +FLAGS.SILENT (\\Deleted)")
        assert one.line() == "* 6 FETCH (FLAGS (\\Deleted \\Recent))"
        other.ask("EXPUNGE")
        assert one.line() == "* 6 EXPUNGE"
        # Another program replaces the whole mbox.
        kept = server.inbox("bob").read_bytes()
        (tmp_path / "new").write_bytes(kept)
        append(tmp_path / "new", number(8))
        (tmp_path / "new").replace(server.inbox("bob"))
        assert one.line() == "* 6 EXISTS"


def test_notify_tells_of_all_mailboxes_without_idle(server: ImapServer) -> None:
    with ImapServer(server.root) as second:
        one, other = Client(server, "INBOX"), Client(second)
        asked = (
            "(selected (MessageNew (UID) MessageExpunge)) (personal (MessageNew MessageExpunge MailboxName))"
        )
        assert one.ask(f"NOTIFY SET {asked}") == ["t OK done"]
        other.ask("CREATE deep/er")
        assert [one.line(), one.line()] == [
            '* LIST (\\Noselect \\HasChildren) "/" deep', '* LIST (\\HasNoChildren) "/" deep/er',
        ]  # fmt: skip
        status = one.line()  # an empty mailbox has its numbers now
        assert status.startswith("* STATUS deep/er (MESSAGES 0 ")
        append(server.root / "bob/deep/er.mbox", number(1))
        assert one.line().startswith("* STATUS deep/er (MESSAGES 1 UIDNEXT 2 ")
        append(server.inbox("bob"), number(9))
        assert [one.line(), one.line(), one.line()] == ["* 6 EXISTS", "* 6 RECENT", "* 6 FETCH (UID 6)"]
        assert one.ask("NOTIFY NONE") == ["t OK done"]


def test_uids_and_flags_last(root: Path) -> None:
    with ImapServer(root) as server:
        client = Client(server, "INBOX")
        client.ask("STORE 2 +FLAGS (\\Seen work)")
        client.ask("STORE 1 +FLAGS (\\Deleted)")
        client.ask("EXPUNGE")
        status = client.ask("STATUS INBOX (UIDVALIDITY UIDNEXT)")
        server.kill()
    with ImapServer(root) as server:
        client = Client(server, "INBOX")
        assert client.ask("STATUS INBOX (UIDVALIDITY UIDNEXT)") == status
        assert client.ask("FETCH 1 (UID FLAGS)")[0] == "* 1 FETCH (UID 2 FLAGS (\\Seen work))"
        client.ask("LOGOUT")
        client.sock.close()
        eventually(lambda: b"X-Keywords: work" in server.inbox("bob").read_bytes(), "the flags in the mbox")
    first = mailbox.mbox(server.inbox("bob"))[0]
    assert (first["Status"], first["X-UID"]) == ("RO", "2")


def test_beside_pop3_and_the_mbox_commands(server: ImapServer) -> None:
    client = Client(server, "INBOX")
    client.ask("STORE 2 +FLAGS (\\Flagged)")
    client.ask("CHECK")
    listed = mailtools("mbox", "list", "-q", "is:flagged", str(server.inbox("bob"))).stdout
    assert b"000001" in listed
    with Pop3Server(server.root) as pop3:
        sock = socket.create_connection(("127.0.0.1", pop3.port), DEADLINE)
        sock.sendall(b"USER bob\r\nPASS secret\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n")
        octets = b""
        while chunk := sock.recv(65536):
            octets += chunk
    assert number(1) in octets
    assert client.ask("NOOP") == ["* 1 EXPUNGE", "t OK done"]
    assert client.ask("FETCH 1 (UID FLAGS)")[0] == "* 1 FETCH (UID 2 FLAGS (\\Flagged \\Recent))"


def test_another_program_locks_the_mbox(server: ImapServer) -> None:
    client = Client(server, "INBOX")
    lock = Path(f"{server.inbox('bob')}.lock")
    lock.write_text(f"{os.getpid()}\n")
    client.say(b"t STORE 1 +FLAGS (\\Seen)\r\n")
    other = Client(server)
    assert other.ask("NOOP") == ["t OK done"]
    lock.unlink()
    assert client.answer()[-1] == "t OK stored"


def test_commands_one_after_the_other(server: ImapServer) -> None:
    client = Client(server, "INBOX")
    client.say(b"".join(b"x%d FETCH %d UID\r\n" % (n, n) for n in range(1, 6)) + b"t NOOP\r\n")
    lines = client.answer()
    assert lines[0::2][:5] == [f"* {n} FETCH (UID {n})" for n in range(1, 6)]
    assert lines[1::2][:5] == [f"x{n} OK done" for n in range(1, 6)]


def test_a_large_message_and_a_client_that_does_not_read(server: ImapServer) -> None:
    append(server.inbox("bob"), number(7, 20_000_000))
    slow, client = Client(server, "INBOX"), Client(server, "INBOX")
    for _ in range(20):
        slow.say(b"t FETCH 6 BODY.PEEK[]\r\n")
    began = server.memory()
    assert client.ask("FETCH 6 RFC822.SIZE")[0] == f"* 6 FETCH (RFC822.SIZE {len(number(7, 20_000_000))})"
    client.say(b"t FETCH 6 BODY.PEEK[TEXT]<0.10>\r\n")
    assert client.answer()[:2] == ["* 6 FETCH (BODY[TEXT]<0> {10}", "xxxxxxxxxx)"]
    assert server.memory() - began < 200 << 20
    slow.sock.close()


def test_without_a_users_file_nobody_is_let_in(tmp_path: Path) -> None:
    done = mailtools("serve-imap", "--port", "0", "--root", str(tmp_path))
    assert done.returncode == 78
    assert b"mailtools user add" in done.stderr


def test_no_login_in_the_clear_beyond_loopback(root: Path) -> None:
    """Told by the capabilities; whether an address is loopback is tested with the logins."""
    with ImapServer(root) as server:
        client = Client(server)
        assert "LOGINDISABLED" not in client.greeting.decode()
        assert client.ask("LOGOUT") == ["* BYE until next time", "t OK goodbye"]
        assert client.file.read() == b""


def test_sigterm_ends_it_and_the_mbox_has_the_flags(root: Path) -> None:
    server = ImapServer(root)
    client = Client(server, "INBOX")
    client.ask("STORE 1 +FLAGS (\\Answered)")
    time.sleep(0.6)  # the session is idle now: it is not waited for
    assert server.stop(signal.SIGTERM) == 0
    assert client.line() == "* BYE shutting down"
    again = ImapServer(root)
    assert Client(again, "INBOX").ask("FETCH 1 FLAGS")[0] == "* 1 FETCH (FLAGS (\\Answered))"
    again.stop()


@pytest.mark.parametrize("name", ["../ann/INBOX", "..", "/etc/passwd", "a/../../x", "&AC8-etc"])
def test_no_name_leaves_the_users_folder(server: ImapServer, name: str) -> None:
    client = Client(server)
    client.ask(f'CREATE "{name}"')
    client.ask(f'SELECT "{name}"')
    client.ask(f'RENAME INBOX "{name}"')
    assert {path.name for path in server.root.iterdir()} <= {"bob", "users", ".tls"}
    assert all(server.root in path.parents for path in server.root.rglob("*"))


def test_a_keyword_that_has_no_room_is_refused(server: ImapServer) -> None:
    client = Client(server, "INBOX")
    many = " ".join(f"k{n}" for n in range(60))
    assert client.ask(f"STORE 1 +FLAGS.SILENT ({many})")[-1] == "t OK stored"
    assert client.ask("STORE 1 +FLAGS (one.more)")[-1].startswith("t NO [LIMIT]")
    assert client.ask("STORE 2 +FLAGS (k59)")[-2] == "* 2 FETCH (FLAGS (k59 \\Recent))"
    client.ask("CHECK")
    assert Client(server, "INBOX").ask("SEARCH KEYWORD k59")[0] == "* SEARCH 1 2"


class Squeezed:
    """A client that has begun to compress."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._deflater, self._inflater = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)
        self._came = b""

    def packed(self, octets: bytes) -> bytes:
        return self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def ask(self, command: bytes) -> bytes:
        self.sock.sendall(self.packed(command))
        return self.answer()

    def answer(self) -> bytes:
        """Up to the next tagged answer."""
        while not re.search(rb"(?m)^t [^\n]*\n\Z", self._came):
            octets = self.sock.recv(1 << 16)
            assert octets, self._came[-200:]
            self._came += self._inflater.decompress(octets)
        found, self._came = self._came, b""
        return found


def test_compression(server: ImapServer) -> None:
    client = Client(server, "INBOX")
    assert client.ask("COMPRESS LZMA") == ["t BAD DEFLATE is the only way to compress"]
    assert client.ask("COMPRESS DEFLATE")[-1].startswith("t OK ")
    squeezed = Squeezed(client.sock)
    assert squeezed.ask(b"t COMPRESS DEFLATE\r\n").startswith(b"t NO [COMPRESSIONACTIVE] ")
    answer = squeezed.ask(b"t FETCH 1:* BODY[]\r\n")
    assert answer.count(b"FETCH (BODY[] {") == 5
    assert squeezed.ask(b"t LOGOUT\r\n").startswith(b"* BYE ")


def test_what_comes_behind_compress_is_compressed(server: ImapServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as plain:
        client = Squeezed(ssl._create_unverified_context().wrap_socket(_with_tls(plain)))
        client.sock.sendall(
            b"c LOGIN bob secret\r\nc COMPRESS DEFLATE\r\n" + client.packed(b"t NOOP\r\n")
        )  # fmt: skip
        came = b""
        while came.count(b"c OK") < 2:
            came += client.sock.recv(1 << 16)
        clear = came.index(b"\r\n", came.rindex(b"c OK")) + 2
        client._came = client._inflater.decompress(came[clear:])
        assert client.answer() == b"t OK done\r\n"


def _with_tls(sock: socket.socket) -> socket.socket:
    file = sock.makefile("rb", 0)
    file.readline()
    sock.sendall(b"s STARTTLS\r\n")
    assert file.readline().startswith(b"s OK")
    return sock


def test_a_bomb_takes_no_memory(server: ImapServer) -> None:
    def most() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])  # KiB

    client = Client(server)
    assert client.ask("COMPRESS DEFLATE")[-1].startswith("t OK ")
    before = most()
    squeezed = Squeezed(client.sock)
    answer = squeezed.ask(b"x" * 50_000_000 + b"\r\nt NOOP\r\n")
    assert b"* BAD the line is too long" in answer
    assert answer.endswith(b"t OK done\r\n")
    assert most() - before < 30_000


def test_what_is_not_compressed_then_ends_the_session(server: ImapServer) -> None:
    client = Client(server)
    assert client.ask("COMPRESS DEFLATE")[-1].startswith("t OK ")
    client.say(b"t NOOP\r\n" * 10)
    assert client.line() == ""
    assert Client(server).ask("NOOP") == ["t OK done"]


def test_a_client_that_comes_again_learns_what_is_gone_and_what_changed(server: ImapServer) -> None:
    client = Client(server)
    client.ask("ENABLE QRESYNC")
    opening = "\n".join(client.ask("SELECT INBOX"))
    validity, modseq = (re.search(rf"{name} (\d+)", opening)[1] for name in ("UIDVALIDITY", "HIGHESTMODSEQ"))  # type: ignore[index]
    client.ask("LOGOUT")
    other = Client(server, "INBOX")
    other.ask("STORE 2,4 +FLAGS (\\Deleted)")
    other.ask("EXPUNGE")
    other.ask("STORE 3 +FLAGS (\\Flagged)")
    other.ask("LOGOUT")
    client = Client(server)
    client.ask("ENABLE QRESYNC")
    told = client.ask(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
    assert "* VANISHED (EARLIER) 2,4" in told
    changed = [line for line in told if " FETCH " in line]
    assert len(changed) == 1
    assert changed[0].startswith("* 3 FETCH (UID 5 FLAGS (\\Flagged) MODSEQ (")
    assert not any(
        "VANISHED" in line for line in client.ask(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1,3))")
    )


def test_a_failure_behind_whole_responses_is_told(server: ImapServer, root: Path) -> None:
    large = "Subject: x\n\n" + "text\n" * 80_000
    strange = "Content-Transfer-Encoding: x-nobody\n\nx\n"
    append(root / "bob" / "INBOX.mbox", large.encode(), large.encode(), strange.encode())
    client = Client(server, "INBOX")
    told = client.ask("FETCH 6:8 (UID BINARY.PEEK[1])")
    assert sum(" FETCH " in line for line in told) == 2
    assert told[-1].startswith("t NO [UNKNOWN-CTE]")
    assert client.ask("NOOP") == ["t OK done"]
