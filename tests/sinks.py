"""Servers that take mail from the queue's tests, and misbehave by rule."""

import socket
import threading
from collections.abc import Callable

Rule = Callable[[str, str], bytes | None]  # (verb, argument) -> what to say; None: hang up; b"": stay silent

EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n"
_USUAL = {
    "": b"220 sink\r\n", "EHLO": EHLO, "HELO": b"250 sink\r\n", "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n", "DATA": b"354 go\r\n", ".": b"250 2.0.0 taken\r\n", "RSET": b"250 ok\r\n",
    "QUIT": b"221 bye\r\n",
}  # fmt: skip


class Sink:
    """An SMTP server. *rule* gives its answer to a verb; "" is the greeting, "." a message's end."""

    def __init__(self, rule: Rule | None = None, host: str = "127.0.0.1") -> None:
        self._rule = rule or usual
        self.taken: list[tuple[str, tuple[str, ...], bytes]] = []  # MAIL's argument, recipients, octets
        self.lines: list[bytes] = []
        self.connections = 0
        self.open = 0  # connections now
        self.most_open = 0
        self._lock = threading.Lock()
        self._socks: list[socket.socket] = []
        self._listener = socket.create_server((host, 0))
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def route(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for sock in self._socks:
            sock.close()

    def subjects(self) -> list[str]:
        """The Subject of every message taken, sorted."""
        found = []
        for _, _, octets in self.taken:
            (line,) = [line for line in octets.split(b"\r\n") if line.startswith(b"Subject: ")]
            found.append(line.removeprefix(b"Subject: ").decode())
        return sorted(found)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks.append(sock)
            threading.Thread(target=self._session, args=(sock,), daemon=True).start()

    def _session(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            with sock, sock.makefile("rb") as file:
                self._talk(sock, file.readline)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.open -= 1

    def _talk(self, sock: socket.socket, readline: Callable[[], bytes]) -> None:
        mail, octets = "", b""
        recipients: list[str] = []
        verb, argument = "", ""
        while verb != "QUIT":
            answer = self._answer(verb, argument, mail, recipients)
            if verb == "." and (answer is None or answer.startswith(b"2")):
                self.taken.append((mail, tuple(recipients), octets))
            if answer is None:
                return
            if not answer:
                _listen(readline)
                return
            sock.sendall(answer)
            if verb == "MAIL":
                mail, recipients = (argument if answer.startswith(b"2") else ""), []
            elif verb == "RCPT" and answer.startswith(b"2"):
                recipients.append(argument[len("TO:<") :].partition(">")[0])
            if verb == "DATA" and answer.startswith(b"354"):
                octets, verb = _message(readline), "."
                continue
            line = readline()
            self.lines.append(line)
            verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
            verb = verb.upper() or "QUIT"
        sock.sendall(b"221 bye\r\n")

    def _answer(self, verb: str, argument: str, mail: str, recipients: list[str]) -> bytes | None:
        """What the rule says; but a server that broke off a transaction does not go on with it."""
        if verb in ("RCPT", "DATA") and not mail:
            return b"503 5.5.1 after MAIL\r\n"
        if verb == "." and not recipients:
            return b"554 5.5.1 for nobody\r\n"
        return self._rule(verb, argument)


def _message(readline: Callable[[], bytes]) -> bytes:
    octets = b""
    while (line := readline()) != b".\r\n":
        if not line:
            raise OSError("the client went away")
        octets += line.removeprefix(b".") if line.startswith(b".") else line
    return octets


def _listen(readline: Callable[[], bytes]) -> None:
    """Say nothing more."""
    while readline():
        pass


def usual(verb: str, _: str) -> bytes | None:
    """All is well."""
    return _USUAL.get(verb, b"500 what?\r\n")


def but(**answers: bytes | None) -> Rule:
    """As usual, but these verbs are answered so (greeting, end: the first word, the message's end)."""
    names = {"greeting": "", "end": "."}
    its = {names.get(verb, verb): answer for verb, answer in answers.items()}
    return lambda verb, argument: its[verb] if verb in its else usual(verb, argument)
