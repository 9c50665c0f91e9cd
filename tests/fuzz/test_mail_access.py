"""What POP3's server, and fetch's clients of POP3 and IMAP, do with mutated octets.

The server: every line of its answers is one, nothing raises, the mbox is as it was unless QUIT was said. The
clients: events or RemoteProtocolError, the same however the octets were cut. MAILTOOLS_FUZZ_SEED chooses
other mutations than the usual ones; scripts/fuzz tries many.
"""

import re
from pathlib import Path

from mailtools.core.auth import client as sasl
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.imap.client import ImapClient, ImapPiece
from mailtools.core.pop3.client import Pop3Client, Pop3Piece
from mailtools.core.pop3.server import Pop3Offer, Pop3ServerEngine
from mailtools.services.pop3_server.session import MaildropSession, Pop3Ports
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.users.users_file import Users
from tests.boxes import append, number, subjects
from tests.dialogues.player import Checker
from tests.fuzz.mutate import SEED, chance_of, chunks, mutated, mutated_session
from tests.fuzz.test_smtp_sessions import told

SESSIONS = 1500
ANSWERS = 3000
_LOGIN = [b"USER bob\r\n", b"PASS secret\r\n"]
SEEDS = [
    [*_LOGIN, b"CAPA\r\n", b"STAT\r\n", b"LIST\r\n", b"LIST 2\r\n", b"UIDL\r\n", b"UIDL 1\r\n", b"RETR 1\r\n",
     b"TOP 2 1\r\n", b"DELE 1\r\n", b"RETR 1\r\n", b"NOOP\r\n", b"RSET\r\n", b"UTF8\r\n"],
    [*_LOGIN, b"DELE 2\r\n", b"DELE 2\r\n", b"STAT\r\n", b"QUIT\r\n"],
    [b"CAPA\r\n", b"STLS\r\n", b"UTF8\r\n", b"NOOP\r\n", b"QUIT\r\n"],
    [b"AUTH\r\n", b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n", b"TOP 1 0\r\n", b"TOP 1 99999999999\r\n", b"LIST 0\r\n"],
    [b"AUTH SCRAM-SHA-256 biwsbj1ib2Iscj1hYmNkZWY=\r\n", b"*\r\n", b"AUTH LOGIN\r\n", b"Ym9i\r\n", b"c2VjcmV0\r\n",
     b"RETR 3\r\n"],
    [b"APOP bob c4c9334bac560ecc979e58001b3e22fb\r\n", b"USER bob\r\n", b"PASS\r\n", b"GET / HTTP/1.1\r\n"],
]  # fmt: skip
POP3_ANSWERS = (
    b"+OK hello <1.2@host>\r\n", b"+OK\r\nTOP\r\nSASL PLAIN\r\n.\r\n", b"+ \r\n", b"+OK in\r\n",
    b"+OK\r\n1 aa\r\n2 bb\r\n.\r\n", b"+OK 10 octets\r\nFrom: a\r\n\r\n..x\r\n.\r\n", b"+OK\r\n.\r\n",
    b"-ERR [IN-USE] no\r\n", b"+OK 9\r\n" + b"x" * 70_000 + b"\r\n.\r\n", b"+OK bye\r\n",
)  # fmt: skip
IMAP_ANSWERS = (
    b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b"+ \r\n", b"m1 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n",
    b"* LIST (\\Noselect) \"/\" {3}\r\nbox\r\n", b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n",
    b"m2 OK [READ-ONLY] done\r\n", b"* SEARCH 1 2 3\r\n",
    b'* 1 FETCH (UID 5 INTERNALDATE "22-Aug-2002 12:00:00 +0200" BODY[] {5}\r\nhello)\r\n',
    b"* 2 FETCH (BODY[] {3}\r\nabc FLAGS (\\Seen \"x\") UID 6)\r\n", b"* BYE gone\r\n",
    b"* 2 FETCH (ENVELOPE (((((NIL)))) \"a\\\"b\"))\r\n", b"m3 NO [UNAVAILABLE] later\r\n", b"+ idling\r\n",
)  # fmt: skip
COMMANDS = ("CAPA", "AUTH", "UIDL", "RETR 1", "RETR 2", "LIST", "DELE 1", "QUIT")
ANSWER_LINE = re.compile(rb"(?:\+OK|-ERR|\+)(?: [^\r\n]*)?\Z")


def play(root: Path, pieces: list[bytes]) -> tuple[bytes, Pop3ServerEngine]:
    engine = Pop3ServerEngine(Pop3Offer("host", stls=True))
    logins = Logins(LoginRules(Users(str(root / "users"))), Checker(), lambda _, call: call())  # type: ignore[arg-type]

    def run(task: object, done: object, owner: str) -> None:
        done(task())  # type: ignore[operator]

    ports = Pop3Ports(MailRoot(str(root)), run, lambda _: None, lambda _: None)  # type: ignore[arg-type]
    session = MaildropSession(engine, logins, "127.0.0.1", ports, lambda: None)
    said = b""

    def turn() -> None:
        nonlocal said
        while (event := engine.next_event()) is not None or engine.has_more:
            if event is not None:
                session.handle(event)
        said += engine.data_to_send()

    turn()
    for piece in pieces:
        if engine.wants_tls:
            engine.secured({})
        engine.receive_data(piece)
        turn()
    engine.receive_eof()
    turn()
    return said, engine


def test_sessions(tmp_path: Path) -> None:
    inbox = tmp_path / "bob" / "INBOX.mbox"
    messages = [number(n) for n in range(3)]
    (tmp_path / "users").write_text("bob:{PLAIN}secret\n")
    append(inbox, *messages)
    was = inbox.read_bytes()
    for turn in range(SESSIONS):
        chance = chance_of(SEED, turn, "pop3")
        pieces = chunks(chance, mutated_session(chance, SEEDS))
        with told("pop3 session", turn, pieces):
            said, engine = play(tmp_path, pieces)
            assert engine.is_closed
            assert said.endswith(b"\r\n")
            assert not [line for line in answers(said, messages) if not ANSWER_LINE.fullmatch(line)]
            if not re.search(rb"(?i)quit", b"".join(pieces)):
                assert inbox.read_bytes() == was
        if inbox.read_bytes() != was:
            assert len(subjects(inbox)) < 3
            inbox.write_bytes(was)


def answers(said: bytes, messages: list[bytes]) -> list[bytes]:
    """The first lines of answers; of those with more, the rest taken away."""
    for message in messages:
        said = said.replace(message + b".\r\n", b"")
    return re.sub(
        rb"(?m)^(\+OK[^\r\n]*\r\n)(?:(?!\+OK|-ERR|\+ )[^\r\n]*\r\n)*?\.\r\n", rb"\1", said
    ).splitlines()


def events(engine: Pop3Client | ImapClient, pieces: list[bytes]) -> list[object]:
    """What comes of it, errors too; the pieces of large messages joined."""
    found: list[object] = []
    try:
        for piece in pieces:
            engine.receive_data(piece)
            while (event := engine.next_event()) is not None:
                note(event, found)
            engine.data_to_send()
        engine.receive_eof()
        while (event := engine.next_event()) is not None:
            note(event, found)
    except RemoteProtocolError as error:
        found.append(str(error))
    return found


def note(event: object, found: list[object]) -> None:
    """Add *event*, a piece to the pieces before it."""
    if isinstance(event, ImapPiece | Pop3Piece):
        octets = event.octets
        if found and isinstance(found[-1], bytearray):
            found[-1] += octets
        else:
            found.append(bytearray(octets))
    else:
        found.append(event)


def pop3_client() -> Pop3Client:
    engine = Pop3Client()
    for command in COMMANDS:
        if command == "AUTH":
            engine.auth("PLAIN", sasl.plain(sasl.Credentials("bob", "secret")), with_initial=False)
        else:
            engine.command(command, is_long=command[:4] in ("CAPA", "UIDL", "RETR", "LIST"))
    return engine


def imap_client() -> ImapClient:
    engine = ImapClient()
    engine.authenticate("PLAIN", sasl.plain(sasl.Credentials("bob", "secret")))
    for command in ("EXAMINE x", "LOGIN {} {}", "IDLE"):
        engine.command(command, *(["a", "b"] if "{}" in command else []))
    return engine


def test_answers_to_clients() -> None:
    for turn in range(ANSWERS):
        chance = chance_of(SEED, turn, "client")
        is_pop3 = bool(turn % 2)
        lines = list(POP3_ANSWERS if is_pop3 else IMAP_ANSWERS)
        if chance.random() < 0.5:
            chance.shuffle(lines)
        data = mutated(chance, b"".join(lines))
        make = pop3_client if is_pop3 else imap_client
        with told("client", turn, data):
            whole = events(make(), [data])
            assert events(make(), chunks(chance, data)) == whole
