"""services/fetch/pop3: a session with scripted servers. Logins, listings, messages, and the end."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import MailError, PolicyError, ProtocolError, TemporaryError
from mailtools.core.pop3 import client as engines
from mailtools.services.access import IMPLICIT, OFF, STARTTLS, Access
from mailtools.services.fetch import pop3 as sessions
from mailtools.services.fetch import remote as remotes
from mailtools.services.fetch.pop3 import Pop3Remote
from mailtools.services.fetch.remote import Fetched, FetchTarget, FetchWishes, Item
from mailtools.system.net.client_connection import LostConnectionError, Pump
from tests.boxes import number
from tests.scripted import Rule, ScriptedPop3

MESSAGES = [number(n) for n in range(1, 6)]
Enter = Callable[..., Pop3Remote]


def capa(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in ("+OK", *lines, ".")).encode()


def in_turn(*answers: bytes | None) -> Rule:
    """One answer after the other."""
    left = iter(answers)
    return lambda _: next(left)


def plain(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Opens sessions, and closes them at the end."""
    opened: list[Pop3Remote] = []

    def make(server: ScriptedPop3, host: str = "127.0.0.1", **access: Any) -> Pop3Remote:
        usual = {"tls": OFF, "user": "bob", "secret": lambda: "secret", "timeout": 10.0}
        made = Pop3Remote(FetchTarget("pop3", host, server.port, Access(**(usual | access))))
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def overheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is as one to another machine."""
    monkeypatch.setattr(Pump, "is_private", property(lambda _: False))


def logins(server: ScriptedPop3) -> list[str]:
    """What was said to log in; never a digest or SCRAM's nonce."""
    return [
        line if "SCRAM" not in line and "APOP" not in line else line.split(" ")[0] + " " + line.split(" ")[1]
        for line in server.commands
        if line.split(" ")[0] not in ("CAPA", "STLS", "QUIT")
    ]


def texts(remote: Pop3Remote, items: list[Item] | None = None) -> list[bytes | str]:
    """The messages in their order, or why they did not come."""
    wanted = remote.items(FetchWishes()) if items is None else items
    return [shown(message) for message in remote.fetch(wanted, "")]


def shown(message: Fetched) -> bytes | str:
    return message.problem or b"".join(message.body.blocks()).replace(b"\n", b"\r\n")


# -- logins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "access", "said"),
    [
        ({}, {}, ["USER bob", "PASS secret"]),
        ({}, {"auth": "plain"}, ["USER bob", "PASS secret"]),
        ({"CAPA": b"-ERR what?\r\n"}, {}, ["USER bob", "PASS secret"]),
        ({"CAPA": capa("SASL PLAIN")}, {}, [f"AUTH PLAIN {plain(b'%cbob%csecret' % (0, 0))}"]),
        ({"CAPA": capa("sasl login plain")}, {}, [f"AUTH PLAIN {plain(b'%cbob%csecret' % (0, 0))}"]),
        ({"CAPA": capa("SASL GSSAPI")}, {}, ["USER bob", "PASS secret"]),
        (
            {"CAPA": capa("SASL XOAUTH2"), "": b"+OK <1.2@host>\r\n"},
            {"is_token": True, "secret": lambda: "tok"},
            [f"AUTH XOAUTH2 {plain(b'user=bob%cauth=Bearer tok%c%c' % (1, 1, 1))}"],
        ),
        (
            {"CAPA": capa("SASL SCRAM-SHA-256 PLAIN"), "AUTH": in_turn(b"-ERR no keys\r\n", b"+OK\r\n")},
            {},
            ["AUTH SCRAM-SHA-256", f"AUTH PLAIN {plain(b'%cbob%csecret' % (0, 0))}"],
        ),
    ],
)
def test_ways_to_log_in(
    enter: Enter, rules: dict[str, Rule], access: dict[str, Any], said: list[str]
) -> None:
    with ScriptedPop3(MESSAGES, rules) as server:
        enter(server, **access)
        assert logins(server) == said


@pytest.mark.usefixtures("overheard")
@pytest.mark.parametrize(
    ("rules", "access", "said"),
    [
        ({}, {}, ["APOP bob"]),
        ({"CAPA": capa("SASL PLAIN LOGIN")}, {}, ["APOP bob"]),
        ({"": b"+OK no banner\r\n"}, {}, None),
        ({"": b"+OK no banner\r\n", "CAPA": capa("SASL PLAIN")}, {}, None),
        ({}, {"auth": "plain"}, None),
        ({}, {"is_token": True}, None),
    ],
)
def test_a_password_that_could_be_overheard_is_not_sent(
    enter: Enter, rules: dict[str, Rule], access: dict[str, Any], said: list[str] | None
) -> None:
    with ScriptedPop3(MESSAGES, rules) as server:
        if said is None:
            with pytest.raises(PolicyError):
                enter(server, **access)
        else:
            enter(server, **access)
        assert logins(server) == (said or [])


@pytest.mark.parametrize(
    ("offer", "access"),
    [
        (["SASL PLAIN"], {"auth": "scram-sha-256"}),
        (["SASL PLAIN"], {"is_token": True}),
        ([], {"auth": "login"}),
    ],
)
def test_no_secret_is_asked_for_if_the_wanted_login_is_not_offered(
    enter: Enter, offer: list[str], access: dict[str, Any]
) -> None:
    asked: list[str] = []
    with ScriptedPop3(MESSAGES, {"CAPA": capa(*offer)}) as server:
        with pytest.raises(PolicyError, match="no login that fits"):
            enter(server, secret=lambda: asked.append("secret") or "secret", **access)
        assert (asked, logins(server)) == ([], [])


@pytest.mark.parametrize("verb", ["USER", "PASS", "AUTH"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("[IN-USE] ", TemporaryError),
        ("[LOGIN-DELAY] ", TemporaryError),
        ("[sys/temp] ", TemporaryError),
        ("[SYS/PERM] ", PolicyError),
        ("[AUTH] ", PolicyError),
        ("[AUTH] too many connections, ", PolicyError),
        ("", PolicyError),
        ("too many connections: ", TemporaryError),
        ("maildrop already in use, ", TemporaryError),
    ],
)
def test_the_response_code_tells_whether_a_refused_login_may_succeed_later(
    enter: Enter, verb: str, code: str, error: type[MailError]
) -> None:
    rules: dict[str, Rule] = {verb: f"-ERR {code}not you\r\n".encode()}
    if verb == "AUTH":
        rules |= {"CAPA": capa("SASL PLAIN"), "PASS": rules["AUTH"]}  # which is tried next
    with (
        ScriptedPop3(MESSAGES, rules) as server,
        pytest.raises(error, match=r"refused the login of bob with .*not you$"),
    ):
        enter(server)


def test_a_mechanism_that_is_refused_is_followed_by_the_next(enter: Enter) -> None:
    rules: dict[str, Rule] = {"CAPA": capa("SASL PLAIN"), "AUTH": b"-ERR not for you\r\n"}
    with ScriptedPop3(MESSAGES, rules) as server:
        enter(server)
        assert [line.split()[0] for line in server.commands[1:4]] == ["AUTH", "USER", "PASS"]


def test_no_password_follows_a_user_that_was_refused(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES, {"USER": b"-ERR nobody\r\n"}) as server:
        with pytest.raises(PolicyError):
            enter(server)
        assert logins(server) == ["USER bob"]


def test_a_refusal_cannot_write_control_characters_to_a_terminal(enter: Enter) -> None:
    with (
        ScriptedPop3(MESSAGES, {"PASS": b"-ERR \x1b[2Jno\r\n"}) as server,
        pytest.raises(PolicyError, match=r": \?\[2Jno$"),
    ):
        enter(server)


def test_a_greeting_that_refuses_is_temporary_and_no_command_follows(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES, {"": b"-ERR busy\r\n"}) as server:
        with pytest.raises(TemporaryError, match="takes no calls now: busy"):
            enter(server)
        assert not server.commands


# -- TLS -----------------------------------------------------------------------------------------------------


def test_after_stls_the_capabilities_are_asked_again(enter: Enter, tmp_path: Path) -> None:
    answers = in_turn(capa("SASL PLAIN"), capa(), capa("UIDL"))  # the first is not to be trusted
    with ScriptedPop3(MESSAGES, {"CAPA": answers}, tls=tmp_path / "tls") as server:
        enter(server, "localhost", tls=STARTTLS, cafile=server.cafile)
        assert server.commands == ["CAPA", "STLS", "CAPA", "USER bob", "PASS secret", "CAPA"]


@pytest.mark.parametrize("answer", [b"-ERR no\r\n", b"+OK\r\n+OK injected\r\n", None])
def test_without_tls_that_was_required_nobody_logs_in(enter: Enter, answer: bytes | None) -> None:
    with ScriptedPop3(MESSAGES, {"STLS": answer}) as server:
        with pytest.raises((ProtocolError, LostConnectionError)):
            enter(server, tls=STARTTLS)
        assert logins(server) == []


@pytest.mark.parametrize("tls", [STARTTLS, IMPLICIT])
def test_a_certificate_that_nobody_vouches_for_ends_the_session(
    enter: Enter, tmp_path: Path, tls: str
) -> None:
    with ScriptedPop3(MESSAGES, tls=tmp_path / "tls") as server:
        server.is_implicit = tls == IMPLICIT
        with pytest.raises(ProtocolError, match="certificate"):
            enter(server, "localhost", tls=tls)
        assert logins(server) == []


def test_a_server_without_tls_on_the_port_of_implicit_tls_gets_advice(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES) as server, pytest.raises(ProtocolError, match="check --port and --tls"):
        enter(server, tls=IMPLICIT)


# -- listings ------------------------------------------------------------------------------------------------


def test_messages_have_numbers_names_and_sizes(enter: Enter) -> None:
    listing = b"+OK\r\n1 7 extra words\r\n3 9\r\n.\r\n"
    with ScriptedPop3(MESSAGES[:3], {"LIST": listing}) as server:
        found = enter(server).items(FetchWishes())
    assert found == [Item(1, "id-1", 7), Item(2, "id-2", 0), Item(3, "id-3", 9)]


def test_a_server_without_uidl_serves_only_those_who_delete(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES[:2], capabilities="TOP") as server:
        remote = enter(server)
        with pytest.raises(ProtocolError, match="fetch them with --delete"):
            remote.items(FetchWishes())
        found = remote.items(FetchWishes(delete=True))
    assert [(item.number, item.name) for item in found] == [(1, ""), (2, "")]


def test_an_empty_maildrop_needs_no_uidl(enter: Enter) -> None:
    with ScriptedPop3([], capabilities="TOP") as server:
        assert enter(server).items(FetchWishes()) == []


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (b"-ERR no\r\n", ""),
        (b"+OK\r\n1 -5\r\n.\r\n", ""),
        (b"+OK\r\n1 many\r\n.\r\n", ""),
        (b"+OK\r\n1 9999999999999999\r\n.\r\n", ""),
        ("+OK\r\n1 \uff11\r\n.\r\n".encode(), ""),
        (b"+OK\r\n1\r\nnonsense\r\n.\r\n", "a line of LIST cannot be read"),
    ],
)
def test_a_size_is_a_hint(enter: Enter, listing: bytes, said: str) -> None:
    with ScriptedPop3(MESSAGES[:1], {"LIST": listing}) as server:
        remote = enter(server)
        assert remote.items(FetchWishes()) == [Item(1, "id-1", 0)]
        assert [said in str(problem) for problem in remote.problems()] == [True] * bool(said)


@pytest.mark.parametrize(("line", "is_bad"), [(b"2\r\n", True), (b"x id\r\n", True), (b"", False)])
def test_a_message_without_a_name_stands_in_the_way_of_no_other(
    enter: Enter, line: bytes, is_bad: bool
) -> None:
    listing = b"+OK\r\n1 one\r\n" + line + b"3 three\r\n.\r\n"
    with ScriptedPop3(MESSAGES[:3], {"UIDL": listing}) as server:
        remote = enter(server)
        assert [(item.number, item.name) for item in remote.items(FetchWishes())] == [
            (1, "one"),
            (3, "three"),
        ]
        problems = list(map(str, remote.problems()))
        assert len(problems) == 1 + is_bad
        assert "message 2 no name" in problems[-1]
        found = remote.items(FetchWishes(delete=True))
        assert [(item.number, item.name) for item in found] == [(1, "one"), (3, "three"), (2, "")]
        assert len(remote.problems()) == is_bad


def test_messages_of_one_name_are_told_apart(enter: Enter) -> None:
    listing = b"+OK\r\n3 same\r\n1 same\r\n2 other\r\n.\r\n"
    with ScriptedPop3(MESSAGES[:3], {"UIDL": listing}) as server:
        found = enter(server).items(FetchWishes())
    assert [(item.number, item.name) for item in found] == [(1, "same"), (2, "other"), (3, "same 2")]


def test_no_listing_at_all_is_temporary(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES, {"UIDL": b"-ERR no\r\n", "LIST": b"-ERR no\r\n"}) as server:
        remote = enter(server)
        with pytest.raises(TemporaryError, match="lists no messages"):
            remote.items(FetchWishes())


def test_without_pipelining_each_command_waits_for_the_answer_before(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaited: list[int] = []
    command = engines.Pop3Client.command

    def counted(engine: engines.Pop3Client, line: str, is_long: bool = False) -> None:
        command(engine, line, is_long)
        awaited.append(engine.awaited)

    with ScriptedPop3(MESSAGES, capabilities="UIDL") as server:
        remote = enter(server)
        monkeypatch.setattr(engines.Pop3Client, "command", counted)
        remote.items(FetchWishes())
    assert awaited == [1, 1]


@pytest.mark.parametrize("capabilities", ["UIDL", "TOP"])
def test_too_many_messages_are_refused(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, capabilities: str
) -> None:
    monkeypatch.setattr(sessions, "_MOST", len(MESSAGES) - 1)
    with ScriptedPop3(MESSAGES, capabilities=capabilities) as server:
        remote = enter(server)
        with pytest.raises(RemoteProtocolError, match="more than 4 messages"):
            remote.items(FetchWishes(delete=True))


def test_since_leaves_out_what_has_an_older_date(enter: Enter) -> None:
    dates = [
        b"Date: Thu, 22 Aug 2002 12:00:00 +0000\r\n",
        b"Date: Thu, 22 Aug 2002 12:00:01 +0000\r\n",
        b"Date: nonsense\r\n",
        b"",
    ]
    with ScriptedPop3([b"Subject: x\r\n" + date + b"\r\nDate: x\r\n" for date in dates]) as server:
        remote = enter(server)
        assert remote.since(remote.items(FetchWishes()), 1030017601.0) == {"id-2", "id-3", "id-4"}


def test_a_message_whose_header_is_refused_counts_as_new(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES[:1], {"TOP": b"-ERR no\r\n"}) as server:
        remote = enter(server)
        assert remote.since(remote.items(FetchWishes()), 5e9) == {"id-1"}


# -- messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capabilities", "ahead"), [("UIDL PIPELINING", 4), ("UIDL", 1)])
def test_commands_go_ahead_of_their_answers_as_far_as_the_window(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, capabilities: str, ahead: int
) -> None:
    monkeypatch.setattr(sessions, "_WINDOW", 4)
    awaited: list[int] = []
    command = engines.Pop3Client.command

    def counted(engine: engines.Pop3Client, line: str, is_long: bool = False) -> None:
        command(engine, line, is_long)
        awaited.append(engine.awaited)

    with ScriptedPop3([number(n) for n in range(11)], capabilities=capabilities) as server:
        remote = enter(server)
        items = remote.items(FetchWishes())
        monkeypatch.setattr(engines.Pop3Client, "command", counted)
        assert texts(remote, items) == [number(n) for n in range(11)]
        remote.delete(items)
    assert len(awaited) == 22
    assert max(awaited) == ahead


def test_a_refused_message_has_a_reason_and_the_others_come(enter: Enter) -> None:
    answers = in_turn(b"-ERR gone\r\n", b"-ERR\r\n", b"+OK\r\nSubject: x\r\n\r\n..\r\n.\r\n")
    with ScriptedPop3(MESSAGES[:3], {"RETR": answers}) as server:
        assert texts(enter(server)) == ["gone", "refused", b"Subject: x\r\n\r\n.\r\n"]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of more than 1000 octets comes in pieces."""
    monkeypatch.setattr(engines, "WHOLE", 1000)
    monkeypatch.setattr(remotes, "_MOST_OVER", 1000)


@pytest.mark.usefixtures("small_pieces")
def test_a_message_in_pieces_is_the_same_as_in_one(enter: Enter) -> None:
    message = b"Subject: x\r\n\r\n" + b"".join(b".%d\r\n" % n for n in range(100_000))
    with ScriptedPop3([message, MESSAGES[0]]) as server:
        assert texts(enter(server)) == [message, MESSAGES[0]]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("announced", "is_good"), [(50_000, True), (40_000, False)])
def test_a_message_much_larger_than_announced_ends_the_session(
    enter: Enter, announced: int, is_good: bool
) -> None:
    message = b"Subject: x\r\n\r\n" + b"x" * 99_984 + b"\r\n"
    with ScriptedPop3([message], {"LIST": b"+OK\r\n1 %d\r\n.\r\n" % announced}) as server:
        remote = enter(server)
        if is_good:
            assert texts(remote) == [message]
        else:
            with pytest.raises(RemoteProtocolError, match="message 1 is larger than announced: 40000"):
                texts(remote)


def test_messages_before_the_connection_ended_are_given(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES[:2], {"RETR": in_turn(b"+OK\r\nSubject: 1\r\n\r\n.\r\n", None)}) as server:
        remote = enter(server)
        found = remote.fetch(remote.items(FetchWishes()), "")
        assert shown(next(found)) == b"Subject: 1\r\n\r\n"
        with pytest.raises(LostConnectionError):
            next(found)


# -- the end -------------------------------------------------------------------------------------------------


def test_what_was_deleted_is_gone_after_quit(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES) as server:
        remote = enter(server)
        remote.delete([Item(2, "id-2"), Item(4, "id-4")])
        assert sorted(server.messages) == [1, 2, 3, 4, 5]
        remote.leave()
        assert sorted(server.messages) == [1, 3, 5]


def test_a_message_that_is_not_deleted_is_named(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES, {"DELE": in_turn(b"+OK\r\n", b"-ERR locked\r\n")}) as server:
        remote = enter(server)
        with pytest.raises(TemporaryError, match="message 2 could not be deleted: locked"):
            remote.delete([Item(1, "a"), Item(2, "b")])


@pytest.mark.parametrize("answer", [b"-ERR [SYS/TEMP] some remain\r\n", None])
def test_a_quit_that_fails_is_told(enter: Enter, answer: bytes | None) -> None:
    with ScriptedPop3(MESSAGES, {"QUIT": answer}) as server:
        remote = enter(server)
        remote.delete(remote.items(FetchWishes()))
        with pytest.raises(TemporaryError):
            remote.leave()


@pytest.mark.parametrize("answer", [b"-ERR [SYS/TEMP] some remain\r\n", None, b"garbage\r\n"])
def test_where_nothing_was_deleted_nothing_depends_on_the_answer_to_quit(
    enter: Enter, answer: bytes | None
) -> None:
    with ScriptedPop3(MESSAGES, {"QUIT": answer}) as server:
        enter(server).leave()


def test_pop3_has_one_mailbox_without_validity_and_flags(enter: Enter) -> None:
    with ScriptedPop3(MESSAGES) as server:
        remote = enter(server)
        said = len(server.commands)
        assert remote.mailboxes(["a", "b"]) == [""]
        assert remote.select("", True) == ""
        remote.mark_seen([Item(1, "id-1")])
        with pytest.raises(ProtocolError):
            remote.wait_for_mail(lambda: True)
        assert len(server.commands) == said


def test_a_server_that_ends_its_lines_with_lf_alone(enter: Enter) -> None:
    message = b"Subject: x\n\n..stuffed\n.\r\nend\n"
    rules: dict[str, Rule] = {
        "": b"+OK old\n",
        "CAPA": b"-ERR what\n",
        "USER": b"+OK\n",
        "PASS": b"+OK\n",
        "UIDL": b"+OK\n1 a\n2 b\n.\n",
        "LIST": b"+OK\n1 9\n2 9\n.\n",
        "RETR": lambda usual: b"+OK\n" + message.replace(b".\r\n", b"") + b".\n",
    }
    with ScriptedPop3(MESSAGES[:2], rules) as server:
        remote = enter(server)
        assert texts(remote) == [b"Subject: x\r\n\r\n.stuffed\r\nend\r\n"] * 2


def test_a_lone_dot_in_a_message_ends_nothing_where_lines_end_with_crlf(enter: Enter) -> None:
    message = b"Subject: x\r\n\r\na\n.\n+OK forged\nend\r\n"
    with ScriptedPop3([message, MESSAGES[0]]) as server:
        found = texts(enter(server))
    assert len(found) == 2
    assert b"forged" in found[0]
