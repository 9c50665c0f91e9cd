"""services/fetch/run: one visit after another, the pauses between them, and what ends a run."""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import (
    MailError,
    PolicyError,
    ProtocolError,
    TemporaryError,
    UnknownHostError,
)
from mailtools.services.access import OFF, Access
from mailtools.services.fetch import run
from mailtools.services.fetch.imap import ImapRemote
from mailtools.services.fetch.pop3 import Pop3Remote
from mailtools.services.fetch.remote import Fetched, FetchTarget, FetchWishes, Item
from mailtools.services.fetch.run import Order, fetch, open_remote
from mailtools.services.fetch.sinks import MboxSink
from mailtools.services.transit import mbox_form
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.fetch_state import Seen
from mailtools.system.net.client_connection import LostConnectionError
from tests.boxes import number, subjects
from tests.scripted import ScriptedImap, ScriptedPop3

TARGET = FetchTarget("imap", "host.test", 143, Access(tls=OFF, user="bob"))


class World:
    """The servers that are there, one for each visit; a clock that only pauses and visits move.

    *visits*: for each how many seconds it takes, and the error that ends it; after the last the run is stopped.
    """

    def __init__(self, *visits: tuple[float, MailError | None]) -> None:
        self.visits = list(visits)
        self.now = 0.0
        self.pauses: list[float] = []
        self.steps: list[Any] = []
        self.there: list[int] = [1]
        self.is_stopping = False
        self.breaking: set[int] = set()  # messages at which a session ends
        self.asked: list[list[int]] = []
        self._slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._slept += seconds

    def open(self, target: FetchTarget) -> "Remote":
        if self.steps:
            self.pauses.append(round(self._slept))
        self._slept = 0.0
        self.steps.append("open")
        seconds, error = self.visits.pop(0)
        self.is_stopping = not self.visits
        self.now += seconds
        if isinstance(error, UnknownHostError):
            raise error
        return Remote(self, error)


class Remote:
    """A server with the mailboxes a and b. *error*: what the wait for mail ends with."""

    def __init__(self, world: World, error: MailError | None) -> None:
        self._world = world
        self._error = error

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        return list(patterns)

    def problems(self) -> list[MailError]:
        return []

    def select(self, mailbox: str, to_change: bool) -> str:
        self._world.steps.append(mailbox)
        return "7"

    def items(self, wishes: FetchWishes) -> list[Item]:
        return [Item(n, str(n)) for n in self._world.there]

    def since(self, items: list[Item], seconds: float) -> set[str]:
        raise NotImplementedError

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        items = list(items)
        self._world.asked.append([item.number for item in items])
        for item in items:
            if item.number in self._world.breaking:
                raise LostConnectionError("the connection ended")
            body = Buffer()
            body.append(mbox_form.stored(number(item.number)))
            yield Fetched(item, body, 1e9)

    def delete(self, items: list[Item]) -> None:
        raise NotImplementedError

    def mark_seen(self, items: list[Item]) -> None:
        raise NotImplementedError

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        self._world.steps.append("wait")
        if self._error is not None:
            raise self._error
        if len(self._world.there) < 3:
            self._world.there.append(len(self._world.there) + 1)
        else:
            self._world.is_stopping = True

    def leave(self) -> None:
        self._world.steps.append("leave")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._world.steps.append("close")


class Told:
    """A `Watch` that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], World]:
    def made(world: World) -> World:
        monkeypatch.setattr(clock, "monotonic", lambda: world.now)
        monkeypatch.setattr(run.time, "sleep", world.sleep)
        monkeypatch.setattr(run, "open_remote", world.open)
        return world

    return made


def order(folder: Path, world: World | None = None, **options: Any) -> Order:
    """*world*: for a run that goes on until it is stopped."""
    box = str(folder / "box")
    if world is not None:
        options["is_stopping"] = lambda: world.is_stopping
    return Order(TARGET, box, FetchWishes(), lambda mailbox: MboxSink(box + mailbox), **options)


def later(count: int, seconds: float = 0.0) -> list[tuple[float, MailError | None]]:
    """So many visits to a host that is not known, each of *seconds*."""
    return [(seconds, UnknownHostError("no such host"))] * count


Enter = Callable[[World], World]


# -- one visit -----------------------------------------------------------------------------------------------


def test_each_mailbox_goes_into_its_own_sink(enter: Enter, tmp_path: Path) -> None:
    world = enter(World((0.0, None)))
    fetch(order(tmp_path, patterns=["a", "b"]), Told())
    assert world.steps == ["open", "a", "b", "leave", "close"]
    assert subjects(tmp_path / "boxa") == subjects(tmp_path / "boxb") == ["000001"]


@pytest.mark.parametrize("error", [TemporaryError("later"), PolicyError("no"), ProtocolError("what?")])
def test_a_run_without_idle_ends_with_the_first_error(enter: Enter, tmp_path: Path, error: MailError) -> None:
    world = enter(World((0.0, error)))
    told = Told()
    with pytest.raises(type(error)):
        fetch(order(tmp_path), told)
    assert (world.steps[-2:], world.pauses, told.warnings) == (["leave", "close"], [], [])


def test_a_dry_run_stores_nothing(enter: Enter, tmp_path: Path) -> None:
    enter(World((0.0, None)))
    fetch(order(tmp_path, is_dry=True), Told())
    assert not (tmp_path / "boxINBOX").exists()


@pytest.mark.parametrize("error", [None, TemporaryError("later")])
def test_another_run_may_begin_after_the_end_and_not_before(
    enter: Enter, tmp_path: Path, error: MailError | None
) -> None:
    world = enter(World((0.0, error)))
    other = Seen(str(tmp_path / "box"), TARGET.name)
    with pytest.raises(TemporaryError, match="under way"):
        fetch(order(tmp_path), Told())
    assert world.steps == []  # the server was not asked
    other.close()
    if error is None:
        fetch(order(tmp_path), Told())
    else:
        with pytest.raises(TemporaryError, match="later"):
            fetch(order(tmp_path), Told())
    Seen(str(tmp_path / "box"), TARGET.name).close()


def test_messages_at_which_the_session_ends_are_asked_for_last_and_alone(
    enter: Enter, tmp_path: Path
) -> None:
    world = enter(World(*[(0.0, None)] * 9))
    world.there, world.breaking = [1, 2, 3, 4, 5], {2, 4}
    fetch(order(tmp_path), Told())
    assert world.asked == [[1, 2, 3, 4, 5], [3, 4, 5], [5], [2], [4]]
    assert subjects(tmp_path / "boxINBOX") == ["000001", "000003", "000005"]
    world.asked.clear()
    world.there.append(6)
    world.breaking.remove(4)
    fetch(order(tmp_path), Told())
    assert world.asked == [[6], [2], [4]]
    assert subjects(tmp_path / "boxINBOX") == ["000001", "000003", "000005", "000006", "000004"]


def test_a_run_ends_where_sessions_end_without_a_message(enter: Enter, tmp_path: Path) -> None:
    world = enter(World(*[(0.0, None)] * 9))
    world.there, world.breaking = [1, 2, 3, 4, 5], {1, 2, 3, 4}
    with pytest.raises(LostConnectionError):
        fetch(order(tmp_path), Told())
    assert world.asked == [[1, 2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5]]
    world.asked.clear()
    with pytest.raises(LostConnectionError):
        fetch(order(tmp_path), Told())
    assert world.asked == [[4, 5], [5], [1], [2], [3]]  # the next run begins behind them
    assert subjects(tmp_path / "boxINBOX") == ["000005"]


# -- runs that wait for mail ---------------------------------------------------------------------------------


def test_new_mail_is_fetched_from_the_last_mailbox_until_the_run_is_stopped(
    enter: Enter, tmp_path: Path
) -> None:
    world = enter(World((0.0, None), (0.0, None)))
    fetch(order(tmp_path, world, patterns=["a", "b"]), Told())
    assert world.steps == ["open", "a", "b", "wait", "b", "wait", "b", "wait", "leave", "close"]
    assert subjects(tmp_path / "boxa") == ["000001"]
    assert subjects(tmp_path / "boxb") == ["000001", "000002", "000003"]


def test_a_run_that_waits_asks_once_more_for_a_message_at_which_the_session_ended(
    enter: Enter, tmp_path: Path
) -> None:
    world = enter(World(*[(0.0, None)] * 3))
    world.there, world.breaking = [1, 2, 3], {2}
    fetch(order(tmp_path, world), Told())
    assert world.asked == [[1, 2, 3], [3], [2], []]
    assert subjects(tmp_path / "boxINBOX") == ["000001", "000003"]


def test_pauses_double_up_to_five_minutes(enter: Enter, tmp_path: Path) -> None:
    world = enter(World(*later(10)))
    told = Told()
    fetch(order(tmp_path, world), told)
    assert world.pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert told.warnings[0] == "no such host; once more in 5 seconds"
    assert told.warnings[6] == "no such host; once more in 300 seconds"


@pytest.mark.parametrize(("seconds", "next_pauses"), [(300.0, [20, 40]), (300.5, [5, 10])])
def test_pauses_begin_again_after_a_connection_that_held_for_long(
    enter: Enter, tmp_path: Path, seconds: float, next_pauses: list[int]
) -> None:
    world = enter(World(*later(2), *later(1, seconds), *later(2)))
    fetch(order(tmp_path, world), Told())
    assert world.pauses == [5, 10, *next_pauses]


def test_a_run_that_is_stopped_in_a_pause_does_not_connect_again(enter: Enter, tmp_path: Path) -> None:
    world = World(*later(3))
    sleep = world.sleep

    def stopped(seconds: float) -> None:
        sleep(seconds)
        world.is_stopping = world.now > 7  # in the second pause

    world.sleep = stopped  # type: ignore[method-assign]
    fetch(order(tmp_path, enter(world)), Told())
    assert world.steps == ["open", "open"]
    assert world.now < 8  # it did not wait for the end of the pause


def test_the_connection_is_made_again_after_a_temporary_error(enter: Enter, tmp_path: Path) -> None:
    world = enter(World((0.0, TemporaryError("the connection ended")), (0.0, None), (0.0, None)))
    world.there = [1, 2, 3]
    told = Told()
    fetch(order(tmp_path, world), told)
    assert world.steps == ["open", "INBOX", "wait", "close", "open", "INBOX", "wait", "leave", "close"]
    assert told.warnings == ["the connection ended; once more in 5 seconds"]
    assert subjects(tmp_path / "boxINBOX") == ["000001", "000002", "000003"]


@pytest.mark.parametrize("error", [PolicyError("no"), ProtocolError("what?")])
def test_an_error_that_lasts_ends_a_run_that_waits(enter: Enter, tmp_path: Path, error: MailError) -> None:
    world = enter(World((0.0, error), (0.0, None)))
    with pytest.raises(type(error)):
        fetch(order(tmp_path, world), Told())
    assert world.steps == ["open", "INBOX", "wait", "close"]


def test_a_run_that_is_stopped_before_it_begins_does_not_connect(enter: Enter, tmp_path: Path) -> None:
    world = enter(World((0.0, None)))
    world.is_stopping = True
    fetch(order(tmp_path, world), Told())
    assert world.steps == []


# -- protocols -----------------------------------------------------------------------------------------------


def test_the_protocol_of_the_target_decides_which_client_connects() -> None:
    access = Access(tls=OFF, user="bob", secret=lambda: "secret", timeout=10.0)
    with ScriptedPop3([]) as one, ScriptedImap({"INBOX": []}) as two:
        for protocol, port, kind in (("pop3", one.port, Pop3Remote), ("imap", two.port, ImapRemote)):
            remote = open_remote(FetchTarget(protocol, "127.0.0.1", port, access))
            assert isinstance(remote, kind)
            remote.leave()
