"""The spool: whole messages or none, one holder at a time, and files that are none of ours."""

import errno
import json
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, CannotWriteError, DiskFullError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DUE, SENT, Result
from mailtools.core.queue.store import ACTIVE, BAD, DEFERRED, HOLD, INCOMING
from mailtools.system import clock
from mailtools.system.spool import spool as spool_module
from mailtools.system.spool.spool import Spool
from tests.spools import MESSAGE, add, killed_at

STATES = (INCOMING, DEFERRED, HOLD)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def spool(tmp_path: Path, warnings: list[str]) -> Spool:
    return Spool(str(tmp_path / "spool"), warnings.append)


def names(spool: Spool) -> set[str]:
    return {listed.entry.envelope.identity for listed in spool.query()}


def states(spool: Spool) -> list[str]:
    return [listed.state for listed in spool.query()]


def files(spool: Spool, folder: str) -> list[Path]:
    return sorted(Path(spool.path, folder).iterdir())


def envelope(identity: str = "0abc-1") -> QueueEnvelope:
    return QueueEnvelope(identity, clock.now(), "alice@example.org", (Recipient("bob@example.com"),))


# -- adding --------------------------------------------------------------------------------------------------


def test_what_was_added_is_there(spool: Spool) -> None:
    kept = spool.add(envelope(), [b"Subject: \xff\n", b"\nno end"])
    assert (kept.stored, kept.size, kept.needs_8bit) == (19, 22, True)
    (listed,) = spool.query()
    assert listed.entry.envelope == kept
    assert listed.state == INCOMING
    assert b"".join(spool.message(kept)) == b"Subject: \xff\n\nno end\n"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in Path(spool.path).rglob("*")}
    assert modes == {0o600, 0o700}
    assert stat.S_IMODE(Path(spool.path).stat().st_mode) == 0o700


def test_a_spool_that_is_not_there_is_empty_and_looking_makes_none(spool: Spool) -> None:
    assert not spool.exists()
    assert names(spool) == set()
    assert list(spool.ready(clock.now())) == []
    assert spool.claim("0abc-1") is None
    assert not spool.has_deferred()
    spool.sweep()
    assert not Path(spool.path).exists()


def test_a_kill_between_any_two_operations_leaves_a_whole_message_or_none(tmp_path: Path) -> None:
    outcomes = set()
    number = 0
    while True:
        spool = Spool(str(tmp_path / str(number)))
        add_it = lambda spool=spool: spool.add(envelope(), [MESSAGE[:10], MESSAGE[10:]])  # noqa: E731
        if not killed_at(number, add_it):
            break
        found = list(spool.query())
        outcomes.add(len(found))
        for listed in found:
            assert b"".join(spool.message(listed.entry.envelope)) == MESSAGE
            assert listed.entry.pending == (0,)
        assert not Path(spool.path, "bad").exists() or not files(spool, "bad")
        spool.add(envelope("0abc-2"), [MESSAGE])  # and it goes on
        assert "0abc-2" in names(spool)
        number += 1
    assert number > 15
    assert outcomes == {0, 1}


def test_the_order_of_what_makes_it_durable(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.make()
    said: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(spool.path)
        state = "named" if os.fstat(descriptor).st_nlink else "nameless"
        said.append(f"fsync ({state})" if "#" in name else f"fsync {name}")
        fsync(descriptor)

    def noted_link(source: str, target: str, **named: object) -> None:
        said.append(f"link {target.removeprefix(spool.path)}")
        link(source, target, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    spool.add(envelope(), [MESSAGE])
    assert said == [
        "fsync (nameless)", "link /messages/0abc-1.eml", "fsync (named)", "fsync /messages",
        "fsync (nameless)", "link /incoming/0abc-1.jsonl", "fsync (named)", "fsync /incoming",
    ]  # fmt: skip


def test_where_files_must_have_names_they_are_hidden_until_whole(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def no_nameless(path: str, flags: int, *args: int, **named: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no nameless files")
        return real(path, flags, *args, **named)

    monkeypatch.setattr(os, "open", no_nameless)
    spool.add(envelope(), [MESSAGE])
    assert names(spool) == {"0abc-1"}
    Path(spool.path, "incoming", ".0abc-2.jsonl").write_text("half")
    assert names(spool) == {"0abc-1"}
    assert files(spool, "bad") == []


@pytest.mark.parametrize("limit", [0, 100, 70_000])
def test_a_full_disk_is_told_and_leaves_nothing(spool: Spool, limit: int) -> None:
    spool.make()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DiskFullError, match="not in the spool"):
            spool.add(envelope(), [b"x" * 50_000] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in Path(spool.path).rglob("*") if path.is_file()] == []
    spool.add(envelope(), [b"x" * 100_000])
    assert names(spool) == {"0abc-1"}


def test_a_journal_that_cannot_be_written_takes_its_message_with_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def failing(source: str, target: str, **named: object) -> None:
        if INCOMING in target:
            raise OSError(errno.EDQUOT, "quota")
        real(source, target, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", failing)
    with pytest.raises(DiskFullError):
        spool.add(envelope(), [MESSAGE])
    assert files(spool, "messages") == []


def test_a_spool_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError):
        Spool(str(tmp_path / "file" / "spool")).add(envelope(), [MESSAGE])


# -- leases --------------------------------------------------------------------------------------------------


def in_child(call: Callable[[], object]) -> tuple[int, int]:
    """*call* in a process that then waits; its number, and the descriptor that says when it is done."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            kept = call()
            os.write(writable, b"1" if kept else b"0")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writable)
    return child, readable


@pytest.fixture
def children() -> Iterator[list[int]]:
    started: list[int] = []
    yield started
    for child in started:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lease_is_one_s_and_ends_with_its_holder(spool: Spool, children: list[int]) -> None:
    identity = add(spool)
    child, pipe = in_child(lambda: spool.claim(identity))
    children.append(child)
    assert os.read(pipe, 1) == b"1"
    assert spool.claim(identity) is None
    assert states(spool) == [ACTIVE]
    children.remove(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert states(spool) == [INCOMING]
    lease = spool.claim(identity)
    assert lease
    assert spool.claim(identity) is None  # not even to ourselves
    lease.close()
    assert spool.claim(identity)


def test_of_two_processes_one_wins_each(spool: Spool, children: list[int]) -> None:
    identities = [add(spool) for _ in range(40)]
    taken = [Path(spool.path).parent / f"taken-{number}" for number in range(2)]
    pipes = []
    for report in taken:

        def claim_all(report: Path = report) -> object:
            leases = [lease for identity in identities if (lease := spool.claim(identity))]
            report.write_text("\n".join(lease.identity for lease in leases))
            return report, leases

        child, pipe = in_child(claim_all)
        children.append(child)
        pipes.append(pipe)
    assert [os.read(pipe, 1) for pipe in pipes] == [b"1", b"1"]
    both = [name for report in taken for name in report.read_text().split()]
    assert sorted(both) == sorted(identities)


def test_what_is_on_hold_is_claimed_only_when_asked_for(spool: Spool) -> None:
    identity = add(spool, state=HOLD)
    assert spool.claim(identity) is None
    assert list(spool.ready(clock.now() + 1e5)) == []
    lease = spool.claim(identity, held=True)
    assert lease
    assert lease.state == HOLD


def test_a_lease_on_what_was_finished_is_none(spool: Spool) -> None:
    identity = add(spool)
    lease = spool.claim(identity)
    assert lease
    lease.finish()
    assert names(spool) == set()
    assert spool.claim(identity) is None
    assert len(files(spool, "messages")) == 1
    lease.close()
    lease.close()
    assert files(spool, "messages") == []


@pytest.mark.parametrize("identity", ["", "..", "../incoming/0abc-1", "a/b", "a\0b", "x" * 300])
def test_no_id_leads_out_of_the_spool(spool: Spool, identity: str) -> None:
    add(spool)
    assert spool.claim(identity) is None
    assert list(spool.query([identity])) == []
    with pytest.raises(FileNotFoundError):
        spool.records(identity)


def test_what_is_recorded_is_read_again_and_a_torn_line_is_not_continued(spool: Spool) -> None:
    identity = add(spool, "bob@example.com", "carol@example.com")
    path = Path(spool.path, INCOMING, f"{identity}.jsonl")
    with path.open("ab") as file:
        file.write(b'{"at": 1, "event": "att')
    lease = spool.claim(identity)
    assert lease
    assert lease.entry.is_torn
    lease.record([journal.attempt(clock.now(), Result((0,), SENT, "250 ok"))])
    lease.record([journal.event(clock.now(), "retry")])
    lease.close()
    (listed,) = spool.query()
    assert [recipient.state for recipient in listed.entry.recipients] == [SENT, DUE]
    assert [record.get("event") for record in spool.records(identity)] == [None, "attempt", "retry"]


def test_a_journal_cut_anywhere_behind_the_envelope_is_no_loss(spool: Spool, warnings: list[str]) -> None:
    identity = add(spool, reply="451 later")
    path = Path(spool.path, DEFERRED, f"{identity}.jsonl")
    octets = path.read_bytes()
    for cut in range(octets.index(b"\n") + 1, len(octets)):
        path.write_bytes(octets[:cut])
        (listed,) = spool.query()
        assert listed.entry.pending == (0,)
    assert warnings == []


def test_ready_tells_new_ones_and_those_whose_time_has_come(spool: Spool) -> None:
    new, later, soon = add(spool), add(spool, reply="451 later"), add(spool, reply="451 later", wait=1)
    far = add(spool, reply="451 later", wait=30 * 86400)  # no time of ours: the journal has to tell
    assert set(spool.ready(clock.now())) == {new, far}
    assert set(spool.ready(clock.now() + 10)) == {new, soon, far}
    assert set(spool.ready(clock.now() + 4000)) == {new, soon, later, far}


def test_a_message_of_another_size_is_not_sent(spool: Spool) -> None:
    identity = add(spool)
    with Path(spool.path, "messages", f"{identity}.eml").open("ab") as file:
        file.write(b"more\n")
    lease = spool.claim(identity)
    assert lease
    with pytest.raises(BadDataError, match="not the message"):
        b"".join(lease.message())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_a_message_that_is_no_file_is_not_sent(spool: Spool, make: Callable[[str], None]) -> None:
    identity = add(spool)
    path = Path(spool.path, "messages", f"{identity}.eml")
    path.unlink()
    make(str(path))
    lease = spool.claim(identity)
    assert lease
    with pytest.raises(BadDataError):
        b"".join(lease.message())


# -- what is none of ours ------------------------------------------------------------------------------------


def whole(**changes: object) -> bytes:
    return json.dumps(json.loads(envelopes.encode(envelope("0bad-1"))) | changes).encode() + b"\n"


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        os.close(folder)


def writer(octets: bytes) -> Callable[[str], object]:
    return lambda path: Path(path).write_bytes(octets)


FOREIGN = {
    "empty": writer(b""),
    "no end": writer(whole()[:-1]),
    "torn": writer(whole()[:40]),
    "no JSON": writer(b"T1234 example\n"),
    "binary": writer(bytes(range(256)) * 40),
    "another version": writer(whole(version=2)),
    "another message's": writer(whole(identity="0bad-2")),
    "hostile": writer(whole(reverse_path="a@b>\r\nRCPT TO:<c@d")),
    "deep": writer(b"[" * 1_000_000 + b"\n"),
    "symlink": lambda path: os.symlink("/etc/passwd", path),
    "dangling": lambda path: os.symlink("/nonexistent/x", path),
    "FIFO": os.mkfifo,
    "folder": os.mkdir,
    "socket": make_socket,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["query", "one", "claim"])
def test_what_is_no_journal_is_set_aside_and_stops_nobody(
    spool: Spool, warnings: list[str], kind: str, state: str, how: str
) -> None:
    good = add(spool)
    path = Path(spool.path, state, "0bad-1.jsonl")
    FOREIGN[kind](str(path))
    Path(spool.path, "messages", "0bad-1.eml").write_bytes(MESSAGE)
    if how == "query":
        assert names(spool) == {good, "0bad-1"}
    elif how == "one":
        assert [one.state for one in spool.query(["0bad-1"])] == [BAD]
    else:
        lease = spool.claim("0bad-1", held=True)
        assert lease is None or lease.state == BAD
    assert len(warnings) == 1
    assert "moved to" in warnings[0]
    assert not os.path.lexists(path)
    (listed,) = spool.query(["0bad-1"])
    assert listed.state == BAD
    assert listed.why
    assert listed.why in warnings[0]
    assert names(spool) == {good, "0bad-1"}
    assert len(warnings) == 1
    spool.sweep()
    assert Path(spool.path, "messages", "0bad-1.eml").read_bytes() == MESSAGE


@pytest.mark.parametrize(
    "name", ["README", "core", "0abc-1", "-x.jsonl", "a b.jsonl", "x" * 65 + ".jsonl", "\udcff.jsonl"]
)
def test_what_has_no_name_of_ours_is_set_aside(spool: Spool, warnings: list[str], name: str) -> None:
    good = add(spool)
    Path(spool.path, INCOMING, name).write_text("x")
    assert names(spool) == {good}
    assert len(warnings) == 1
    assert names(spool) == {good}


@pytest.mark.parametrize("name", ["{}", "{}.jsonl"])
def test_a_foreign_file_takes_no_other_message_with_it(spool: Spool, name: str) -> None:
    identity = add(spool, reply="451 later")
    Path(spool.path, INCOMING, name.format(identity)).write_text("x")
    assert names(spool) == {identity}
    lease = spool.claim(identity)
    assert lease
    assert b"".join(lease.message()) == MESSAGE


def test_a_journal_that_cannot_be_opened_just_now_is_left_where_it_is(
    spool: Spool, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = add(spool)
    real = os.open

    def failing(path: str, *args: int, **named: int) -> int:
        if str(path).endswith(".jsonl"):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", failing)
    assert names(spool) == set()
    assert spool.claim(identity) is None
    assert [warning.rpartition(": ")[2] for warning in warnings] == ["Too many open files; passed over"] * 2
    monkeypatch.undo()
    assert names(spool) == {identity}


def test_a_journal_too_large_to_be_ours(spool: Spool, warnings: list[str]) -> None:
    identity = add(spool)
    os.truncate(Path(spool.path, INCOMING, f"{identity}.jsonl"), 65 << 20)
    (listed,) = spool.query()
    assert (listed.state, listed.entry.envelope.identity) == (BAD, identity)
    assert "larger" in warnings[0]
    assert "larger" in listed.why


def test_where_nothing_can_be_set_aside_it_is_passed_over(spool: Spool, warnings: list[str]) -> None:
    good = add(spool)
    Path(spool.path, "bad").rmdir()
    Path(spool.path, INCOMING, "0bad-1.jsonl").write_text("x")
    assert names(spool) == {good}
    assert "cannot be moved" in warnings[0]


def test_a_long_journal_is_read_whole(spool: Spool) -> None:
    identity = add(spool)
    lease = spool.claim(identity)
    assert lease
    for number in range(300):
        lease.record([journal.scheduled(clock.now(), clock.now() + number)])
    lease.close()
    (listed,) = spool.query()
    assert listed.entry.attempts == 300


# -- order ---------------------------------------------------------------------------------------------------


def test_sweep_removes_old_messages_without_a_journal_only(spool: Spool) -> None:
    kept = [add(spool), add(spool, state=HOLD), add(spool, reply="451 later")]
    for name in ("0old-1", "0new-1"):
        Path(spool.path, "messages", f"{name}.eml").write_bytes(MESSAGE)
    for name in ("0old-1", *kept):
        os.utime(Path(spool.path, "messages", f"{name}.eml"), (1, 1))
    spool.sweep()
    assert {path.stem for path in files(spool, "messages")} == {*kept, "0new-1"}


def test_arrivals_changes_when_a_message_comes(spool: Spool) -> None:
    add(spool)
    before = spool.arrivals()
    os.utime(Path(spool.path, INCOMING), (1, 1))
    assert spool.arrivals() != before
    assert spool.has_deferred()


def test_places_opens_nothing(spool: Spool) -> None:
    first, second = add(spool), add(spool, state=HOLD)
    Path(spool.path, INCOMING, f"{first}.jsonl").write_text("broken")
    assert list(spool.places()) == [(first, INCOMING), (second, HOLD)]
    assert [
        listed.entry.envelope.identity for listed in spool.look([(second, HOLD), (second, DEFERRED)])
    ] == [second]
    spool.sync()


# -- what could not be read back is not taken -----------------------------------------------------------------


@pytest.mark.parametrize("octets", [b"Subject: x\n\nnul \0\n", b"Subject: x\n\nbare \r cr\n", b"a\r\nb\r\n"])
@pytest.mark.parametrize("before", [b"", b"x" * 1_000_000])
def test_octets_that_smtp_cannot_carry_are_not_added(spool: Spool, octets: bytes, before: bytes) -> None:
    with pytest.raises(BadDataError) as caught:
        spool.add(envelope(), [before, octets] if before else [octets])
    assert caught.value.status == "5.6.0"
    assert names(spool) == set()
    assert files(spool, "messages") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipients": (Recipient("a b@x"),)},
        {"recipients": (Recipient("bob@example.com"), Recipient("a@[<x>]"))},
        {"recipients": (Recipient("a@b", "", "x" * 3000),)},
        {"recipients": ()},
        {"reverse_path": "a\nb@x"},
        {"envid": "a b"},
        {"ret": "ALL"},
        {"identity": "../x"},
    ],
)
def test_an_envelope_that_could_not_be_read_back_is_not_added(spool: Spool, wrong: dict[str, object]) -> None:
    with pytest.raises(BadDataError):
        spool.add(envelope()._replace(**wrong), [MESSAGE])  # type: ignore[arg-type]
    assert names(spool) == set()


def test_what_was_refused_for_a_failed_sync_is_not_in_the_queue(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(spool)
    before = names(spool)
    real = spool_module.sync_folder

    def broken(path: str) -> None:
        if path.endswith("incoming"):
            raise OSError(errno.EIO, "Input/output error")
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "sync_folder", broken)
        with pytest.raises(CannotWriteError):
            add(spool)
    assert names(spool) == before
    assert len(list(Path(spool.path, "messages").iterdir())) == 1
