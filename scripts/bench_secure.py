"""Sections of scripts/bench about TLS, logins and idle connections: the loads, and what they measured.

smtp-source speaks no TLS, so the load is made here: processes that each keep one session for many messages,
each envelope and DATA in one write. The load runs on the processors that the servers do not use, where there
are more.
"""

import multiprocessing
import os
import socket
import ssl
import time
from base64 import b64encode

MESSAGE = (
    b"From: a@bench.test\r\nTo: bob@localhost\r\nSubject: x\r\n\r\n" + (b"x" * 78 + b"\r\n") * 50 + b".\r\n"
)
ENVELOPE = b"MAIL FROM:<a@bench.test>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\n"


def connect(port: int, login: str = "") -> ssl.SSLSocket:
    """A session after STARTTLS, EHLO and, with *login* ("name password"), AUTH."""
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.recv(4096)
    ask(plain, b"EHLO bench\r\n")
    ask(plain, b"STARTTLS\r\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = context.wrap_socket(plain)
    ask(sock, b"EHLO bench\r\n")
    if login:
        name, _, password = login.partition(" ")
        ask(sock, b"AUTH PLAIN " + b64encode(f"\0{name}\0{password}".encode()) + b"\r\n", b"235")
    return sock


def ask(sock: socket.socket, octets: bytes, code: bytes = b"2", lines: int = 1) -> None:
    """Say *octets* and read until so many replies came."""
    sock.sendall(octets)
    said = b""
    while sum(line[3:4] == b" " for line in said.split(b"\r\n") if line) < lines or not said.endswith(
        b"\r\n"
    ):
        piece = sock.recv(4096)
        assert piece, said
        said += piece
    assert said.startswith(code), said


def session(port: int, count: int, login: str, ready: "multiprocessing.synchronize.Barrier") -> None:
    """One process: a session, then *count* messages in it."""
    sock = connect(port, login)
    ready.wait()
    for _ in range(count):
        ask(sock, ENVELOPE, lines=3)
        ask(sock, MESSAGE)
    sock.sendall(b"QUIT\r\n")


def load(port: int, sessions: int, count: int, login: str = "") -> float:
    """Seconds for *count* messages over *sessions* sessions that stand already."""
    used = os.sched_getaffinity(0)
    free = set(range(os.cpu_count() or 1)) - used
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(sessions + 1)
    workers = [
        context.Process(target=session, args=(port, count // sessions, login, ready)) for _ in range(sessions)
    ]
    os.sched_setaffinity(0, free or used)
    for worker in workers:
        worker.start()
    os.sched_setaffinity(0, used)
    ready.wait()
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return time.perf_counter() - begin


def resident(pid: int) -> int:
    """Octets of a process in memory."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))


def idle(port: int, pid: int, count: int, tls: bool) -> float:
    """Octets that each of *count* connections costs that said EHLO and nothing more."""
    held: list[socket.socket] = []

    def hold(number: int) -> None:
        for _ in range(number):
            if tls:
                held.append(connect(port))
            else:
                sock = socket.create_connection(("127.0.0.1", port))
                sock.recv(4096)
                ask(sock, b"EHLO bench\r\n")
                held.append(sock)

    hold(50)  # what the first ones load is no cost of theirs
    before = resident(pid)
    hold(count)
    cost = (resident(pid) - before) / count
    for sock in held:
        sock.close()
    return cost
