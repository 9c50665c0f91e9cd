"""services/mailbox/snapshot: whatever others do to the mbox, nobody is shown one message for another."""

import os
from pathlib import Path

import pytest

from tests.boxes import append, number, open_drop, rewrite_in_place, shown


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bob" / "INBOX.mbox"
    append(path, *map(number, range(10)))
    return path


def test_mail_that_comes_is_not_seen(path: Path) -> None:
    drop = open_drop(path)
    append(path, number(10))
    assert len(drop) == 10
    assert shown(drop, 9) == number(9)
    drop.close()


def test_another_file_in_its_place_changes_nothing(path: Path) -> None:
    drop = open_drop(path)
    path.with_name("new").write_bytes(b"")
    os.replace(path.with_name("new"), path)
    assert [shown(drop, n) for n in range(10)] == [number(n) for n in range(10)]
    drop.close()


@pytest.mark.parametrize("first", [0, 5])
def test_messages_of_one_length_moved_in_place(path: Path, first: int) -> None:
    """Read ahead or not: each is found where it is now, and what is gone is gone."""
    drop = open_drop(path)
    for n in range(first):
        assert shown(drop, n) == number(n)
    rewrite_in_place(path, [0, 1, 2, 3, 4, 5, 6, 8, 9])
    assert shown(drop, 8) == number(8)
    assert shown(drop, 7) in ([number(7)] if first else [None])  # what was read ahead is still right
    assert shown(drop, 9) == number(9)
    drop.close()


def test_flags_written_in_place(path: Path) -> None:
    drop = open_drop(path)
    rewrite_in_place(path, range(10), add=b"Status: RO\n")
    assert [shown(drop, n) for n in range(10)] == [number(n) for n in range(10)]
    drop.close()


def test_a_file_that_was_cut(path: Path) -> None:
    drop = open_drop(path)
    path.write_bytes(b"")
    assert shown(drop, 3) is None
    append(path, number(3))
    assert shown(drop, 3) == number(3)
    assert shown(drop, 4) is None
    drop.close()
