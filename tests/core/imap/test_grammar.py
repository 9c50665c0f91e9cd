"""core/imap/grammar and utf7: sets, words, names of mailboxes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.engine import RemoteProtocolError
from mailtools.core.imap import grammar, utf7


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], []),
        ([1], ["1"]),
        ([1, 2, 3], ["1:3"]),
        ([1, 3, 4, 9], ["1,3:4,9"]),
        ([4294967295], ["4294967295"]),
    ],
)
def test_sets(numbers: list[int], text: list[str]) -> None:
    assert list(grammar.sets(numbers)) == text


@given(st.sets(st.integers(1, 100_000), max_size=3000))
def test_sets_hold_what_was_put_in(numbers: set[int]) -> None:
    found = []
    for text in grammar.sets(sorted(numbers)):
        assert len(text) < 4100
        for part in text.split(","):
            first, _, last = part.partition(":")
            found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


@pytest.mark.parametrize("word", [b"x", b"1x", "\uff11".encode(), b"-1", b"9" * 20, None, [b"1"]])
def test_what_is_no_number(word: object) -> None:
    with pytest.raises(RemoteProtocolError):
        grammar.number(word)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"])))
def test_names_of_mailboxes_come_back(name: str) -> None:
    encoded = utf7.encode(name)
    assert encoded.isascii()
    assert utf7.decode(encoded.encode()) == name


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("INBOX", "INBOX"),
        ("a&b", "a&-b"),
        ("~peter/mail/\u53f0\u5317/\u65e5\u672c\u8a9e", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    ],
)
def test_names_as_the_rfc_has_them(name: str, encoded: str) -> None:
    assert utf7.encode(name) == encoded


@given(st.binary(max_size=40))
def test_any_octets_are_some_name(octets: bytes) -> None:
    assert isinstance(utf7.decode(octets), str)


@given(st.binary(max_size=60))
def test_any_octets_are_words_or_an_error(octets: bytes) -> None:
    with suppress(RemoteProtocolError):
        grammar.parse(octets.replace(b"\0", b"?"), [])


@pytest.mark.parametrize(
    ("text", "found"), [(b"", []), (b"3", [3]), (b"1:3,7", [1, 2, 3, 7]), (b"3:1", [1, 2, 3]), (b"5:5", [5])]
)
def test_sets_are_expanded(text: bytes, found: list[int]) -> None:
    assert grammar.expanded(text, 10) == found


@pytest.mark.parametrize(
    "text", [b"1:11", b"1:4294967295", b"1:6,1:6", b"x", b"1:", b"1:*", b"1:2:3", b",", b"1,"]
)
def test_sets_that_are_none_or_too_large(text: bytes) -> None:
    if text == b"1:":
        assert grammar.expanded(text, 10) == [1]
        return
    with pytest.raises(RemoteProtocolError):
        grammar.expanded(text, 10)
