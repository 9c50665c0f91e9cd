"""system/mbox/settle: states in the headers of an mbox; everything else stays as it is, octet for octet."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.mbox.catalog import Catalog
from mailtools.core.mbox.state import FLAGGED, SEEN, StoredBase, StoredState
from mailtools.system.mbox import index, settle
from mailtools.system.mbox.mboxfile import MboxFile

POSTMARK = b"From x@y Thu Aug 22 12:00:00 2002\n"
PIECES = [
    b"Subject: x\n",
    b"Status: RO\n",
    b"X-UID: 9\n",
    b" folded\n",
    b"\n",
    b"body\n",
    b">From here\n",
    b"no end",
]


def catalog(path: Path) -> Catalog:
    (path.parent / ".mailtools" / f"{path.name}.index").unlink(missing_ok=True)
    box = index.open_box(str(path))
    box.close()
    return box.catalog


def write(path: Path, due: dict[int, StoredState]) -> Catalog:
    there = catalog(path)
    with MboxFile(str(path)) as mbox:
        descriptor = mbox.open(os.O_RDWR)
        new = settle.write(mbox, descriptor, there, due)
        for one in {descriptor, new}:
            os.close(one)
    return there


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=6), min_size=1, max_size=4),
    st.sets(st.integers(0, 3)),
    st.booleans(),
)
def test_messages_stay_and_states_are_there(
    tmp_path_factory: pytest.TempPathFactory, messages: list[list[bytes]], chosen: set[int], crlf: bool
) -> None:
    path = tmp_path_factory.mktemp("box") / "in.mbox"
    octets = b"".join(POSTMARK + b"".join(pieces) + b"\n\n" for pieces in messages)
    path.write_bytes(octets.replace(b"\n", b"\r\n") if crlf else octets)
    before = catalog(path)
    due = {
        n: StoredState(n + 10, SEEN, (b"word",), StoredBase(5, 99, (b"word",)) if not n else None)
        for n in chosen
        if n < len(before)
    }
    if not due:
        return
    told = write(path, due)
    after = catalog(path)
    assert (after.digests, after.sizes) == (before.digests, before.sizes)
    for name in ("starts", "sizes", "digests", "uids", "flags", "end", "base"):
        assert getattr(told, name) == getattr(after, name), name
    for number, state in due.items():
        assert after.state(number)[:3] == state[:3]
    again = {number: state._replace(flags=FLAGGED) for number, state in due.items()}
    size, inode = path.stat().st_size, path.stat().st_ino
    write(path, again)
    assert (path.stat().st_size, path.stat().st_ino == inode) == (size, not crlf)
    assert catalog(path).digests == before.digests
    for number, state in again.items():
        assert catalog(path).state(number)[:3] == state[:3]


def test_mode_and_a_long_header(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(
        POSTMARK + b"X-Long: y\n" * 20_000 + b"\nbody\n\n" + POSTMARK + b"Subject: b\n\nbody\n\n"
    )
    path.chmod(0o640)
    before = catalog(path)
    write(path, {0: StoredState(1, SEEN, (), StoredBase(5, 2)), 1: StoredState(2)})
    assert catalog(path).digests == before.digests
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(catalog(path).uids) == [1, 2]
