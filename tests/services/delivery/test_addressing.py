"""Whose mail is it, and where does it go."""

from pathlib import Path

import pytest

from mailtools.core.errors import ConfigurationError, MailError
from mailtools.services.delivery.addressing import (
    Addressing,
    MboxPlace,
    PipePlace,
    check_catch_all,
    open_aliases,
)
from mailtools.services.delivery.failures import as_reply
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.users.users_file import Users


class House:
    """A mail root, users, aliases; where an address leads, shortly said."""

    def __init__(
        self, folder: Path, users: str | None = "bob:\nann:\nroot:\n", aliases: str = "", **more: object
    ) -> None:
        self.root = folder / "root"
        known = None
        if users is not None:
            (folder / "users").write_text(users)
            known = Users(str(folder / "users"))
        table = None
        if aliases:
            (folder / "aliases").write_text(aliases)
            table = open_aliases(str(folder / "aliases"), print)
        more.setdefault("domains", frozenset({"here.example"}))
        self.addressing = Addressing(MailRoot(str(self.root)), users=known, aliases=table, **more)  # type: ignore[arg-type]

    def places(self, recipient: str) -> list[str]:
        found = []
        for place in self.addressing.places(recipient):
            path = place.path if isinstance(place, MboxPlace) else f"|{place.command}"
            found.append(path.replace(f"{self.root}/", "").replace("/INBOX.mbox", ""))
        return found

    def refusal(self, recipient: str) -> str:
        with pytest.raises(MailError) as refused:
            self.addressing.places(recipient)
        return f"{as_reply(refused.value).code} {refused.value.status}"


def test_users(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.places("BOB@Here.Example.") == ["bob"]
    assert house.places('"bob"@here.example') == ["bob"]
    assert house.places("postmaster") == ["postmaster"]
    assert house.places("PostMaster@here.example") == ["postmaster"]
    assert house.refusal("eve@here.example") == "550 5.1.1"
    assert house.refusal("bob@elsewhere.example") == "550 5.7.1"
    assert house.refusal("postmaster@elsewhere.example") == "550 5.7.1"
    assert house.refusal("bob+tag@here.example") == "550 5.1.1"


def test_anybody(tmp_path: Path) -> None:
    house = House(tmp_path, users=None, domains=frozenset(), plus_delimiter="+")
    assert house.places("who@ever.example") == ["who"]
    assert house.places("who+tag@ever.example") == ["who"]
    assert house.places("+tag@ever.example") == ["+tag"]
    assert house.places('"../../etc/passwd"@x') == ["%2E./../etc/passwd".replace("/", "%2F")]
    assert house.refusal(f"{'x' * 300}@x") == "550 5.1.1"


def test_one_mbox_for_all(tmp_path: Path) -> None:
    house = House(tmp_path, mbox="/all.mbox")
    assert house.places("bob@here.example") == house.places("ann@here.example") == ["/all.mbox"]
    assert house.refusal("eve@here.example") == "550 5.1.1"


def test_addresses_as_names_count_for_their_domain(tmp_path: Path) -> None:
    house = House(
        tmp_path,
        users="bob@a.example:\nbob:\nann@b.example:\n",
        domains=frozenset({"a.example", "b.example"}),
    )
    assert house.places("bob@a.example") == ["bob@a.example"]
    assert house.places("bob@b.example") == ["bob"]
    assert house.places("ann@b.example") == ["ann@b.example"]
    assert house.refusal("ann@a.example") == "550 5.1.1"


def test_tags(tmp_path: Path) -> None:
    house = House(tmp_path, users="bob:\nbob-x:\n", aliases="sales: bob\n", plus_delimiter="-")
    assert house.places("bob-y@here.example") == ["bob"]
    assert house.places("bob-x@here.example") == ["bob-x"]
    assert house.places("sales-de@here.example") == ["bob"]
    assert house.refusal("-bob@here.example") == "550 5.1.1"
    assert house.places("postmaster-x@here.example") == ["postmaster"]


def test_catch_all(tmp_path: Path) -> None:
    house = House(tmp_path, catch_all="Ann", aliases="x: nobody-here\n")
    assert house.places("bob@here.example") == ["bob"]
    assert house.places("eve@here.example") == ["ann"]
    assert house.places("postmaster@here.example") == ["ann"]
    assert house.places("x@here.example") == ["ann"]
    assert house.refusal("eve@elsewhere.example") == "550 5.7.1"
    with pytest.raises(ConfigurationError, match="mailtools user add zoe"):
        check_catch_all("zoe", house.addressing.users)


ALIASES = """
team: bob, ann, bob
all: team, root
mine: \\bob
bob: bob, ann
self: self
one: two
two: three
three: one
file: /var/mail/x.mbox, bob
none: /dev/null
maildir: /var/mail/x/
away: x@elsewhere.example
half: ann, x@elsewhere.example
typo: bbo
pipe: "|cat"
"""


def test_aliases(tmp_path: Path) -> None:
    house = House(tmp_path, aliases=ALIASES)
    assert house.places("team@here.example") == ["bob", "ann"]
    assert house.places("all@here.example") == ["bob", "ann", "root"]
    assert house.places("mine@here.example") == ["bob"]
    assert house.places("bob@here.example") == ["bob", "ann"]
    assert house.places("file@here.example") == ["/var/mail/x.mbox", "bob", "ann"]
    assert house.places("none@here.example") == []
    for loop in ("self", "one", "two", "three"):
        assert house.refusal(f"{loop}@here.example") == "554 5.4.6"
    for broken in ("maildir", "away", "half", "typo", "pipe"):
        assert house.refusal(f"{broken}@here.example") == "451 4.3.5"


def test_programs_only_where_they_are_allowed(tmp_path: Path) -> None:
    house = House(tmp_path, aliases=ALIASES, commands=True)
    assert house.addressing.places("pipe@here.example") == (PipePlace("cat"),)


def test_included_files_name_addresses_only(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    house = House(tmp_path, aliases=f"l: :include:{listed}\nm: :include:/none\n", commands=True)
    listed.write_text("# members\nbob\nann@here.example, root\n")
    assert house.places("l@here.example") == ["bob", "ann", "root"]
    assert house.refusal("m@here.example") == "451 4.3.5"
    for line in ("/etc/passwd", "|id", "x@elsewhere.example", "eve"):
        listed.write_text(f"bob\n{line}\n")
        assert house.refusal("l@here.example") == "451 4.3.5"
    listed.write_text(f":include:{listed}\n")
    assert house.refusal("l@here.example") == "554 5.4.6"
    listed.write_text("l\nbob\n")
    assert house.refusal("l@here.example") == "554 5.4.6"


def test_a_change_is_seen(tmp_path: Path) -> None:
    house = House(tmp_path, aliases="x: bob\n")
    assert house.places("x@here.example") == ["bob"]
    (tmp_path / "aliases").write_text("x: ann, root\n")
    assert house.places("x@here.example") == ["ann", "root"]


def test_an_explosion_ends(tmp_path: Path) -> None:
    lines = [f"a{n}: a{n + 1}, |c{n}" for n in range(2000)]
    house = House(tmp_path, aliases="\n".join([*lines, "a2000: bob"]), commands=True)
    assert house.refusal("a0@here.example") == "451 4.3.5"
    # Each doubles: 2^40 ways, few places.
    lines = [f"d{n}: d{n + 1}, e{n + 1}\ne{n}: d{n + 1}, e{n + 1}" for n in range(40)]
    house = House(tmp_path, aliases="\n".join([*lines, "d40: bob", "e40: ann"]))
    assert house.places("d0@here.example") == ["bob", "ann"]
