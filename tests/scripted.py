"""POP3 and IMAP servers on loopback that do what they are told, also what no server should.

A maildrop is a list of messages. ``rules`` maps a command ("RETR", "UID FETCH", "" for the greeting) to what is
done in the place of the usual answer: octets that are said, ``None`` (the connection is cut), or a callable
that gets the usual answer and returns one of these; ``TAG`` is the command's tag. What came is in ``commands``.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mailtools.system.tls.certificates import self_signed

Rule = bytes | None | Callable[[bytes], bytes | None]


class ScriptedServer:
    """Listens, and has a thread for each connection."""

    tls_command = "STLS"

    def __init__(self, rules: dict[str, Rule] | None = None, tls: Path | None = None) -> None:
        """*tls*: a folder for a certificate of "localhost"."""
        self.rules = rules or {}
        self.commands: list[str] = []
        self.connections = 0
        self.context: ssl.SSLContext | None = None
        self.cafile = ""
        self.is_implicit = False
        if tls is not None:
            tls.mkdir(exist_ok=True)
            certificate, key = self_signed(str(tls), "localhost")
            self.cafile = certificate
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.is_implicit:
                assert self.context
                sock = self.context.wrap_socket(sock, server_side=True)
            self.session(Wire(self, sock))
        except (OSError, EOFError, ValueError):
            pass
        finally:
            sock.close()

    def session(self, wire: "Wire") -> None:
        raise NotImplementedError


class Wire:
    """One connection."""

    def __init__(self, server: ScriptedServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.file = sock.makefile("rb")
        self.tag = b""  # of the command that is answered, in IMAP

    def line(self) -> str:
        octets = self.file.readline()
        if not octets:
            raise EOFError
        return octets.decode("latin-1").rstrip("\r\n")

    def say(self, command: str, usual: bytes) -> None:
        """The usual answer to *command*, or what the rules say."""
        rule: Rule = usual
        if command in self.server.rules:
            rule = self.server.rules[command]
        if callable(rule):
            rule = rule(usual)
        if rule is None:
            raise EOFError
        self.sock.sendall(rule.replace(b"TAG", self.tag))

    def start_tls(self) -> None:
        assert self.server.context
        self.file.close()
        self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
        self.file = self.sock.makefile("rb")


class ScriptedPop3(ScriptedServer):
    """A maildrop. *uidls* False: the server has no UIDL."""

    def __init__(self, messages: Sequence[bytes], rules: dict[str, Rule] | None = None, tls: Path | None = None,
                 names: Callable[[int], str] = lambda n: f"id-{n}", capabilities: str = "UIDL TOP PIPELINING") -> None:  # fmt: skip
        self.messages: dict[int, bytes] = dict(enumerate(messages, 1))
        self.names = names
        self.capabilities = capabilities
        super().__init__(rules, tls)

    def session(self, wire: Wire) -> None:
        wire.say("", b"+OK scripted <1.2@localhost>\r\n")
        there = dict(self.messages)
        marked: set[int] = set()
        while True:
            line = wire.line()
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            self.commands.append(line)
            if verb == "STLS" and self.context and "STLS" not in self.rules:
                wire.say("", b"+OK\r\n")
                wire.start_tls()
                continue
            if verb == "QUIT":  # removed before the answer (RFC 1939 §6): who has it may look at once
                for number in marked:
                    self.messages.pop(number, None)
            wire.say(verb, self.answer(verb, argument, there, marked))
            if verb == "AUTH":
                self.commands.append(wire.line()) if " " not in argument else None
            if verb == "QUIT":
                return

    def answer(self, verb: str, argument: str, there: dict[int, bytes], marked: set[int]) -> bytes:
        if verb == "CAPA":
            lines = [*self.capabilities.split(), "USER"]
            return b"+OK\r\n" + "".join(f"{word}\r\n" for word in lines).encode() + b".\r\n"
        if verb == "UIDL":
            if "UIDL" not in self.capabilities:
                return b"-ERR what?\r\n"
            return b"+OK\r\n" + "".join(f"{n} {self.names(n)}\r\n" for n in there).encode() + b".\r\n"
        if verb == "LIST":
            return b"+OK\r\n" + b"".join(b"%d %d\r\n" % (n, len(m)) for n, m in there.items()) + b".\r\n"
        if verb in ("RETR", "TOP"):
            message = there[int(argument.split(maxsplit=1)[0])]
            if verb == "TOP":
                message = message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            stuffed = re.sub(rb"(?m)^\.", b"..", message)
            return b"+OK %d octets\r\n%b.\r\n" % (len(message), stuffed)
        if verb == "DELE":
            marked.add(int(argument))
        return b"+OK\r\n"


class ScriptedImap(ScriptedServer):
    """Mailboxes: name -> UID -> message. *flags*: name -> UID -> flags."""

    def __init__(self, mailboxes: dict[str, Sequence[bytes]], rules: dict[str, Rule] | None = None,
                 tls: Path | None = None, capabilities: str = "IMAP4rev1 UIDPLUS IDLE LITERAL+", delimiter: str = "/") -> None:  # fmt: skip
        self.mailboxes = {name: dict(enumerate(its, 1)) for name, its in mailboxes.items()}
        self.flags: dict[str, dict[int, set[str]]] = {name: {} for name in mailboxes}
        self.capabilities = capabilities
        self.delimiter = delimiter
        self.validity = 7
        super().__init__(rules, tls)

    def session(self, wire: Wire) -> None:
        wire.say("", b"* OK scripted\r\n")
        box = ""
        while True:
            line = wire.line()
            while match := re.search(r"\{([0-9]+)\+?\}$", line):
                if not match[0].endswith("+}"):
                    wire.sock.sendall(b"+ go\r\n")
                line = (
                    line[: match.start()]
                    + wire.file.read(int(match[1])).decode("utf-8", "surrogateescape")
                    + wire.line()
                )
            tag, _, command = line.partition(" ")
            wire.tag = tag.encode()
            self.commands.append(command)
            verb, _, argument = command.partition(" ")
            verb = verb.upper()
            if verb == "UID":
                second, _, argument = argument.partition(" ")
                verb = f"UID {second.upper()}"
            if verb == "STARTTLS" and self.context and verb not in self.rules:
                wire.sock.sendall(f"{tag} OK\r\n".encode())
                wire.start_tls()
                continue
            if verb in ("SELECT", "EXAMINE"):
                box = argument.strip('"')
            wire.say(verb, self.answer(verb, argument, box))
            if verb == "IDLE":
                assert wire.line() == "DONE"
                wire.sock.sendall(f"{tag} OK\r\n".encode())
            if verb == "LOGOUT":
                return

    def answer(self, verb: str, argument: str, box: str) -> bytes:
        done = b"TAG OK done\r\n"
        if verb == "CAPABILITY":
            return f"* CAPABILITY {self.capabilities}\r\n".encode() + done
        if verb == "LIST":
            names = "".join(f'* LIST () "{self.delimiter}" "{name}"\r\n' for name in self.mailboxes)
            return f'* LIST (\\Noselect) "{self.delimiter}" "nothing"\r\n{names}'.encode() + done
        if verb == "IDLE":
            return b"+ idling\r\n"
        if verb in ("SELECT", "EXAMINE"):
            if box not in self.mailboxes:
                return b"TAG NO [NONEXISTENT] there is none\r\n"
            count = len(self.mailboxes[box])
            return f"* {count} EXISTS\r\n* OK [UIDVALIDITY {self.validity}] x\r\n".encode() + done
        if not verb.startswith("UID") and verb != "EXPUNGE":
            return done
        return self.of_messages(verb, argument, box) + done

    def of_messages(self, verb: str, argument: str, box: str) -> bytes:
        there, flags = self.mailboxes[box], self.flags[box]
        if verb == "UID SEARCH":
            found = [uid for uid in there if argument != "DELETED" or "\\Deleted" in flags.get(uid, ())]
            return f"* SEARCH {' '.join(map(str, found))}\r\n".encode()
        uids = [uid for uid in there if verb == "EXPUNGE" or _is_in(uid, argument.split(" ", maxsplit=1)[0])]
        if verb in ("UID EXPUNGE", "EXPUNGE"):
            for uid in uids:
                if "\\Deleted" in flags.get(uid, ()):
                    del there[uid]
            return b""
        if verb == "UID STORE":
            for uid in uids:
                flags.setdefault(uid, set()).add(argument.split("(")[1].rstrip(")"))
            return b""
        if "BODY.PEEK[]" not in argument:
            return b"".join(b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (u, u, len(there[u])) for u in uids)
        return b"".join(
            b'* %d FETCH (UID %d INTERNALDATE "22-Aug-2002 12:00:00 +0200" BODY[] {%d}\r\n%b)\r\n'
            % (uid, uid, len(there[uid]), there[uid])
            for uid in uids
        )


def _is_in(uid: int, text: str) -> bool:
    for part in text.split(","):
        first, _, last = part.partition(":")
        if int(first) <= uid and (uid <= int(last or first) if last != "*" else True):
            return True
    return False
