"""system/mbox/rewrite: what was seen is taken out, nothing else, and never by half."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, LockTimeoutError
from mailtools.core.mbox.catalog import Catalog
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import index, rewrite
from mailtools.system.mbox.appending import NewRecord, append_waiting
from tests.boxes import FOLDER_DATA, append, number, open_drop, rewrite_in_place, shown, subjects

TEN = [f"{n:06d}" for n in range(10)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bob" / "INBOX.mbox"
    append(path, *map(number, range(10)))
    return path


def seen(path: Path) -> Catalog:
    box = index.open_box(str(path))
    box.close()
    return box.catalog


@pytest.mark.parametrize("gone", [[0], [9], [3, 4, 5], [0, 2, 4, 6, 8], list(range(10))])
def test_what_was_seen_is_gone(path: Path, gone: list[int]) -> None:
    before = seen(path)
    append(path, number(10))
    rewrite.remove(str(path), before, gone)
    left = [n for n in range(11) if n not in gone]
    assert subjects(path) == [f"{n:06d}" for n in left]
    drop = open_drop(path)  # by the index that was kept with it
    assert [shown(drop, n) for n in range(len(drop))] == [number(n) for n in left]
    drop.close()


def test_the_index_of_what_stays_is_known(path: Path) -> None:
    before = seen(path)
    rewrite.remove(str(path), before, [1])
    kept = (path.parent / ".mailtools" / "INBOX.mbox.index").read_bytes()
    assert [*before.names()[:1], *before.names()[2:]] == seen(path).names()
    assert (path.parent / ".mailtools" / "INBOX.mbox.index").read_bytes() == kept


@pytest.mark.parametrize("add", [b"", b"Status: RO\n"])
def test_what_another_program_moved_is_found(path: Path, add: bytes) -> None:
    before = seen(path)
    rewrite_in_place(path, [9, 8, 7, 5, 4, 3, 2, 1, 0], add)
    rewrite.remove(str(path), before, [2, 6, 9])  # 6 is gone already
    assert subjects(path) == [TEN[n] for n in (8, 7, 5, 4, 3, 1, 0)]


def test_one_of_two_copies(path: Path) -> None:
    append(path, number(3))
    before = seen(path)
    rewrite_in_place(path, [0, 3])  # the other copy is gone
    rewrite.remove(str(path), before, [10])
    assert subjects(path) == [TEN[0], TEN[3]]


@pytest.mark.parametrize("gone", [[3], [10], [3, 10], [11]])
def test_copies_keep_their_names_for_good(path: Path, gone: list[int]) -> None:
    append(path, number(3), number(3))
    before = seen(path)
    names = before.names()
    rewrite.remove(str(path), before, gone)
    left = [name for at, name in enumerate(names) if at not in gone]
    assert seen(path).names() == left
    append(path, number(11))
    assert seen(path).names()[:-1] == left
    rewrite_in_place(path, [*range(len(left) + 1)], b"Status: RO\n")
    assert seen(path).names()[:-1] == left


def test_a_new_copy_gets_a_new_name(path: Path) -> None:
    append(path, number(3))
    before = seen(path)
    rewrite.remove(str(path), before, [3])
    append(path, number(3))
    assert seen(path).names()[-2:] == [f"{before.names()[3]}.2", f"{before.names()[3]}.3"]


def test_two_readers_that_remove_the_same_copy_leave_the_other(path: Path) -> None:
    append(path, number(3))
    one, other = seen(path), seen(path)
    rewrite.remove(str(path), one, [3])
    append(path, number(3))  # the digests of the first eleven are as they were, but for the order
    rewrite.remove(str(path), other, [3])
    assert subjects(path).count(TEN[3]) == 2


def test_a_copy_at_the_same_place_is_not_mistaken_for_the_removed_one(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    append(path, number(1), number(1))
    one, other = seen(path), seen(path)
    rewrite.remove(str(path), one, [0])
    append(path, number(1))
    rewrite.remove(str(path), other, [0])
    assert seen(path).names() == [f"{one.names()[0]}.2", f"{one.names()[0]}.3"]


def test_owner_mode_and_the_name_of_the_mbox_stay(path: Path) -> None:
    octets = path.read_bytes()
    line, _, rest = octets.partition(b"\n")
    path.write_bytes(line + b"\nX-IMAPbase: 1029924000 0000000010 Junk\nX-UID: 1\n" + rest)
    path.chmod(0o640)
    os.chown(path, 12345, 54321) if os.geteuid() == 0 else None
    status = path.stat()
    rewrite.remove(str(path), seen(path), [0, 1])
    now = path.stat()
    assert (now.st_uid, now.st_gid, now.st_mode) == (status.st_uid, status.st_gid, status.st_mode)
    assert path.read_bytes().count(b"X-IMAPbase: 1029924000 0000000010 Junk\n") == 1
    assert subjects(path) == TEN[2:]
    drop = open_drop(path)
    assert shown(drop, 0) == number(2)
    drop.close()


def test_nothing_where_there_is_no_mbox(path: Path) -> None:
    before = seen(path)
    path.unlink()
    rewrite.remove(str(path), before, [0])
    assert not path.exists()


def test_a_lock_that_is_not_let_go(path: Path) -> None:
    before = seen(path)
    (path.parent / "INBOX.mbox.lock").write_text(f"{os.getppid()}\n")
    with pytest.raises(LockTimeoutError):
        rewrite.remove(str(path), before, [0], patience=0.05)
    assert subjects(path) == TEN


def test_no_room(path: Path) -> None:
    before = seen(path)
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            rewrite.remove(str(path), before, [0])
        except CannotWriteError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert subjects(path) == TEN
    assert not (path.parent / "INBOX.mbox.lock").exists()
    assert not list((path.parent / ".mailtools").glob("*.new"))


STEPS = ("open", "write", "fsync", "rename", "fchmod", "close", "replace")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step(path: Path, step: str, when: str) -> None:
    before = seen(path)
    for occurrence in range(1, 7):
        child = os.fork()
        if not child:
            _die_at(step, when, occurrence)
            rewrite.remove(str(path), before, [0, 5])
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert subjects(path) in (TEN, [TEN[n] for n in (1, 2, 3, 4, 6, 7, 8, 9)])
    rewrite.remove(str(path), before, [0, 5])
    assert subjects(path) == [TEN[n] for n in (1, 2, 3, 4, 6, 7, 8, 9)]
    append(path, number(11))
    assert subjects(path)[-1] == "000011"


def _die_at(step: str, when: str, occurrence: int) -> None:
    """Let the process die before or after the so manieth call of *step*."""
    original = getattr(os, step)
    left = [occurrence]

    def dying(*args: object, **named: object) -> object:
        left[0] -= 1
        if not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **named)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, step, dying)


def test_the_order_of_an_update(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is on the disk before it has the name, and the name before anybody is told."""
    before = seen(path)
    calls: list[str] = []
    for name in ("fsync", "rename"):
        original = getattr(os, name)

        def noting(*args: object, name: str = name, original: object = original, **more: object) -> object:
            calls.append(name)
            return original(*args, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noting)
    rewrite.remove(str(path), before, [0])
    assert calls[:3] == ["fsync", "rename", "fsync"]


def test_an_error_while_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(path)

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(rewrite, "_copy", failing)
    with pytest.raises(CannotWriteError, match="nothing was removed"):
        rewrite.remove(str(path), before, [0])
    monkeypatch.undo()
    assert subjects(path) == TEN


def test_nobody_has_the_new_file_before_the_dotlock_is_released(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery in that moment would take our dotlock for one that was left behind."""
    before = seen(path)
    dotlock = Path(f"{path}.lock")
    found: list[object] = []

    def meanwhile(*_: object) -> None:
        ours = dotlock.stat().st_ino
        with pytest.raises(LockTimeoutError):
            append_waiting(str(path), [record()], patience=0.0)
        found.append(dotlock.stat().st_ino == ours)

    monkeypatch.setattr(index, "save", meanwhile)
    rewrite.remove(str(path), before, [0])
    assert found == [True]
    append(path, number(10))
    assert subjects(path) == [*TEN[1:], "000010"]


def record() -> NewRecord:
    body = Buffer()
    body.append(b"body\n")
    return NewRecord(b"From a@b Thu Aug 22 12:00:00 2002\nSubject: new\n\n", body)


def test_clients_do_not_get_it_and_a_rewrite_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    path.write_bytes(FOLDER_DATA)
    append(path, number(0), number(1))
    drop = open_drop(path)
    assert [shown(drop, n) for n in range(len(drop))] == [number(0), number(1)]
    drop.close()
    for left in (1, 0):
        box = index.open_box(str(path))
        rewrite.remove(str(path), box.catalog, [0])
        box.close()
        assert path.read_bytes().startswith(FOLDER_DATA)
        assert len(open_drop(path)) == left
    assert path.read_bytes() == FOLDER_DATA
    append(path, number(2))
    drop = open_drop(path)
    assert [shown(drop, n) for n in range(len(drop))] == [number(2)]
    drop.close()
