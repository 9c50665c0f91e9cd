"""Engines over asyncio: listeners, limits, time-outs, bugs that take nobody along, an orderly end."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import events
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.system.net import server
from mailtools.system.net.listeners import is_loopback, open_listener, shown_address
from mailtools.system.net.server import Limits, Server, ServerSettings
from mailtools.system.net.server_connection import NewConnection


class Session:
    """Says yes to everything; what it was told is kept."""

    def __init__(self, engine: SmtpServerEngine, opening: NewConnection) -> None:
        self.engine = engine
        self.opening = opening
        self.events: list[Any] = []
        self.holds = False  # whether the answer to a message waits
        self.is_lost = False

    def handle(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, events.RcptTo) and event.recipient == "bug@x":
            raise KeyError("a bug")
        if isinstance(event, (events.Hello, events.MessageStart, events.Quit)):
            self.engine.answer(event, None)
        elif isinstance(event, events.Connected):
            self.engine.answer(event, Reply(220, "", "test"))
        elif isinstance(event, (events.MailFrom, events.RcptTo)):
            self.engine.answer(event, Reply(250, "2.0.0", "Ok"))
        elif isinstance(event, events.MessageEnd) and not self.holds:
            self.answer_last("Ok")

    def lost(self) -> None:
        self.is_lost = True

    def answer_last(self, text: str) -> None:
        """Answer the MessageEnd that came last."""
        self.engine.answer(self.events[-1], [Reply(250, "2.0.0", text)])


class Room:
    """A server with its sessions, for the time of one test."""

    def __init__(self, limits: Limits) -> None:
        self.server = Server("smtp", ServerSettings(limits))
        self.sessions: list[Session] = []
        self.holds = False
        self.listener = open_listener("127.0.0.1:0")

        def open_session(opening: NewConnection) -> tuple[SmtpServerEngine, Session]:
            engine = SmtpServerEngine(SmtpOffer("test"))
            session = Session(engine, opening)
            session.holds = self.holds
            self.sessions.append(session)
            return engine, session

        self.server.open_session = open_session

    async def client(self) -> "Client":
        reader, writer = await asyncio.open_connection(*self.listener.getsockname(), limit=1 << 24)
        return Client(reader, writer)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *lines: str) -> list[bytes]:
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
        return [await self.reply() for _ in lines]

    async def reply(self) -> bytes:
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 20)
            if line[3:4] != b"-":
                return line

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 20)


def play(test: Callable[[Room], Awaitable[None]], limits: Limits | None = None) -> Room:
    """Run *test* against a server, then end the server; it must end by itself."""

    async def main() -> Room:
        room = Room(limits or Limits())
        await room.server.listen([room.listener])
        running = asyncio.create_task(room.server.run())
        try:
            await test(room)
        finally:
            room.server.stop()
        assert await asyncio.wait_for(running, 20) == room.server.exit_code
        return room

    return asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    """Wait, but not for ever."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


HELLO = ("EHLO x", "MAIL FROM:<a@x>", "RCPT TO:<b@x>")


def test_a_session() -> None:
    async def test(room: Room) -> None:
        client = await room.client()
        assert await client.reply() == b"220 test\r\n"
        assert (await client.ask(*HELLO, "DATA"))[-1].startswith(b"354")
        assert (await client.ask("Hi\r\n."))[0].startswith(b"250")
        assert (await client.ask("QUIT"))[0].startswith(b"221")
        assert await client.rest() == b""

    room = play(test)
    assert room.sessions[0].opening.peer == "127.0.0.1"
    assert isinstance(room.sessions[0].events[-1], events.Closed)
    assert not room.server.by_address


def test_a_bug_in_one_session_takes_no_other_along() -> None:
    async def test(room: Room) -> None:
        other, client = await room.client(), await room.client()
        await other.reply()
        await client.reply()
        replies = await client.ask("EHLO x", "MAIL FROM:<>", "RCPT TO:<bug@x>")
        assert replies[-1].startswith(b"421 4.3.0")
        assert await client.rest() == b""
        assert (await other.ask("NOOP"))[0].startswith(b"250")

    play(test)


def test_a_client_that_sends_no_more_still_gets_its_replies() -> None:
    async def test(room: Room) -> None:
        room.holds = True
        client = await room.client()
        client.writer.write("\r\n".join([*HELLO, "DATA", "Hi", ".", "NOOP", ""]).encode())
        client.writer.write_eof()
        for _ in range(5):
            await client.reply()
        session = room.sessions[-1]
        assert isinstance(session.events[-1], events.MessageEnd)
        session.answer_last("late")
        session.opening.resume()
        assert await client.rest() == b"250 2.0.0 late\r\n250 2.0.0 Ok\r\n"

    play(test)


def test_an_answer_that_comes_when_the_client_is_gone_hurts_nobody() -> None:
    async def test(room: Room) -> None:
        room.holds = True
        client = await room.client()
        client.writer.write("\r\n".join([*HELLO, "DATA", "Hi", ".", ""]).encode())
        for _ in range(5):
            await client.reply()
        # Gone for good: a RST. (After a FIN it could still read, and its place is kept until it is answered.)
        client.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        client.writer.transport.abort()
        await until(lambda: not room.server.connections)
        session = room.sessions[0]
        assert session.is_lost
        session.answer_last("late")
        session.opening.resume()
        room.holds = False
        assert (await (await room.client()).reply()).startswith(b"220")

    play(test)


def test_silent_and_dribbling_clients_are_cut() -> None:
    """An octet now and then is no progress: a command must come to its end in time."""

    async def test(room: Room) -> None:
        silent, dribbling = await room.client(), await room.client()
        await silent.reply()
        await dribbling.reply()
        cut = asyncio.create_task(dribbling.reply())  # an octet that meets the end resets the connection
        for _ in range(2000):
            if cut.done():
                break
            dribbling.writer.write(b"N")
            await asyncio.sleep(0.01)
        assert (await cut).startswith(b"421 4.4.2")
        assert (await silent.rest()).startswith(b"421 4.4.2")

    play(test, Limits(timeout=0.3))


def test_a_client_that_works_is_not_cut() -> None:
    async def test(room: Room) -> None:
        client = await room.client()
        await client.reply()
        end = asyncio.get_running_loop().time() + 1.0
        while asyncio.get_running_loop().time() < end:
            assert (await client.ask("NOOP"))[0].startswith(b"250")
            await asyncio.sleep(0.01)

    play(test, Limits(timeout=0.4))


def test_who_waits_for_our_answer_is_not_cut() -> None:
    async def test(room: Room) -> None:
        room.holds = True
        client = await room.client()
        client.writer.write("\r\n".join([*HELLO, "DATA", "Hi", ".", ""]).encode())
        for _ in range(5):
            await client.reply()
        await asyncio.sleep(0.5)  # longer than the time-out: what must not happen has its time
        session = room.sessions[0]
        session.answer_last("at last")
        session.opening.resume()
        assert b"at last" in await client.reply()

    play(test, Limits(timeout=0.1))


def test_who_gets_no_answer_from_us_learns_that_it_has_to_try_again(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever went wrong: an answer that comes after all disturbs nothing."""

    async def test(room: Room) -> None:
        room.holds = True
        client = await room.client()
        client.writer.write("\r\n".join([*HELLO, "DATA", "Hi", ".", ""]).encode())
        for _ in range(5):
            await client.reply()
        assert (await client.reply()).startswith(b"421 4.3.0")
        assert await client.rest() == b""
        session = room.sessions[0]
        session.answer_last("at last")
        session.opening.resume()
        await until(lambda: not room.server.connections)
        assert session.is_lost

    play(test, Limits(timeout=60.0, silence=0.2))
    assert "got no answer" in caplog.text


def test_a_client_that_reads_nothing_is_not_read_from_and_cut() -> None:
    async def test(room: Room) -> None:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, room.listener.getsockname())
        sent = 0

        async def pour() -> None:
            nonlocal sent
            while True:
                await loop.sock_sendall(deaf, b"HELP\r\n" * 1000)
                sent += 6000

        with pytest.raises((ConnectionError, TimeoutError)):
            await asyncio.wait_for(pour(), 20)
        assert sent < 32 << 20
        await until(lambda: not (room.server.connections))
        deaf.close()

    play(test, Limits(timeout=0.5))


# -- limits ------------------------------------------------------------------------------------------------


def test_connections_are_counted() -> None:
    async def test(room: Room) -> None:
        clients = [await room.client() for _ in range(3)]
        assert [(await c.reply())[:3] for c in clients] == [b"220", b"220", b"421"]
        assert await clients[2].rest() == b""
        await clients[0].ask("QUIT")
        await clients[0].rest()
        await until(lambda: not (len(room.server.connections) > 1))
        assert (await (await room.client()).reply()).startswith(b"220")

    play(test, Limits(connections=2))


@pytest.mark.parametrize(
    ("limits", "welcome"),
    [
        (Limits(connections_per_address=1), True),
        (Limits(connections_per_address=1, count_loopback=True), False),
        (Limits(connections_per_address=0, count_loopback=True), True),
    ],
)
def test_loopback_is_counted_only_where_that_is_asked_for(limits: Limits, welcome: bool) -> None:
    async def test(room: Room) -> None:
        first, second = await room.client(), await room.client()
        assert (await first.reply()).startswith(b"220")
        assert (await second.reply()).startswith(b"220" if welcome else b"421 4.7.0")

    play(test, limits)


def test_as_many_connections_as_descriptors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [1000, 5000]
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: tuple(limit))
    monkeypatch.setattr(server.resource, "setrlimit", lambda _, pair: limit.__setitem__(0, pair[0]))
    assert server._raise_file_limit(500) == 500
    assert server._raise_file_limit(2000) == 2000
    assert limit[0] > 2000
    assert 4000 < server._raise_file_limit(10_000) < 5000


# -- the end -----------------------------------------------------------------------------------------------


def test_idle_clients_are_told_that_the_server_ends() -> None:
    async def test(room: Room) -> None:
        idle = await room.client()
        await idle.reply()
        room.server.stop()
        assert (await idle.rest()).startswith(b"421 4.3.2")

    play(test)


def test_a_message_under_way_is_waited_for() -> None:
    async def test(room: Room) -> None:
        client = await room.client()
        await client.reply()
        await client.ask(*HELLO, "DATA")
        room.server.stop()
        with pytest.raises(OSError):
            while True:
                (await room.client()).writer.close()
                await asyncio.sleep(0.005)
        assert (await client.ask("Hi\r\n."))[0].startswith(b"250")

    play(test)


def test_nobody_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 0.1)

    async def test(room: Room) -> None:
        client = await room.client()
        await client.reply()
        await client.ask(*HELLO, "DATA")

    play(test)


def test_the_first_exit_code_counts() -> None:
    async def test(room: Room) -> None:
        room.server.stop(75)
        room.server.stop()

    assert play(test).server.exit_code == 75


# -- listeners ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "shown", "loopback"),
    [
        ("127.0.0.1:0", r"127.0.0.1:", True),
        ("127.1.2.3:0", r"127.1.2.3:", True),
        ("[::1]:0", "[::1]:", True),
        ("0.0.0.0:0", "0.0.0.0:", False),
        ("[::]:0", "[::]:", False),
        (":0", "", False),
    ],
)
def test_addresses(address: str, shown: str, loopback: bool) -> None:
    with open_listener(address) as sock:
        assert shown_address(sock).startswith(shown)
        assert is_loopback(sock) is loopback


@pytest.mark.parametrize(
    "address",
    ["", "25", "localhost", "127.0.0.1:", "127.0.0.1:smtp", "127.0.0.1:99999", "127.0.0.1:-1", "fd:", "fd:x", "fd:99999",
     "unix:", "unix:/no/such/folder/s", "unix:" + "x" * 300, "192.0.2.1:0", "no-such-host.invalid:0", "a..b:0"],
)  # fmt: skip
def test_what_cannot_be_listened_on_is_told_in_one_line(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_listener(address).close()
    assert "None" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(ConfigurationError):
        open_listener(f"fd:{descriptor}")
    os.close(descriptor)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigurationError, match="Address already in use"):
            open_listener(f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_unix_socket_left_by_a_dead_server_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    open_listener(address).close()
    assert (tmp_path / "s").is_socket()
    with open_listener(address) as live:
        assert is_loopback(live)
        assert shown_address(live) == address
        with pytest.raises(ConfigurationError, match="in use"):
            open_listener(address)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))
        client.close()


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("precious")
    with pytest.raises(ConfigurationError):
        open_listener(f"unix:{tmp_path / 'mail'}")
    assert (tmp_path / "mail").read_text() == "precious"
