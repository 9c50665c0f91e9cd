"""services/mailbox/mailbox: one mailbox in many sessions; what one changes the others see, and it lasts."""

import mailbox
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, LockTimeoutError
from mailtools.core.mbox import catalog
from mailtools.core.mbox import states as states_
from mailtools.core.mbox.state import ANSWERED, FLAGGED, SEEN
from mailtools.core.mbox.stored import Record
from mailtools.services.mailbox.mailbox import Mailbox, NewMessage
from mailtools.services.transit import mbox_form
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import index, rewrite, settle
from mailtools.system.mbox.state_file import StateFile
from tests.boxes import append, number, rewrite_in_place, subjects


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bob" / "INBOX.mbox"
    append(path, *map(number, range(5)))
    return path


def adding(box: Mailbox, bit: int, *words: bytes) -> Callable[[int, int, int], tuple[int, int]]:
    return lambda uid, flags, mask: (flags | bit, mask | box.states.mask(words))


def message(n: int, flags: int = 0, keywords: tuple[bytes, ...] = ()) -> NewMessage:
    body = Buffer()
    body.append(mbox_form.stored(number(n)))
    return NewMessage(mbox_form.fetched_record(body, 1029924000), flags, keywords)


def shown(box: Mailbox) -> list[bytes]:
    found = [box.message(row) for row in range(len(box.states))]
    return [one if isinstance(one, bytes) else b"".join(one or ()) for one in found]


def test_messages_with_uids(path: Path) -> None:
    box = Mailbox(str(path))
    assert list(box.states.uids) == [1, 2, 3, 4, 5]
    assert shown(box) == [number(n) for n in range(5)]
    assert [box.size(row) for row in range(5)] == [len(number(n)) for n in range(5)]
    assert box.postmark(0) == b"From ann@a.test Wed Aug 21 10:00:00 2002"
    assert not box.refresh()
    box.close()


def test_two_sessions_see_what_the_other_does(path: Path) -> None:
    one, other = Mailbox(str(path)), Mailbox(str(path))
    assert one.states.validity == other.states.validity
    assert one.store([2, 3, 99], adding(one, SEEN, b"$Junk")) == [2, 3]
    assert other.refresh()
    assert list(other.states.flags) == [0, SEEN, SEEN, 0, 0]
    assert other.states.keywords(1) == (b"$Junk",)
    other.expunge([3, 99])
    append(path, number(7))
    assert one.refresh()
    assert list(one.states.uids) == [1, 2, 4, 5, 6]
    assert shown(one)[-1] == number(7)
    assert one.append([message(8, FLAGGED, (b"new",)), message(9)]) == [7, 8]
    assert other.refresh()
    assert (list(other.states.uids), other.states.flags[-2]) == ([1, 2, 4, 5, 6, 7, 8], FLAGGED)
    assert other.states.keywords(5) == (b"new",)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("lost", ["nothing", "index", "folder"])
def test_states_last(path: Path, settled: bool, lost: str) -> None:
    box = Mailbox(str(path))
    validity = box.states.validity
    box.expunge([1])
    box.store([2], adding(box, SEEN | ANSWERED, b"$Junk", b"x"))
    if settled:
        box.settle()
    box.close()
    if lost == "index":
        (path.parent / ".mailtools/INBOX.mbox.index").unlink()
    elif lost == "folder":
        shutil.rmtree(path.parent / ".mailtools")
    again = Mailbox(str(path), new_validity=lambda: validity + 1)
    if lost == "folder" and not settled:  # the mbox has no state yet: a new UIDVALIDITY says so
        assert (again.states.validity, list(again.states.uids)) == (validity + 1, [1, 2, 3, 4])
        return
    assert (again.states.validity, list(again.states.uids)) == (validity, [2, 3, 4, 5])
    assert again.states.uid_next == 6
    assert (again.states.flags[0], set(again.states.keywords(0))) == (SEEN | ANSWERED, {b"$Junk", b"x"})
    assert shown(again) == [number(n) for n in range(1, 5)]


def test_flags_are_in_the_mbox_for_other_programs(path: Path) -> None:
    box = Mailbox(str(path))
    box.store([1], adding(box, SEEN | FLAGGED))
    box.settle()
    first = mailbox.mbox(path)[0]
    assert (first["Status"], first["X-Status"], first["X-UID"]) == ("R", "F", "1")
    inode = path.stat().st_ino
    box.store([1, 2], adding(box, ANSWERED, b"todo"))
    box.settle()
    assert path.stat().st_ino == inode, "a flag is written in place"
    first, second = list(mailbox.mbox(path))[:2]
    assert (first["X-Status"], second["X-Status"], second["X-Keywords"].strip()) == ("AF", "A", "todo")
    assert shown(box) == [number(n) for n in range(5)]
    before = path.read_bytes()
    box.settle()
    assert path.read_bytes() == before


def test_flags_that_another_program_changed(path: Path) -> None:
    box = Mailbox(str(path))
    box.store([2], adding(box, ANSWERED))
    rewrite_in_place(path, [0, 1, 2, 3, 4], b"Status: RO\n")
    assert box.refresh()
    assert [bool(flags & SEEN) for flags in box.states.flags] == [True] * 5
    assert box.states.flags[1] & ANSWERED
    assert list(box.states.uids) == [1, 2, 3, 4, 5]


def test_another_program_rewrites_the_mbox(path: Path) -> None:
    box = Mailbox(str(path))
    box.store([4], adding(box, FLAGGED))
    rewrite_in_place(path, [1, 3, 4])
    append(path, number(9))
    assert box.refresh()
    assert list(box.states.uids) == [2, 4, 5, 6]
    assert box.states.flags[1] == FLAGGED
    assert shown(box) == [number(n) for n in (1, 3, 4, 9)]


def test_pop3_removes_and_uids_stay(path: Path) -> None:
    box = Mailbox(str(path))
    found = index.open_box(str(path))
    rewrite.remove(str(path), found.catalog, [0, 2])
    found.close()
    assert box.refresh()
    assert list(box.states.uids) == [2, 4, 5]


@pytest.mark.parametrize("crlf", [False, True])
def test_a_foreign_mbox_gets_its_states(tmp_path: Path, crlf: bool) -> None:
    path = tmp_path / "x.mbox"
    octets = b"".join(
        b"From x Thu Aug 22 12:00:0%d 2002\nSubject: %d\nStatus: RO\n\n>From here\n\n" % (n, n)
        for n in range(3)
    )
    path.write_bytes(octets.replace(b"\n", b"\r\n") if crlf else octets)
    box = Mailbox(str(path))
    before = shown(box)
    box.store([2], adding(box, FLAGGED))
    box.settle()
    assert shown(box) == before
    assert shown(Mailbox(str(path))) == before
    assert (b"\n" in path.read_bytes().replace(b"\r\n", b"")) is not crlf
    assert subjects(path) == ["0", "1", "2"]


def test_a_hostile_base_is_repaired(path: Path) -> None:
    octets = path.read_bytes().replace(
        b"\nFrom: ann", b"\nX-IMAPbase: 4294967295 4294967295\nX-UID: 4294967295\nFrom: ann", 1
    )
    path.write_bytes(octets)
    box = Mailbox(str(path), new_validity=lambda: 9)
    assert (box.states.validity, list(box.states.uids)) == (9, [1, 2, 3, 4, 5])
    box.settle()
    assert b"4294967295" not in path.read_bytes()


def test_a_missing_mbox(tmp_path: Path) -> None:
    path = tmp_path / "bob/INBOX.mbox"
    with pytest.raises(FileNotFoundError):
        Mailbox(str(path), make=False)
    box = Mailbox(str(path))
    assert len(box.states) == 0
    validity = box.states.validity
    assert box.append([message(0)]) == [1]
    assert Mailbox(str(path)).states.validity == validity
    box = Mailbox(str(path), make=False)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        box.refresh()
    assert not path.exists()


def test_what_is_no_mbox(tmp_path: Path) -> None:
    (tmp_path / "x.mbox").write_text("hello\n")
    with pytest.raises(BadDataError):
        Mailbox(str(tmp_path / "x.mbox"))
    assert not (tmp_path / "x.mbox.lock").exists()


def test_a_foreign_lock_is_waited_for_only_so_long(path: Path) -> None:
    box = Mailbox(str(path))
    Path(f"{path}.lock").write_text(f"{os.getppid()}\n")
    with pytest.raises(LockTimeoutError):
        box.store([1], adding(box, SEEN), patience=0.05)
    assert not box.refresh()
    Path(f"{path}.lock").unlink()
    assert box.store([1], adding(box, SEEN)) == [1]


def test_no_descriptor_stays_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        box = Mailbox(str(path))
        box.store([1], adding(box, SEEN))
        box.settle()
        box.store([1], lambda uid, flags, words: (0, 0))
        box.append([message(8)])
        box.settle()
        box.expunge([2])
        box.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_sessions_give_keywords_at_the_same_time(path: Path) -> None:
    one, other = Mailbox(str(path)), Mailbox(str(path))
    one.store([1], adding(one, 0, b"first"))
    other.store([2], adding(other, 0, b"second"))  # it has not looked since
    one.refresh()
    for box in (one, other, Mailbox(str(path))):
        assert [box.states.keywords(row) for row in (0, 1)] == [(b"first",), (b"second",)]


def test_flags_of_appended_messages_are_in_the_mbox_at_once(path: Path) -> None:
    box = Mailbox(str(path))
    box.settle()
    (uid,) = box.append([message(8, FLAGGED | SEEN, (b"work",))])
    last = list(mailbox.mbox(path))[-1]
    assert (last["Status"], last["X-Status"], last["X-Keywords"].strip(), last["X-UID"]) == (
        "R",
        "F",
        "work",
        None,
    )
    inode = path.stat().st_ino
    box.settle()
    assert path.stat().st_ino == inode, "there is room for the UID"
    assert list(mailbox.mbox(path))[-1]["X-UID"] == str(uid)
    assert shown(box)[-1] == number(8)


@pytest.mark.parametrize("step", ["note", "save"])
def test_what_could_not_be_written_did_not_happen(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    box = Mailbox(str(path))
    box.settle()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, step, full)
        append(path, number(7))
        rewrite_in_place(path, [0, 1, 3, 4, 5]) if step == "save" else None
        with pytest.raises(OSError, match="No space"):
            box.store([1], adding(box, FLAGGED))
    assert box.refresh()
    assert list(box.states.flags)[:1] == [0]
    uids = list(box.states.uids)
    assert len(uids) == len(box.states) == (5 if step == "save" else 6)
    assert list(Mailbox(str(path)).states.uids) == uids
    box.store([1], adding(box, FLAGGED))
    assert Mailbox(str(path)).states.flags[0] == FLAGGED


def test_a_large_mbox_is_read_before_it_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, number(7, 2_000_000))
    read: list[bool] = []
    real = catalog.measured

    def noting(record: Record) -> object:
        read.append(Path(f"{path}.lock").exists())
        return real(record)

    monkeypatch.setattr(catalog, "measured", noting)
    box = Mailbox(str(path))
    assert read.count(False) >= 6
    assert not any(read)
    assert len(box.states) == 6


def test_new_mail_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before costs nothing: neither the index nor the states are read or written again."""
    path = tmp_path / "INBOX.mbox"
    message = b"From a@x Thu Aug 22 12:00:00 2002\nSubject: %d\n\ntext\n\n"
    path.write_bytes(b"".join(message % number for number in range(100)))
    box = Mailbox(str(path))
    for name in ("_load", "_save"):
        monkeypatch.setattr(index, name, lambda *_: pytest.fail("the index is read or written"))
    monkeypatch.setattr(states_, "from_octets", lambda *_: pytest.fail("the states are read"))
    with path.open("ab") as file:
        file.write(message % 100)
    box.refresh()
    assert list(box.states.uids) == list(range(1, 102))


def test_the_index_is_written_when_the_mailbox_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    message = b"From a@x Thu Aug 22 12:00:00 2002\nSubject: %d\n\ntext\n\n"
    path.write_bytes(message % 1)
    box = Mailbox(str(path))
    with path.open("ab") as file:
        file.write(message % 2)
    box.refresh()
    box.close()
    found = catalog.from_octets((tmp_path / ".mailtools" / "INBOX.mbox.index").read_bytes())
    assert found is not None
    assert len(found[1]) == 2


@pytest.mark.parametrize("who", ["we", "another program"])
def test_no_uid_is_given_again_if_all_but_the_mbox_is_lost(tmp_path: Path, who: str) -> None:
    path = tmp_path / "INBOX.mbox"
    message = b"From a@x Thu Aug 22 12:00:00 2002\nSubject: %d\n\ntext\n\n"
    path.write_bytes(message % 1 + message % 2)
    box = Mailbox(str(path))
    box.settle()
    with path.open("ab") as file:
        file.write(message % 3 + message % 4)
    box.refresh()
    if who == "we":
        box.expunge([3])
    else:
        path.write_bytes(path.read_bytes().replace(message % 3, b""))
        box.refresh()
    box.store([1], lambda uid, flags, mask: (flags | SEEN, mask))
    assert list(box.states.uids) == [1, 2, 4]
    validity = box.states.validity
    box.close()
    shutil.rmtree(tmp_path / ".mailtools")
    again = Mailbox(str(path), new_validity=lambda: validity + 1)
    assert again.states.validity == validity
    assert list(again.states.uids) in ([1, 2, 4], [1, 2, 5])


def test_a_full_disk_does_not_keep_anybody_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "INBOX.mbox"
    message = b"From a@x Thu Aug 22 12:00:00 2002\nSubject: %d\n\ntext\n\n"
    path.write_bytes(message % 1)
    box = Mailbox(str(path))
    box.settle()
    with path.open("ab") as file:
        file.write(message % 2 + message % 3)
    box.refresh()
    path.write_bytes(path.read_bytes().replace(message % 2, b""))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(settle, "write", full)
    box.refresh()
    assert list(box.states.uids) == [1, 3]
