"""Sources: plain and compressed, whole and damaged."""

import bz2
import errno
import gzip
import io
import lzma
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mailtools.core.errors import BadDataError, ConfigurationError, MissingInputError
from mailtools.system.files import sources

OCTETS = b"From x\n" + bytes(range(256)) * 5000
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def everything(name: str, size: int = 1000, may_be_cut: bool = False) -> bytes:
    with sources.Source(name, may_be_cut=may_be_cut) as source:
        return b"".join(iter(lambda: source.read(size), b""))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_are_known_by_their_octets(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(FORMATS[kind](OCTETS))
    assert everything(str(path)) == OCTETS


@pytest.mark.parametrize("kind", FORMATS)
def test_stdin(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FORMATS[kind](OCTETS))))
    assert everything("-") == OCTETS


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_files_put_together(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "two"
    path.write_bytes(FORMATS[kind](OCTETS) + FORMATS[kind](b"more"))
    assert everything(str(path)) == OCTETS + b"more"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_cut_off_and_damaged(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cut"
    whole = FORMATS[kind](OCTETS)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="cut off"):
        everything(str(path), may_be_cut=True)
    with sources.Source(str(path)) as source:
        with pytest.raises(BadDataError, match="cut off"):
            while source.read(1000):
                pass
        with pytest.raises(BadDataError, match="cut off"):
            source.read(1000)
    path.write_bytes(whole[:40] + b"\xff" * 40 + whole[80:])
    with pytest.raises(BadDataError, match="damaged"):
        everything(str(path))


@pytest.mark.parametrize("octets", [b"", b"F", b"\x1f"])
def test_short_files(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "short"
    path.write_bytes(octets)
    assert everything(str(path)) == octets


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        everything(str(tmp_path / "none"))
    with pytest.raises(BadDataError, match="directory"):
        everything(str(tmp_path))


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(zstandard.compress(OCTETS))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"mailtools\[zst\]"):
        everything(str(path))


def test_progress_counts_what_lies_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(OCTETS))
    read: list[int] = []
    with sources.Source(str(path), read.append) as source:
        while source.read(1 << 16):
            pass
    assert sum(read) == path.stat().st_size == sources.size_of([str(path)])
    assert sources.size_of(["-"]) is None


def test_spill_gives_the_octets_back() -> None:
    with sources.spill([b"a", b"b"]) as file:
        assert file.read() == b"ab"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_what_comes_before_the_cut_is_read(tmp_path: Path, kind: str) -> None:
    octets = bytes(random.Random(7).randbytes(400_000))
    whole = FORMATS[kind](octets)
    path = tmp_path / "cut"
    path.write_bytes(whole[:-1000])
    found = b""
    source = sources.Source(str(path), may_be_cut=True)
    with pytest.raises(OSError, match="cut off") as raised, source:
        while piece := source.read(1 << 16):
            found += piece
    assert raised.value.errno == errno.EIO
    assert octets.startswith(found)
    assert len(found) >= (0 if kind == "bz2" else 300_000)


def test_little_is_inflated_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    for make in FORMATS["gz"], FORMATS["bz2"], FORMATS["xz"]:
        path.write_bytes(make(bytes(20_000_000)))
        with sources.Source(str(path)) as source:
            sizes = [len(piece) for piece in iter(lambda: source.read(1 << 16), b"")]
        assert sum(sizes) == 20_000_000
        assert max(sizes) <= 1 << 18


def test_padding_behind_an_archive_is_no_data(tmp_path: Path) -> None:
    path = tmp_path / "padded"
    path.write_bytes(FORMATS["gz"](OCTETS) + bytes(512))
    assert everything(str(path)) == OCTETS
