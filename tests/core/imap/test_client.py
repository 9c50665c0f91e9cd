"""core/imap/client: what a server says, as events; what we say, in one line or with literals."""

import zlib

import pytest

from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.imap.client import Continue, Data, FetchedMessage, ImapClient, ImapPiece, Status


def events(engine: ImapClient, octets: bytes) -> list[object]:
    engine.receive_data(octets)
    found: list[object] = []
    while (event := engine.next_event()) is not None:
        found.append(event)
    return found


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"* OK hi\r\n", Status("", "OK", "hi")),
        (b"* OK [UIDVALIDITY 7] x\r\n", Status("", "OK", "x", "UIDVALIDITY", b"7")),
        (b"* PREAUTH in\n", Status("", "PREAUTH", "in")),  # GNU imap4d says LF alone
        (b"* BYE\r\n", Status("", "BYE", "")),
        (b"* 3 EXISTS\r\n", Data("EXISTS", 3, [])),
        (b"* SEARCH 1 2\r\n", Data("SEARCH", 0, [b"1", b"2"])),
        (b"* SEARCH\r\n", Data("SEARCH", 0, [])),
        (b'* LIST (\\A \\B) "/" "a \\"b\\\\"\r\n', Data("LIST", 0, [[b"\\A", b"\\B"], b"/", b'a "b\\'])),
        (b"* LIST () NIL {3}\r\na\r\n\r\n", Data("LIST", 0, [[], None, b"a\r\n"])),
        (b"* 1 FETCH (FLAGS (\\Seen) UID 5)\r\n", Data("FETCH", 1, [[b"FLAGS", [b"\\Seen"], b"UID", b"5"]])),
        (b"+ idling\r\n", Continue(b"idling")),
    ],
)
def test_what_is_said(line: bytes, event: object) -> None:
    assert events(ImapClient(), line) == [event]
    slow = ImapClient()
    assert [found for octet in line for found in events(slow, bytes([octet]))] == [event]


@pytest.mark.parametrize(
    "line",
    [
        b'* 1 FETCH (UID 5 INTERNALDATE "x" BODY[] {5}\r\nhello)\r\n',
        b'* 1 FETCH (BODY[] {5}\r\nhello UID 5 INTERNALDATE "x")\r\n',
        b"* 1 FETCH (UID 5 BODY[] {5}\r\nhello INTERNALDATE {1}\r\nx)\r\n",
        b'* 1 fetch (uid 5 internaldate "x" body[] ~{5}\r\nhello)\r\n',
    ],
)
def test_a_message_whatever_stands_around_it(line: bytes) -> None:
    (event,) = events(ImapClient(), line)
    assert isinstance(event, FetchedMessage)
    assert event.octets == b"hello"
    assert (event.attributes[b"UID"], event.attributes[b"INTERNALDATE"]) == (b"5", b"x")


def test_a_large_message_comes_in_pieces() -> None:
    message = b"x" * 3_000_000
    found = events(ImapClient(), b"* 1 FETCH (UID 5 BODY[] {%d}\r\n%b)\r\n" % (len(message), message))
    assert all(isinstance(event, ImapPiece) for event in found)
    assert b"".join(event.octets for event in found if isinstance(event, ImapPiece)) == message
    last = found[-1]
    assert isinstance(last, ImapPiece)
    assert last.attributes is not None and last.attributes[b"UID"] == b"5"


@pytest.mark.parametrize(
    "octets",
    [
        b"* \r\n", b"* 1 FETCH (UID\r\n", b"* )\r\n", b"m9 OK done\r\n", b"* " + b"(" * 100 + b"\r\n",
        b"* X {99999999}\r\n", b"* 1 FETCH (UID 5 BODY[] {1}\r\nx FLAGS)\r\n", b"* 1 FETCH (BODY[] {1}\r\nx (\r\n",
    ],
)  # fmt: skip
def test_what_no_server_should_say(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        events(ImapClient(), octets)


def test_nul_cannot_pass_for_a_literal() -> None:
    (event,) = events(ImapClient(), b"* X \0000\0 {1}\r\ny\r\n")
    assert isinstance(event, Data)
    assert b"y" in event.words and event.words[0] != b"y"


def test_literals_wait_where_they_have_to() -> None:
    engine = ImapClient()
    engine.command("LOGIN {} {}", "b\u00f6b", "se\r\ncret")
    assert engine.data_to_send() == b"m1 LOGIN {4}\r\n"
    assert events(engine, b"+ \r\n") == []
    assert engine.data_to_send() == "b\u00f6b {8}\r\n".encode()
    assert events(engine, b"+ \r\n") == []
    assert engine.data_to_send() == b"se\r\ncret\r\n"
    assert events(engine, b"m1 OK in\r\n") == [Status("LOGIN", "OK", "in")]


def test_literals_that_need_not_wait() -> None:
    engine = ImapClient()
    events(engine, b"* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n")
    engine.command("LOGIN {} {}", "bob", "secret")
    assert engine.data_to_send() == b"m1 LOGIN {3+}\r\nbob {6+}\r\nsecret\r\n"


def test_a_command_is_one_line() -> None:
    with pytest.raises(LocalProtocolError):
        ImapClient().command("SELECT x\r\nm2 DELETE y")


def test_compression_both_ways() -> None:
    engine = ImapClient()
    engine.start_compression()
    server = zlib.compressobj(wbits=-15)
    said = b"* 3 EXISTS\r\n* 1 FETCH (UID 5 BODY[] {5}\r\nhello)\r\n"
    packed = server.compress(said) + server.flush(zlib.Z_SYNC_FLUSH)
    found = [event for octet in packed for event in events(engine, bytes([octet]))]
    assert found[0] == Data("EXISTS", 3, [])
    assert isinstance(found[1], FetchedMessage) and found[1].octets == b"hello"
    engine.command("NOOP")
    assert zlib.decompressobj(-15).decompress(engine.data_to_send()) == b"m1 NOOP\r\n"


def test_what_inflates_without_end_is_inflated_as_it_is_used() -> None:
    engine = ImapClient()
    engine.start_compression()
    server = zlib.compressobj(9, wbits=-15)
    size = 200 << 20
    bomb = server.compress(b"* 1 FETCH (UID 5 BODY[] {%d}\r\n" % size)
    for _ in range(size >> 20):
        bomb += server.compress(bytes(1 << 20))
    engine.receive_data(bomb + server.flush(zlib.Z_SYNC_FLUSH))
    largest = came = 0
    while isinstance(event := engine.next_event(), ImapPiece):
        came += len(event.octets)
        largest = max(largest, engine.buffered)
    assert came == size
    assert largest < 2 << 20


def test_garbage_in_the_place_of_compression() -> None:
    engine = ImapClient()
    engine.start_compression()
    with pytest.raises(RemoteProtocolError):
        events(engine, b"* OK not compressed at all\r\n" * 100)


def test_more_behind_starttls_is_an_injection() -> None:
    engine = ImapClient()
    engine.command("STARTTLS")
    engine.data_to_send()
    engine.receive_data(b"m1 OK go\r\n* CAPABILITY AUTH=PLAIN\r\n")
    assert engine.next_event() == Status("STARTTLS", "OK", "go")
    with pytest.raises(RemoteProtocolError, match="injects"):
        engine.start_tls()
