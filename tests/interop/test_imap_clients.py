"""serve-imap beside real clients: curl, mutt, neomutt, mbsync, offlineimap, IMAPClient, imaplib, fetchmail, getmail, ours."""

import imaplib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


def flagged(server: ImapServer) -> list[bytes]:
    """The lines of `mbox list` that are about flagged messages."""
    return mailtools("mbox", "list", "-q", "is:flagged", str(server.inbox("bob"))).stdout.splitlines()


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
    # Here a flag and a deletion, there another of each, a new message, and a mailbox of its own.
    by_name = {
        p.read_text().split("Subject: ")[1][:6]: p
        for p in [*near.glob("INBOX/cur/*"), *near.glob("INBOX/new/*")]
    }
    changed = by_name["000001"]
    changed.rename(near / "INBOX" / "cur" / f"{changed.name.partition(':')[0]}:2,FS")
    by_name["000002"].unlink()
    for sub in ("cur", "new", "tmp"):
        (near / "Sent" / sub).mkdir(parents=True)
    (near / "Sent" / "cur" / "1.x:2,S").write_bytes(number(50).replace(b"\r\n", b"\n"))
    change_there(server)
    found = sync()
    assert (found["000001"], found["000003"], found["000030"]) == ("FS", "R", "")
    assert not {"000002", "000004"} & set(found)
    check_both(server, found)
    assert subjects(server.root / "bob" / "Sent.mbox") == ["000050"]
    before = server.inbox("bob").read_bytes()
    assert sync() == found
    assert server.inbox("bob").read_bytes() == before


def change_there(server: ImapServer) -> None:
    """Another client answers 000003, expunges 000004; new mail comes."""
    with imaplib.IMAP4("127.0.0.1", server.port, timeout=20) as box:
        box.login("bob", "x")
        box.select()
        box.uid("STORE", "4", "+FLAGS", r"(\Answered)")
        box.uid("STORE", "5", "+FLAGS", r"(\Deleted)")
        box.expunge()
    append(server.inbox("bob"), number(30))


def check_both(server: ImapServer, near: dict[str, str]) -> None:
    """The mbox has the messages that are *near*, and both have the flags of both sides."""
    assert subjects(server.inbox("bob")) == sorted(near)
    assert len(near) == COUNT - 1
    with imaplib.IMAP4("127.0.0.1", server.port, timeout=20) as box:
        box.login("bob", "x")
        box.select(readonly=True)
        found = {flag: box.uid("SEARCH", flag)[1] for flag in ("FLAGGED", "SEEN", "ANSWERED")}
    assert found == {"FLAGGED": [b"2"], "SEEN": [b"2"], "ANSWERED": [b"4"]}


OFFLINEIMAP = """
[general]
accounts = a
metadata = {folder}/meta
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {folder}/near
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = bob
remotepass = x
ssl = no
starttls = no
auth_mechanisms = PLAIN
"""


def test_offlineimap_in_both_directions(server: ImapServer, tmp_path: Path) -> None:
    near = tmp_path / "near" / "INBOX"
    rc = tmp_path / "offlineimaprc"
    rc.write_text(OFFLINEIMAP.format(port=server.port, folder=tmp_path))

    def sync() -> dict[str, Path]:
        """The files of the Maildir, by the subjects of their messages."""
        run("offlineimap", "-o", "-u", "basic", "-c", str(rc), folder=tmp_path)
        paths = [*near.glob("cur/*"), *near.glob("new/*")]
        return {path.read_text().split("Subject: ")[1][:6]: path for path in paths}

    first = sync()
    assert set(first) == {f"{n:06d}" for n in range(COUNT)}
    before = server.inbox("bob").read_bytes()
    assert sync() == first, "a second run changes nothing"
    assert server.inbox("bob").read_bytes() == before
    changed = first["000001"]
    changed.rename(near / "cur" / f"{changed.name.partition(':')[0]}:2,FS")
    first["000002"].unlink()
    change_there(server)
    second = sync()
    flags = {subject: path.name.partition(":2,")[2] for subject, path in second.items()}
    assert (flags["000001"], flags["000003"], flags["000030"]) == ("FS", "R", "")
    check_both(server, flags)
    before = server.inbox("bob").read_bytes()
    assert sync() == second
    assert server.inbox("bob").read_bytes() == before


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


@pytest.mark.parametrize("program", ["mutt", "neomutt"])
def test_mutt(server: ImapServer, tmp_path: Path, program: str) -> None:
    """Tags, copies, flags and deletes; the terminal is a pseudo-terminal of `script`."""
    keys = "<flag-message><next-entry><copy-message>=Kept<enter><delete-message><sync-mailbox><quit>"
    run_mutt(program, server, tmp_path, keys, "set header_cache=''\n")
    assert subjects(server.root / "bob" / "Kept.mbox")
    assert len(subjects(server.inbox("bob"))) == COUNT - 1
    assert len(flagged(server)) == 1


def test_neomutt_with_a_cache(server: ImapServer, tmp_path: Path) -> None:
    """The second start learns by QRESYNC which messages changed and which are gone."""
    cache = f"set header_cache={tmp_path}/cache\nset imap_qresync=yes\nset imap_condstore=yes\n"
    run_mutt("neomutt", server, tmp_path, "<quit>", cache)
    with imaplib.IMAP4("127.0.0.1", server.port, timeout=20) as box:
        box.login("bob", "x")
        box.select()
        box.store("3", "+FLAGS", r"(\Flagged)")
        box.store("2", "+FLAGS", r"(\Deleted)")
        box.expunge()
    keys = "<tag-pattern>~F<enter><tag-prefix><copy-message>=Kept<enter><last-entry><delete-message><sync-mailbox><quit>"
    run_mutt("neomutt", server, tmp_path, keys, cache)
    assert subjects(server.root / "bob" / "Kept.mbox") == ["000002"]
    assert subjects(server.inbox("bob")) == [f"{n:06d}" for n in range(COUNT - 1) if n != 1]


def run_mutt(program: str, server: ImapServer, tmp_path: Path, keys: str, more: str) -> None:
    """One session of mutt or neomutt, whose user types *keys*."""
    (tmp_path / "muttrc").write_text(
        f"set folder=imap://bob@127.0.0.1:{server.port}/\nset imap_pass=x\nset ssl_starttls=no\nset ssl_force_tls=no\nset confirmcreate=no\n"
        f"set confirmappend=no\nset delete=yes\nset copy=no\nset move=no\nset sort=mailbox-order\n{more}push '{keys}'\n"
    )
    command = f"{program} -n -F {tmp_path}/muttrc -f imap://bob@127.0.0.1:{server.port}/INBOX"
    run("script", "-qec", command, "/dev/null", folder=tmp_path, stdin=b"yyyyyyyy")


FORM = b"""\
From: "Ann B" <ann@a.test>\r
To: bob@a.test, Carol <carol@a.test>\r
Date: Mon, 2 Nov 2026 10:00:00 +0100\r
Subject: =?utf-8?q?caf=C3=A9?=\r
Message-ID: <form@a.test>\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/plain; charset=utf-8\r
\r
one\r
two\r
--b\r
Content-Type: image/png; name="x.png"\r
Content-Transfer-Encoding: base64\r
Content-Disposition: attachment; filename="x.png"\r
\r
iVBORw0KGgo=\r
--b--\r
"""


def test_imapclient(server: ImapServer) -> None:
    """IMAPClient parses each response into values: a wrong form raises an error."""
    from imapclient import IMAPClient

    with IMAPClient("127.0.0.1", server.port, ssl=False, timeout=20) as box:
        box.login("bob", "x")
        assert box.list_folders() == [((b"\\HasNoChildren",), b"/", "INBOX")]
        box.create_folder("Käse & Brot")
        assert "Käse & Brot" in {name for _, _, name in box.list_folders()}
        opened = box.select_folder("INBOX")
        assert (opened[b"EXISTS"], opened[b"UIDNEXT"], opened[b"READ-WRITE"]) == (COUNT, COUNT + 1, True)
        assert box.folder_status("Käse & Brot", ["MESSAGES", "UIDNEXT"]) == {b"MESSAGES": 0, b"UIDNEXT": 1}

        when = datetime(2026, 11, 2, 10, 0, 0, tzinfo=UTC)
        said = box.append("INBOX", FORM, [b"\\Flagged", b"work"], when)
        assert b"APPENDUID" in said and f" {COUNT + 1}]".encode() in said
        box.normalise_times = False
        uid = COUNT + 1
        wanted = ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "INTERNALDATE", "BODY.PEEK[]", "RFC822.SIZE"]
        found = box.fetch([uid], wanted)[uid]
        envelope = found[b"ENVELOPE"]
        assert (envelope.subject, envelope.message_id) == (b"=?utf-8?q?caf=C3=A9?=", b"<form@a.test>")
        assert [str(a) for a in envelope.from_] == ["Ann B <ann@a.test>"]
        assert [str(a) for a in envelope.to] == ["bob@a.test", "Carol <carol@a.test>"]
        parts, kind = found[b"BODYSTRUCTURE"][:2]
        assert (found[b"BODYSTRUCTURE"].is_multipart, kind.lower()) == (True, b"mixed")
        assert [(p[0].lower(), p[1].lower()) for p in parts] == [(b"text", b"plain"), (b"image", b"png")]
        assert found[b"INTERNALDATE"] == when
        assert (found[b"BODY[]"], found[b"RFC822.SIZE"]) == (FORM, len(FORM))
        assert {b"\\Flagged", b"work"} <= set(found[b"FLAGS"])

        assert box.search(["FLAGGED", "KEYWORD", "work"]) == [uid]
        assert box.search(["SUBJECT", "café"], charset="UTF-8") == [uid]
        assert box.search(["OR", "SUBJECT", "000003", ["UID", "6:7"]]) == [4, 6, 7]
        assert box.sort("REVERSE SUBJECT", ["UID", "1:3"]) == [3, 2, 1]
        assert [thread[0] for thread in box.thread(criteria=["UID", "1:3"])] == [1, 2, 3]
        assert box.add_flags([1, 2], [b"\\Seen"])[1] == (b"\\Seen", b"\\Recent")
        assert b"\\Seen" not in box.remove_flags([1], [b"\\Seen"])[1]
        assert box.get_flags([2])[2] == (b"\\Seen", b"\\Recent")

        box.move([3, 4], "Käse & Brot")
        box.copy([5], "Käse & Brot")
        box.delete_messages([1])
        box.uid_expunge([1])
        assert box.search() == [2, *range(5, uid + 1)]
        assert box.folder_status("Käse & Brot")[b"MESSAGES"] == 3

        box.idle()
        append(server.inbox("bob"), number(30))
        assert (uid - 2, b"EXISTS") in box.idle_check(timeout=20)
        box.idle_done()
        assert box.search(["SUBJECT", "000030"]) == [uid + 1]
        box.unselect_folder()
        box.delete_folder("Käse & Brot")
    assert subjects(server.inbox("bob"))[0] == "000001"


def test_imaplib(server: ImapServer) -> None:
    def ok(answer: tuple[str, list[Any]]) -> list[Any]:
        assert answer[0] == "OK", answer
        return answer[1]

    with imaplib.IMAP4("127.0.0.1", server.port, timeout=20) as box:
        ok(box.authenticate("PLAIN", lambda _: b"\0bob\0x"))
        assert "UIDPLUS" in ok(box.capability())[0].decode().split()
        assert ok(box.namespace()) == [b'(("" "/")) NIL NIL']
        ok(box.enable("CONDSTORE"))
        ok(box.create("Work"))
        ok(box.subscribe("Work"))
        assert ok(box.lsub()) == [b'(\\HasNoChildren) "/" Work']
        assert ok(box.select()) == [b"20"]
        assert box.response("UIDNEXT")[1] == [b"21"]

        ok(box.append("INBOX", r"(\Flagged work)", imaplib.Time2Internaldate(1793610000), FORM))
        assert ok(box.search(None, "FLAGGED", "UNSEEN")) == [b"21"]
        box.literal = "café".encode()
        assert ok(box.search("UTF-8", "SUBJECT")) == [b"21"]
        (head, content), *_ = ok(box.uid("FETCH", "21", "(INTERNALDATE BODY.PEEK[])"))
        assert (content, imaplib.Internaldate2tuple(head) is not None) == (FORM, True)
        assert ok(box.fetch("21", "(FLAGS)")) == [rb"21 (FLAGS (\Flagged work \Recent))"]
        assert ok(box.sort("(REVERSE SUBJECT)", "UTF-8", "1:3")) == [b"3 2 1"]
        assert ok(box.thread("REFERENCES", "UTF-8", "1:2")) == [b"(1)(2)"]

        ok(box.copy("1:2", "Work"))
        ok(box.uid("MOVE", "3", "Work"))
        assert ok(box.status("Work", "(MESSAGES UNSEEN)")) == [b"Work (MESSAGES 3 UNSEEN 3)"]
        ok(box.store("1", "+FLAGS", r"(\Deleted)"))
        assert ok(box.expunge()) == [b"3", b"1"]  # the first is of MOVE
        ok(box.rename("Work", "Done"))
        ok(box.delete("Done"))
        with pytest.raises(imaplib.IMAP4.error):
            box.fetch("1", "(NONSENSE)")
        assert box.select("Nowhere")[0] == "NO"
        ok(box.select("INBOX", readonly=True))
        ok(box.unselect())
    assert subjects(server.inbox("bob"))[:2] == ["000001", "000003"]
