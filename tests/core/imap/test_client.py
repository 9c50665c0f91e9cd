"""core/imap/client: what a server says, as events; what we say, in one line or with literals."""

import base64
import zlib
from collections.abc import Iterator

import pytest

from mailtools.core.auth.client import MECHANISMS, Credentials
from mailtools.core.engine import LocalProtocolError, RemoteProtocolError
from mailtools.core.imap import client as engines
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


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        (b"* 1 FETCH (UID 5 BODY[] NIL)\r\n", None),
        (b"* 1 FETCH (BODY[] nil UID 5)\r\n", None),
        (b'* 1 FETCH (UID 5 BODY[] "he \\"llo")\r\n', b'he "llo'),
        (b'* 1 FETCH (BODY[] "" UID 5)\r\n', b""),
        (b"* 1 FETCH (BODY[] atom UID 5)\r\n", b"atom"),
        (b"* 1 FETCH (INTERNALDATE {2}\r\nxy UID 5 BODY[] {3}\r\nabc)\r\n", b"abc"),
        (b"* 1 FETCH (UID {1}\r\n5 BODY[] {3}\r\na\0c FLAGS (\\Seen))\r\n", b"a\0c"),
        (b"* 1 FETCH (ENVELOPE (NIL {3}\r\n) ( NIL) BODY[] {0}\r\n UID 5)\r\n", b""),
    ],
)
def test_a_message_in_any_form_of_an_nstring(line: bytes, octets: bytes | None) -> None:
    for step in (1, len(line)):
        engine = ImapClient()
        (event,) = [e for at in range(0, len(line), step) for e in events(engine, line[at : at + step])]
        assert isinstance(event, FetchedMessage)
        assert event.octets == octets
        assert event.attributes[b"UID"] == b"5"


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"* 1 FETCH (UID\r\n", Data("FETCH", 1, [])),
        (b"* 1 FETCH (UID 5 BODY[] {1}\r\nx FLAGS)\r\n", Data("FETCH", 1, [])),
        (b"* 1 FETCH (BODY[] {1}\r\nx (\r\n", Data("FETCH", 1, [])),
        (b"* LIST (() x\r\n", Data("LIST", 0, [])),
        (b'* LIST () "/" "x\r\n', Data("LIST", 0, [])),
    ],
)
def test_a_response_that_cannot_be_read_stands_in_the_way_of_no_other(line: bytes, event: Data) -> None:
    assert events(ImapClient(), line + b"* 2 EXISTS\r\n") == [event, Data("EXISTS", 2, [])]


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
        b"* \r\n", b"* )\r\n", b"m9 OK done\r\n", b"* " + b"(" * 100 + b"\r\n", b"* X {99999999}\r\n",
        b"* 1 FETCH (BODY[] {1}\r\nx BODY[] {1}\r\ny)\r\n", b"* X" + b" {0}\r\n" * 20_000 + b"\r\n",
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


@pytest.mark.parametrize("line", ["SELECT x\r\nm2 DELETE y", "SELECT x\n", "SELECT x\r", "SELECT x\0"])
def test_a_command_is_one_line(line: str) -> None:
    engine = ImapClient()
    with pytest.raises(LocalProtocolError):
        engine.command(line)
    assert (engine.data_to_send(), list(engine.awaited)) == (b"", [])


def test_a_literal_holds_no_nul() -> None:
    with pytest.raises(LocalProtocolError):
        ImapClient().command("LOGIN {} {}", "bob", "se\0cret")


def test_braces_in_a_command_without_literals_are_sent_as_they_are() -> None:
    engine = ImapClient()
    engine.command('SELECT "a{}b"')
    assert engine.data_to_send() == b'm1 SELECT "a{}b"\r\n'


@pytest.mark.parametrize(
    ("capability", "size", "must_wait"),
    [
        ("LITERAL+", 5000, False),
        ("LITERAL-", 4096, False),
        ("LITERAL-", 4097, True),
        ("IMAP4REV1", 1, True),
    ],
)
def test_the_capability_tells_which_literals_need_not_wait(
    capability: str, size: int, must_wait: bool
) -> None:
    """RFC 7888: with LITERAL- up to 4096 octets."""
    engine = ImapClient()
    engine.capabilities = frozenset({capability})
    engine.command("X {}", "y" * size)
    plus = b"" if must_wait else b"+"
    assert engine.data_to_send().startswith(b"m1 X {%d%b}\r\n" % (size, plus))
    events(engine, b"+ go\r\n" if must_wait else b"")
    assert len(engine.data_to_send()) == (size + 2 if must_wait else 0)


def test_literals_of_a_refused_command_are_not_sent() -> None:
    engine = ImapClient()
    engine.command("LOGIN {} {}", "bob", "secret")
    engine.data_to_send()
    assert events(engine, b"m1 BAD no literals\r\n") == [Status("LOGIN", "BAD", "no literals")]
    assert events(engine, b"+ go\r\n") == [Continue(b"go")]
    assert engine.data_to_send() == b""


def test_a_command_waits_for_the_literals_of_the_command_before() -> None:
    engine = ImapClient()
    engine.command("SELECT {}", "a")
    engine.command("UID SEARCH ALL")
    engine.command("SELECT {}", "b")
    assert engine.data_to_send() == b"m1 SELECT {1}\r\n"
    assert events(engine, b"+ go\r\n") == []
    assert engine.data_to_send() == b"a\r\nm2 UID SEARCH ALL\r\nm3 SELECT {1}\r\n"
    assert events(engine, b"m1 OK\r\nm2 OK\r\n") == [Status("SELECT", "OK", ""), Status("UID", "OK", "")]
    assert engine.data_to_send() == b""
    assert events(engine, b"+ go\r\n") == []
    assert engine.data_to_send() == b"b\r\n"


def test_a_refused_literal_does_not_stop_the_commands_behind_it() -> None:
    engine = ImapClient()
    engine.command("LOGIN {} {}", "bob", "secret")
    engine.command("NOOP")
    assert engine.data_to_send() == b"m1 LOGIN {3}\r\n"
    assert events(engine, b"m1 NO not now\r\n") == [Status("LOGIN", "NO", "not now")]
    assert (engine.data_to_send(), engine.shown) == (b"m2 NOOP\r\n", b"m2 NOOP\r\n")


@pytest.mark.parametrize("line", [b"* OK wait {5}", b"* BYE {5}", b"m1 NO no {5}", b"+ go {5}"])
def test_no_literal_follows_a_text(line: bytes) -> None:
    engine = ImapClient()
    engine.command("NOOP")
    first, second = events(engine, line + b"\r\n* 3 EXISTS\r\n")
    assert isinstance(first, Status | Continue)
    assert second == Data("EXISTS", 3, [])


def test_a_large_message_whose_attributes_cannot_be_read_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WHOLE", 2)
    found = events(ImapClient(), b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc FLAGS)\r\n* 3 EXISTS\r\n")
    assert found == [ImapPiece(b"abc"), ImapPiece(b"", {}), Data("EXISTS", 3, [])]


# -- tags and answers ----------------------------------------------------------------------------------------


def test_answers_find_their_commands_by_tag_in_any_order() -> None:
    engine = ImapClient()
    for line in ("NOOP", "uid search all", "CHECK"):
        engine.command(line)
    assert engine.data_to_send() == b"m1 NOOP\r\nm2 uid search all\r\nm3 CHECK\r\n"
    assert events(engine, b"m3 OK c\r\nm1 no [X 1 2] a\r\n") == [
        Status("CHECK", "OK", "c"), Status("NOOP", "NO", "a", "X", b"1 2"),
    ]  # fmt: skip
    assert list(engine.awaited) == ["UID"]
    assert events(engine, b"m2 Bad b\r\n") == [Status("UID", "BAD", "b")]


@pytest.mark.parametrize(
    "line",
    [
        b"m2 OK a command that was not given",
        b"M1 OK another tag",
        b"m01 OK another tag",
        b" OK no tag",
        b"",
        b"m1",
        b"m1 MAYBE x",
        b"m1 OKAY",
        b"m1 ",
    ],
)
def test_answers_to_no_command_of_ours(line: bytes) -> None:
    engine = ImapClient()
    engine.command("NOOP")
    with pytest.raises(RemoteProtocolError, match="no command of ours"):
        events(engine, line + b"\r\n")


def test_a_second_answer_to_a_command_is_an_error() -> None:
    engine = ImapClient()
    engine.command("NOOP")
    events(engine, b"m1 OK\r\n")
    with pytest.raises(RemoteProtocolError):
        events(engine, b"m1 OK\r\n")


@pytest.mark.parametrize(
    ("said", "capabilities"),
    [
        (b"* CAPABILITY imap4rev1 AUTH=plain\r\n", {"IMAP4REV1", "AUTH=PLAIN"}),
        (b"* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n", {"IMAP4REV1", "IDLE"}),
        (b"* CAPABILITY A B\r\n* CAPABILITY C\r\n", {"C"}),
        (b"* CAPABILITY (x) {1}\r\nA\r\n", {"A"}),
        (b"* OK CAPABILITY A\r\n", set()),
    ],
)
def test_capabilities_are_learnt_wherever_they_stand(said: bytes, capabilities: set[str]) -> None:
    engine = ImapClient()
    events(engine, said)
    assert engine.capabilities == capabilities


def test_idle_ends_with_a_line_without_tag() -> None:
    engine = ImapClient()
    engine.command("IDLE")
    engine.data_to_send()
    assert events(engine, b"+ idling\r\n* 4 EXISTS\r\n") == [Continue(b"idling"), Data("EXISTS", 4, [])]
    engine.done()
    assert engine.data_to_send() == b"DONE\r\n"
    assert events(engine, b"m1 OK\r\n") == [Status("IDLE", "OK", "")]


def test_the_end_of_the_connection_is_noted_after_the_last_event() -> None:
    engine = ImapClient()
    engine.receive_data(b"* BYE x\r\n* half a li")
    engine.receive_eof()
    assert engine.next_event() == Status("", "BYE", "x")
    assert not engine.is_closed
    assert engine.next_event() is None
    assert engine.is_closed


# -- limits and odd octets -----------------------------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_MAX_LINE", 100)
    monkeypatch.setattr(engines, "_MAX_LITERALS", 100)
    monkeypatch.setattr(engines, "WHOLE", 200)
    monkeypatch.setattr(engines, "_INFLATED", 64)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(
    ("octets", "is_good"),
    [
        (b"* X " + b"y" * 90 + b"\r\n", True),
        (b"* X " + b"y" * 100 + b"\r\n", False),
        (b"* X " + b"y" * 100, False),
        (b"* X {100}\r\n" + b"y" * 100 + b"\r\n", True),
        (b"* X {101}\r\n", False),
        (b"* X {60}\r\n" + b"y" * 60 + b" {40}\r\n" + b"y" * 40 + b"\r\n", True),
        (b"* X {60}\r\n" + b"y" * 60 + b" {41}\r\n", False),
        (b"* 1 FETCH (BODY[] {300}\r\n" + b"y" * 300 + b" X {101}\r\n", False),
        (b"* 1 FETCH (UID 1 BODY[] {200}\r\n" + b"y" * 200 + b")\r\n", True),
    ],
)
def test_lines_and_literals_have_limits(octets: bytes, is_good: bool) -> None:
    for size in (1, len(octets)):
        engine = ImapClient()
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        if is_good:
            assert len([event for piece in pieces for event in events(engine, piece)]) == 1
        else:
            with pytest.raises(RemoteProtocolError):
                for piece in pieces:
                    events(engine, piece)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("size", [0, 1, 199, 200, 201, 1000])
def test_a_message_is_the_same_however_its_octets_come(size: int) -> None:
    message = bytes(n % 256 for n in range(size))  # with NUL, CR, LF and whatever looks like an end
    said = b"* 1 FETCH (UID 5 BODY[] {%d}\r\n%b FLAGS (x))\r\n* 2 EXISTS\r\n" % (size, message)
    for step in (1, 7, len(said)):
        engine = ImapClient()
        found = [e for at in range(0, len(said), step) for e in events(engine, said[at : at + step])]
        assert found.pop() == Data("EXISTS", 2, [])
        octets = [event.octets or b"" for event in found if isinstance(event, FetchedMessage | ImapPiece)]
        assert b"".join(octets) == message
        assert isinstance(found[-1], ImapPiece if size > 200 else FetchedMessage)
        assert found[-1].attributes == {b"UID": b"5", b"FLAGS": [b"x"]}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"* X a\0b\r\n", [b"a?b"]),  # IMAP has no NUL, which marks literals here
        (b"* X {3}\r\na\0b\r\n", [b"a\0b"]),
        (b"* X {3}\r\n{1}\r\n", [b"{1}"]),
        (b"* X {0}\r\n\r\n", [b""]),
        (b"* X ~{2+}\r\n\r\n {1}\r\n) y\r\n", [b"\r\n", b")", b"y"]),
        (b"* X ({1}\r\na {1}\r\nb)\r\n", [[b"a", b"b"]]),
        (b'* X "{5}"\r\n', [b"{5}"]),
    ],
)
def test_literals_and_nul(said: bytes, words: list[object]) -> None:
    assert events(ImapClient(), said) == [Data("X", 0, words)]
    slow = ImapClient()
    assert [event for octet in said for event in events(slow, bytes([octet]))] == [Data("X", 0, words)]


# -- logins --------------------------------------------------------------------------------------------------


def with_login(name: str, *capabilities: str) -> ImapClient:
    engine = ImapClient()
    engine.capabilities = frozenset(capabilities)
    engine.authenticate(name, MECHANISMS[name](Credentials("bob", "secret", "nonce")))
    return engine


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def challenges(*texts: bytes) -> Iterator[bytes]:
    return (b"+ " + encoded(text) + b"\r\n" for text in texts)


def test_the_first_response_goes_with_the_command_if_the_server_has_sasl_ir() -> None:
    response = encoded(b"\0bob\0secret")
    engine = with_login("PLAIN", "SASL-IR")
    assert engine.data_to_send() == b"m1 AUTHENTICATE PLAIN " + response + b"\r\n"
    engine = with_login("PLAIN")
    assert engine.data_to_send() == b"m1 AUTHENTICATE PLAIN\r\n"
    assert events(engine, b"+ \r\n") == []
    assert engine.data_to_send() == response + b"\r\n"
    assert events(engine, b"m1 OK in\r\n") == [Status("AUTHENTICATE", "OK", "in")]


def test_challenges_are_answered_octet_by_octet_between_other_responses() -> None:
    engine = with_login("LOGIN")
    engine.data_to_send()
    user, password = challenges(b"User:", b"Password:")
    said = user + b"* OK wait\r\n" + password + b"m1 OK\r\n"
    assert [e for octet in said for e in events(engine, bytes([octet]))] == [
        Status("", "OK", "wait"), Status("AUTHENTICATE", "OK", ""),
    ]  # fmt: skip
    assert engine.data_to_send() == encoded(b"bob") + b"\r\n" + encoded(b"secret") + b"\r\n"


def test_a_login_that_the_mechanism_gives_up_is_cancelled() -> None:
    engine = with_login("SCRAM-SHA-256")
    events(engine, b"".join(challenges(b"", b"r=nonce1,s=c2FsdA==,i=4096")))
    engine.data_to_send()
    assert events(engine, b"".join(challenges(b"e=unknown-user"))) == []
    assert engine.data_to_send() == b"*\r\n"
    assert engine.login_note == "unknown-user"
    assert events(engine, b"m1 BAD cancelled\r\n") == [Status("AUTHENTICATE", "BAD", "cancelled")]


@pytest.mark.parametrize(
    ("name", "said", "last"),
    [
        ("PLAIN", b"+ not base64!\r\n", b"*\r\n"),
        ("SCRAM-SHA-256", b"".join(challenges(b"nonsense")), b"*\r\n"),
        ("PLAIN", b"".join(challenges(b"once more")), b"*\r\n"),
        ("SCRAM-SHA-256", b"m1 OK in\r\n", b""),  # it proved nothing
    ],
)
def test_logins_that_the_server_spoils(name: str, said: bytes, last: bytes) -> None:
    engine = with_login(name, "SASL-IR")
    engine.data_to_send()
    with pytest.raises(RemoteProtocolError):
        events(engine, said)
    assert engine.data_to_send() == last


def test_after_a_login_continuations_are_those_of_other_commands() -> None:
    engine = with_login("PLAIN", "SASL-IR")
    events(engine, b"m1 OK\r\n")
    assert events(engine, b"+ idling\r\n") == [Continue(b"idling")]


# -- TLS and compression -------------------------------------------------------------------------------------


def test_tls_forgets_what_was_said_before() -> None:
    engine = ImapClient()
    events(engine, b"* OK [CAPABILITY AUTH=PLAIN] hi\r\n")
    engine.start_tls()
    assert engine.capabilities == frozenset()


@pytest.mark.parametrize("is_sent", [False, True])
def test_tls_does_not_begin_before_the_answer(is_sent: bool) -> None:
    engine = ImapClient()
    engine.command("STARTTLS")
    if is_sent:
        engine.data_to_send()
    with pytest.raises(LocalProtocolError):
        engine.start_tls()


def test_what_came_behind_the_answer_to_compress_is_compressed() -> None:
    engine = ImapClient()
    engine.command("COMPRESS DEFLATE")
    server = zlib.compressobj(wbits=-15)
    packed = server.compress(b"* 3 EXISTS\r\n") + server.flush(zlib.Z_SYNC_FLUSH)
    engine.receive_data(b"m1 OK go\r\n" + packed)
    assert engine.next_event() == Status("COMPRESS", "OK", "go")
    engine.start_compression()
    assert engine.next_event() == Data("EXISTS", 3, [])
    assert engine.next_event() is None
    assert engine.buffered == 0


def test_each_command_can_be_inflated_when_it_is_sent() -> None:
    engine = ImapClient()
    engine.start_compression()
    server = zlib.decompressobj(-15)
    for number in (1, 2, 3):
        engine.command("NOOP")
        assert server.decompress(engine.data_to_send()) == b"m%d NOOP\r\n" % number
    assert engine.data_to_send() == b""


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
