"""Golden dialogues: read, and played three ways: engine whole, engine octet by octet, real socket.

A dialogue is a text file in smtp/, pop3/ or imap/. Its head has lines ``key: value``: rfc, max-size, max-recipients,
domain, catch-all, plus-delimiter; lmtp and tls (yes); users and aliases (lines of those files, with `` | ``
between); mail (who has which of `MAIL` at the begin, as ``bob plain dots``). A blank line ends it. Then each line is said by the client (C:) or the server (S:), or is a comment (#), or ``TLS``: the
handshake. In a client's line
backslash and r, n, t, 0 or xNN are octets, and ``<y*100>`` is a hundred of them; CRLF is added unless the line
ends with backslash and c. In a server's line ``*`` stands for anything, and ``250-...`` for lines of a reply before its last. After a line ``mbox USER`` the rest is
the mbox of USER, with ``*`` likewise.
"""

import fnmatch
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mailtools.core.auth.passwd import UserEntry
from mailtools.core.imap.server import ImapOffer, ImapServerEngine
from mailtools.core.pop3.server import Pop3Offer, Pop3ServerEngine
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.services.delivery.addressing import Addressing, open_aliases
from mailtools.services.delivery.dispatch import Carriers
from mailtools.services.imap_server.opened import OpenMailboxes
from mailtools.services.imap_server.session import ImapPorts, ImapSession
from mailtools.services.pop3_server.session import MaildropSession, Pop3Ports
from mailtools.services.smtp_server.session import ReceiveSession, SmtpPorts
from mailtools.services.users.login import LoginRules, Logins
from mailtools.system.mbox import appending
from mailtools.system.mbox.group_commit import Delivery
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.users import passwords
from mailtools.system.users.users_file import Users
from tests.boxes import append

MAIL = {
    "plain": b"From: ann@a.test\r\nSubject: plain\r\n\r\none\r\ntwo\r\nthree\r\n",
    "dots": b"Subject: dots\r\nStatus: RO\r\n\r\n.\r\n..two\r\nFrom here\r\n>From there\r\n",
    "other": b"Subject: other\r\n\r\nx\r\n",
    "parts": b"From: Ann B <ann@a.test>\r\nTo: bob@a.test\r\nSubject: parts\r\nDate: Mon, 2 Nov 2026 10:00:00 +0100\r\n"
    b"Message-ID: <parts@a.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\n"
    b"--b\r\nContent-Type: image/png; name=x.png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n",
}

# Octet by octet, a line of 60,000 octets takes a second. What decides how it is read stands at its ends.
_END = 1000  # octets at each end of a line that go in small pieces
_MIDDLE = 997  # octets of each piece between the ends


class Step(NamedTuple):
    line: int
    side: str  # "C", "S" or "T"
    text: str


class Script(NamedTuple):
    path: Path
    head: dict[str, str]
    steps: list[Step]
    mboxes: dict[str, str]


def read(path: Path) -> Script:
    head: dict[str, str] = {}
    steps: list[Step] = []
    mboxes: dict[str, str] = {}
    lines = path.read_text().split("\n")
    start = lines.index("")
    for line in lines[:start]:
        key, _, value = line.partition(": ")
        head[key] = value
    assert "rfc" in head, f"{path}: no rfc"
    current = ""
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if line.startswith("mbox "):
            current = line.split()[1]
            mboxes[current] = ""
        elif current:
            mboxes[current] += line + "\n"
        elif line.startswith(("C: ", "S: ")) or line == "C:":
            steps.append(Step(number, line[0], line[3:]))
        elif line == "TLS":
            steps.append(Step(number, "T", ""))
        else:
            assert not line or line.startswith("#"), f"{path}:{number}: {line!r}"
    return Script(path, head, steps, {user: text.rstrip("\n") for user, text in mboxes.items()})


def octets(text: str) -> bytes:
    """What the client sends."""
    ended = not text.endswith("\\c")
    raw = (text if ended else text[:-2]).encode()
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw)
    for name, octet in ((rb"\r", b"\r"), (rb"\n", b"\n"), (rb"\t", b"\t"), (rb"\0", b"\0")):
        raw = raw.replace(name, octet)
    raw = re.sub(rb"<(.)\*([0-9]+)>", lambda m: m[1] * int(m[2]), raw)
    return raw + b"\r\n" if ended else raw


class Checker:
    """Checks passwords at once."""

    def check(
        self, entry: UserEntry, password: str, done: Callable[[bool | None], None], owner: str = ""
    ) -> None:
        done(passwords.check(entry, password))

    def run(self, task: Callable[[], object], done: Callable[[object], None], owner: str = "") -> None:
        done(task())


def offer_of(head: dict[str, str]) -> SmtpOffer:
    limits = {key.replace("-", "_"): int(head[key]) for key in ("max-size", "max-recipients") if key in head}
    takes_lf = head.get("bare-newline") == "normalize"
    return SmtpOffer("host", "lmtp" in head, "tls" in head, takes_lf=takes_lf, **limits)  # type: ignore[arg-type]


def files_of(head: dict[str, str], folder: Path) -> dict[str, Path]:
    """The users and aliases of a script, written to files."""
    found = {}
    folder.mkdir(exist_ok=True)
    for key in ("users", "aliases"):
        if key in head:
            found[key] = folder / key
            found[key].write_text(head[key].replace(" | ", "\n") + "\n")
    return found


def put_mail(head: dict[str, str], root: Path) -> None:
    """The maildrop that a script begins with."""
    if "mail" in head:
        user, *names = head["mail"].split()
        append(root / user / "INBOX.mbox", *(MAIL[name] for name in names))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """*data* in pieces of *size* octets; 0: whole. The middle of a long line goes in larger pieces."""
    size = size or len(data)
    at = 0
    while at < len(data):
        is_middle = at >= _END and at + _MIDDLE + _END <= len(data)
        end = at + max(size, _MIDDLE if is_middle else 0)
        yield data[at:end]
        at = end


class InMemory:
    """The engine and its session, without a socket."""

    def __init__(self, script: Script, root: Path, piece: int) -> None:
        self.engine: Any
        self.session: Any
        self.open(script, root)
        self.piece = piece
        self.said = b""
        self.turn()

    def open(self, script: Script, root: Path) -> None:
        head = script.head
        files = files_of(head, root.parent / f"{root.name}-files")
        self.engine = SmtpServerEngine(offer_of(head))
        users = Users(str(files["users"])) if "users" in files else None
        addressing = Addressing(
            MailRoot(str(root)),
            domains=frozenset(head["domain"].split()) if "domain" in head else frozenset(),
            users=users,
            aliases=open_aliases(str(files["aliases"]), print) if "aliases" in files else None,
            catch_all=head.get("catch-all", ""),
            plus_delimiter=head.get("plus-delimiter", ""),
        )
        logins = Logins(LoginRules(users), Checker(), lambda _, call: call())  # type: ignore[arg-type]
        ports = SmtpPorts(Carriers(self.deliver, lambda _: None, print), lambda _: None, lambda _: None)
        self.session = ReceiveSession(self.engine, addressing, logins, "127.0.0.1", ports, lambda: None)

    def deliver(self, delivery: Delivery) -> None:
        assert appending.append(delivery.path, [delivery.record])
        delivery.done(None)

    def start_tls(self) -> None:
        assert self.engine.wants_tls
        self.engine.secured({})
        self.turn()

    def turn(self) -> None:
        while (event := self.engine.next_event()) is not None or self.engine.has_more:
            if event is not None:
                self.session.handle(event)
        self.said += self.engine.data_to_send()

    def say(self, data: bytes) -> None:
        for piece in pieces(data, self.piece):
            self.engine.receive_data(piece)
            self.turn()

    def line(self) -> bytes:
        line, _, self.said = self.said.partition(b"\r\n")
        return line

    def end(self) -> bytes:
        self.engine.receive_eof()
        self.turn()
        return self.said


class Pop3InMemory(InMemory):
    """The same of POP3."""

    def open(self, script: Script, root: Path) -> None:
        files = files_of(script.head, root.parent / f"{root.name}-files")
        put_mail(script.head, root)
        self.engine = Pop3ServerEngine(Pop3Offer("host", stls="tls" in script.head))
        users = Users(str(files["users"]))
        logins = Logins(LoginRules(users), Checker(), lambda _, call: call())  # type: ignore[arg-type]
        run = Checker().run
        ports = Pop3Ports(MailRoot(str(root)), run, lambda _: None, lambda _: None)  # type: ignore[arg-type]
        self.session = MaildropSession(self.engine, logins, "127.0.0.1", ports, lambda: None)


class ImapInMemory(InMemory):
    """The same of IMAP."""

    def open(self, script: Script, root: Path) -> None:
        files = files_of(script.head, root.parent / f"{root.name}-files")
        put_mail(script.head, root)
        self.engine = ImapServerEngine(ImapOffer("host", starttls="tls" in script.head))
        users = Users(str(files["users"]))
        logins = Logins(LoginRules(users), Checker(), lambda _, call: call())  # type: ignore[arg-type]
        ports = ImapPorts(
            MailRoot(str(root)),
            Checker().run,
            lambda _: None,
            lambda _: None,
            lambda *_: None,
            OpenMailboxes(),
        )  # type: ignore[arg-type]
        self.session = ImapSession(self.engine, logins, "127.0.0.1", ports, lambda: None)


class OverSocket:
    """The same over TCP."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.sock.makefile("rb")

    def start_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.file.close()
        self.sock = context.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        return self.file.readline().removesuffix(b"\r\n")

    def end(self) -> bytes:
        if not isinstance(self.sock, ssl.SSLSocket):  # shutting that down would drop its TLS
            self.sock.shutdown(socket.SHUT_WR)
        rest = self.file.read()
        self.file.close()
        self.sock.close()
        return rest


def play(script: Script, wire: InMemory | OverSocket) -> None:
    """Every line of the script, and nothing but it."""
    ahead = b""  # a line that ended a reply's unnamed lines
    for step in script.steps:
        if step.side == "T":
            wire.start_tls()
        elif step.side == "C":
            wire.say(octets(step.text))
        else:
            line, ahead = ahead or wire.line(), b""
            if step.text.endswith("-..."):
                while line.startswith(step.text.removesuffix("...").encode()):
                    line = wire.line()
                ahead = line
                continue
            said = line.decode("utf-8", "replace")
            assert matches(said, step.text), (
                f"{script.path}:{step.line}: expected {step.text!r}, got {said!r}"
            )
    rest = wire.end()
    assert rest == b"", f"{script.path}: not played to its end: {rest!r}"


def matches(said: str, expected: str) -> bool:
    return bool(re.fullmatch(fnmatch.translate(expected.replace("[", "[[]")), said))


def check_mboxes(script: Script, root: Path) -> None:
    for user, expected in script.mboxes.items():
        path = root / user / "INBOX.mbox"
        found = path.read_text(errors="surrogateescape").rstrip("\n") if path.exists() else ""
        assert matches(found, expected), f"{script.path}: the mbox of {user}:\n{found}"
