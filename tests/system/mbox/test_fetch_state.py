"""system/mbox/fetch_state: what is remembered of fetched messages, and what remains after a kill."""

import json
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, TemporaryError
from mailtools.system import clock
from mailtools.system.mbox import fetch_state
from mailtools.system.mbox.fetch_state import Intention, Seen

SOURCE = "imap://bob@host.test:143"
INBOX = ("INBOX", "7")


def plain(names: Iterable[str]) -> dict[str, str]:
    """Names without digests, as UIDs are."""
    return dict.fromkeys(names, "")


def opened(folder: Path, source: str = SOURCE) -> Seen:
    return Seen(str(folder / "box"), source)


def lines(folder: Path) -> list[object]:
    (path,) = folder.glob(".mailtools/*.fetch-????????????????")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_names_are_remembered_with_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = opened(tmp_path)
    for moment, names in ((100.9, ["a", "b"]), (200.0, ["c"])):
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        seen.add(INBOX, plain(names))
    expected = {"a": 100, "b": 100, "c": 200}
    assert seen.names(INBOX) == expected
    seen.close()
    assert opened(tmp_path).names(INBOX) == expected


def test_mailboxes_and_validities_are_kept_apart(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    seen.add(("INBOX", "7"), plain(["1"]))
    seen.add(("INBOX", "8"), plain(["2"]))
    seen.add(("Lists", "7"), plain(["3"]))
    assert list(seen.names(("INBOX", "8"))) == ["2"]
    assert seen.validities("INBOX") == ["7", "8"]
    assert seen.validities("nothing") == []


def test_sources_are_kept_apart_and_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path, "pop3://bob@host.test:110")
    one.add(INBOX, plain(["a"]))
    assert two.names(INBOX) == {}
    assert one.path != two.path


def test_a_second_run_of_the_same_source_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(TemporaryError, match=f"another fetch from {SOURCE} is under way"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_the_file_says_which_source_it_is_of(tmp_path: Path) -> None:
    opened(tmp_path)
    assert lines(tmp_path) == [{"source": SOURCE}]


@pytest.mark.parametrize("name", ["a\u00fc", "\udcff", 'a"b\\c', "a\nb"])
def test_any_name_is_remembered(tmp_path: Path, name: str) -> None:
    seen = opened(tmp_path)
    seen.add(("", ""), plain([name]))
    seen.close()
    assert list(opened(tmp_path).names(("", ""))) == [name]


# -- runs that were killed -----------------------------------------------------------------------------------


def test_the_intention_of_a_killed_run_is_found(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    seen.add(INBOX, plain(["a"]))
    seen.intend(INBOX, plain(["b", "c"]), [1000, "beef"])
    seen.close()
    again = opened(tmp_path)
    assert again.intention == Intention(INBOX, plain(["b", "c"]), [1000, "beef"])
    assert list(again.names(INBOX)) == ["a"]
    again.add(INBOX, plain(["b", "c"]))
    assert again.intention is None


def test_an_intention_that_was_carried_out_is_none(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    seen.intend(INBOX, plain(["a"]), [0, ""])
    seen.add(INBOX, plain(["a"]))
    seen.close()
    assert opened(tmp_path).intention is None


@pytest.mark.parametrize(
    "torn", [b'["INBOX","7",1,["b"', b'["INBOX","7",1,["b"]]', b"\xff", b'["INBOX","7",0,["b"],5,"x"]']
)
def test_a_line_that_was_not_written_to_its_end_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    seen = opened(tmp_path)
    seen.add(INBOX, plain(["a"]))
    seen.close()
    with open(seen.path, "ab") as file:
        file.write(torn)
    again = opened(tmp_path)
    assert (list(again.names(INBOX)), again.intention) == (["a"], None)
    again.add(INBOX, plain(["c"]))
    again.close()
    assert list(opened(tmp_path).names(INBOX)) == ["a", "c"]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "5",
        '{"INBOX": 1}',
        "[]",
        '["INBOX","7"]',
        '["INBOX","7","soon",["x"]]',
        '["INBOX","7",1,5]',
    ],
)
def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path, line: str) -> None:
    seen = opened(tmp_path)
    seen.add(INBOX, plain(["a"]))
    seen.close()
    with open(seen.path, "a") as file:
        file.write(line + "\n")
    again = opened(tmp_path)
    again.add(INBOX, plain(["b"]))
    assert list(again.names(INBOX)) == ["a", "b"]


# -- names that are gone from the server ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "left", "is_rewritten"),
    [(3, 1, True), (3, 2, False), (10, 5, True), (10, 6, False)],
)
def test_names_gone_from_the_server_are_dropped_once_that_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: int, left: int, is_rewritten: bool
) -> None:
    """Half of the names, and in this test at least 2."""
    monkeypatch.setattr(fetch_state, "_WORTH_IT", 2)
    seen = opened(tmp_path)
    names = [str(n) for n in range(known)]
    seen.add(INBOX, plain(names))
    seen.add(("Lists", "7"), plain(["x"]))
    seen.forget_others(INBOX, names[:left])
    kept = names[:left] if is_rewritten else names
    assert list(seen.names(INBOX)) == kept
    seen.add(INBOX, plain(["new"]))  # behind the rewrite the notes go on
    seen.close()
    again = opened(tmp_path)
    assert list(again.names(INBOX)) == [*kept, "new"]
    assert list(again.names(("Lists", "7"))) == ["x"]


def test_times_survive_a_rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_state, "_WORTH_IT", 1)
    seen = opened(tmp_path)
    for moment, name in ((100, "a"), (200, "b"), (200, "c"), (300, "d")):
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        seen.add(INBOX, plain([name]))
    seen.forget_others(INBOX, ["a", "c"])
    seen.close()
    assert opened(tmp_path).names(INBOX) == {"a": 100, "c": 200}


# -- files that are in the way -------------------------------------------------------------------------------


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    seen.close()
    os.remove(seen.path)
    os.symlink(tmp_path / "target", seen.path)
    with pytest.raises(CannotWriteError):
        opened(tmp_path)
    assert not (tmp_path / "target").exists()
    os.remove(seen.path)
    opened(tmp_path).close()  # the lock was released


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / ".mailtools").touch()
    with pytest.raises(CannotWriteError, match=r"\.mailtools"):
        opened(tmp_path)


def test_notes_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    os.close(seen._file)
    seen._file = os.open(seen.path, os.O_RDONLY)
    with pytest.raises(CannotWriteError):
        seen.add(INBOX, plain(["a"]))
    assert seen.names(INBOX) == {}


def test_digests_are_remembered_for_pop3(tmp_path: Path) -> None:
    pop3 = ("", "")
    target = str(tmp_path / "box")
    with closing(Seen(target, "pop3://bob@host")) as seen:
        seen.add(pop3, {"a": "beef", "b": ""})
        seen.intend(pop3, {"c": "cafe"}, [0, ""])
    with closing(Seen(target, "pop3://bob@host")) as seen:
        assert [seen.digest(pop3, name) for name in "abcd"] == ["beef", "", "", ""]
        assert seen.intention == Intention(pop3, {"c": "cafe"}, [0, ""])
        assert set(seen.names(pop3)) == {"a", "b"}
        seen.add(pop3, {str(n): "old" for n in range(3000)})
        seen.forget_others(pop3, ["a"])
    with closing(Seen(target, "pop3://bob@host")) as seen:
        assert seen.names(pop3).keys() == {"a"}
        assert (seen.digest(pop3, "a"), seen.digest(pop3, "5")) == ("beef", "")


def test_messages_that_did_not_come_are_remembered_until_they_come(tmp_path: Path) -> None:
    box = ("INBOX", "7")
    with closing(Seen(str(tmp_path / "box"), "x")) as seen:
        for name, is_breaking in (("1", True), ("2", False), ("3", True), ("1", True), ("1", True)):
            seen.trouble(box, name, is_breaking)
        size = Path(seen.path).stat().st_size
        seen.trouble(box, "1", is_breaking=True)  # is the last already
        assert Path(seen.path).stat().st_size == size
    with closing(Seen(str(tmp_path / "box"), "x")) as seen:
        assert list(seen.troubled(box).items()) == [("2", False), ("3", True), ("1", True)]
        seen.add(box, {"3": "", "4": ""})
        assert list(seen.troubled(box)) == ["2", "1"]
    with closing(Seen(str(tmp_path / "box"), "x")) as seen:
        assert (list(seen.troubled(box)), list(seen.names(box))) == (["2", "1"], ["3", "4"])
