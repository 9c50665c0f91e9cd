"""Octets that are kept by UID beside an mbox."""

import os
from array import array
from pathlib import Path

import pytest

from mailtools.system.mbox.cache_file import CacheFile


def uids(*numbers: int) -> "array[int]":
    return array("I", numbers)


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "INBOX.mbox").write_bytes(b"")
    return str(tmp_path / "INBOX.mbox")


def kept(path: str, version: int = 1) -> CacheFile:
    return CacheFile(path, "things", version)


def test_values_come_back_in_this_and_in_another_process(path: str) -> None:
    one, other = kept(path), kept(path)
    assert one.values(9, uids(1, 2)) == [None, None]
    one.add(9, uids(1, 2), [b"one", b"two"])
    for cache in (one, other, kept(path)):
        assert cache.values(9, uids(1, 2)) == [b"one", b"two"]
        assert cache.values(9, uids(2, 3)) == [b"two", None]
        assert cache.values(9, uids()) == []


def test_two_processes_add_to_one_file(path: str) -> None:
    one, other = kept(path), kept(path)
    one.add(9, uids(1), [b"one"])
    other.add(9, uids(4), [b"four"])
    one.add(9, uids(2, 3), [b"two", b""])  # not ascending over the groups
    for cache in (one, other):
        assert cache.values(9, uids(1, 2, 3, 4)) == [b"one", b"two", b"", b"four"]


def test_gone_messages_are_passed_over(path: str) -> None:
    cache = kept(path)
    cache.add(9, uids(1, 2, 3, 4), [b"a", b"b" * 5000, b"c", b"d"])
    assert cache.values(9, uids(1, 3, 4)) == [b"a", b"c", b"d"]


@pytest.mark.parametrize("validity, version", [(10, 1), (9, 2)])
def test_values_of_other_uids_and_versions_are_forgotten(path: str, validity: int, version: int) -> None:
    kept(path).add(9, uids(1), [b"old"])
    cache = kept(path, version)
    assert cache.values(validity, uids(1)) == [None]
    cache.add(validity, uids(1), [b"new"])
    assert kept(path, version).values(validity, uids(1)) == [b"new"]


@pytest.mark.parametrize("torn", [1, 7, 20, 30])
def test_a_torn_group_is_made_again(path: str, torn: int) -> None:
    kept(path).add(9, uids(1), [b"first"])
    kept(path).add(9, uids(2), [b"second value"])
    file = Path(path).parent / ".mailtools" / "INBOX.mbox.things"
    os.truncate(file, file.stat().st_size - torn)
    cache = kept(path)
    assert cache.values(9, uids(1, 2)) == [b"first", None]
    cache.add(9, uids(2), [b"again"])
    assert kept(path).values(9, uids(1, 2)) == [b"first", b"again"]


def test_wrong_octets_are_noticed(path: str) -> None:
    kept(path).add(9, uids(1), [b"first"])
    file = Path(path).parent / ".mailtools" / "INBOX.mbox.things"
    octets = bytearray(file.read_bytes())
    octets[-1] ^= 1
    file.write_bytes(octets)
    assert kept(path).values(9, uids(1)) == [None]


def test_a_file_that_was_deleted_is_begun_anew(path: str) -> None:
    cache = kept(path)
    cache.add(9, uids(1), [b"first"])
    (Path(path).parent / ".mailtools" / "INBOX.mbox.things").unlink()
    assert cache.values(9, uids(1)) == [None]
    cache.add(9, uids(1), [b"again"])
    assert kept(path).values(9, uids(1)) == [b"again"]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    cache = kept(str(tmp_path / "no folder" / "INBOX.mbox"))
    cache.add(9, uids(1), [b"first"])
    assert cache.values(9, uids(1)) == [None]
