"""What a server and its parsers do with mutated octets: stay alive and bounded, and keep every mbox sane.

MAILTOOLS_FUZZ_SEED chooses other mutations than the usual ones; scripts/fuzz tries many.
"""

import random
import re
import select
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from mailtools.core.auth import passwd, scram
from mailtools.core.auth.errors import AuthenticationError, MalformedError
from mailtools.core.auth.sasl import MAX_RESPONSE, CheckPassword, FindKeys, Found
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.mbox import scan
from mailtools.core.mbox.postmark import is_postmark
from mailtools.core.message import aliases
from mailtools.core.smtp import events
from mailtools.core.smtp.grammar import is_mailbox
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.core.wire.client_hello import wanted_protocols
from mailtools.services.smtp_server import faults
from tests.fuzz import mutate
from tests.fuzz.mutate import SEED, chance_of
from tests.servers import DEADLINE, Server

SEEDS = mutate.sessions()
CRASHES = sorted((Path(__file__).parent / "crashes").glob("*.smtp"))
LONGEST_TIME = 5.0  # seconds of the processor, for one case
REPLY_LINE = re.compile(rb"[2-5][0-9][0-9][ -][^\r\n]*\r\n")


def again(what: str, number: int, data: object) -> str:
    """How to have a failure again."""
    shown = repr(data)
    return (
        f"{what} {number} with MAILTOOLS_FUZZ_SEED={SEED}: "
        f"{shown if len(shown) < 3000 else shown[:2000] + ' ... ' + shown[-900:]}"
    )


@contextmanager
def told(what: str, number: int, data: object) -> Iterator[None]:
    """Whatever is raised within fails the test and says how to have it again; so does what takes too long."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"took more than {LONGEST_TIME} seconds")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_TIME)
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{error!r}: {again(what, number, data)}") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def not_replies(said: bytes) -> list[bytes]:
    """The lines that no reply may have; the last one has to be whole too."""
    return [line for line in said.split(b"\n")[:-1] if not REPLY_LINE.fullmatch(line + b"\n")] + (
        [] if said.endswith(b"\n") or not said else [said[said.rfind(b"\n") + 1 :]]
    )


# -- a live server -----------------------------------------------------------------------------------------

LIVE_SESSIONS = 2000
AT_A_TIME = 16
MOST_MEMORY = 150 << 20  # octets
USERS = "bob:{PLAIN}secret\nann:{PLAIN}x\nPostmaster:{PLAIN}y\n"
STARTTLS_SAID = b"220 2.0.0 Ready to start TLS\r\n"
CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


class Heard(NamedTuple):
    """What a client read: up to the server's end of file, or up to where it was cut."""

    said: bytes
    is_whole: bool


class Peer(NamedTuple):
    """A server's port, and the address that a client comes from: who guesses passwords has to wait there."""

    port: int
    client: str


class Client:
    """One connection whose octets go out while replies come in, so that neither side can block the other."""

    def __init__(self, server: Peer) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE, (server.client, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.said = b""
        self.is_open = True
        self.was_cut = False

    def turn(self, writes: bool) -> bool:
        """Wait for the socket and read what there is; whether it can be written to."""
        readable, writable, _ = select.select([self.sock], [self.sock] if writes else [], [], DEADLINE)
        assert readable or writable, f"the server neither reads nor ends; it said {self.said[-500:]!r}"
        if readable:
            try:
                octets = self.sock.recv(1 << 16)
            except ConnectionError:
                octets = b""
                self.was_cut = True
            self.said += octets
            self.is_open = bool(octets)
        return bool(writable) and self.is_open

    def send(self, data: bytes) -> None:
        while data and self.is_open:
            if self.turn(writes=True):
                try:
                    data = data[self.sock.send(data) :]
                except BlockingIOError:
                    pass
                except ConnectionError:
                    self.was_cut = True
                    return

    def hear_until(self, end: bytes) -> bool:
        while self.is_open and not self.said.endswith(end):
            self.turn(writes=False)
        return self.said.endswith(end)

    def half_close(self) -> None:
        """Say no more, read to the end."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.was_cut = True
        while self.is_open:
            self.turn(writes=False)

    def hang_up(self, abruptly: bool) -> None:
        if abruptly:  # a reset in the place of an end of file
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


def play_clear(chance: random.Random, server: Peer, pieces: Sequence[bytes]) -> Heard:
    client = Client(server)
    try:
        if chance.random() < 0.5:
            client.hear_until(b"\r\n")
        for piece in pieces:
            client.send(piece)
        if chance.random() < 0.2:
            return Heard(client.said, is_whole=False)
        client.half_close()
        return Heard(client.said, not client.was_cut)
    finally:
        client.hang_up(chance.random() < 0.5)


def play_tls(chance: random.Random, server: Peer, pieces: Sequence[bytes]) -> Heard:
    """The same within TLS; in some sessions records are mutated too, and TLS ends then."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = CONTEXT.wrap_bio(incoming, outgoing)
    client = Client(server)
    try:
        client.hear_until(b"\r\n")
        client.send(b"EHLO x\r\nSTARTTLS\r\n")
        assert client.hear_until(STARTTLS_SAID), client.said
        at = len(client.said)
        is_broken = chance.random() < 0.3
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                while client.is_open and len(client.said) == at:
                    client.turn(writes=False)
                assert len(client.said) > at, "no TLS handshake"
                incoming.write(client.said[at:])
                at = len(client.said)
        client.send(outgoing.read())
        for piece in pieces:
            tls.write(piece)
            records = outgoing.read()
            client.send(
                mutate.mutated(chance, records, 1) if is_broken and chance.random() < 0.3 else records
            )
        client.half_close()
        incoming.write(client.said[at:])
        said = b""
        try:
            while octets := tls.read(1 << 16):
                said += octets
        except (ssl.SSLError, ConnectionError):
            pass
        return Heard(said, is_whole=False)
    finally:
        client.hang_up(chance.random() < 0.5)


def check_heard(heard: Heard, label: str) -> None:
    said, started, after = heard.said.partition(STARTTLS_SAID)
    # What follows STARTTLS in the clear was no handshake: an alert at most answers it.
    assert after[:2] in (b"", b"\x15\x03"), f"{after!r}: {label}"
    said += started
    if not heard.is_whole:
        said = said[: said.rfind(b"\n") + 1]
    assert not not_replies(said), f"{not_replies(said)}: {label}"


def play_live(number: int, port: int) -> list[bytes]:
    """Session *number*; the identities of the messages that the server took."""
    chance = chance_of(SEED, number, "live")
    pieces = mutate.session(SEED, number, SEEDS)
    label = again("session", number, pieces)
    try:
        play = play_tls if chance.random() < 0.05 else play_clear
        heard = play(chance, Peer(port, f"127.1.{number >> 7}.{1 + number % 128}"), pieces)
    except (AssertionError, OSError, ssl.SSLError) as error:
        raise AssertionError(f"{error!r}: {label}") from error
    check_heard(heard, label)
    return re.findall(rb"^250 2\.0\.0 Ok: (\S+)", heard.said, re.MULTILINE)


def check_mbox(path: Path, label: str = "") -> int:
    """How many messages it has, each of them whole as we write them."""
    number = 0
    with path.open("rb") as file:
        for record in scan.records(file.read):
            number += 1
            assert is_postmark(record.postmark + b"\n", 0, True), (
                f"{path} {number}: {record.postmark!r}{label}"
            )
            assert record.message().startswith(b"Return-Path: <"), (
                f"{path} {number}: {record.head[:500]!r}{label}"
            )
            assert record.head.endswith(b"\n\n") or not record.whole, f"{path} {number}: no empty line{label}"
    return number


def test_live_server_survives_mutated_sessions(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(USERS)
    root = tmp_path / "root"
    with Server(
        root, "--users", str(users), "--tls-self-signed", "--domain", "localhost", "--plus-delimiter", "+",
        "--max-size", "200K", "--timeout", "2s",
    ) as server:  # fmt: skip
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            taken = list(pool.map(lambda number: play_live(number, server.port), range(LIVE_SESSIONS)))
        for path in CRASHES:
            play_clear(random.Random(0), Peer(server.port, "127.0.0.1"), [path.read_bytes()])
        assert server.process.poll() is None, "the server died"
        dialogue = server.connect()
        assert dialogue.deliver(b"Subject: after\r\n\r\nall of that\r\n", "bob@localhost").startswith(b"250 ")
        dialogue.close()
        assert server.memory() < MOST_MEMORY, f"{server.memory() >> 20} MiB"
        assert server.stop() == 0
    boxes = sorted(root.rglob("*.mbox"))
    assert set(boxes) <= {
        root / user / "INBOX.mbox" for user in ("bob", "ann", "postmaster", "Postmaster")
    }, boxes
    total = sum(check_mbox(path) for path in boxes)
    octets = b"".join(path.read_bytes() for path in boxes)
    identities = [identity for found in taken for identity in found]
    # Some sessions are to get as far as that: else nothing was tried.
    assert len(identities) > LIVE_SESSIONS // 20
    assert total > len(set(identities))
    lost = [identity for identity in identities if identity not in octets]
    assert not lost, f"acknowledged and not stored: {lost[:5]}"
    assert b"Subject: after\n\nall of that\n" in octets


# -- the engine in memory ----------------------------------------------------------------------------------

MEMORY_SESSIONS = 3000
KEYS = scram.derive_keys("secret", b"salt", 1)
KNOWN = tuple(kind for kind in vars(events).values() if isinstance(kind, type))
POSITIVE = Reply(250, "2.0.0", "Ok")
REFUSALS = (Reply(450, "4.2.0", "Later"), Reply(550, "5.1.1", "No\nat all"), Reply(421, "4.3.2", "Closing"))
GATES = (events.Hello, events.MessageStart, events.Quit)
QUESTIONS = (events.Connected, events.MailFrom, events.RcptTo, events.MessageEnd)
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class Driver:
    """An engine with somebody who answers its questions: now or at the next octets, mostly with yes."""

    def __init__(self, chance: random.Random, lmtp: bool, is_friendly: bool = False) -> None:
        self.chance = chance
        self.is_friendly = is_friendly
        self.offer = SmtpOffer(
            "h", lmtp=lmtp, starttls=True, max_size=2000, max_recipients=4, max_line=200, max_command=100,
            max_errors=8,
        )  # fmt: skip
        self.engine = SmtpServerEngine(self.offer)
        self.said = b""
        self.waiting: events.Event | None = None
        self.message: int | None = None  # octets of the message under way
        self.ended = 0
        self.turn()

    def run(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.answer_waiting()
            if self.engine.wants_tls:
                self.engine.secured({"tls-exporter": b"x" * 32})
            self.engine.receive_data(piece)
            self.turn()
            # What waits for a question's answer is bounded by who reads; all else by the engine.
            assert self.waiting or self.engine.buffered <= MAX_RESPONSE + 2 + len(piece), self.engine.buffered
        self.engine.receive_eof()
        self.turn()
        self.answer_waiting()
        assert self.engine.is_closed
        assert self.engine.buffered == 0
        assert self.ended == 1
        assert self.message is None
        self.engine.receive_data(b"NOOP\r\n")
        assert self.engine.next_event() is None
        assert self.engine.data_to_send() == b""
        assert not not_replies(self.said), not_replies(self.said)

    def turn(self) -> None:
        while (event := self.engine.next_event()) is not None or self.engine.has_more:
            if event is None:
                continue  # others had a turn
            assert isinstance(event, KNOWN), event
            self.look(event)
            if isinstance(event, (*GATES, *QUESTIONS, CheckPassword, FindKeys)):
                assert self.waiting is None
                self.waiting = event
                if not self.is_friendly and self.chance.random() < 0.1:
                    assert self.engine.next_event() is None
                    break
                self.answer()
        self.said += self.engine.data_to_send()

    def answer_waiting(self) -> None:
        while self.waiting is not None:
            self.answer()
            self.turn()

    def answer(self) -> None:
        event, self.waiting = self.waiting, None
        engine, refuses = self.engine, not self.is_friendly and self.chance.random() < 0.05
        if engine.is_closed:
            return
        if isinstance(event, FindKeys):
            engine.answer(event, None if refuses else Found(KEYS, "nonce"))
        elif isinstance(event, CheckPassword):
            engine.answer(event, None if refuses else event.password == "secret")
        elif isinstance(event, events.MessageEnd):
            reply = self.chance.choice(REFUSALS) if refuses else POSITIVE
            engine.answer(event, [reply] * (len(engine.accepted) if self.offer.lmtp else 1))
        elif refuses:
            engine.answer(event, self.chance.choice(REFUSALS))
        elif isinstance(event, GATES):
            engine.mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
            if isinstance(event, events.MessageStart):
                self.message = 0
            engine.answer(event, None)
        else:
            engine.answer(event, Reply(220, "", "hello") if isinstance(event, events.Connected) else POSITIVE)

    def look(self, event: events.Event) -> None:
        """What is to hold of events, whatever the octets were."""
        if isinstance(event, events.MessageStart):
            envelope = event.envelope
            assert self.message is None
            assert 0 < len(envelope.recipients) <= self.offer.max_recipients
            addresses = [recipient.address for recipient in envelope.recipients]
            assert not any(
                CONTROLS.search(text) for text in (*addresses, envelope.reverse_path, envelope.helo)
            ), envelope
        elif isinstance(event, events.MessageChunk):
            assert self.message is not None
            self.message += len(event.octets)
            assert self.message <= self.offer.max_size
            assert not event.octets or event.octets.endswith(b"\r\n")
            bare = event.octets.replace(b"\r\n", b"")
            assert b"\r" not in bare and b"\n" not in bare
        elif isinstance(event, events.MessageEnd | events.MessageAborted):
            # A message that was answered may yet be forgotten, where the session ends with its answer.
            assert self.message is not None or (
                isinstance(event, events.MessageAborted) and self.engine.is_closed
            )
            self.message = None
        elif isinstance(event, events.Closed):
            self.ended += 1


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_engine_takes_mutated_sessions(lmtp: bool) -> None:
    seeds = mutate.sessions(lmtp)
    stored = 0
    for number in range(MEMORY_SESSIONS):
        pieces = mutate.session(SEED, number, seeds)
        chance = chance_of(SEED, number, "engine")
        with told("lmtp session" if lmtp else "session", number, pieces):
            driver = Driver(chance, lmtp)
            with suppress(RemoteProtocolError):
                driver.run(pieces)
            stored += b"354 " in driver.said
    assert stored > MEMORY_SESSIONS // 10


def test_engine_takes_what_crashed_it_once() -> None:
    for path in CRASHES:
        data = path.read_bytes()
        for lmtp in (False, True):
            for size in (max(1, len(data)), 1, 7):
                pieces = [data[at : at + size] for at in range(0, len(data), size)]
                for turn in range(8):
                    Driver(random.Random(turn), lmtp, is_friendly=not turn).run(pieces)


# -- ClientHellos ------------------------------------------------------------------------------------------


def hello(names: Sequence[str], server: str | None, versions: tuple[ssl.TLSVersion, ssl.TLSVersion]) -> bytes:
    """A real one; what the library made by chance in it is zeroed, so that runs are alike."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.minimum_version, context.maximum_version = versions
    if names:
        context.set_alpn_protocols(names)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server).do_handshake()
    octets = bytearray(outgoing.read())
    octets[11:43] = bytes(32)  # random
    octets[44 : 44 + octets[43]] = bytes(octets[43])  # session
    at = 44 + octets[43]
    at += 2 + int.from_bytes(octets[at : at + 2], "big")
    at += 1 + octets[at] + 2
    while at < len(octets):
        kind, size = (int.from_bytes(octets[at + k : at + k + 2], "big") for k in (0, 2))
        if kind == 51:  # key shares
            octets[at + 4 : at + 4 + size] = bytes(size)
        at += 4 + size
    return bytes(octets)


TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def hellos() -> dict[bytes, tuple[bytes, ...]]:
    """ClientHellos and the protocols that they want."""
    return {
        hello(names, server, versions): tuple(name.encode() for name in names)
        for names in ([], ["smtp"], ["h2", "http/1.1"], ["x" * 255, "pop3"])
        for server in (None, "mail.example.org")
        for versions in ((TLS12, TLS13), (TLS12, TLS12), (TLS13, TLS13))
    }


def in_records(chance: random.Random, octets: bytes) -> bytes:
    """The same handshake message in other records."""
    edges = sorted({5, len(octets), *(chance.randrange(5, len(octets)) for _ in range(chance.randint(0, 6)))})
    return b"".join(
        octets[:3] + (end - start).to_bytes(2, "big") + octets[start:end] for start, end in pairwise(edges)
    )


def test_client_hellos_name_their_protocols() -> None:
    for number, (octets, wanted) in enumerate(hellos().items()):
        assert wanted_protocols(octets) == wanted
        spread = in_records(chance_of(SEED, number, "records"), octets)
        assert wanted_protocols(spread) == wanted
        for data in (octets, spread):
            for end in range(len(data)):
                assert wanted_protocols(data[:end]) is None


def test_client_hello_takes_mutated_ones() -> None:
    seeds = list(hellos())
    for number in range(6000):
        chance = chance_of(SEED, number, "hello")
        octets = chance.choice(seeds)
        if chance.random() < 0.4:
            octets = in_records(chance, octets)
        octets = mutate.mutated(chance, octets)
        with told("ClientHello", number, octets), suppress(RemoteProtocolError):
            found = wanted_protocols(octets)
            assert found is None or all(isinstance(name, bytes) for name in found)


# -- small parsers -----------------------------------------------------------------------------------------

USERS_FILES = [
    b"# who\nbob:{PLAIN}secret:1000:1000:Bob:/home/bob:/bin/sh:x=y\nCarol:\n",
    b"ann:{SSHA512}kTFXXa/Zz5qkFisW43bbgDrjy+Bod57MJBwYcV+rJGwobeJzRHLoZ4og4OL3q1EqENQ71zrEpdHjpLYtxFyO7LLqFDg=\n",
    b"a:{SSHA512.HEX}00ff\nb:{CRYPT}$6$salt$x\nc:$2y$05$x\nd:$argon2id$v=19$m=1\ne:{CRYPT}{PLAIN}x\n",
    b"s:" + passwd.scram_secret(KEYS).encode() + b"\n",
]
ALIASES = [
    b'# comment\nPostmaster: root\nteam: bob,\n\tann@here.example, bob\n"quoted name": bob\nself: self\n',
    b'sh: "|cat >/dev/null", /dev/null\nesc: \\bob\nall: :include:/etc/all, |"prog \\"x\\" y"\nbob: bob, ann\n',
]
FAULTS = [
    b"""rcpt to=*@grey.test reply "451 4.7.1 Greylisted" times=1""",
    b"data from=a@b delay 1.5s every=2",
    b"eod drop p=0.25",
    b"connect stall",
]


def mutated_text(chance: random.Random, seeds: Sequence[bytes]) -> str:
    return mutate.mutated(chance, chance.choice(seeds))[:5000].decode(errors="surrogateescape")


def test_passwd_takes_mutated_files() -> None:
    for number in range(2000):
        text = mutated_text(chance_of(SEED, number, "passwd"), USERS_FILES)
        with told("users file", number, text):
            users, problems = passwd.parse(text)
            for name, entry in users.items():
                passwd.scram_keys(entry)
                assert name == entry.name
                assert not passwd.problem_with_name(name)
            assert all(isinstance(problem, str) for problem in problems)


def test_aliases_takes_mutated_files() -> None:
    for number in range(2000):
        text = mutated_text(chance_of(SEED, number, "aliases"), ALIASES)
        with told("aliases", number, text):
            found, _ = aliases.parse(text, is_mailbox)
            assert all(found.values())
            aliases.parse_include(text, is_mailbox)


def test_scram_takes_mutated_messages() -> None:
    binding = b"b" * 32
    firsts = [b"n,,n=bob,r=abcdef", b"y,a=bob,n=b=2Co=3Db,r=x", b"p=tls-exporter,,n=b\xc3\xa9,r=a!~,x=y"]
    for number in range(3000):
        chance = chance_of(SEED, number, "scram")
        sent = chance.choice(firsts)
        first = scram.parse_first(
            sent, {"tls-exporter": binding} if sent[:1] == b"p" else {}, sent[:1] == b"p"
        )
        challenge = scram.server_first(first, "nonce", KEYS)
        proof = b"0" * 43 + b"="
        final = b"c=biws,r=" + first.nonce.encode() + b"nonce,p=" + proof
        octets, last = mutate.mutated(chance, sent), mutate.mutated(chance, final)
        for call in (
            lambda octets=octets: scram.parse_first(octets, {}, plus=False),
            lambda octets=octets: scram.parse_first(octets, {"tls-exporter": binding}, plus=True),
            lambda first=first, c=challenge, last=last: scram.server_final(first, c, last, KEYS, binding),
        ):
            with told("SCRAM", number, (octets, last)), suppress(MalformedError, AuthenticationError):
                call()


def test_faults_takes_mutated_rules() -> None:
    for number in range(3000):
        text = mutated_text(chance_of(SEED, number, "faults"), FAULTS)
        with told("rule", number, text), suppress(ValueError):
            faults.parse(text)
