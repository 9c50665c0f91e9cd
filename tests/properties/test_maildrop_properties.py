"""What comes in comes out of a maildrop octet for octet, under a name that stays."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.mbox import catalog
from mailtools.services.transit import mbox_form
from mailtools.system.mbox import index
from tests.boxes import append, open_drop, rewrite_in_place, shown

LINES = st.sampled_from(
    [
        b"", b".", b"..", b".x", b"From ", b"From a Thu Aug 22 12:00:00 2002", b">From x", b">>From x",
        b"Subject: x", b"Status: RO", b">Status: O", b"X-UID: 7", b"Content-Length: 5", b" folded", b"Lines: 3",
        b"x" * 3000, b"\xff\x00", b"a\rb",
    ]
) | st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))  # fmt: skip
MESSAGES = st.lists(LINES, min_size=1, max_size=20).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)
FLAGS = b"Status: RO\nX-Status: A\nX-Keywords: a b\n  c\nX-UID: 9\nContent-Length: 4\n"


def body_first(message: bytes) -> bytes:
    """A header before it: what stands first in an mbox is a header."""
    return b"From: a@b\r\n" + message


@given(st.lists(MESSAGES.map(body_first), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_octet_for_octet(messages: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "bob" / "INBOX.mbox"
        append(path, *messages)
        drop = open_drop(path)
        assert [shown(drop, n) for n in range(len(drop))] == messages
        assert [drop.octets(n) for n in range(len(drop))] == [len(m) for m in messages]
        names = drop.names
        assert len(set(names)) == len(messages)
        assert drop.size() == (len(messages), sum(map(len, messages)))
        drop.close()

        shutil.rmtree(path.parent / ".mailtools")
        rewrite_in_place(path, range(len(messages)), add=FLAGS)
        drop = open_drop(path)
        assert drop.names == names
        assert [shown(drop, n) for n in range(len(drop))] == messages
        drop.close()


@given(MESSAGES.map(body_first), st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=300, deadline=None)
def test_a_large_message_in_any_pieces_is_stored_as_a_small_one(message: bytes, cuts: list[int]) -> None:
    arriving = mbox_form.MboxIntake()
    places = sorted({min(cut, len(message)) for cut in cuts})
    for start, stop in zip([0, *places], [*places, len(message)], strict=True):
        arriving.take(message[start:stop])
    arriving.end()
    assert b"".join(arriving.body.blocks()) == mbox_form.stored(message)


@given(
    st.lists(MESSAGES.map(body_first), min_size=1, max_size=4), st.binary(max_size=40), st.integers(0, 400)
)
@settings(max_examples=200, deadline=None)
def test_an_index_that_was_tampered_with_is_none(messages: list[bytes], rubbish: bytes, at: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "INBOX.mbox"
        append(path, *messages)
        box = index.open_box(str(path))
        octets = box.catalog.octets(b"stamp")
        box.close()
    changed = octets[:at] + rubbish + octets[at + len(rubbish) :]
    found = catalog.from_octets(changed)
    if found is not None:
        assert found[1].octets(found[0]) == changed


@given(st.integers(0, 400_000), st.integers(1, 90_000))
@settings(max_examples=20, deadline=None)
def test_a_line_without_end_is_stored_as_it_is(length: int, piece: int) -> None:
    message = b"From: a@b\r\n\r\n" + b"From " * (length // 5) + b"\r\nFrom here\r\n" + b"\r" * 9 + b"\r\nend"
    arriving = mbox_form.MboxIntake()
    for at in range(0, len(message), piece):
        arriving.take(message[at : at + piece])
    arriving.end()
    assert b"".join(arriving.body.blocks()) == mbox_form.stored(message)
