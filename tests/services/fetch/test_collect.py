"""services/fetch/collect: one mailbox of a server made of plain lists. What comes, in which order, what is left."""

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import CannotWriteError, MailError, TemporaryError
from mailtools.services.fetch import collect as collecting
from mailtools.services.fetch.collect import Errand, collect
from mailtools.services.fetch.remote import Fetched, FetchWishes, Item
from mailtools.services.fetch.sinks import MboxSink, Sink, StreamSink
from mailtools.services.transit import mbox_form
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.fetch_state import Seen
from tests.boxes import number, subjects

DAY = 86400.0
NOW = 1_800_000_000.0


class KilledError(BaseException):
    """Stands for the death of the process."""


class Server:
    """A `Remote`. *there*: its messages; *broken_after*: so many are given before the connection ends."""

    def __init__(self, there: Sequence[Item], validity: str = "7") -> None:
        self.there = list(there)
        self.validity = validity
        self.steps: list[Any] = []
        self.broken_after = -1
        self.refused: set[int] = set()
        self.old: set[str] = set()
        self.octets: dict[int, bytes] = {}  # of messages that are not as their number says
        self.trouble: list[MailError] = []

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        return list(patterns)

    def problems(self) -> list[MailError]:
        return self.trouble

    def select(self, mailbox: str, to_change: bool) -> str:
        self.steps.append(("select", mailbox, to_change))
        return self.validity

    def items(self, wishes: FetchWishes) -> list[Item]:
        return list(self.there)

    def since(self, items: list[Item], seconds: float) -> set[str]:
        self.steps.append(("since", [item.number for item in items], seconds))
        return {item.name for item in items} - self.old

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        for count, item in enumerate(items):
            if count == self.broken_after:
                raise TemporaryError("the connection ended")
            self.steps.append(("fetch", item.number))
            octets = self.octets.get(item.number)
            yield Fetched(
                item,
                body(item) if octets is None else made_of(octets),
                NOW,
                "in use" if item.number in self.refused else "",
            )

    def delete(self, items: list[Item]) -> None:
        self.steps.append(("delete", [item.number for item in items]))
        self.there = [item for item in self.there if item not in items]

    def mark_seen(self, items: list[Item]) -> None:
        self.steps.append(("mark", [item.number for item in items]))

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def came(self) -> list[int]:
        """The messages that were fetched since the last call."""
        numbers = [step[1] for step in self.steps if step[0] == "fetch"]
        self.steps.clear()
        return numbers


def body(item: Item) -> Buffer:
    return made_of(number(item.number))


def made_of(octets: bytes) -> Buffer:
    made = Buffer()
    made.append(mbox_form.stored(octets))
    return made


def items(*numbers: int) -> list[Item]:
    return [Item(n, f"id-{n}", 100 * n) for n in numbers]


class Told:
    """A `Watch` that keeps what it is told."""

    def __init__(self) -> None:
        self.expected = -1
        self.came_in: list[tuple[int, str]] = []
        self.gone: list[int] = []
        self.promised: list[int] = []
        self.warnings: list[str] = []
        self.problems: list[MailError] = []

    def begin(self, messages: int) -> None:
        self.expected = messages

    def came(self, mailbox: str, message: Fetched, problem: str) -> None:
        self.came_in.append((message.item.number, problem))

    def deleted(self, mailbox: str, items: Sequence[Item]) -> None:
        self.gone += [item.number for item in items]

    def would(self, mailbox: str, items: Sequence[Item]) -> None:
        self.promised += [item.number for item in items]

    def failed(self, problem: MailError) -> None:
        self.problems.append(problem)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Shelf:
    """A sink that keeps the numbers of the messages. *refused*: those that it does not take."""

    beside = ""

    def __init__(self, batch: int = 1, refused: Collection[int] = ()) -> None:
        self.batch = batch
        self.batches: list[list[int]] = []
        self._refused = refused

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        self.batches.append([message.item.number for message in messages])
        return ["full" if message.item.number in self._refused else "" for message in messages]

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        return []

    def has(self, mark: list[Any]) -> bool:
        return False


class Place:
    """Runs of `collect` from one server into one folder."""

    def __init__(self, folder: Path) -> None:
        self.box = folder / "box"

    def run(self, server: Server, sink: Sink | None = None, mailbox: str = "INBOX", is_dry: bool = False,
            change: Callable[[Seen], object] = lambda seen: None, **wishes: Any) -> Told:  # fmt: skip
        """One run. *change*: what to do to the state before it, as a test replaces one of its methods."""
        seen = Seen(str(self.box), "imap://bob@test:143")
        told = Told()
        try:
            change(seen)
            errand = Errand(server, seen, FetchWishes(**wishes), told, is_dry)
            collect(errand, mailbox, sink or MboxSink(str(self.box)))
        finally:
            seen.close()
        return told

    def subjects(self) -> list[int]:
        return [int(subject) for subject in subjects(self.box)] if self.box.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- what is new ---------------------------------------------------------------------------------------------


def test_only_what_is_new_comes(place: Place) -> None:
    server = Server(items(1, 2))
    assert place.run(server).came_in == [(1, ""), (2, "")]
    server.there += items(3)
    assert place.run(server).came_in == [(3, "")]
    assert place.run(server).expected == 0
    assert place.subjects() == [1, 2, 3]


def test_two_mailboxes_with_the_same_names_are_kept_apart(place: Place) -> None:
    server = Server(items(1))
    place.run(server, mailbox="INBOX")
    assert place.run(server, mailbox="Lists").expected == 1
    assert place.run(server, mailbox="INBOX").expected == 0


def test_after_another_uidvalidity_all_come_and_the_user_is_told(place: Place) -> None:
    server = Server(items(1, 2))
    assert not place.run(server).warnings
    server.validity = "8"
    told = place.run(server)
    assert told.expected == 2
    assert [text for text in told.warnings if "UIDVALIDITY 8" in text] == told.warnings != []
    assert not place.run(server).warnings  # once


def test_messages_of_the_same_name_all_come_and_are_known_afterwards(place: Place) -> None:
    """RFC 1939 section 7: two identical messages may have the same unique-id."""
    server = Server([Item(1, "same"), Item(2, "same"), Item(3, "other")])
    assert place.run(server).expected == 3
    assert place.run(server).expected == 0
    assert place.subjects() == [1, 2, 3]


def test_messages_without_names_come_each_time(place: Place) -> None:
    server = Server([Item(1, ""), Item(2, "")], validity="")
    assert place.run(server, delete=True).gone == [1, 2]
    server.there = [Item(1, "")]
    assert place.run(server).expected == 1
    assert place.run(server).expected == 1


@pytest.mark.parametrize(
    ("known", "there", "wishes", "is_told"),
    [
        (5, 5, {}, True),
        (4, 5, {}, False),  # few: no suspicion
        (5, 4, {}, False),
        (5, 5, {"mark_seen": True}, False),  # fetched mail may have been removed: none is expected
    ],
)
def test_new_names_for_everything_are_told(
    place: Place, known: int, there: int, wishes: dict[str, Any], is_told: bool
) -> None:
    place.run(Server(items(*range(1, known + 1)), validity=""), mailbox="")
    renamed = [Item(n, f"new-{n}") for n in range(1, there + 1)]
    told = place.run(Server(renamed, validity=""), mailbox="", **wishes)
    assert any("UIDL" in text for text in told.warnings) == is_told
    assert told.expected == there


def test_one_known_name_is_enough_to_trust_the_server(place: Place) -> None:
    place.run(Server(items(*range(1, 6)), validity=""), mailbox="")
    assert not place.run(Server(items(5, 6, 7, 8, 9), validity=""), mailbox="").warnings


# -- what is wanted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "numbers"),
    [
        ({}, [1, 2, 3, 4]),
        ({"limit": 2}, [1, 2]),
        ({"max_size": 300}, [1, 2, 3]),
        ({"max_size": 299}, [1, 2]),
        ({"since": 5.0}, [2, 3, 4]),
        ({"since": 5.0, "max_size": 300, "limit": 1}, [2]),
    ],
)
def test_wishes_choose_the_messages(place: Place, wishes: dict[str, Any], numbers: list[int]) -> None:
    server = Server(items(1, 2, 3, 4))
    server.old = {"id-1"}
    assert place.run(server, **wishes).came_in == [(n, "") for n in numbers]


def test_a_limit_counts_new_messages_so_that_runs_get_through(place: Place) -> None:
    server = Server(items(1, 2, 3))
    assert [place.run(server, limit=2).expected for _ in range(3)] == [2, 1, 0]


def test_since_is_asked_only_of_new_messages_that_are_small_enough(place: Place) -> None:
    server = Server(items(1, 2, 3))
    place.run(server, limit=1)
    place.run(server, since=9.0, max_size=200)
    place.run(server, since=9.0, max_size=200)  # none is left to ask about
    assert [step for step in server.steps if step[0] == "since"] == [("since", [2], 9.0)]


def test_what_was_too_large_once_comes_when_it_is_wanted(place: Place) -> None:
    server = Server(items(1, 9))
    place.run(server, max_size=500)
    assert place.run(server).came_in == [(9, "")]


def test_a_dry_run_names_the_messages_and_touches_nothing(place: Place) -> None:
    server = Server(items(1, 2, 3))
    told = place.run(server, is_dry=True, limit=2, delete=True, mark_seen=True)
    assert (told.promised, told.expected, told.gone) == ([1, 2], -1, [])
    assert server.steps == [("select", "INBOX", False)]
    assert not place.box.exists()
    assert place.run(server).expected == 3


# -- the order of storing, noting and deleting ---------------------------------------------------------------


def test_messages_are_stored_then_noted_then_synced_then_deleted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, shelf = Server(items(1, 2)), Shelf(batch=2)
    steps = server.steps

    def noted(seen: Seen) -> None:
        add, sync = seen.add, seen.sync
        monkeypatch.setattr(seen, "add", lambda box, names: (steps.append(("note", names)), add(box, names)))
        monkeypatch.setattr(seen, "sync", lambda: (steps.append("sync"), sync()))

    store = shelf.store
    monkeypatch.setattr(shelf, "store", lambda its: (steps.append("store"), store(its))[1])
    told = place.run(server, shelf, change=noted, delete=True, mark_seen=True)
    assert steps == [
        ("select", "INBOX", True), ("fetch", 1), ("fetch", 2), "store", ("note", {"id-1": "", "id-2": ""}),
        ("mark", [1, 2]), "sync", ("delete", [1, 2]),
    ]  # fmt: skip
    assert told.gone == [1, 2]


def test_nothing_is_deleted_whose_note_failed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seen: Seen) -> None:
        def sync() -> None:
            raise CannotWriteError("no room")

        monkeypatch.setattr(seen, "sync", sync)

    server = Server(items(1, 2))
    with pytest.raises(CannotWriteError):
        place.run(server, change=broken, delete=True)
    assert len(server.there) == 2


def test_what_an_earlier_run_fetched_is_deleted_too(place: Place) -> None:
    server = Server(items(1, 2, 3))
    assert place.run(server, limit=2).gone == []
    assert place.run(server, limit=0, max_size=100, delete=True).gone == [1, 2]
    assert [item.number for item in server.there] == [3]  # too large: it was never fetched


def test_mail_is_deleted_so_long_after_it_was_fetched(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(items(1, 2))
    moment = NOW
    monkeypatch.setattr(clock, "now", lambda: moment)
    place.run(server, limit=1, delete_after=2 * DAY)
    moment += DAY
    assert place.run(server, delete_after=2 * DAY).gone == []
    moment += DAY
    assert place.run(server, delete_after=2 * DAY).gone == [1]
    moment += DAY
    assert place.run(server, delete_after=2 * DAY).gone == [2]
    assert place.subjects() == [1, 2]


def test_delete_after_no_time_at_all_deletes_what_came_just_now(place: Place) -> None:
    assert place.run(Server(items(1)), delete_after=0.0).gone == [1]


@pytest.mark.parametrize(("wishes", "is_to_change"), [({}, False), ({"delete": True}, True), ({"delete_after": 0.0}, True), ({"mark_seen": True}, True)])  # fmt: skip
def test_a_mailbox_is_opened_for_changes_only_if_something_is_to_change(
    place: Place, wishes: dict[str, Any], is_to_change: bool
) -> None:
    server = Server(items(1))
    place.run(server, **wishes)
    assert server.steps[0] == ("select", "INBOX", is_to_change)


# -- runs that are interrupted, and partial failures ---------------------------------------------------------


def test_a_run_killed_after_it_stored_does_not_store_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seen: Seen) -> None:
        def add(box: object, names: object) -> None:
            raise KilledError

        monkeypatch.setattr(seen, "add", add)

    server = Server(items(1, 2))
    place.run(server, limit=1)
    with pytest.raises(KilledError):
        place.run(server, change=killed, delete=True)
    assert len(server.there) == 2
    assert place.run(server).expected == 0
    assert place.subjects() == [1, 2]


def test_a_run_killed_before_it_stored_stores_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = MboxSink(str(place.box))

    def store(messages: Sequence[Fetched]) -> list[str]:
        raise KilledError

    monkeypatch.setattr(sink, "store", store)
    server = Server(items(1, 2))
    with pytest.raises(KilledError):
        place.run(server, sink)
    assert place.run(server).expected == 2
    assert place.subjects() == [1, 2]


def test_an_announcement_for_another_mailbox_is_not_taken_for_this_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seen: Seen) -> None:
        def add(box: object, names: object) -> None:
            raise KilledError

        monkeypatch.setattr(seen, "add", add)

    server = Server(items(1))
    with pytest.raises(KilledError):
        place.run(server, change=killed)
    assert place.run(server, mailbox="Lists").expected == 1


def test_messages_that_came_before_the_connection_ended_are_kept(place: Place) -> None:
    server = Server(items(1, 2, 3))
    server.broken_after = 2
    with pytest.raises(TemporaryError, match="ended"):
        place.run(server, delete=True)
    assert place.subjects() == [1, 2]
    assert len(server.there) == 3  # nothing is deleted in a run that failed
    server.broken_after = -1
    told = place.run(server, delete=True)
    assert (told.came_in, told.gone) == ([(3, "")], [1, 2, 3])
    assert place.subjects() == [1, 2, 3]


def test_a_message_that_the_server_refuses_is_reported_and_stays(place: Place) -> None:
    server = Server(items(1, 2, 3))
    server.refused = {2}
    told = place.run(server, delete=True, mark_seen=True)
    assert sorted(told.came_in) == [(1, ""), (2, "in use"), (3, "")]
    assert ("mark", [1, 3]) in server.steps
    assert told.gone == [1, 3]
    server.refused = set()
    assert place.run(server).came_in == [(2, "")]


def test_a_message_that_the_sink_refuses_is_not_noted_and_stays(place: Place) -> None:
    server = Server(items(1, 2, 3))
    told = place.run(server, Shelf(batch=3, refused={2}), delete=True)
    assert told.came_in == [(1, ""), (2, "full"), (3, "")]
    assert told.gone == [1, 3]
    assert place.run(server, Shelf()).came_in == [(2, "")]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_sink_that_fails_ends_the_run_and_what_it_stored_is_noted(place: Place, failing: int) -> None:
    class Failing(Shelf):
        def store(self, messages: Sequence[Fetched]) -> list[str]:
            if messages[0].item.number == failing:
                raise OSError(errno.EACCES, "Permission denied")
            return super().store(messages)

    server = Server(items(1, 2, 3))
    with pytest.raises(CannotWriteError, match="standard output: Permission denied"):
        place.run(server, Failing(), delete=True)
    assert len(server.there) == 3
    assert place.run(server).came_in == [(n, "") for n in range(failing, 4)]


def test_a_closed_pipe_is_not_made_into_another_error(place: Place) -> None:
    def write(octets: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        place.run(Server(items(1)), StreamSink(write, lambda: None))


# -- batches, and the places where messages go ---------------------------------------------------------------


def test_messages_are_stored_in_batches(place: Place) -> None:
    shelf = Shelf(batch=2)
    place.run(Server(items(1, 2, 3, 4, 5)), shelf)
    assert shelf.batches == [[1, 2], [3, 4], [5]]


def test_large_messages_end_a_batch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_BATCH_OCTETS", 2 * body(Item(1, "")).size)
    shelf = Shelf(batch=100)
    place.run(Server(items(1, 2, 3, 4, 5)), shelf)
    assert shelf.batches == [[1, 2], [3, 4], [5]]


def test_a_stream_that_was_killed_gets_its_messages_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seen: Seen) -> None:
        def add(box: object, names: object) -> None:
            raise KilledError

        monkeypatch.setattr(seen, "add", add)

    server = Server(items(1))
    sink = StreamSink(lambda octets: None, lambda: None)
    with pytest.raises(KilledError):
        place.run(server, sink, change=killed)
    assert place.run(server, sink).expected == 1


def test_what_goes_wrong_without_ending_the_session_is_reported(place: Place) -> None:
    server = Server(items(1))
    server.trouble = [TemporaryError("a line of UIDL cannot be read")]
    told = place.run(server)
    assert (told.problems, told.came_in) == (server.trouble, [(1, "")])


# -- POP3: a UIDL proves nothing ---------------------------------------------------------------------------------


def pop3(*named: tuple[int, str]) -> Server:
    return Server([Item(n, name, 100) for n, name in named], validity="")


def test_what_an_earlier_run_stored_is_deleted_after_it_was_compared(place: Place) -> None:
    server = pop3((1, "a"), (2, "b"))
    place.run(server, mailbox="")
    told = place.run(server, mailbox="", delete=True)
    assert (told.gone, told.came_in, told.expected) == ([1, 2], [], 0)
    assert place.subjects() == [1, 2]


@pytest.mark.parametrize("wishes", [{"delete": True}, {"delete_after": 0.0}])
def test_another_message_of_a_known_name_is_stored_before_it_is_deleted(
    place: Place, wishes: dict[str, Any]
) -> None:
    server = pop3((1, "a"), (2, "b"))
    place.run(server, mailbox="")
    server.octets[2] = number(7)
    told = place.run(server, mailbox="", **wishes)
    assert (told.came_in, told.gone) == ([(2, "")], [1, 2])
    assert place.subjects() == [1, 2, 7]


def test_a_message_that_cannot_be_compared_stays(place: Place) -> None:
    server = pop3((1, "a"), (2, "b"))
    place.run(server, mailbox="")
    server.refused = {1}
    told = place.run(server, mailbox="", delete=True)
    assert (told.came_in, told.gone) == ([(1, "in use")], [2])


def test_mail_that_is_not_old_enough_is_not_compared(place: Place) -> None:
    server = pop3((1, "a"))
    place.run(server, mailbox="")
    server.steps.clear()
    assert place.run(server, mailbox="", delete_after=DAY).gone == []
    assert server.came() == []


def test_names_of_an_older_state_prove_nothing(place: Place) -> None:
    server = pop3((1, "a"))
    place.run(server, mailbox="", change=lambda seen: seen.add(("", ""), {"a": ""}), delete=True)
    assert place.subjects() == [1]


# -- a power failure: the mbox has lost some of what was written ---------------------------------------------------


@pytest.mark.parametrize("kept", [2048, 3000, -1])
def test_a_batch_of_which_a_part_was_lost_is_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """The intention was synced, the mbox was not; *kept*: octets of the batch that are on the disk."""

    def killed(seen: Seen) -> None:
        def add(box: object, names: object) -> None:
            raise KilledError

        monkeypatch.setattr(seen, "add", add)

    server = Server(items(1, 2, 3, 4))
    server.octets = {n: number(n) + b"x" * 1500 + b"\r\n" for n in range(1, 5)}
    with pytest.raises(KilledError):
        place.run(server, change=killed, delete=True)
    octets = place.box.read_bytes()
    place.box.write_bytes(octets[:kept])
    told = place.run(server, delete=True)
    assert [n for n, _ in told.came_in] == [1, 2, 3, 4]
    assert sorted(told.gone) == [1, 2, 3, 4]
    assert set(place.subjects()) == {1, 2, 3, 4}


def test_a_batch_with_other_octets_in_it_is_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seen: Seen) -> None:
        def add(box: object, names: object) -> None:
            raise KilledError

        monkeypatch.setattr(seen, "add", add)

    server = Server(items(1, 2))
    with pytest.raises(KilledError):
        place.run(server, change=killed)
    octets = place.box.read_bytes()
    place.box.write_bytes(octets[:-60] + b"\0" * 60)
    assert place.run(server).expected == 2


def test_an_intention_is_durable_before_the_batch_is_stored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sink = MboxSink(str(place.box))
    store = sink.store

    def noted(seen: Seen) -> None:
        sync = seen.sync
        monkeypatch.setattr(seen, "sync", lambda: (steps.append("sync"), sync()))

    monkeypatch.setattr(sink, "store", lambda its: (steps.append("store"), store(its))[1])
    place.run(Server(items(1)), sink, change=noted)
    assert steps == ["sync", "store", "sync"]
