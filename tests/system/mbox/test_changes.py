"""system/mbox/changes: what changes is told, by inotify and without."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailtools.system.mbox import changes
from mailtools.system.mbox.changes import Changes
from mailtools.system.net.poller import Poller
from mailtools.system.process.loop import Loop
from tests.servers import eventually


class Room:
    """A loop with its watches; *later* is a list, so that no test waits for a clock."""

    def __init__(self, uses_inotify: bool) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.readers: list[Callable[[], None]] = []
        loop = Loop(
            lambda call: call(),
            lambda seconds, call: self.timers.append((seconds, call)),
            lambda _, call: self.readers.append(call),
        )
        self.changes = Changes(loop, uses_inotify)
        self.told: list[str] = []

    def watch(self, path: Path | str) -> changes.FileWatch:
        return self.changes.watch(str(path), lambda: self.told.append(os.path.basename(str(path))))

    def turn(self) -> list[str]:
        """Let time pass: what was told."""
        for read in self.readers:
            read()
        for _ in range(2):  # a look, then what it found
            due, self.timers = self.timers, []
            for _, call in due:
                call()
        told, self.told = sorted(self.told), []
        return told


@pytest.fixture(params=[True, False], ids=["inotify", "looks"])
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    found = Room(request.param)
    yield found
    found.changes.close()


def test_files_that_change_come_and_go(room: Room, tmp_path: Path) -> None:
    room.watch(tmp_path / "a")
    other = room.watch(tmp_path / "b")
    room.turn()
    (tmp_path / "a").write_text("x")
    assert room.turn() == ["a"]
    assert room.turn() == []
    (tmp_path / "b").write_text("x")
    (tmp_path / "c").write_text("x")
    assert room.turn() == ["b"]
    (tmp_path / "c").replace(tmp_path / "a")
    assert room.turn() == ["a"]
    (tmp_path / "a").unlink()
    other.close()
    (tmp_path / "b").unlink()
    assert room.turn() == ["a"]


def test_a_folder(room: Room, tmp_path: Path) -> None:
    room.watch(f"{tmp_path}/")
    room.turn()
    (tmp_path / "new").mkdir()
    assert room.turn() == [""]


def test_a_folder_that_comes_later(room: Room, tmp_path: Path) -> None:
    room.watch(tmp_path / "in" / "a")
    room.turn()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").touch()
    assert room.turn() == ["a"]
    (tmp_path / "in" / "a").write_text("x")
    assert room.turn() == ["a"]


def test_a_folder_that_goes(room: Room, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").touch()
    room.watch(tmp_path / "in" / "a")
    room.turn()
    (tmp_path / "in").rename(tmp_path / "out")
    assert room.turn() == ["a"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").touch()
    assert room.turn() == ["a"]
    (tmp_path / "out" / "a").write_text("x")
    assert room.turn() == []


def test_no_more_watches_than_allowed(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_MOST", 2)
    for name in "abcd":
        (tmp_path / name).mkdir()
        room.watch(tmp_path / name / "x")
    assert len(room.changes._numbers) <= 2
    room.turn()
    for name in "abcd":
        (tmp_path / name / "x").touch()
    assert room.turn() == ["x"] * 4


def test_nothing_is_planned_when_nothing_is_watched(room: Room, tmp_path: Path) -> None:
    for watch in [room.watch(tmp_path / "a"), room.watch(tmp_path / "a")]:
        watch.close()
    room.turn()
    assert room.timers == []
    assert not room.changes._folders


def test_an_idle_watch_costs_no_look(tmp_path: Path) -> None:
    room = Room(True)
    room.watch(tmp_path / "a")
    assert [seconds for seconds, _ in room.timers] == [changes._SWEEP]
    room.changes.close()


def test_in_a_real_loop(tmp_path: Path) -> None:
    poller = Poller()
    told: list[int] = []
    found = Changes(Loop(poller.post, poller.later, poller.watch))
    found.watch(str(tmp_path / "a"), lambda: told.append(1))
    (tmp_path / "a").touch()

    def turned() -> bool:
        poller.poll(0.05)
        return bool(told)

    eventually(turned, "the change")
