"""Appending to an mbox: whole, locked, durable, and nothing of others lost."""

import mailbox
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError
from mailtools.core.mbox import scan
from mailtools.system.files.buffer import SPILL_AT, Buffer
from mailtools.system.mbox import appending
from mailtools.system.mbox.appending import Append, NewRecord, append

POSTMARK = b"From a@b Thu Aug 22 12:00:00 2002\n"
FOREIGN = b"From x@y Thu Aug 22 12:00:00 2002\nSubject: foreign\n\nfrom another program\n\n"


def record(number: int, lines: int = 3) -> NewRecord:
    body = Buffer()
    body.append(b"line of %d\n" % number * lines)
    return NewRecord(POSTMARK + b"Subject: %d\n\n" % number, body)


def octets(one: NewRecord) -> bytes:
    return one.head + b"".join(one.body.blocks()) + b"\n"


def records(path: Path) -> list[bytes]:
    with open(path, "rb") as file:
        return [one.message() for one in scan.records(file.read)]


def subjects(path: Path) -> list[bytes]:
    return [message.partition(b"\n")[0].removeprefix(b"Subject: ") for message in records(path)]


def kill_in_the_middle(path: Path, batch: list[NewRecord], written: bytes) -> None:
    """Leave behind what a process leaves that is killed while it writes *batch*, *written* being through."""
    append_ = Append(str(path), batch)
    assert append_.begin()
    with open(path, "ab") as file:
        file.write(written)
    os.close(append_.descriptor)
    os.unlink(f"{path}.lock")  # the dotlock of a dead process: tests of locks see to it


# -- what is written ---------------------------------------------------------------------------------------


def test_a_new_mbox_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    old = os.umask(0)
    try:
        assert append(str(path), [record(1), record(2)])
    finally:
        os.umask(old)
    assert path.read_bytes() == octets(record(1)) + octets(record(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".mailtools").stat().st_mode) == 0o700
    assert {p.name for p in tmp_path.iterdir()} == {"in.mbox", ".mailtools"}


def test_owner_and_mode_of_an_mbox_stay(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.touch(0o640)
    path.chmod(0o640)
    inode = path.stat().st_ino
    assert append(str(path), [record(1)])
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o640, inode)


def test_large_messages_and_many(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    batch = [record(number, lines) for number, lines in enumerate([1, 200_000, 2, 600_000, 3])]
    assert not batch[1].body.is_in_memory
    assert append(str(path), batch)
    assert path.read_bytes() == b"".join(octets(one) for one in batch)


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert append("in.mbox", [record(1)])
    assert subjects(tmp_path / "in.mbox") == [b"1"]


@pytest.mark.parametrize(
    ("before", "gap"),
    [
        (b"", b""),
        (FOREIGN, b""),
        (FOREIGN[:-1], b"\n"),
        (FOREIGN[:-2], b"\n\n"),
        (FOREIGN[:-1] + b" \n", b"\n"),
        (FOREIGN.replace(b"\n", b"\r\n"), b""),
        (FOREIGN.replace(b"\n", b"\r\n")[:-2], b"\n"),
        (b"From x\n", b"\n"),
        (b"From x", b"\n\n"),
        (FOREIGN + b"\n\n", b""),
    ],
)
def test_what_others_left_open_is_closed_first(tmp_path: Path, before: bytes, gap: bytes) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(before)
    assert append(str(path), [record(1)])
    assert path.read_bytes() == before + gap + octets(record(1))


@pytest.mark.parametrize(
    "content", [b"Dear Bob\n", b"\n", b"from x\n", b"From", b"\x1f\x8b\x08", b" From x\n"]
)
def test_what_is_no_mbox_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(CannotWriteError, match="not an mbox"):
        append(str(path), [record(1)])
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not Path(f"{path}.lock").exists()


def test_never_through_a_symbolic_link(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "in.mbox"
    target.write_bytes(FOREIGN)
    path.symlink_to(target)
    with pytest.raises(CannotWriteError):
        append(str(path), [record(1)])
    assert target.read_bytes() == FOREIGN
    target.unlink()
    with pytest.raises(CannotWriteError):
        append(str(path), [record(1)])
    assert not target.exists()


def test_never_into_what_is_no_file(tmp_path: Path) -> None:
    folder, pipe, device = tmp_path / "folder", tmp_path / "pipe", Path("/dev/null")
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (folder, pipe, device):
        with pytest.raises(CannotWriteError):
            append(str(path), [record(1)])


def test_a_note_is_never_written_through_a_symbolic_link(tmp_path: Path) -> None:
    path, target = tmp_path / "in.mbox", tmp_path / "target"
    (tmp_path / ".mailtools").mkdir()
    (tmp_path / ".mailtools" / "in.mbox.append").symlink_to(target)
    with pytest.raises(CannotWriteError):
        append(str(path), [record(1)])
    assert not target.exists()


def test_a_folder_that_went_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "bob" / "in.mbox"
    assert append(str(path), [record(1)])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


# -- durability --------------------------------------------------------------------------------------------


class Calls:
    """The order of the system calls that make things durable."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("write", "fdatasync", "fsync", "unlink", "ftruncate", "pwrite"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name: str, real: object):  # type: ignore[no-untyped-def]
        def noting(where: object, *rest: object, **more: object) -> object:
            on = os.path.basename(
                os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
            )
            self.calls.append(f"{name} {on}")
            return real(where, *rest, **more)  # type: ignore[operator]

        return noting


def test_the_order_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.mbox"
    assert append(str(path), [record(1)])
    seen = Calls(monkeypatch)
    assert append(str(path), [record(2), record(3)])
    calls = [
        call for call in seen.calls if not call.endswith("(deleted)")
    ]  # the dotlock's, before it has a name
    assert len(seen.calls) - len(calls) <= 1
    assert calls == [
        "pwrite in.mbox.append", "write in.mbox", "fdatasync in.mbox",
        "pwrite in.mbox.append", "unlink in.mbox.lock",
    ]  # fmt: skip


@pytest.mark.parametrize("is_there", [False, True])
def test_the_name_of_a_new_mbox_is_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Also where the empty file was made by an attempt before this one, which found it locked."""
    path = tmp_path / "box" / "in.mbox"
    path.parent.mkdir()
    if is_there:
        path.touch()
    seen = Calls(monkeypatch)
    assert append(str(path), [record(1)])
    steps = [call for call in seen.calls if call in ("fdatasync in.mbox", "fsync box", "unlink in.mbox.lock")]
    assert steps[-3:] == ["fdatasync in.mbox", "fsync box", "unlink in.mbox.lock"]


def test_the_name_of_a_new_folder_is_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Calls(monkeypatch)
    assert append(str(tmp_path / "bob" / "in.mbox"), [record(1)])
    assert f"fsync {tmp_path.name}" in seen.calls


@pytest.mark.parametrize("error", [28, 27, 122])
@pytest.mark.parametrize("part", [0, 10])
def test_no_room_leaves_the_mbox_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, part: int
) -> None:
    path = tmp_path / "in.mbox"
    assert append(str(path), [record(1)])
    before = path.read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}") != str(path):
            return write(descriptor, data)
        if path.stat().st_size == len(before) and part:
            return write(descriptor, bytes(data)[:part])
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFullError, match=r"in\.mbox"):
            append(str(path), [record(2), record(3)])
    assert path.read_bytes() == before
    assert not Path(f"{path}.lock").exists()
    assert append(str(path), [record(4)])
    assert subjects(path) == [b"1", b"4"]


def test_an_input_output_error_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.mbox"
    assert append(str(path), [record(1)])
    before = path.read_bytes()

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(CannotWriteError) as caught:
            append(str(path), [record(2)])
    assert not isinstance(caught.value, DiskFullError)
    # The truncation could not be synced either: the note stays open, and the next append sees to it.
    assert append(str(path), [record(3)])
    assert path.read_bytes() == before + octets(record(3))


@pytest.mark.parametrize("part", [None, 20])
def test_no_room_for_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int | None) -> None:
    """On a full disk even the note may find no room, or half of it: then nothing is written at all."""
    path = tmp_path / "in.mbox"
    path.touch()
    pwrite = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if part and len(data) > part:
            return pwrite(descriptor, data[:part], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFullError):
            append(str(path), [record(1)])
    assert path.read_bytes() == b""
    assert not Path(f"{path}.lock").exists()
    assert append(str(path), [record(2)]), "the fcntl lock was given back"
    assert append(str(path), [record(3)])
    assert subjects(path) == [b"2", b"3"]


# -- torn tails --------------------------------------------------------------------------------------------

BATCH = [record(2, 4000), record(3, 10), record(4, 50_000)]
WHOLE = b"".join(octets(one) for one in BATCH)
CUTS = sorted(random.Random(5).sample(range(1, len(WHOLE)), 20)) + [
    1, 5, len(POSTMARK), len(octets(BATCH[0])) - 1, len(octets(BATCH[0])), len(octets(BATCH[0])) + 1,
    len(WHOLE) - 1, len(WHOLE),
]  # fmt: skip


@pytest.mark.parametrize("before", [octets(record(1)), FOREIGN[:-2]], ids=["ours", "left open"])
def test_a_torn_tail_is_cut_back_wherever_it_is_torn(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "in.mbox"
    gap = b"" if before.endswith(b"\n\n") else b"\n\n"
    for cut in CUTS:
        path.write_bytes(before)
        kill_in_the_middle(path, BATCH, (gap + WHOLE)[:cut])
        assert append(str(path), [record(9)])
        assert path.read_bytes() == before + gap + octets(record(9)), cut


def test_a_killed_writer_that_wrote_nothing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(FOREIGN)
    kill_in_the_middle(path, BATCH, b"")
    assert append(str(path), [record(9)])
    assert path.read_bytes() == FOREIGN + octets(record(9))


@pytest.mark.parametrize("glue", [b"", b"\n", b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("cut", [10, 100, 30_000, 200_000])
def test_what_another_program_appended_to_a_torn_tail_is_never_lost(
    tmp_path: Path, glue: bytes, cut: int
) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    kill_in_the_middle(path, BATCH, WHOLE[:cut] + glue + FOREIGN)
    assert append(str(path), [record(9)])
    text = path.read_bytes()
    assert text == octets(record(1)) + WHOLE[:cut] + glue + FOREIGN + octets(record(9))


def test_a_message_larger_than_the_torn_batch_is_not_lost_either(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    kill_in_the_middle(path, [record(2)], octets(record(2))[:50] + b"\n\n" + FOREIGN * 100)
    assert append(str(path), [record(9)])
    assert path.read_bytes().count(FOREIGN) == 100


def test_a_foreign_message_where_our_tail_should_begin_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    kill_in_the_middle(path, BATCH, FOREIGN)
    assert append(str(path), [record(9)])
    assert path.read_bytes() == octets(record(1)) + FOREIGN + octets(record(9))


@pytest.mark.parametrize("field", [1, 2])
def test_a_note_of_another_boot_or_of_another_file_is_not_believed(tmp_path: Path, field: int) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    kill_in_the_middle(path, [record(2)], octets(record(2)))
    note = tmp_path / ".mailtools" / "in.mbox.append"
    words = note.read_text().split(" ")
    words[field] = "12345"
    note.write_text(" ".join(words))
    assert append(str(path), [record(9)])
    assert subjects(path) == [b"1", b"2", b"9"]
    assert note.read_bytes().startswith(b"-")


def test_an_mbox_put_in_place_of_the_torn_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    kill_in_the_middle(path, [record(2)], octets(record(2))[:20])
    copy = tmp_path / "copy"
    copy.write_bytes(octets(record(1)) + octets(record(2)))
    copy.rename(path)
    assert append(str(path), [record(9)])
    assert subjects(path) == [b"1", b"2", b"9"]


@pytest.mark.parametrize(
    "note", [b"+", b"+ \n", b"+ a b c d e f\n", b"+" * 5000, b"\xff\xfe", b"", b"+ x 1 -5 0 1 zz\n"]
)
def test_a_note_that_is_nonsense_is_ignored(tmp_path: Path, note: bytes) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(octets(record(1)))
    (tmp_path / ".mailtools").mkdir()
    (tmp_path / ".mailtools" / "in.mbox.append").write_bytes(note)
    assert append(str(path), [record(2)])
    assert subjects(path) == [b"1", b"2"]


def test_a_note_that_lies_about_the_length_cuts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    assert append(str(path), [record(1), record(2), record(3)])
    note = tmp_path / ".mailtools" / "in.mbox.append"
    closed = note.read_bytes()
    for length in (-1, 0, 5, path.stat().st_size, 10**18):
        words = (b"+" + closed[1:]).split(b" ")
        words[3] = b"%d" % length
        words[5] = b"9999999"
        note.write_bytes(b" ".join(words))
        before = path.read_bytes()
        if length == 0:
            continue  # the truth: that was the last append
        assert append(str(path), [record(9)])
        assert path.read_bytes() == before + octets(record(9))


# -- others ------------------------------------------------------------------------------------------------


def test_a_locked_mbox_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    theirs = mailbox.mbox(path)
    theirs.lock()
    assert append(str(path), [record(1)]) is False
    assert path.read_bytes() == b""
    theirs.unlock()
    assert append(str(path), [record(1)]) is True


def test_an_mbox_replaced_between_opening_and_locking_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "in.mbox", tmp_path / "new"
    path.write_bytes(octets(record(1)))
    old = os.open(path, os.O_RDONLY)
    acquire = appending.MboxLock.acquire
    moves = []

    def late(lock: appending.MboxLock) -> bool:
        if not moves:
            new.write_bytes(FOREIGN)
            moves.append(new.rename(path))
        return acquire(lock)

    monkeypatch.setattr(appending.MboxLock, "acquire", late)
    while not append(str(path), [record(2)]):
        assert len(moves) == 1
    assert path.read_bytes() == FOREIGN + octets(record(2))
    assert os.pread(old, 1000, 0) == octets(record(1)), "nothing went into the file that is gone"
    assert not Path(f"{path}.lock").exists()


OURS = """
import sys
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.appending import NewRecord, append
for number in range(int(sys.argv[2])):
    body = Buffer()
    body.append(b"ours\\n" * (number % 700) + b"end\\n")
    one = NewRecord(b"From a@b Thu Aug 22 12:00:00 2002\\nSubject: ours %d\\n\\n" % number, body)
    while not append(sys.argv[1], [one]):
        pass
"""
THEIRS = """
import mailbox, sys
box = mailbox.mbox(sys.argv[1], create=False)
for number in range(int(sys.argv[2])):
    while True:
        try:
            box.lock()
            break
        except mailbox.ExternalClashError:
            pass
    # Straight to the end, as a delivery agent does: add() and flush() read the whole mbox each time.
    with open(sys.argv[1], "ab") as file:
        file.write(b"From x@y Thu Aug 22 12:00:00 2002\\nSubject: theirs %d\\n\\n" % number)
        file.write(b"theirs\\n" * (number % 500))
        file.flush()
        file.write(b"end\\n\\n")
    box.unlock()
"""


def test_thousands_of_messages_of_several_programs_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.touch()
    counts = {OURS: 700, THEIRS: 1500}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(counts[script])])
        for script in (OURS, THEIRS, OURS)
    ]
    assert [writer.wait(90) for writer in writers] == [0, 0, 0]
    found = records(path)
    for message in found:
        subject, _, body = message.partition(b"\n\n")
        who, number = subject.removeprefix(b"Subject: ").split()
        times = int(number) % (700 if who == b"ours" else 500)
        assert body == (who + b"\n") * times + b"end\n"
    assert len(found) == 2 * 700 + 1500
    assert len(mailbox.mbox(path)) == len(found)


def test_a_spilled_body_may_be_written_twice(tmp_path: Path) -> None:
    """One message to two mboxes."""
    body = Buffer()
    body.append(b"x" * SPILL_AT + b"\n")
    body.append(b"y\n")
    for name in ("a", "b"):
        assert append(str(tmp_path / name), [NewRecord(POSTMARK + b"\n", body)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes().endswith(b"x\ny\n\n")


@pytest.mark.parametrize("made", ["hard link", "symbolic link above"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_root_writes_to_no_file_that_a_user_made_the_name_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, uid: int
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    path = tmp_path / "mail/x.mbox"
    if made == "hard link":
        path.parent.mkdir()
        os.link(tmp_path / "precious/file", path)
    else:
        path.parent.symlink_to(tmp_path / "precious")
        path = path.parent / "file"
        if not os.geteuid():
            os.lchown(path.parent, 1000, 1000)
    monkeypatch.setattr(appending.os, "geteuid", lambda: uid)
    if uid:
        append(str(path), [record(1)])
        assert subjects(tmp_path / "precious/file") == [b"1"]
        return
    with pytest.raises(CannotWriteError, match="nothing was written"):
        append(str(path), [record(1)])
    assert not (tmp_path / "precious/file").stat().st_size
