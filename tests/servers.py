"""Servers for tests: ours as a process, and a scripted one that misbehaves as told."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailtools.core.smtp.route import Route
from mailtools.services.access import Access
from mailtools.services.smtp_client.connection import SmtpTarget

DEADLINE = 20.0  # seconds, for anything that should happen at once


def eventually(condition: Callable[[], object], what: object, deadline: float = DEADLINE) -> None:
    """Wait until *condition* holds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline} seconds: {what() if callable(what) else what}"
        time.sleep(0.01)


class Server:
    """``mailtools serve-smtp`` on a free port, with its mail root; stopped by its own number."""

    program: Sequence[str] = ("-m", "mailtools")
    command = "serve-smtp"
    suffix = ".port"
    logged = ""  # stderr, once it is stopped

    def __init__(self, root: Path, *options: str, host: str = "127.0.0.1", **popen: object) -> None:
        self.root = root
        self.host = host
        self.port_file = root.parent / f"{root.name}{self.suffix}"
        self.port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, *self.program, self.command, "--host", host, "--port", "0",
             "--port-file", str(self.port_file), "--root", str(root), *options],
            stderr=subprocess.PIPE, text=True, **popen,  # type: ignore[call-overload]
        )  # fmt: skip
        eventually(lambda: self.port_file.exists() or self.process.poll() is not None, "the port file")
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        self.port = int(self.port_file.read_text().split()[0])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.logged = self.process.communicate(timeout=DEADLINE)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.communicate()

    def inbox(self, user: str) -> Path:
        return self.root / user / "INBOX.mbox"

    def connect(self, timeout: float = DEADLINE) -> "Dialogue":
        return Dialogue(socket.create_connection((self.host, self.port), timeout))

    def memory(self) -> int:
        """The most octets it ever had in memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


class Pop3Server(Server):
    """``mailtools serve-pop3``, likewise."""

    command = "serve-pop3"
    suffix = ".pop3.port"


class ImapServer(Server):
    """``mailtools serve-imap``, likewise."""

    command = "serve-imap"
    suffix = ".imap.port"


class Dialogue:
    """A client that says what it is told and reads replies."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def say(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def reply(self) -> bytes:
        """One reply, whole."""
        lines = b""
        while line := self.file.readline():
            lines += line
            if line[3:4] != b"-":
                break
        return lines

    def ask(self, line: str) -> bytes:
        self.say(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, *recipients: str) -> None:
        """From the greeting to a 354."""
        assert self.reply().startswith(b"220")
        assert self.ask("EHLO test").startswith(b"250")
        assert self.ask("MAIL FROM:<a@example.org>").startswith(b"250")
        for recipient in recipients:
            assert self.ask(f"RCPT TO:<{recipient}>").startswith(b"250")
        assert self.ask("DATA").startswith(b"354")

    def deliver(self, message: bytes, *recipients: str) -> bytes:
        """A whole session; the reply to the message."""
        self.envelope(*recipients)
        self.say(message + b".\r\n")
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Scripted:
    """A server that plays a script for each connection: what to answer to each command.

    A script maps a verb ("", for the greeting; "." for the end of a message) to replies given one after
    another, the last one again and again. ``None`` closes, a callable gets the socket.
    """

    EHLO = b"250-test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n"

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, list[object]] = {
            "": [b"220 test\r\n"], "EHLO": [self.EHLO], "HELO": [b"250 test\r\n"],
            "MAIL": [b"250 2.1.0 ok\r\n"], "RCPT": [b"250 2.1.5 ok\r\n"],
            "DATA": [b"354 go\r\n"], ".": [b"250 2.0.0 done\r\n"],
            "RSET": [b"250 ok\r\n"], "QUIT": [b"221 bye\r\n"],
        }  # fmt: skip
        for verb, answer in answers.items():
            name = {"greeting": "", "end": "."}.get(verb, verb)
            self.answers[name] = answer if isinstance(answer, list) else [answer]
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self._session, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket, verb: str) -> bytes | None:
        queue = self.answers.get(verb, [b"500 what?\r\n"])
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if callable(answer):
            answer = answer(sock)
        if answer is None:
            return None
        assert isinstance(answer, bytes)
        sock.sendall(answer)
        return answer

    def _session(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as file:
            try:
                if self._answer(sock, "") is None:
                    return
                while line := file.readline():
                    self.commands.append(line)
                    verb = line[:4].upper().strip().decode("latin-1")
                    answer = self._answer(sock, verb)
                    if answer is None or answer.startswith(b"421"):
                        return
                    if verb == "DATA" and answer.startswith(b"354"):
                        message = b""
                        while (line := file.readline()) not in (b".\r\n", b""):
                            message += line
                        self.messages.append(message)
                        if self._answer(sock, ".") is None:
                            return
                    if verb == "QUIT":
                        return
            except OSError:
                return


def unmeasured(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """*environment* without coverage, for tests of the modules that a start imports: coverage imports many."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def mailtools(*args: str, stdin: bytes = b"", cwd: Path | None = None, env: dict[str, str] | None = None,
              prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
    """One command, run to its end."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "mailtools", *args], input=stdin, capture_output=True, check=False,
        cwd=cwd, env=os.environ | (env or {}), timeout=120,
    )  # fmt: skip


def smtp_target(route: Route, *, helo: str = "", transcript: str = "", **access: Any) -> SmtpTarget:
    """The server at *route*; *access*: fields of Access."""
    access.setdefault("timeout", DEADLINE)
    return SmtpTarget(route, Access(**access), transcript, helo)
