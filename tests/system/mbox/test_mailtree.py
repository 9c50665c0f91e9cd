"""system/mbox/mailtree: names of IMAP become mboxes below one folder, whatever they are."""

import os
import stat
from pathlib import Path

import pytest

from mailtools.system.mbox import mailtree
from mailtools.system.mbox.mailtree import MailboxError, MailTree

HOSTILE = [
    "..",
    "a/../../b",
    "../x",
    "/etc",
    "a//b",
    "",
    "/",
    "nul\0",
    ".mailtools",
    "%2e",
    "a\nb",
    "x" * 300,
    "\udc80",
]


@pytest.fixture
def tree(tmp_path: Path) -> MailTree:
    (tmp_path / "bob").mkdir()
    return MailTree(str(tmp_path / "bob"))


def test_mailboxes_with_children(tree: MailTree) -> None:
    for name in ("a", "a/b", "ü & x/é", "f/x"):
        tree.create(name)
    assert tree.names() == {
        "INBOX": True,
        "a": True,
        "a/b": True,
        "ü & x": False,
        "ü & x/é": True,
        "f": False,
        "f/x": True,
    }
    assert Path(tree.mbox("a/b")) == Path(tree.path, "a", "b.mbox")
    assert stat.S_IMODE(os.stat(tree.mbox("a/b")).st_mode) == 0o600
    assert tree.exists("a/b")
    assert not tree.exists("f")
    with pytest.raises(MailboxError, match="already") as raised:
        tree.create("a")
    assert raised.value.code == "ALREADYEXISTS"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leaves_the_folder(tmp_path: Path, tree: MailTree, name: str) -> None:
    try:
        tree.create(name)
    except MailboxError:
        assert name.rstrip("/") not in tree.names()
    else:
        assert name in tree.names()
        tree.rename(name, "other")
        tree.rename("other", name)
        tree.delete(name)
        assert tree.names().get(name) is not True
    assert [path.name for path in tmp_path.iterdir()] == ["bob"]


def test_a_mailbox_that_another_program_made(tree: MailTree) -> None:
    Path(tree.path, "old.mbox").write_text("")
    Path(tree.path, "notes.txt").write_text("")
    Path(tree.path, ".hidden.mbox").write_text("")
    Path(tree.path, "%2f.mbox").write_text("")  # no name of ours is encoded so
    Path(tree.path, "link.mbox").symlink_to("old.mbox")
    assert set(tree.names()) == {"INBOX", "old"}


def test_deleting(tree: MailTree) -> None:
    for name in ("a", "a/b", "c"):
        tree.create(name)
    Path(tree.path, ".mailtools").mkdir()
    Path(tree.path, ".mailtools", "a.mbox.states").touch()
    tree.delete("a")
    assert tree.names() == {"INBOX": True, "a": False, "a/b": True, "c": True}
    assert not Path(tree.path, ".mailtools", "a.mbox.states").exists()
    for name, code in (("a", "HASCHILDREN"), ("nope", "NONEXISTENT"), ("INBOX", "CANNOT")):
        with pytest.raises(MailboxError) as raised:
            tree.delete(name)
        assert raised.value.code == code
    tree.delete("a/b")
    tree.delete("a")
    assert tree.names() == {"INBOX": True, "c": True}


def test_renaming_takes_children_and_states_along(tree: MailTree) -> None:
    for name in ("a", "a/b", "c"):
        tree.create(name)
    Path(tree.mbox("a")).write_text("x")
    Path(tree.path, ".mailtools").mkdir()
    Path(tree.path, ".mailtools", "a.mbox.states").write_text("states")
    tree.rename("a", "z/q")
    assert tree.names() == {"INBOX": True, "z": False, "z/q": True, "z/q/b": True, "c": True}
    assert Path(tree.mbox("z/q")).read_text() == "x"
    assert Path(tree.path, "z", ".mailtools", "q.mbox.states").read_text() == "states"
    for old, new, code in (("c", "z/q", "ALREADYEXISTS"), ("z", "z/y", "CANNOT"), ("no", "n", "NONEXISTENT")):
        with pytest.raises(MailboxError) as raised:
            tree.rename(old, new)
        assert raised.value.code == code


def test_inbox_is_renamed_and_there_again(tree: MailTree) -> None:
    Path(tree.mbox("INBOX")).write_text("mail")
    tree.create("INBOX/child")
    tree.rename("INBOX", "old")
    assert Path(tree.mbox("old")).read_text() == "mail"
    assert tree.names() == {"INBOX": True, "INBOX/child": True, "old": True}
    assert not Path(tree.mbox("INBOX")).exists()


def test_subscriptions(tree: MailTree) -> None:
    assert tree.subscriptions() == set()
    tree.subscribe("a/b", True)
    tree.subscribe("ü", True)
    tree.subscribe("ü", True)
    assert tree.subscriptions() == {"a/b", "ü"}
    tree.subscribe("a/b", False)
    tree.subscribe("none", False)
    assert tree.subscriptions() == {"ü"}
    with pytest.raises(MailboxError):
        tree.subscribe("a\nb", True)


def test_a_uidvalidity_is_given_once(tree: MailTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailtools.system.clock.now", lambda: 1000.0)
    assert [tree.new_validity() for _ in range(3)] == [1000, 1001, 1002]


def test_a_link_in_place_of_a_folder_is_not_entered(tmp_path: Path, tree: MailTree) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(tree.path, "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MailboxError):
        tree.create("a/b")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "a" not in tree.names()


def test_subscriptions_are_bounded(tree: MailTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailtree, "_MOST", 2)
    tree.subscribe("a", True)
    tree.subscribe("b", True)
    with pytest.raises(MailboxError) as raised:
        tree.subscribe("c", True)
    assert raised.value.code == "LIMIT"
    tree.subscribe("a", False)
    tree.subscribe("c", True)
    assert tree.subscriptions() == {"b", "c"}


def test_annotations_follow_a_mailbox(tree: MailTree) -> None:
    for name in ("a", "a/b", "c"):
        tree.create(name)
    tree.annotate(
        lambda found: found.update({name: {"/x": name.encode()} for name in ("a", "a/b", "c", "INBOX")})
    )
    tree.rename("a", "d/e")
    tree.delete("c")
    tree.rename("INBOX", "old")
    assert tree.annotations() == {"d/e": {"/x": b"a"}, "d/e/b": {"/x": b"a/b"}, "INBOX": {"/x": b"INBOX"}}


def test_long_paths_and_deep_children(tree: MailTree) -> None:
    tree.create("/".join("abcdefghijklmnopqrst"))
    tree.create("z")
    for old, new in (("z", "/".join(["x" * 200] * 6)), ("a", "y/a")):
        with pytest.raises(MailboxError) as raised:
            tree.rename(old, new)
        assert raised.value.code == "CANNOT"
    assert {"a", "z", "y"} & set(tree.names()) == {"a", "z"}


def test_names_that_would_be_inbox_on_the_wire(tree: MailTree) -> None:
    Path(tree.path, "Inbox.mbox").touch()
    Path(tree.path, "inbox").mkdir()
    Path(tree.path, "inbox", "x.mbox").touch()
    assert tree.names() == {"INBOX": True}
