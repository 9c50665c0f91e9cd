"""``mailtools fetch`` from servers that refuse, or break at, some messages and mailboxes: the others come."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.boxes import number, subjects
from tests.scripted import Rule, ScriptedImap, ScriptedPop3, ScriptedServer
from tests.servers import mailtools

MESSAGES = [number(n) for n in range(1, 6)]
NAMES = [f"{n:06d}" for n in range(1, 6)]
ENV = {"MAILTOOLS_FETCH_PASSWORD": "secret"}
BOTH = pytest.mark.parametrize("protocol", ["pop3", "imap"])


def fetch(server: ScriptedServer, to: Path, *options: str) -> "CompletedProcess[bytes]":
    protocol = "--pop3" if isinstance(server, ScriptedPop3) else "--imap"
    where = ("--host", "127.0.0.1", "--port", str(server.port), "--user", "bob")
    return mailtools("fetch", protocol, *where, "--to", str(to), *options, env=ENV)


class FragilePop3(ScriptedPop3):
    """Closes the connection at some messages."""

    bad: frozenset[int] = frozenset({2, 4})

    def answer(self, verb: str, argument: str, there: dict[int, bytes], marked: set[int]) -> bytes:
        if verb == "RETR" and int(argument) in self.bad:
            raise EOFError
        return super().answer(verb, argument, there, marked)


class FragileImap(ScriptedImap):
    """Announces some messages as shorter than they are, so that no response can be read any more."""

    bad: frozenset[int] = frozenset({2, 4})

    def of_messages(self, verb: str, argument: str, box: str) -> bytes:
        said = super().of_messages(verb, argument, box)
        for uid in self.bad if "BODY" in argument else ():
            size = b"{%d}" % len(self.mailboxes[box][uid])
            head, mark, rest = said.partition(b"(UID %d " % uid)
            said = head + mark + rest.replace(size, b"{100}", 1) if mark else said
        return said


# -- messages ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["--keep", "--delete"])
def test_the_others_come_where_the_session_breaks_at_a_message(
    protocol: str, how: str, tmp_path: Path
) -> None:
    box = tmp_path / "box"
    with FragilePop3(MESSAGES) if protocol == "pop3" else FragileImap({"INBOX": MESSAGES}) as server:
        done = fetch(server, box, how)
        assert done.returncode == 75
        assert b"message 2" in done.stderr and b"message 4" in done.stderr
        assert subjects(box) == [NAMES[0], NAMES[2], NAMES[4]]
        left = server.messages if protocol == "pop3" else server.mailboxes["INBOX"]
        assert sorted(left) == ([2, 4] if how == "--delete" else [1, 2, 3, 4, 5])
        assert fetch(server, box, how).returncode == 75
        server.bad = frozenset()
        assert fetch(server, box, how).returncode == 0
    assert subjects(box) == [NAMES[0], NAMES[2], NAMES[4], NAMES[1], NAMES[3]]


@BOTH
def test_a_message_that_never_comes_does_not_use_up_the_limit(protocol: str, tmp_path: Path) -> None:
    server: ScriptedServer
    if protocol == "pop3":
        server = ScriptedPop3(
            MESSAGES, {"RETR": lambda usual: b"-ERR no\r\n" if b"000001" in usual else usual}
        )
    else:
        rule: Rule = lambda usual: b"TAG NO no\r\n" if b"000001" in usual else usual  # noqa: E731
        server = ScriptedImap({"INBOX": MESSAGES}, {"UID FETCH": rule})
    with server:
        assert fetch(server, tmp_path / "box", "--limit", "1").returncode == 75
        for _ in range(4):
            assert fetch(server, tmp_path / "box", "--limit", "1").returncode == 0
    assert subjects(tmp_path / "box") == NAMES[1:]


def test_a_message_that_cannot_be_deleted_keeps_no_other_on_the_server(tmp_path: Path) -> None:
    with ScriptedPop3(MESSAGES) as server:
        server.rules["DELE"] = lambda usual: b"-ERR locked\r\n" if server.commands[-1] == "DELE 2" else usual
        done = fetch(server, tmp_path / "box", "--delete")
        assert (done.returncode, b"message 2 could not be deleted: locked" in done.stderr) == (75, True)
        assert subjects(tmp_path / "box") == NAMES
        assert len(server.messages) < 5


# -- mailboxes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "how"), [("EXAMINE", "--keep"), ("UID SEARCH", "--keep"), ("UID STORE", "--delete"), ("UID EXPUNGE", "--delete")])  # fmt: skip
def test_what_is_refused_in_one_mailbox_is_done_in_the_others(verb: str, how: str, tmp_path: Path) -> None:
    with ScriptedImap({"a": MESSAGES[:2], "b": MESSAGES[2:]}) as server:
        answers = iter([b"TAG NO broken\r\n"])
        server.rules[verb] = lambda usual: next(answers, usual)
        done = fetch(server, tmp_path / "box", "--mailbox", "a", "--mailbox", "b", how)
        assert (done.returncode, b"broken" in done.stderr) == (75, True)
        if how == "--delete":
            assert sorted(server.mailboxes["b"]) == []
    assert set(subjects(tmp_path / "box")) >= set(NAMES[2:])


def test_a_mailbox_whose_mbox_cannot_be_made_stands_in_the_way_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    with ScriptedImap({"a/b": MESSAGES[:2], "c": MESSAGES[2:]}) as server:
        where = ("--host", "127.0.0.1", "--port", str(server.port), "--user", "bob")
        done = mailtools("fetch", "--imap", *where, "--to-dir", str(tmp_path), "--mailbox", "*", env=ENV)
    assert (done.returncode, subjects(tmp_path / "c.mbox")) == (73, NAMES[2:])
