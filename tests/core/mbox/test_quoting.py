"""From lines and state fields of an mbox: quoted, unquoted, removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.mbox import quoting

PIECES = st.lists(
    st.sampled_from(
        [b"From ", b">", b"\n", b"x", b"status: ", b"X-UID: ", b"Content-Length: ", b" ", b"X-Keywords:", b"\t"]
    ),
    max_size=20,
).map(lambda pieces: b"".join(pieces) + b"\n")  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "quoted"),
    [
        (b"From x\n", b">From x\n"),
        (b"a\nFrom x\nFrom y\n", b"a\n>From x\n>From y\n"),
        (b">From x\n", b">>From x\n"),
        (b"From x\n>>From y\n", b">From x\n>>>From y\n"),
        (b" From x\n", b" From x\n"),
        (b"From\n", b"From\n"),
        (b"from x\n", b"from x\n"),
        (b"a From x\n", b"a From x\n"),
        (b"> From x\n", b"> From x\n"),
        (b"", b""),
    ],
)
def test_lines_that_look_like_postmarks_get_one_more_mark(plain: bytes, quoted: bytes) -> None:
    assert quoting.quote(plain) == quoted
    assert quoting.unquote(quoted) == plain


def test_a_from_line_that_nobody_quoted_stays() -> None:
    assert quoting.unquote(b"From x\n>From y\n") == b"From x\nFrom y\n"


@pytest.mark.parametrize(
    ("plain", "quoted"),
    [
        (b"Status: RO\n", b">Status: RO\n"),
        (b"A: b\nX-STATUS: A\n", b"A: b\n>X-STATUS: A\n"),
        (b">Status: RO\n", b">>Status: RO\n"),
        (b"x-uid: 1\nX-IMAPbase: 1\nX-IMAP: 1\n", b">x-uid: 1\n>X-IMAPbase: 1\n>X-IMAP: 1\n"),
        (b"X-Keywords: a\nContent-Length: 5\n", b">X-Keywords: a\n>Content-Length: 5\n"),
        (b"X-Status-Code: 1\n", b"X-Status-Code: 1\n"),
        (b"My-Status: 1\n", b"My-Status: 1\n"),
        (b"Subject: a\n Status: R\n", b"Subject: a\n Status: R\n"),
        (b"Status : R\n", b"Status : R\n"),
    ],
)
def test_state_fields_of_a_sender_are_quoted_and_come_back(plain: bytes, quoted: bytes) -> None:
    assert quoting.quote_state(plain) == quoted
    assert quoting.unquote_state(quoted) == plain


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"Status: RO\nA: b\n", b"A: b\n"),
        (b"A: b\nX-Keywords: a\n b\n\tc\nC: d\n", b"A: b\nC: d\n"),
        (b"x-uid: 1\n", b""),
        (b"A: b\nContent-Length: 5\n", b"A: b\n"),
        (b">Status: RO\n", b">Status: RO\n"),
        (b"X-Mailer: a\n", b"X-Mailer: a\n"),
        (b"A: b\n Status: R\n", b"A: b\n Status: R\n"),
    ],
)
def test_own_state_fields_are_removed_with_their_folded_lines(header: bytes, left: bytes) -> None:
    assert quoting.strip_state(header) == left


def test_state_is_quoted_in_the_header_alone() -> None:
    octets = b"Status: R\nFrom x\n\nStatus: R\nFrom y\n"
    assert quoting.quote_message(octets, octets.index(b"\n\n") + 1) == (
        b">Status: R\n>From x\n\nStatus: R\n>From y\n"
    )
    assert quoting.quote_message(b"A: b\n\nFrom y\n", 5) == b"A: b\n\n>From y\n"


@given(PIECES)
def test_unquoting_gives_back_what_was_quoted_and_no_postmark_is_left(lines: bytes) -> None:
    quoted = quoting.quote(lines)
    assert quoting.unquote(quoted) == lines
    assert not any(line.startswith(b"From ") for line in quoted.split(b"\n"))
    assert quoting.unquote_state(quoting.quote_state(lines)) == lines


@given(PIECES)
def test_a_quoted_header_has_no_state_field_left_to_remove(lines: bytes) -> None:
    quoted = quoting.quote_state(lines)
    assert quoting.strip_state(quoted) == quoted
