"""system/mbox/index: what is known of an mbox is believed only while it is true."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from mailtools.core.errors import BadDataError, CannotWriteError, LockTimeoutError
from mailtools.core.mbox import catalog
from mailtools.system.mbox import appending, index
from tests.boxes import append, number, open_drop, rewrite_in_place, shown


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bob" / "INBOX.mbox"
    append(path, *map(number, range(10)))
    return path


def names(path: Path) -> list[str]:
    box = index.open_box(str(path))
    box.close()
    return box.catalog.names()


def index_file(path: Path) -> Path:
    return path.parent / ".mailtools" / "INBOX.mbox.index"


def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the records that are read."""
    seen: list[int] = []
    original = catalog.measured

    def counting(record: object) -> object:
        seen.append(1)
        return original(record)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "measured", counting)
    return seen


def test_an_mbox_that_is_known_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = names(path)
    seen = measured(monkeypatch)
    assert names(path) == first
    assert not seen


def test_of_one_that_grew_the_new_part_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = names(path)
    append(path, number(10), number(11))
    seen = measured(monkeypatch)
    assert names(path)[:10] == first
    assert len(names(path)) == 12
    assert len(seen) == 10 + 3  # samples of the old ones; the last of them and the new


@pytest.mark.parametrize("harm", ["torn", "empty", "foreign", "gone", "link", "older"])
def test_an_index_that_is_none(path: Path, tmp_path: Path, harm: str) -> None:
    first = names(path)
    file = index_file(path)
    octets = file.read_bytes()
    if harm == "older":
        append(path, number(10))
        names(path)
        rewrite_in_place(path, range(1, 11))
        file.write_bytes(octets)
        first = [*first[1:], names(path)[-1]]
    elif harm == "link":
        (tmp_path / "elsewhere").write_bytes(octets)
        file.unlink()
        file.symlink_to(tmp_path / "elsewhere")
    elif harm == "gone":
        shutil.rmtree(file.parent)
    else:
        file.write_bytes({"torn": octets[:-7], "empty": b"", "foreign": b"x" * len(octets)}[harm])
    assert names(path) == first


@pytest.mark.parametrize("add", [0, 3])
def test_messages_of_one_length_moved_by_one_place_are_noticed(path: Path, add: int) -> None:
    """Another program takes one out, in place: each postmark stands where another one stood."""
    first = names(path)
    rewrite_in_place(path, [0, 1, 3, 4, 5, 6, 7, 8, 9])
    append(path, *(number(n) for n in range(20, 20 + add)))
    assert names(path)[:9] == [*first[:2], *first[3:]]


def test_flags_of_another_program_change_no_name(path: Path) -> None:
    first = names(path)
    rewrite_in_place(path, range(10), add=b"Status: RO\nX-UID: 5\nLines: 7\nContent-Length: 99\n")
    assert names(path) == first


def test_copies_are_told_apart(path: Path) -> None:
    append(path, number(3), number(3))
    found = names(path)
    assert found[10:] == [f"{found[3]}.2", f"{found[3]}.3"]


def test_an_append_under_way_is_waited_for(path: Path) -> None:
    first = names(path)
    body = index.open_box(str(path))
    body.close()
    from mailtools.services.transit import mbox_form
    from mailtools.system.files.buffer import Buffer

    buffer = Buffer(str(path))
    buffer.append(mbox_form.stored(number(10)))
    batch = appending.Append(str(path), [mbox_form.fetched_record(buffer, 0)])
    assert batch.begin()
    os.write(batch.descriptor, b"From half@a.test Thu Aug 22 12:00:00 2002\nSubject: ha")
    found: list[list[str]] = []
    reader = threading.Thread(target=lambda: found.append(names(path)))
    reader.start()
    reader.join(0.3)
    assert not found  # it waits
    batch.undo(OSError())
    batch.end()
    reader.join(20)
    assert found == [first]


def test_half_an_append_of_a_killed_process_is_not_shown(path: Path) -> None:
    first = names(path)
    child = os.fork()
    if not child:
        from mailtools.services.transit import mbox_form
        from mailtools.system.files.buffer import Buffer

        buffer = Buffer(str(path))
        buffer.append(mbox_form.stored(number(10, 9000)))
        batch = appending.Append(str(path), [mbox_form.fetched_record(buffer, 0)])
        batch.begin()
        os.write(batch.descriptor, batch.records[0].head + b"Subject: ha")
        os._exit(0)
    os.waitpid(child, 0)
    assert names(path) == first


def test_a_lock_that_is_not_let_go(path: Path) -> None:
    first = names(path)
    append(path, number(10))
    (path.parent / "INBOX.mbox.lock").write_text(f"{os.getppid()}\n")
    found = index.open_box(str(path), patience=0.05)
    assert found.catalog.names() == first[:9]  # what was whole before
    found.close()
    shutil.rmtree(path.parent / ".mailtools")
    with pytest.raises(LockTimeoutError):
        index.open_box(str(path), patience=0.05)


def test_what_is_no_mbox(tmp_path: Path) -> None:
    assert len(index.open_box(str(tmp_path / "nothing")).catalog) == 0
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(BadDataError):
        index.open_box(str(tmp_path / "text"))
    (tmp_path / "link").symlink_to(tmp_path / "text")
    with pytest.raises(CannotWriteError):
        index.open_box(str(tmp_path / "link"))
    (tmp_path / "empty").touch()
    assert len(index.open_box(str(tmp_path / "empty")).catalog) == 0


def test_a_message_of_many_mebibytes(tmp_path: Path) -> None:
    path = tmp_path / "INBOX.mbox"
    large = number(0) + b".dots\r\nFrom here\r\n" * 150_000
    append(path, number(1), large, number(2))
    drop = open_drop(path)
    assert [shown(drop, n) for n in range(3)] == [number(1), large, number(2)]
    assert drop.octets(1) == len(large)
    drop.close()
