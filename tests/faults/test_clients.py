"""Clients that are slow, silent, many, or vanish: they keep nobody out and leave nothing behind."""

import socket
from pathlib import Path

from tests.servers import Server, eventually


def test_five_hundred_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), 20) for _ in range(500)]
        assert server.connect().deliver(b"\r\nx\r\n", "bob@x").startswith(b"250")
        for sock in silent:
            sock.close()


def test_a_message_cut_by_its_client_leaves_nothing(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        for half in (b"", b"Subject: x\r\n\r\nhalf", b"x" * 500_000 + b"\r\n", b"Subject: x\r\n\r\n.\r"):
            client = server.connect()
            client.envelope("bob@x")
            client.say(half)
            client.close()
        assert server.connect().deliver(b"Subject: whole\r\n\r\nx\r\n", "bob@x").startswith(b"250")
        text = server.inbox("bob").read_bytes()
        assert text.count(b"\nSubject: ") == 1


def test_a_client_that_makes_no_progress_is_cut(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--timeout", "300ms") as server:
        silent = server.connect()
        assert silent.reply().startswith(b"220")
        assert silent.reply().startswith(b"421 4.4.2")
        assert silent.file.read() == b""


def test_a_client_that_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    with Server(tmp_path / "root") as server:
        before = server.memory()
        deaf = socket.create_connection(("127.0.0.1", server.port), 20)
        deaf.setblocking(False)
        sent = 0
        try:
            while sent < 200 << 20:
                sent += deaf.send(b"NOOP\r\n" * 10_000)
        except BlockingIOError:
            pass
        assert server.connect().deliver(b"\r\nx\r\n", "bob@x").startswith(b"250")
        assert sent < 100 << 20
        assert server.memory() - before < 20 << 20
        deaf.close()


def test_connections_are_counted(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--max-connections", "2") as server:
        first, second = server.connect(), server.connect()
        assert first.reply().startswith(b"220")
        assert second.reply().startswith(b"220")
        assert server.connect().reply().startswith(b"421 4.7.0")
        first.ask("QUIT")
        first.close()
        eventually(lambda: server.connect().reply().startswith(b"220"), "a place that is free again")


def test_one_address_cannot_take_all_places(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--max-connections-per-ip", "1") as server:
        first, second = server.connect(), server.connect()
        assert first.reply().startswith(b"220")
        assert b"from your address" in second.reply()


def test_a_large_message_takes_no_memory(tmp_path: Path) -> None:
    with Server(tmp_path / "root", "--max-size", "100M") as server:
        client = server.connect(60)
        client.envelope("bob@x")
        client.say(b"Subject: large\r\n\r\n")
        for _ in range(400):
            client.say((b"z" * 78 + b"\r\n") * 1300)
        client.say(b".\r\n")
        assert client.reply().startswith(b"250")
        assert server.memory() < 64 << 20
        assert server.inbox("bob").stat().st_size > 40_000_000
