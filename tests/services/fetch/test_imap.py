r"""services/fetch/imap: a session with scripted servers. Logins, mailboxes, messages, deleting, IDLE."""

import base64
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import MailError, MissingInputError, PolicyError, ProtocolError, TemporaryError
from mailtools.core.imap import client as engines
from mailtools.services.access import IMPLICIT, OFF, STARTTLS, Access
from mailtools.services.fetch import imap as sessions
from mailtools.services.fetch.imap import ImapRemote
from mailtools.services.fetch.remote import FetchTarget, FetchWishes, Item, RefusedMailboxError
from mailtools.system import clock
from mailtools.system.net.client_connection import LostConnectionError, Pump
from tests.boxes import number
from tests.scripted import Rule, ScriptedImap
from tests.scripted import Wire as ServerWire

MESSAGES = [number(n) for n in range(1, 6)]
IN = {"": b"* PREAUTH in\r\n"}  # a session without login
OK = b"TAG OK done\r\n"
Enter = Callable[..., ImapRemote]


def offer(*words: str) -> bytes:
    return f"* CAPABILITY IMAP4rev1 {' '.join(words)}\r\n".encode() + OK


def in_turn(*answers: bytes | None) -> Rule:
    """One answer after the other."""
    left = iter(answers)
    return lambda _: next(left)


def plain(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def serve(
    rules: dict[str, Rule] | None = None, messages: list[bytes] = MESSAGES, **options: Any
) -> ScriptedImap:
    """A server with one mailbox, and nobody has to log in."""
    return ScriptedImap({"INBOX": messages}, IN | (rules or {}), **options)


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Opens sessions, and closes them at the end."""
    opened: list[ImapRemote] = []

    def make(server: ScriptedImap, host: str = "127.0.0.1", **access: Any) -> ImapRemote:
        usual = {"tls": OFF, "user": "bob", "secret": lambda: "secret", "timeout": 10.0}
        made = ImapRemote(FetchTarget("imap", host, server.port, Access(**(usual | access))))
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def inbox(enter: Enter) -> Callable[[ScriptedImap], ImapRemote]:
    """Opens sessions, with INBOX selected."""

    def make(server: ScriptedImap) -> ImapRemote:
        remote = enter(server)
        remote.select("INBOX", True)
        return remote

    return make


Inbox = Callable[[ScriptedImap], ImapRemote]


@pytest.fixture
def overheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is as one to another machine."""
    monkeypatch.setattr(Pump, "is_private", property(lambda _: False))


def logins(server: ScriptedImap) -> list[str]:
    """What was said to log in, without the nonce of SCRAM."""
    said = [line for line in server.commands if line.split(" ")[0] in ("LOGIN", "AUTHENTICATE")]
    return [line if "SCRAM" not in line else "AUTHENTICATE SCRAM-SHA-256" for line in said]


def items(*uids: int) -> list[Item]:
    return [Item(uid, str(uid)) for uid in uids]


def texts(remote: ImapRemote, *uids: int) -> dict[int, bytes]:
    """The messages as they come, by UID."""
    return {
        message.item.number: b"".join(message.body.blocks()).replace(b"\n", b"\r\n")
        for message in remote.fetch(items(*uids), "")
        if not message.problem
    }


# -- logins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "access", "said"),
    [
        ({}, {}, ["LOGIN bob secret"]),  # as literals, which the scripted server joins
        ({}, {"auth": "login"}, ["LOGIN bob secret"]),
        ({"CAPABILITY": offer("LITERAL+")}, {}, ["LOGIN bob secret"]),
        (
            {"CAPABILITY": offer("SASL-IR", "AUTH=PLAIN")},
            {},
            [f"AUTHENTICATE PLAIN {plain(b'%cbob%csecret' % (0, 0))}"],
        ),
        (
            {"CAPABILITY": offer("SASL-IR", "LOGINDISABLED", "auth=plain")},
            {},
            [f"AUTHENTICATE PLAIN {plain(b'%cbob%csecret' % (0, 0))}"],
        ),
        (
            {"CAPABILITY": offer("SASL-IR", "AUTH=XOAUTH2", "AUTH=PLAIN")},
            {"is_token": True, "secret": lambda: "tok"},
            [f"AUTHENTICATE XOAUTH2 {plain(b'user=bob%cauth=Bearer tok%c%c' % (1, 1, 1))}"],
        ),
        (
            {
                "CAPABILITY": offer("SASL-IR", "AUTH=SCRAM-SHA-256", "AUTH=PLAIN"),
                "AUTHENTICATE": in_turn(b"TAG NO no keys\r\n", OK),
            },
            {},
            ["AUTHENTICATE SCRAM-SHA-256", f"AUTHENTICATE PLAIN {plain(b'%cbob%csecret' % (0, 0))}"],
        ),
    ],
)
def test_ways_to_log_in(
    enter: Enter, rules: dict[str, Rule], access: dict[str, Any], said: list[str]
) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        enter(server, **access)
        assert logins(server) == said


@pytest.mark.parametrize(
    ("words", "access"),
    [
        (["LOGINDISABLED"], {}),
        (["LOGINDISABLED", "AUTH=GSSAPI"], {}),
        ([], {"auth": "scram-sha-256"}),
        (["AUTH=PLAIN"], {"is_token": True}),
    ],
)
def test_no_secret_is_asked_for_if_no_login_fits(
    enter: Enter, words: list[str], access: dict[str, Any]
) -> None:
    asked: list[str] = []
    with ScriptedImap({"INBOX": MESSAGES}, {"CAPABILITY": offer(*words)}) as server:
        with pytest.raises(PolicyError, match="no login that fits"):
            enter(server, secret=lambda: asked.append("secret") or "secret", **access)
        assert (asked, logins(server)) == ([], [])


@pytest.mark.usefixtures("overheard")
@pytest.mark.parametrize("words", [[], ["AUTH=PLAIN", "AUTH=LOGIN"]])
def test_a_password_that_could_be_overheard_is_not_sent(enter: Enter, words: list[str]) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, {"CAPABILITY": offer(*words)}) as server:
        with pytest.raises(PolicyError, match="overheard"):
            enter(server)
        assert logins(server) == []


@pytest.mark.parametrize("verb", ["LOGIN", "AUTHENTICATE"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("[UNAVAILABLE] ", TemporaryError),
        ("[inuse] ", TemporaryError),
        ("[SERVERBUG] ", TemporaryError),
        ("[LIMIT] ", TemporaryError),
        ("[AUTHENTICATIONFAILED] ", PolicyError),
        ("", PolicyError),
        ("Too many simultaneous connections: ", TemporaryError),
    ],
)
def test_the_response_code_tells_whether_a_refused_login_may_succeed_later(
    enter: Enter, verb: str, code: str, error: type[MailError]
) -> None:
    words = ["SASL-IR", "AUTH=PLAIN"] if verb == "AUTHENTICATE" else []
    rules: dict[str, Rule] = {"CAPABILITY": offer(*words), verb: f"TAG NO {code}not you\r\n".encode()}
    rules["LOGIN"] = rules[verb]  # which is tried after AUTHENTICATE
    with (
        ScriptedImap({"INBOX": MESSAGES}, rules) as server,
        pytest.raises(error, match=r"refused the login of bob with .*not you$"),
    ):
        enter(server)


@pytest.mark.parametrize("verb", ["LOGIN", "AUTHENTICATE"])
@pytest.mark.parametrize(("answer", "asks"), [(OK, 2), (b"TAG OK [CAPABILITY IMAP4rev1 IDLE] in\r\n", 1)])
def test_capabilities_of_before_the_login_do_not_count(
    enter: Enter, verb: str, answer: bytes, asks: int
) -> None:
    words = ["SASL-IR", "AUTH=PLAIN"] if verb == "AUTHENTICATE" else []
    rules: dict[str, Rule] = {"CAPABILITY": offer(*words), verb: answer}
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        enter(server)
        expected = asks + (verb == "LOGIN" and asks == 1)  # the code of LOGIN's answer is not used
        assert server.commands.count("CAPABILITY") == expected


def test_a_mechanism_that_is_refused_is_followed_by_login(enter: Enter) -> None:
    rules: dict[str, Rule] = {"CAPABILITY": offer("SASL-IR", "AUTH=PLAIN"), "AUTHENTICATE": b"TAG NO no\r\n"}
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        enter(server)
        assert [line.split()[0] for line in logins(server)] == ["AUTHENTICATE", "LOGIN"]


def test_a_client_names_itself_where_servers_ask(enter: Enter) -> None:
    with serve({"CAPABILITY": offer("ID"), "ID": b'* ID ("name" "x")\r\n' + OK}) as server:
        enter(server).select("INBOX", False)
        assert server.commands[-2].startswith('ID ("name" "mailtools" "version" "')


def test_a_session_that_is_logged_in_already_needs_no_login(enter: Enter) -> None:
    with serve() as server:
        enter(server)
        assert server.commands == ["CAPABILITY"]


def test_capabilities_in_the_greeting_are_not_asked_again(enter: Enter) -> None:
    with serve({"": b"* PREAUTH [CAPABILITY IMAP4rev1] in\r\n"}) as server:
        enter(server)
        assert server.commands == []


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"* BYE busy\r\n", "takes no calls now: busy"),
        (b"* NO busy\r\n", "takes no calls now: busy"),
        (b"* 3 EXISTS\r\n", "not a greeting"),
        (b"+ go\r\n", "not a greeting"),
    ],
)
def test_a_greeting_that_refuses_is_temporary_and_no_command_follows(
    enter: Enter, greeting: bytes, words: str
) -> None:
    with serve({"": greeting}) as server:
        with pytest.raises(TemporaryError, match=words):
            enter(server)
        assert server.commands == []


# -- TLS and compression -------------------------------------------------------------------------------------


def test_after_starttls_the_capabilities_are_asked_again(enter: Enter, tmp_path: Path) -> None:
    rules: dict[str, Rule] = {"": b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n"}  # not to be trusted
    with ScriptedImap({"INBOX": MESSAGES}, rules, tls=tmp_path / "tls") as server:
        enter(server, "localhost", tls=STARTTLS, cafile=server.cafile)
        assert server.commands == ["STARTTLS", "CAPABILITY", "LOGIN bob secret", "CAPABILITY"]


@pytest.mark.parametrize(
    "rules",
    [
        {"STARTTLS": b"TAG NO no\r\n"},
        {"STARTTLS": b"TAG BAD what?\r\n"},
        {"STARTTLS": b"TAG OK go\r\n* OK injected\r\n"},
        {"STARTTLS": None},
        {"": b"* PREAUTH in already\r\n"},
    ],
)
def test_without_tls_that_was_required_nobody_logs_in(enter: Enter, rules: dict[str, Rule]) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, rules) as server:
        with pytest.raises((ProtocolError, LostConnectionError)):
            enter(server, tls=STARTTLS)
        assert [line for line in server.commands if line != "STARTTLS"] == []


@pytest.mark.parametrize("tls", [STARTTLS, IMPLICIT])
def test_a_certificate_that_nobody_vouches_for_ends_the_session(
    enter: Enter, tmp_path: Path, tls: str
) -> None:
    with ScriptedImap({"INBOX": MESSAGES}, tls=tmp_path / "tls") as server:
        server.is_implicit = tls == IMPLICIT
        with pytest.raises(ProtocolError, match="certificate"):
            enter(server, "localhost", tls=tls)
        assert logins(server) == []


class Deflated:
    """Both ends of a server's connection, once it is compressed: as a file to read, as a socket to send."""

    def __init__(self, wire: ServerWire) -> None:
        self._sock = wire.sock
        self._out = zlib.compressobj(wbits=-15)
        self._in = zlib.decompressobj(-15)
        self._read = b""

    def readline(self) -> bytes:
        while b"\n" not in self._read:
            octets = self._sock.recv(65536)
            if not octets:
                raise EOFError
            self._read += self._in.decompress(octets)
        line, _, self._read = self._read.partition(b"\n")
        return line + b"\n"

    def sendall(self, octets: bytes) -> None:
        self._sock.sendall(self._out.compress(octets) + self._out.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> None:
        self._sock.close()


class CompressingImap(ScriptedImap):
    """A server that has COMPRESS=DEFLATE."""

    def session(self, wire: ServerWire) -> None:
        say = wire.say

        def and_compress(command: str, usual: bytes) -> None:
            say(command, usual)
            if command == "COMPRESS":
                wire.sock = wire.file = Deflated(wire)  # type: ignore[assignment]

        wire.say = and_compress  # type: ignore[method-assign]
        super().session(wire)


@pytest.mark.usefixtures("overheard")
def test_the_session_goes_on_compressed_where_the_server_can(enter: Enter) -> None:
    with CompressingImap({"INBOX": MESSAGES}, IN, capabilities="IMAP4rev1 COMPRESS=DEFLATE") as server:
        remote = enter(server)
        assert remote.select("INBOX", False) == "7"
        assert texts(remote, 1, 2) == {1: MESSAGES[0], 2: MESSAGES[1]}
        assert "COMPRESS DEFLATE" in server.commands


@pytest.mark.usefixtures("overheard")
def test_a_session_whose_compression_is_refused_goes_on_as_it_is(enter: Enter) -> None:
    with serve({"COMPRESS": b"TAG NO not now\r\n"}, capabilities="IMAP4rev1 COMPRESS=DEFLATE") as server:
        assert enter(server).select("INBOX", False) == "7"
        assert "COMPRESS DEFLATE" in server.commands


def test_on_this_machine_nothing_is_compressed(enter: Enter) -> None:
    with serve(capabilities="IMAP4rev1 COMPRESS=DEFLATE") as server:
        enter(server)
        assert server.commands == ["CAPABILITY"]


# -- mailboxes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "found", "is_listed"),
    [
        (["INBOX", "x", "x"], ["INBOX", "x"], False),
        (["*"], ["INBOX", "INBOX/x", "Lists/a", "Lists/b", "\u00fc"], True),
        (["inbox/*"], ["INBOX/x"], True),
        (["Lists/?"], ["Lists/a", "Lists/b"], True),
        (["Lists/%", "*a"], ["Lists/a", "Lists/b"], True),
        (["inbox", "Inbox"], ["INBOX"], False),
        (["INBOX/x", "not/listed"], ["INBOX/x", "not/listed"], True),
        (["[all]/All Mail", "[all]/*"], ["[all]/All Mail"], True),
        (["[al]*", "a*b"], ["a*b"], True),
        (["lists/*"], [], True),
        (["nothing/*", "INBOX"], ["INBOX"], True),
        (["in*x", "INB?X"], ["INBOX"], True),
        (["Lists.a", "Lists/a"], ["Lists/a"], True),  # as the server names it, too
        (["&APw-", "\u00fc"], ["\u00fc"], True),
    ],
)
def test_patterns_choose_mailboxes(
    enter: Enter, patterns: list[str], found: list[str], is_listed: bool
) -> None:
    names = ["INBOX", "INBOX.x", "Lists.b", "Lists.a", "&APw-"]
    if any("[" in pattern for pattern in patterns):
        names += ["[all].All Mail", "a*b", "axb"]
    with ScriptedImap({name: [] for name in names}, IN, delimiter=".") as server:
        remote = enter(server)
        assert remote.mailboxes(patterns) == found
        problems = remote.problems()
        assert all(isinstance(problem, MissingInputError) for problem in problems)
        assert bool(problems) == any(text in patterns for text in ("lists/*", "nothing/*", "[al]*"))
        assert remote.problems() == []
        assert ('LIST "" "*"' in server.commands) == is_listed


@pytest.mark.parametrize(
    ("line", "shown", "said"),
    [
        (b'* LIST () "." "a.b/c"', "a/b\u2215c", '"a.b/c"'),
        (b'* LIST () NIL "flat"', "flat", '"flat"'),
        (b'* LIST () "/" "a \\"b\\\\"', 'a "b\\', '"a \\"b\\\\"'),
        (b'* LIST () "/" "a{}b"', "a{}b", '"a{}b"'),
        (b'* LIST () "/" "\xc3\xbc"', "\u00fc", "\u00fc"),
        (b'* LIST () "/" "caf\xe9"', "caf\udce9", "caf\udce9"),
        (b'* LIST () "/" {4}\r\na\r\nb', "a\r\nb", "a\r\nb"),
        (b'* LIST (\\Marked) "/" {4}\r\na\\"b', 'a\\"b', '"a\\\\\\"b"'),
    ],
)
def test_a_mailbox_is_selected_by_the_name_that_the_server_gave(
    enter: Enter, line: bytes, shown: str, said: str
) -> None:
    with serve({"LIST": line + b"\r\n" + OK, "EXAMINE": b"* OK [UIDVALIDITY 9] x\r\n" + OK}) as server:
        remote = enter(server)
        assert remote.mailboxes(["*"]) == [shown]
        assert remote.select(shown, False) == "9"
        assert server.commands[-1] == f"EXAMINE {said}"


@pytest.mark.parametrize(
    "line",
    [
        b'* LIST (\\NoSelect) "/" "x"',
        b'* LIST (\\NonExistent \\Subscribed) "/" "x"',
        b'* LIST () "/" NIL',
        b'* LIST () "/" {3}\r\na\0b',  # no command can hold the NUL
        b'* LIST () "/" (x)',
        b"* LIST ()",
        b'* LSUB () "/" "x"',
    ],
)
def test_what_is_no_mailbox_is_not_found(enter: Enter, line: bytes) -> None:
    with serve({"LIST": line + b'\r\n* LIST () "/" "good"\r\n' + OK}) as server:
        assert enter(server).mailboxes(["*"]) == ["good"]


def test_inbox_has_one_name_however_the_server_writes_it(enter: Enter) -> None:
    lines = b'* LIST () "/" "Inbox"\r\n* LIST () "/" "Inbox/x"\r\n'
    with serve({"LIST": lines + OK, "EXAMINE": b"* OK [UIDVALIDITY 9] x\r\n" + OK}) as server:
        remote = enter(server)
        assert remote.mailboxes(["*"]) == ["INBOX", "INBOX/x"]
        remote.select("INBOX/x", False)
        assert server.commands[-1] == 'EXAMINE "Inbox/x"'


@pytest.mark.parametrize(("pattern", "is_problem"), [("a.b", False), ("a*", True)])
def test_a_list_that_is_refused_is_a_problem_only_where_it_is_needed(
    enter: Enter, pattern: str, is_problem: bool
) -> None:
    with serve({"LIST": b"TAG NO no\r\n"}) as server:
        remote = enter(server)
        assert remote.mailboxes([pattern]) == ([] if is_problem else [pattern])
        assert bool(remote.problems()) == is_problem


def test_too_many_mailboxes_are_refused(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_MAILBOXES", 2)
    with ScriptedImap({"a": [], "b": [], "c": []}, IN) as server:
        remote = enter(server)
        with pytest.raises(RemoteProtocolError, match="without end"):
            remote.mailboxes(["*"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"TAG NO [NONEXISTENT] none\r\n", MissingInputError),
        (b"TAG NO [INUSE] later\r\n", TemporaryError),
        (b"TAG NO [NOPERM] no\r\n", MissingInputError),
        (b"TAG NO no\r\n", TemporaryError),
        (b"TAG NO [THROTTLED] no\r\n", TemporaryError),
        (b"TAG BAD too many connections\r\n", TemporaryError),
        (b"* 5 EXISTS\r\n" + OK, ProtocolError),
        (b"* OK [UIDVALIDITY x] y\r\n" + OK, ProtocolError),
        (b"* OK [UIDVALIDITY] y\r\n" + OK, ProtocolError),
        (b"* BYE gone\r\n", LostConnectionError),
    ],
)
def test_mailboxes_that_cannot_be_opened(enter: Enter, answer: bytes, error: type[MailError]) -> None:
    with serve({"EXAMINE": answer}) as server:
        remote = enter(server)
        with pytest.raises((RefusedMailboxError, error)) as raised:
            remote.select("INBOX", False)
        assert isinstance(getattr(raised.value, "problem", raised.value), error)


def test_a_mailbox_is_opened_for_reading_unless_it_is_to_change(enter: Enter) -> None:
    with serve() as server:
        remote = enter(server)
        remote.select("INBOX", False)
        remote.select("INBOX", True)
        assert server.commands[-2:] == ['EXAMINE "INBOX"', 'SELECT "INBOX"']


# -- listings ------------------------------------------------------------------------------------------------


def test_sizes_are_asked_for_only_if_they_count(inbox: Inbox) -> None:
    with serve() as server:
        remote = inbox(server)
        assert remote.items(FetchWishes()) == items(1, 2, 3, 4, 5)
        assert server.commands[-1] == "UID SEARCH ALL"
        assert remote.items(FetchWishes(max_size=9)) == [
            Item(uid, str(uid), len(message)) for uid, message in enumerate(MESSAGES, 1)
        ]
        assert server.commands[-1] == "UID FETCH 1:* (UID RFC822.SIZE)"


def test_an_empty_mailbox_is_not_searched(inbox: Inbox) -> None:
    with serve(messages=[]) as server:
        remote = inbox(server)
        assert remote.items(FetchWishes()) == []
        assert server.commands[-1] == 'SELECT "INBOX"'


@pytest.mark.parametrize(
    ("rules", "wishes", "found"),
    [
        ({"UID SEARCH": b"* SEARCH 3 1\r\n* SEARCH 1 2 4 5\r\n" + OK}, {}, [1, 2, 3, 4, 5]),
        ({"UID SEARCH": b'* ESEARCH (TAG "m2") UID COUNT 5 ALL 1:3,7,9\r\n' + OK}, {}, [1, 2, 3, 7, 9]),
        ({"UID SEARCH": b"* SEARCH 1 2 3 4 5 6 (MODSEQ 5)\r\n* 6 EXISTS\r\n" + OK}, {}, [1, 2, 3, 4, 5, 6]),
        ({"UID SEARCH": OK}, {}, [1, 2, 3, 4, 5]),  # FETCH tells them
        ({"UID SEARCH": b"* SEARCH 2\r\n" + OK}, {}, [1, 2, 3, 4, 5]),
        ({"UID SEARCH": b"* SEARCH 2\r\n* 1 EXPUNGE\r\n" * 4 + OK}, {}, [2]),
        ({"UID FETCH": b"TAG NO no\r\n"}, {"max_size": 1}, [1, 2, 3, 4, 5]),
    ],
)
def test_listings_as_servers_write_them(
    inbox: Inbox, rules: dict[str, Rule], wishes: dict[str, Any], found: list[int]
) -> None:
    with serve(rules) as server:
        remote = inbox(server)
        assert [item.number for item in remote.items(FetchWishes(**wishes))] == found
        assert remote.problems() == []


@pytest.mark.parametrize(
    ("search", "fetch", "found"),
    [
        (b"* SEARCH 1 2\r\n", b"", [1, 2]),
        (
            b"",
            b"* 1 FETCH (UID 2 RFC822.SIZE 5)\r\n* 2 FETCH (FLAGS (x))\r\n* FETCH\r\n* 3 FETCH (UID x)\r\n",
            [2],
        ),
    ],
)
def test_messages_that_the_server_does_not_list_are_a_problem(
    inbox: Inbox, search: bytes, fetch: bytes, found: list[int]
) -> None:
    with serve({"UID SEARCH": search + OK, "UID FETCH": fetch + OK}) as server:
        remote = inbox(server)
        assert [item.number for item in remote.items(FetchWishes())] == found
        (problem,) = remote.problems()
        assert f"lists {len(found)} of 5 messages" in str(problem)


def test_a_limit_of_the_server_is_not_taken_for_the_end(inbox: Inbox) -> None:
    answers = in_turn(
        b"* SEARCH 4 5\r\nTAG OK [MESSAGELIMIT 2 4] x\r\n",
        b"* SEARCH 2 3\r\nTAG NO [MESSAGELIMIT 2 2] x\r\n",
        b"* SEARCH 1\r\n" + OK,
    )
    with serve({"UID SEARCH": answers}) as server:
        assert [item.number for item in inbox(server).items(FetchWishes())] == [1, 2, 3, 4, 5]
        assert server.commands[-2:] == ["UID SEARCH UID 1:3 ALL", "UID SEARCH UID 1:1 ALL"]


@pytest.mark.parametrize(
    "code", [b"[MESSAGELIMIT 2 4]", b"[MESSAGELIMIT 2 1]", b"[MESSAGELIMIT]", b"[MESSAGELIMIT 2 99999999999]"]
)
def test_a_limit_that_makes_no_progress_ends_the_search(inbox: Inbox, code: bytes) -> None:
    with serve({"UID SEARCH": b"* SEARCH 4 5\r\nTAG OK " + code + b" x\r\n"}) as server:
        assert len(inbox(server).items(FetchWishes())) == 5
        assert len(server.commands) < 9


@pytest.mark.parametrize(
    ("rules", "wishes", "error"),
    [
        ({"UID SEARCH": b"TAG NO no\r\n"}, {}, TemporaryError),
        ({"UID SEARCH": b"* SEARCH 1x\r\n" + OK}, {}, RemoteProtocolError),
        ({"UID SEARCH": b"* ESEARCH UID ALL 1:4294967295\r\n" + OK}, {}, RemoteProtocolError),
    ],
)
def test_listings_that_no_server_should_send(
    inbox: Inbox, rules: dict[str, Rule], wishes: dict[str, Any], error: type[MailError]
) -> None:
    with serve(rules) as server:
        remote = inbox(server)
        with pytest.raises(error):
            remote.items(FetchWishes(**wishes))


def test_since_is_asked_by_day(inbox: Inbox) -> None:
    with serve({"UID SEARCH": b"* SEARCH 4 5\r\n" + OK}) as server:
        assert inbox(server).since(items(1, 5), 1030017600.0) == {"4", "5"}
        assert server.commands[-1] == "UID SEARCH SINCE 22-Aug-2002"


@pytest.mark.parametrize(
    ("verb", "flood"),
    [
        ("UID SEARCH", b"* 5 EXISTS\r\n" * 1000),
        ("UID SEARCH", b"* 1 FETCH (FLAGS ())\r\n" * 1000),
        ("UID SEARCH", b"* SEARCH 1\r\n" * 1000),
        ("UID FETCH", b'* LIST () "/" x\r\n' * 1000),
        ("UID FETCH", b"* 1 FETCH (FLAGS ())\r\n" * 1000),
        ("UID FETCH", b"* 1 FETCH (UID 1 BODY[] {4096}\r\n%b)\r\n" % (b"x" * 4096) * 1000),
    ],
)
def test_only_what_was_asked_for_is_progress(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, verb: str, flood: bytes
) -> None:
    renewed: list[int] = []
    usual = sessions.Wire.renew
    with serve({verb: lambda usual: flood + usual}) as server:
        remote = inbox(server)

        def renew(wire: sessions.Wire) -> None:
            renewed.append(1)
            usual(wire)

        monkeypatch.setattr(sessions.Wire, "renew", renew)
        found = remote.items(FetchWishes())
        assert len(list(remote.fetch(found, ""))) == 5
    assert len(renewed) <= 5 + 2 + 2  # each message, each answer to a command, and some of the listings


# -- messages ------------------------------------------------------------------------------------------------


def fetched(uid: int, message: bytes, when: bytes = b'"22-Aug-2002 12:00:00 +0200"') -> bytes:
    return b"* 9 FETCH (UID %d INTERNALDATE %b BODY[] {%d}\r\n%b)\r\n" % (uid, when, len(message), message)


def test_each_message_comes_once_and_none_that_nobody_asked_for(inbox: Inbox) -> None:
    said = fetched(3, b"x\r\n") + fetched(7, b"y\r\n") + b"* 1 FETCH (FLAGS ())\r\n" + fetched(1, b"z\r\n")
    with serve({"UID FETCH": said + fetched(3, b"again\r\n") + OK}) as server:
        assert texts(inbox(server), 1, 3) == {3: b"x\r\n", 1: b"z\r\n"}


def problems(remote: ImapRemote, *uids: int) -> dict[int, str]:
    """The messages that did not come, each with the reason."""
    return {m.item.number: m.problem for m in remote.fetch(items(*uids), "") if m.problem}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (b"* 2 EXPUNGE\r\n" + fetched(3, b"x\r\n") + b"TAG OK [EXPUNGEISSUED] x\r\n", "did not give it"),
        (fetched(3, b"x\r\n") + b"* 2 FETCH (UID 2 BODY[] NIL)\r\n" + OK, "has no text of it (NIL)"),
        (fetched(3, b"x\r\n") + b"* 2 FETCH (UID 2 FLAGS ())\r\n" + OK, "did not give it"),
        (fetched(3, b"x\r\n") + b"* 2 FETCH (UID 2 BODY[] {1}\r\nx FLAGS)\r\n" + OK, "did not give it"),
        (fetched(3, b"x\r\n") + b"TAG NO [SERVERBUG] message 2 is broken\r\n", "message 2 is broken"),
        (fetched(3, b"x\r\n") + b"TAG BAD what?\r\n", "what?"),
    ],
)
def test_a_message_that_does_not_come_is_named_with_the_reason(inbox: Inbox, rule: bytes, why: str) -> None:
    with serve({"UID FETCH": rule}) as server:
        remote = inbox(server)
        assert why in problems(remote, 2, 3)[2]
        assert texts(remote, 3) == {3: b"x\r\n"}


def test_one_bad_message_stands_in_the_way_of_no_other(inbox: Inbox) -> None:
    """The server refuses every FETCH that asks for message 150."""
    messages = [number(n) for n in range(1, 301)]

    def rule(argument: str) -> bytes | None:
        asked = [part.partition(":") for part in argument.split(" ", maxsplit=1)[0].split(",")]
        if any(int(first) <= 150 <= int(last or first) for first, _, last in asked):
            return b"TAG NO 150 cannot be read\r\n"
        return None

    with Stubborn({"INBOX": messages}, IN, refuse=rule) as server:
        found = list(inbox(server).fetch(items(*range(1, 301)), ""))
        assert sorted(m.item.number for m in found) == list(range(1, 301))
        assert [(m.item.number, m.problem) for m in found if m.problem] == [(150, "150 cannot be read")]
        assert len([c for c in server.commands if c.startswith("UID FETCH")]) < 50


def test_a_server_that_gives_a_few_at_a_time(inbox: Inbox) -> None:
    messages = [number(n) for n in range(1, 31)]
    with Stubborn({"INBOX": messages}, IN, at_once=7) as server:
        assert len(texts(inbox(server), *range(1, 31))) == 30
    with Stubborn({"INBOX": messages}, IN, at_once=7, capabilities="IMAP4rev1 MESSAGELIMIT=7") as server:
        assert len(texts(inbox(server), *range(1, 31))) == 30
        assert len([c for c in server.commands if c.startswith("UID FETCH")]) == 5


def test_a_server_that_gives_nothing_is_not_asked_for_ever(inbox: Inbox) -> None:
    with serve({"UID FETCH": b"TAG NO busy\r\n"}) as server:
        assert set(problems(inbox(server), *range(1, 2001)).values()) == {"busy"}
        assert len(server.commands) < 250


class Stubborn(ScriptedImap):
    """A server that refuses some sets of messages, or gives *at_once* messages for a command."""

    def __init__(
        self,
        *args: Any,
        refuse: Callable[[str], bytes | None] = lambda _: None,
        at_once: int = 10**6,
        **options: Any,
    ) -> None:
        self._refuse = refuse
        self._at_once = at_once
        super().__init__(*args, **options)

    def answer(self, verb: str, argument: str, box: str) -> bytes:
        if verb == "UID FETCH":
            if refusal := self._refuse(argument):
                return refusal
            given = self.of_messages(verb, argument, box).split(b"* ")[1:]
            return b"".join(b"* " + one for one in given[: self._at_once]) + b"TAG OK [MESSAGELIMIT] x\r\n"
        return super().answer(verb, argument, box)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        (b'"22-Aug-2002 12:00:00 +0200"', 1030010400.0),
        (b'" 2-Aug-2002 12:00:00 +0000"', 1028289600.0),
        (b'"nonsense"', 5.0),
        (b"NIL", 5.0),
    ],
)
def test_a_message_arrived_when_the_server_says_so(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, when: bytes, seconds: float
) -> None:
    monkeypatch.setattr(clock, "now", lambda: 5.0)
    with serve({"UID FETCH": fetched(1, b"x\r\n", when) + OK}) as server:
        assert [message.arrived for message in inbox(server).fetch(items(1), "")] == [seconds]


def test_a_message_in_pieces_is_the_same_as_in_one(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WHOLE", 1000)
    message = b"Subject: x\r\n\r\n" + b"".join(b"%d\r\n" % n for n in range(100_000))
    with serve(messages=[message, MESSAGES[0], message]) as server:
        assert texts(inbox(server), 1, 2, 3) == {1: message, 2: MESSAGES[0], 3: message}


@pytest.mark.parametrize(
    ("uids", "said"),
    [
        ([1, 2, 3, 4, 5], ["1:2", "3:4", "5"]),
        ([1, 3, 5], ["1,3", "5"]),
        ([5, 1], ["1,5"]),
        ([], []),
    ],
)
def test_messages_are_asked_for_together_and_ahead(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, uids: list[int], said: list[str]
) -> None:
    monkeypatch.setattr(sessions, "_TOGETHER", 2)
    awaited: list[int] = []
    command = engines.ImapClient.command

    def counted(engine: engines.ImapClient, line: str, *literals: str) -> None:
        command(engine, line, *literals)
        awaited.append(len(engine.awaited))

    with serve() as server:
        remote = inbox(server)
        monkeypatch.setattr(engines.ImapClient, "command", counted)
        assert sorted(texts(remote, *uids)) == sorted(uids)
        asked = [line.split(" ")[2] for line in server.commands if line.startswith("UID FETCH")]
    assert asked == said
    assert max(awaited, default=0) == min(2, len(said))


def test_messages_before_a_bye_are_given(inbox: Inbox) -> None:
    with serve({"UID FETCH": fetched(1, b"x\r\n") + b"* BYE shutting down\r\n"}) as server:
        found = inbox(server).fetch(items(1, 2), "")
        assert next(found).item.number == 1
        with pytest.raises(LostConnectionError, match="closes the connection: shutting down"):
            next(found)


# -- deleting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", ["IMAP4rev1 UIDPLUS", "IMAP4rev2"])
def test_only_the_given_messages_are_removed(inbox: Inbox, capabilities: str) -> None:
    with serve(capabilities=capabilities) as server:
        server.flags["INBOX"][5] = {"\\Deleted"}
        inbox(server).delete(items(1, 2, 4))
        assert server.commands[-2:] == ["UID STORE 1:2,4 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 1:2,4"]
        assert sorted(server.mailboxes["INBOX"]) == [3, 5]


def test_without_uidplus_messages_are_removed_only_if_no_others_are_marked(inbox: Inbox) -> None:
    with serve(capabilities="IMAP4rev1") as server:
        server.flags["INBOX"][5] = {"\\Deleted"}
        remote = inbox(server)
        with pytest.raises(TemporaryError, match="1 others are marked"):
            remote.delete(items(1, 2))
        assert sorted(server.mailboxes["INBOX"]) == [1, 2, 3, 4, 5]
        server.flags["INBOX"][5] = set()
        remote.delete(items(1, 2))
        assert sorted(server.mailboxes["INBOX"]) == [3, 4, 5]


@pytest.mark.parametrize("verb", ["UID STORE", "UID EXPUNGE"])
def test_messages_that_are_not_deleted_are_told(inbox: Inbox, verb: str) -> None:
    with serve({verb: b"TAG NO read-only\r\n"}) as server:
        remote = inbox(server)
        with pytest.raises(TemporaryError, match="read-only"):
            remote.delete(items(1))


def test_seen_is_set_when_asked(inbox: Inbox) -> None:
    with serve() as server:
        inbox(server).mark_seen(items(2, 3))
        assert server.flags["INBOX"] == {2: {"\\Seen"}, 3: {"\\Seen"}}


# -- waiting, and the end ------------------------------------------------------------------------------------


def patient() -> Callable[[], bool]:
    """Nobody asks to stop, but the test fails if the wait goes on."""
    looks = count()

    def is_stopping() -> bool:
        assert next(looks) < 10, "the wait goes on"
        return False

    return is_stopping


@pytest.mark.parametrize(
    "said",
    [
        b"* 6 EXISTS\r\n",
        b"* OK still here\r\n* 6 EXISTS\r\n* 1 RECENT\r\n",
        b"* 1 EXPUNGE\r\n* 6 EXISTS\r\n",
        b"* 1 EXPUNGE\r\n* 5 EXISTS\r\n",  # one of the known left, and a new one came
        b"* 6 EXISTS\r\n* 1 EXPUNGE\r\n",
    ],
)
def test_idle_ends_when_mail_comes(inbox: Inbox, said: bytes) -> None:
    with serve({"IDLE": b"+ idling\r\n" + said}) as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        remote.wait_for_mail(patient())
        assert server.commands[-1] == "IDLE"


def test_mail_that_came_while_messages_were_fetched_needs_no_idle(inbox: Inbox) -> None:
    with serve({"UID STORE": b"* 6 EXISTS\r\n" + OK}) as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        remote.mark_seen(items(1))
        remote.wait_for_mail(patient())
        assert "IDLE" not in server.commands


def test_mail_that_came_while_fetched_messages_were_removed_is_not_missed(inbox: Inbox) -> None:
    gone = b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 4 EXISTS\r\n"  # of five, two left and one came
    with serve({"UID EXPUNGE": gone + OK}) as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        remote.delete(items(1, 2))
        remote.wait_for_mail(patient())
        assert "IDLE" not in server.commands


def test_who_is_asked_to_stop_says_done(inbox: Inbox) -> None:
    looks: list[None] = []

    def stopping() -> bool:
        looks.append(None)
        return len(looks) > 1  # not before IDLE has begun

    with serve() as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        remote.wait_for_mail(stopping)
        remote.leave()
        assert server.commands[-2:] == ["IDLE", "LOGOUT"]


def test_idle_is_begun_again_before_the_server_forgets_us(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_IDLE", 0.0)
    with serve({"IDLE": in_turn(b"+ idling\r\n", b"+ idling\r\n* 6 EXISTS\r\n")}) as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        remote.wait_for_mail(patient())
        assert server.commands[-2:] == ["IDLE", "IDLE"]


@pytest.mark.parametrize(
    ("rules", "capabilities", "error"),
    [
        ({}, "IMAP4rev1", ProtocolError),
        ({"IDLE": b"TAG NO no\r\n"}, "IMAP4rev1 IDLE", ProtocolError),
        ({"IDLE": b"* BYE gone\r\n"}, "IMAP4rev1 IDLE", LostConnectionError),
        ({"IDLE": b"+ idling\r\n* BYE gone\r\n"}, "IMAP4rev2", LostConnectionError),
    ],
)
def test_servers_that_do_not_wait_with_us(
    inbox: Inbox, rules: dict[str, Rule], capabilities: str, error: type[MailError]
) -> None:
    with serve(rules, capabilities=capabilities) as server:
        remote = inbox(server)
        remote.items(FetchWishes())
        with pytest.raises(error):
            remote.wait_for_mail(patient())


@pytest.mark.parametrize("answer", [b"* BYE bye\r\n" + OK, None, b"TAG NO no\r\n", b"garbage\r\n"])
def test_a_logout_changes_nothing_whatever_its_answer(enter: Enter, answer: bytes | None) -> None:
    with serve({"LOGOUT": answer}) as server:
        enter(server).leave()
        assert server.commands[-1] == "LOGOUT"
