"""services/submission/names: what addresses mean, and the places of their mail."""

from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, TemporaryError, UnknownRecipientError
from mailtools.services.submission.names import Names, SendmailSettings, is_mailbox
from mailtools.system import clock

HOST = clock.host_name()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def names(root: str = "~/Mail", caller: str = "ann", **settings: str) -> Names:
    return Names(SendmailSettings(root, **settings), caller, lambda _: None)  # type: ignore[arg-type]


def inbox(root: Path, user: str) -> tuple[str, ...]:
    return (str(root / user / "INBOX.mbox"),)


# -- whose mail a root takes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [f"ann@{HOST}", "Ann@LOCALHOST", "ann@localhost."])
def test_a_root_in_the_home_folder_takes_the_caller_s_mail(home: Path, address: str) -> None:
    its = names()
    assert its.is_local(address)
    assert its.places(address).mboxes == inbox(home / "Mail", "ann")


@pytest.mark.parametrize("name", ["root", "postmaster", "annabel", "an", "nobody", "ann+x", '"ann "'])
@pytest.mark.parametrize("root", ["~/Mail", "~/elsewhere"])
def test_and_nobody_else_s(home: Path, root: str, name: str) -> None:
    with pytest.raises(UnknownRecipientError):
        names(root).places(f"{name}@localhost")
    assert list(home.iterdir()) == []


def test_a_tag_and_a_catch_all(home: Path) -> None:
    assert names(plus_delimiter="+").places("ann+x@localhost").mboxes == inbox(home / "Mail", "ann")
    assert names(catch_all="ann").places("root@localhost").mboxes == inbox(home / "Mail", "ann")
    with pytest.raises(UnknownRecipientError):
        names(plus_delimiter="+").places("root+ann@localhost")


def test_an_alias_may_say_that_it_is_the_caller_s(home: Path) -> None:
    (home / "aliases").write_text("root: ann\npostmaster: boss@example.org\nbob: carol\n")
    its = names(aliases=str(home / "aliases"))
    assert its.places("root@localhost").mboxes == inbox(home / "Mail", "ann")
    assert its.places("postmaster@localhost").elsewhere == ("boss@example.org",)
    with pytest.raises(TemporaryError):
        its.places("bob@localhost")


def test_a_users_file_says_who_has_a_mailbox(home: Path) -> None:
    (home / "Mail").mkdir()
    (home / "Mail" / "users").write_text("bob:\n")
    assert names().places("bob@localhost").mboxes == inbox(home / "Mail", "bob")
    with pytest.raises(UnknownRecipientError):
        names().places("ann@localhost")


def test_in_a_common_root_every_name_has_a_mailbox(home: Path) -> None:
    assert names(str(home / "srv")).places("bob@localhost").mboxes == inbox(home / "srv", "bob")


# -- arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bob", [f"bob@{HOST}"]),
        ("bob@x.example", ["bob@x.example"]),
        ("a@x, b@y c", ["a@x", "b@y", f"c@{HOST}"]),
        ('"B, C" <b@x>', ["b@x"]),
        ('"b c"@x', ['"b c"@x']),
        ("", []),
    ],
)
def test_arguments(text: str, found: list[str]) -> None:
    assert names().addresses(text) == found


@pytest.mark.parametrize("text", ["a@@b", "<a@b", '"a', "a@b\r\nX: y", "a@b c d@", "@", "a..b@"])
def test_arguments_that_are_no_addresses(text: str) -> None:
    with pytest.raises(BadDataError):
        names().addresses(text)
    good, bad = names().sorted_addresses(["ok@x", text])
    assert good == ("ok@x",)
    assert [one.text for one in bad] == [text]


def test_the_origin_completes_names() -> None:
    assert names(origin="corp.example").address("bob") == "bob@corp.example"


@pytest.mark.parametrize("text", ["a@b", "a.b-c_d+e@x-y.example", '"a b"@x', "ö@x.example", "a@[127.0.0.1]"])
def test_mailboxes(text: str) -> None:
    assert is_mailbox(text)


@pytest.mark.parametrize("text", ["a", "@", "a@", "@b", "a@-b", "a b@c", "a@b c", "a\0@b"])
def test_what_is_no_mailbox(text: str) -> None:
    assert not is_mailbox(text)
