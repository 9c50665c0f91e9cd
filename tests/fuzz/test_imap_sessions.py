"""What a running IMAP server does with mutated sessions, and with clients that mean harm.

Every octet that it sends is read by a strict reader of the grammar; another client is answered after each
session; at the end no descriptor, thread, lock or spare file is left. MAILTOOLS_FUZZ_SEED chooses other
mutations than the usual ones.
"""

import io
import os
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import imap_stream
from tests.boxes import append, number
from tests.dialogues.player import octets, read
from tests.fuzz.mutate import NUMBERS, OCTETS, SEED, Lines, chance_of, mutated
from tests.servers import DEADLINE, ImapServer, eventually

SESSIONS = 120
_KEPT = 24  # descriptors of mailboxes that stay open for the next client
_DIALOGUES = Path(__file__).parent.parent / "dialogues" / "imap"
_LOGIN = b"l LOGIN bob secret\r\n"
_BROKEN = (
    (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!=\r\n--a--\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n--a"
    ),
    (
        b'From: "\\\0", <<>>, a:b:;, @,@:<x@y>\r\nTo: (((((\r\nSubject: =?utf-8?B?\xff?=\r\nDate: x\r\n'
        b'Content-Type: text/plain; x*0*="\\"; =; charset="\0\xff"\r\nContent-Transfer-Encoding: uuencode\r\n\r\nbegin'
    ),
    b"\0\r\n\xff\xfe\r\n\r\n\0",
    b"no header at all",
    b"",
)
_COMMANDS = [
    b"SELECT INBOX", b"EXAMINE INBOX", b"FETCH 1:* ALL", b"FETCH 1:* FULL", b"FETCH 1:* BODYSTRUCTURE",
    b"FETCH 1:* (BODY[1] BODY[1.1.MIME] BODY[2.HEADER] BODY[2.1] BINARY[1] BINARY.SIZE[1.1] RFC822.TEXT)",
    b'FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (Date "From" {2}\r\nTo)]<1.9> BODY[HEADER.FIELDS.NOT (x)])',
    b"UID FETCH 1:4294967295,*:*,4294967295 FLAGS", b"UID SEARCH RETURN (MIN MAX ALL COUNT) OR SEEN NOT (1:* KEYWORD a)",
    b"SEARCH CHARSET UTF-8 TEXT {4}\r\n\xc3\xa9\xff\xff", b"SEARCH SINCE 31-Feb-0000 SENTBEFORE 1-Jan-9999 LARGER 9",
    b'LIST "" "*%*%*%*%"', b'LIST (SUBSCRIBED) "x" ("%" "*" {3}\r\n&-&) RETURN (STATUS (MESSAGES SIZE) CHILDREN)',
    b'LSUB "" "*"', b'CREATE "a&/&AOk-\\"b"', b"CREATE {5}\r\na\r\nb\0", b"RENAME INBOX &AOk-/x", b"DELETE a",
    b"SUBSCRIBE &-", b"STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED)",
    b"STORE 1:2 +FLAGS (\\Seen \\Deleted work)", b"STORE 1 FLAGS ()", b"UID STORE 1:* -FLAGS.SILENT a]b",
    b"COPY 2 INBOX", b"UID MOVE 3:4 INBOX", b"EXPUNGE", b"UID EXPUNGE 1:*", b"CLOSE", b"UNSELECT", b"CHECK",
    b'APPEND INBOX (\\Seen x) "31-Feb-0000 99:99:99 +9999" {9+}\r\nA: b\r\n\r\n\0',
    b'APPEND INBOX "29-Feb-2023 23:59:60 -1200" {3+}\r\nabc', b"APPEND {5+}\r\nINBOX (\\Seen) {3}\r\nabc",
    b"IDLE\r\nDONE", b"NOOP", b"NAMESPACE", b'ID ("a" NIL)', b"ENABLE CONDSTORE UTF8=ACCEPT", b"CAPABILITY",
    b"SELECT INBOX (CONDSTORE)", b"GETQUOTAROOT INBOX", b'GETMETADATA "" /shared/x', b"UID SORT (DATE) UTF-8 ALL",
    b"THREAD REFERENCES UTF-8 ALL", b"UID THREAD ORDEREDSUBJECT US-ASCII 1:*", b"LOGOUT",
]  # fmt: skip
_PIECES = [
    b"(", b")", b"()", b"[", b"]", b"{0}\r\n", b"{3}\r\nabc", b"{3+}\r\n\0\r\n", b"~{2+}\r\n\0\0", b"{99999999999}\r\n", b"*", b"%",
    b'"', b'""', b"\\", b"NIL", b"1:*", b"*:*", b"0", b"4294967295", b"4294967296", b",", b":", b"<0.1>", b"<9.0>", b"&", b"&AAA-",
    b"&2AA-", b"/", b"//", b"../", b"BODY[]", b".PEEK", b"[HEADER.FIELDS (a)]", b"1.2.3", b" ", b"  ", b"\r\n", *OCTETS, *NUMBERS,
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImapServer]:
    root = tmp_path_factory.mktemp("fuzz") / "root"
    (root / "bob").mkdir(parents=True)
    (root / "users").write_text("bob:{PLAIN}secret\n")
    append(root / "bob" / "INBOX.mbox", number(1), *(message.replace(b"\0", b"\x01") for message in _BROKEN))
    with ImapServer(root) as running:
        yield running
    assert "a bug in" not in running.logged, running.logged
    assert "Traceback" not in running.logged, running.logged


class Probe:
    """Another client, which must always be answered; and what the server has open."""

    def __init__(self, server: ImapServer) -> None:
        self.server = server
        self.sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self.file = self.sock.makefile("rb")
        assert imap_stream.read(self.file)
        self.ask(_LOGIN)
        self.began = self.held()

    def ask(self, line: bytes) -> None:
        self.sock.sendall(line)
        while (found := imap_stream.read(self.file)) and found.tag == b"*":
            pass
        assert found, "the server hung up"
        assert found.words[0] == b"OK", found

    def held(self) -> tuple[int, int, int]:
        """Descriptors, locks, spare files. The threads of its pools are bounded, and stay."""
        mail = [path.name for path in (self.server.root / "bob").rglob("*")]
        return (
            len(os.listdir(f"/proc/{self.server.process.pid}/fd")),
            sum(name.endswith(".lock") for name in mail),
            sum("tmp" in name or name.endswith(".new") for name in mail),
        )

    def check(self) -> None:
        """It answers, and holds what it held before."""
        self.ask(b"p NOOP\r\n")
        eventually(self._is_as_it_was, lambda: (self.began, self.held()))

    def _is_as_it_was(self) -> bool:
        descriptors, *files = self.held()
        return descriptors <= self.began[0] + _KEPT and files == list(self.began[1:])


@pytest.fixture(scope="module")
def probe(server: ImapServer) -> Iterator[Probe]:
    probe = Probe(server)
    yield probe
    probe.check()
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) < 60
    probe.file.close()
    probe.sock.close()


def said_to(server: ImapServer, data: bytes) -> list[imap_stream.Response]:
    """All responses to a client that says *data* and nothing more."""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the server has hung up
            pass
        pieces = []
        try:
            while piece := sock.recv(1 << 16):
                pieces.append(piece)
        except ConnectionResetError:
            return []  # what it said before is lost, as the client deserved
    file = io.BytesIO(b"".join(pieces))
    return list(iter(lambda: imap_stream.read(file), None))


def seeds() -> list[Lines]:
    found = [
        [octets(step.text) for step in read(path).steps if step.side == "C"]
        for path in sorted(_DIALOGUES.glob("*.txt"))
    ]
    return [*filter(None, found)]


def session(chance: random.Random, those: list[Lines]) -> bytes:
    """Commands by chance, or a dialogue's; some changed a little, for most to get past the grammar."""
    if chance.random() < 0.3:
        lines = [re.sub(rb"^(\S+ LOGIN) .*", rb"\1 bob secret\r\n", line) for line in chance.choice(those)]
    else:
        lines = [b"t%d %b\r\n" % (n, chance.choice(_COMMANDS)) for n in range(chance.choice((3, 10, 30)))]
        lines.insert(0, b"s SELECT INBOX\r\n")
    for _ in range(chance.choice((0, 1, 2, 5, 10))):
        at = chance.randrange(len(lines))
        line = lines[at]
        if chance.random() < 0.3:
            lines[at] = mutated(chance, line, 2)
        else:
            edges = [found.start() for found in re.finditer(rb"\b|[() ]", line)] or [0]
            start = chance.choice(edges)
            end = chance.choice((start, start, min(len(line), start + chance.choice((1, 4, 12)))))
            lines[at] = line[:start] + chance.choice(_PIECES) + line[end:]
    return (_LOGIN if chance.random() < 0.95 else b"") + b"".join(lines)


def test_mutated_sessions(server: ImapServer, probe: Probe) -> None:
    those = seeds()
    for turn in range(SESSIONS):
        data = session(chance_of(SEED, turn, "imap"), those)
        try:
            responses = said_to(server, data)
            assert all(response.tag in (b"*", b"+") or response.tag in data for response in responses)
            probe.ask(b"p NOOP\r\n")
        except (AssertionError, OSError) as error:
            raise AssertionError(f"seed {SEED}, session {turn}: {data!r}") from error
