"""serve-imap beside real clients: curl, mutt, mbsync in both directions, fetchmail, getmail and our own fetch."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import append, number, subjects
from tests.servers import ImapServer, mailtools

COUNT = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImapServer]:
    with ImapServer(tmp_path / "root", "--dev") as running:
        append(running.inbox("bob"), *map(number, range(COUNT)))
        yield running


def run(*words: str, folder: Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        words, input=stdin, capture_output=True, check=False, timeout=60, cwd=folder,
        env=os.environ | {"HOME": str(folder), "TERM": "xterm"},
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def test_curl(server: ImapServer, tmp_path: Path) -> None:
    base = f"imap://127.0.0.1:{server.port}"

    def curl(*words: str) -> bytes:
        return run("curl", "-s", "-u", "bob:x", *words, folder=tmp_path)

    assert curl(f"{base}/") == b'* LIST (\\HasNoChildren) "/" INBOX\r\n'
    assert curl(f"{base}/INBOX;UID=3") == number(2)
    assert curl(f"{base}/INBOX;UID=3;SECTION=HEADER.FIELDS%20(SUBJECT)") == b"Subject: 000002\r\n\r\n"
    assert curl(f"{base}/INBOX?SUBJECT%20000005").strip() == b"* SEARCH 6"
    (tmp_path / "up.eml").write_bytes(number(99))
    curl("-T", "up.eml", f"{base}/INBOX")
    assert subjects(server.inbox("bob"))[-1] == "000099"


MBSYNC = """
IMAPAccount a
Host 127.0.0.1
Port {port}
User bob
Pass x
SSLType None
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""


def test_mbsync_in_both_directions(server: ImapServer, tmp_path: Path) -> None:
    near = tmp_path / "near"
    near.mkdir()
    rc = tmp_path / "mbsyncrc"
    rc.write_text(MBSYNC.format(port=server.port, folder=near))

    def sync() -> dict[str, str]:
        """The flags of each message in the Maildir, by its subject."""
        run("mbsync", "-c", str(rc), "-a", folder=tmp_path)
        found = {}
        for path in [*near.glob("INBOX/cur/*"), *near.glob("INBOX/new/*")]:
            subject = next(line for line in path.read_text().splitlines() if line.startswith("Subject: "))
            found[subject[9:]] = path.name.partition(":2,")[2]
        return found

    assert set(sync()) == {f"{n:06d}" for n in range(COUNT)}
    before = server.inbox("bob").read_bytes()
    assert len(sync()) == COUNT
    assert server.inbox("bob").read_bytes() == before, "a second run changes nothing"
    # Here a flag and a deletion, there another of each, and a mailbox of its own.
    by_name = {
        p.read_text().split("Subject: ")[1][:6]: p
        for p in [*near.glob("INBOX/cur/*"), *near.glob("INBOX/new/*")]
    }
    flagged = by_name["000001"]
    flagged.rename(near / "INBOX" / "cur" / f"{flagged.name.partition(':')[0]}:2,FS")
    by_name["000002"].unlink()
    for sub in ("cur", "new", "tmp"):
        (near / "Sent" / sub).mkdir(parents=True)
    (near / "Sent" / "cur" / "1.x:2,S").write_bytes(number(50).replace(b"\r\n", b"\n"))
    append(server.inbox("bob"), number(30))
    found = sync()
    assert (found["000001"], "000002" in found, "000030" in found) == ("FS", False, True)
    assert subjects(server.inbox("bob")) == [f"{n:06d}" for n in range(COUNT) if n != 2] + ["000030"]
    assert subjects(server.root / "bob" / "Sent.mbox") == ["000050"]
    listed = mailtools("mbox", "list", "-q", "is:flagged", str(server.inbox("bob"))).stdout
    assert b"000001" in listed
    assert sync() == found


def test_fetchmail_and_our_own_fetch(server: ImapServer, tmp_path: Path) -> None:
    rc = tmp_path / "fetchmailrc"
    rc.write_text(
        f"poll 127.0.0.1 service {server.port} protocol imap auth password username bob password x is root here"
        f" mda 'cat >> {tmp_path}/fetched' sslproto ''\n"
    )
    rc.chmod(0o600)
    run("fetchmail", "-f", str(rc), "-k", "-a", "--pidfile", str(tmp_path / "pid"), folder=tmp_path)
    assert (tmp_path / "fetched").read_bytes().count(b"Subject: ") == COUNT
    done = mailtools(
        "fetch", "--imap", "--host", "127.0.0.1", "--port", str(server.port), "--user", "bob",
        "--to", str(tmp_path / "ours.mbox"), "--delete", env={"MAILTOOLS_FETCH_PASSWORD": "x"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert subjects(tmp_path / "ours.mbox") == [f"{n:06d}" for n in range(COUNT)]
    assert subjects(server.inbox("bob")) == []


def test_getmail(server: ImapServer, tmp_path: Path) -> None:
    (tmp_path / "mda").write_text(f"#!/bin/sh\ncat >> {tmp_path}/fetched\n")
    (tmp_path / "mda").chmod(0o755)
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = SimpleIMAPRetriever\nserver = 127.0.0.1\nport = {server.port}\nusername = bob\n"
        f"password = x\nmailboxes = ('INBOX',)\n[destination]\ntype = MDA_external\npath = {tmp_path}/mda\n"
        "allow_root_commands = true\n[options]\nread_all = true\ndelete = false\n"
    )
    run("getmail", "--getmaildir", str(tmp_path), "--rcfile", "getmailrc", folder=tmp_path)
    assert (tmp_path / "fetched").read_bytes().count(b"Subject: ") == COUNT


def test_mutt(server: ImapServer, tmp_path: Path) -> None:
    """Tags, copies, flags and deletes; the terminal is a pseudo-terminal of `script`."""
    (tmp_path / "muttrc").write_text(
        f"set folder=imap://bob:x@127.0.0.1:{server.port}/\nset ssl_starttls=no\nset ssl_force_tls=no\nset confirmcreate=no\n"
        "set confirmappend=no\nset delete=yes\nset copy=no\nset header_cache=''\nset move=no\n"
        "push '<flag-message><next-entry><copy-message>=Kept<enter><delete-message><sync-mailbox><quit>'\n"
    )
    command = f"mutt -n -F {tmp_path}/muttrc -f imap://bob:x@127.0.0.1:{server.port}/INBOX"
    run("script", "-qec", command, "/dev/null", folder=tmp_path, stdin=b"yyyyyyyy")
    assert subjects(server.root / "bob" / "Kept.mbox")
    left = subjects(server.inbox("bob"))
    assert len(left) == COUNT - 1
    listed = mailtools("mbox", "list", "-q", "is:flagged", str(server.inbox("bob"))).stdout
    assert listed.count(b"\n") == 1


def test_imapclient_of_python(server: ImapServer) -> None:
    """The standard library, in a process of its own."""
    script = (
        "import imaplib, sys\nbox = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]))\nbox.login('bob', 'x')\n"
        "box.select()\nassert len(box.search(None, 'ALL')[1][0].split()) == 20\nbox.logout()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(server.port)], check=False, timeout=60)
    assert done.returncode == 0
