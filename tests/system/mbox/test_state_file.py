"""system/mbox/state_file: states and their journal, read by several, written by one at a time."""

from pathlib import Path

import pytest

from mailtools.core.mbox.catalog import PLAIN, Catalog
from mailtools.core.mbox.state import FLAGGED
from mailtools.core.mbox.states import States
from mailtools.system.mbox import state_file
from mailtools.system.mbox.mboxfile import MboxFile
from mailtools.system.mbox.state_file import StateFile


def states(count: int) -> States:
    found, catalog = States(), Catalog()
    for number in range(count):
        catalog.add(100 * number, 90, PLAIN, number.to_bytes(16, "big"))
    found.merge(catalog, lambda: 7)
    return found


@pytest.fixture
def mbox(tmp_path: Path) -> MboxFile:
    return MboxFile(str(tmp_path / "in.mbox"))


def test_changes_are_read_by_another(mbox: MboxFile) -> None:
    one, other, ours = StateFile(), StateFile(), states(3)
    one.save(mbox, ours)
    theirs = other.load(mbox, None)
    assert list(theirs.uids) == [1, 2, 3]
    before = other.stamp(mbox)
    ours.change(1, FLAGGED, 0)
    one.note(mbox, ours, 3, [1])
    assert other.stamp(mbox) != before
    assert other.load(mbox, theirs) is theirs
    assert list(theirs.flags) == [0, FLAGGED, 0]
    ours.change(0, FLAGGED, 0)
    one.note(mbox, ours, 3, [0])
    assert list(other.load(mbox, theirs).flags) == [FLAGGED, FLAGGED, 0]
    assert list(StateFile().load(mbox, None).flags) == [FLAGGED, FLAGGED, 0]


def test_another_generation_is_read_anew(mbox: MboxFile) -> None:
    one, other = StateFile(), StateFile()
    one.save(mbox, states(2))
    known = other.load(mbox, None)
    one.save(mbox, states(4))
    assert len(other.load(mbox, known)) == 4


def test_a_journal_of_an_earlier_file_is_not_believed(mbox: MboxFile, tmp_path: Path) -> None:
    one, ours = StateFile(), states(2)
    one.save(mbox, ours)
    ours.change(0, FLAGGED, 0)
    one.note(mbox, ours, 2, [0])
    journal = (tmp_path / ".mailtools/in.mbox.journal").read_bytes()
    StateFile().save(mbox, states(2))
    (tmp_path / ".mailtools/in.mbox.journal").write_bytes(journal)
    assert list(StateFile().load(mbox, None).flags) == [0, 0]


def test_half_a_line_is_written_over(mbox: MboxFile, tmp_path: Path) -> None:
    one, ours = StateFile(), states(2)
    one.save(mbox, ours)
    ours.change(0, FLAGGED, 0)
    one.note(mbox, ours, 2, [0])
    with (tmp_path / ".mailtools/in.mbox.journal").open("ab") as file:
        file.write(b"= 2 4 0 9 0")
    other = StateFile()
    theirs = other.load(mbox, None)
    assert list(theirs.flags) == [FLAGGED, 0]
    theirs.change(1, FLAGGED, 0)
    other.note(mbox, theirs, 2, [1])
    assert list(one.load(mbox, ours).flags) == [FLAGGED, FLAGGED]


@pytest.mark.parametrize("octets", [b"", b"mailtools states 1\n", b"\0" * 100])
def test_a_torn_file_counts_as_none(mbox: MboxFile, tmp_path: Path, octets: bytes) -> None:
    StateFile().save(mbox, states(2))
    (tmp_path / ".mailtools/in.mbox.states").write_bytes(octets)
    assert len(StateFile().load(mbox, None)) == 0


def test_a_long_journal_is_taken_into_the_file(
    mbox: MboxFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "_LARGEST_JOURNAL", 200)
    one, ours = StateFile(), states(2)
    one.save(mbox, ours)
    for step in range(20):
        ours.change(step % 2, step % 3, 0)
        one.note(mbox, ours, 2, [step % 2])
        assert list(StateFile().load(mbox, None).flags) == list(ours.flags)
    assert (tmp_path / ".mailtools/in.mbox.journal").stat().st_size < 600
