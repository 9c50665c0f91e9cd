"""services/imap_server/names: wildcards and attributes of LIST."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.services.imap_server import names
from mailtools.services.imap_server.names import Pattern

NAMES = ["INBOX", "INBOX/x", "Sent", "a", "a/b", "a/b/c", "ü"]


@pytest.mark.parametrize(
    ("reference", "pattern", "found"),
    [
        ("", "*", NAMES),
        ("", "%", ["INBOX", "Sent", "a", "ü"]),
        ("", "inbox", ["INBOX"]),
        ("", "inbox/*", ["INBOX/x"]),
        ("a/", "%", ["a/b"]),
        ("a/", "*", ["a/b", "a/b/c"]),
        ("", "%/%", ["INBOX/x", "a/b"]),
        ("", "*c", ["a/b/c"]),
        ("", "a*%c", ["a/b/c"]),
        ("", "[a]", []),
        ("", "", []),
    ],
)
def test_wildcards(reference: str, pattern: str, found: list[str]) -> None:
    assert list(names.matching(NAMES, reference, [pattern])) == found


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
def test_the_same_as_a_regular_expression(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
    assert Pattern(pattern).matches(name) is bool(re.fullmatch(expression, name))


def test_many_wildcards_cost_little() -> None:
    assert not Pattern("*%" * 5000 + "x").matches("a/" * 500)
    assert Pattern("*a" * 200).matches("a" * 200)


def test_attributes() -> None:
    mailboxes = {"INBOX": True, "a": False, "a/b": True, "Sent": True}
    parents, uses = names.parents_of(mailboxes), names.uses_of(mailboxes, {})
    assert parents == {"a"}
    assert names.attributes("a", mailboxes, parents, uses) == ["\\Noselect", "\\HasChildren"]
    assert names.attributes("Sent", mailboxes, parents, uses) == ["\\HasNoChildren", "\\Sent"]
    assert names.attributes("gone", mailboxes, parents, uses) == ["\\NonExistent", "\\HasNoChildren"]


def test_uses_are_given_or_go_by_the_name() -> None:
    mailboxes = {"INBOX": True, "Sent": True, "Sent Items": True, "x": True, "junk": False, "Trash": True}
    assert names.uses_of(mailboxes, {}) == {"Sent": ("\\Sent",), "Trash": ("\\Trash",)}
    given = {"x": {names.USE_ENTRY: b"\\Sent \\Drafts"}, "Trash": {names.USE_ENTRY: b""}, "gone": {"/a": b""}}
    assert names.uses_of(mailboxes, given) == {"x": ["\\Sent", "\\Drafts"], "Trash": []}


def test_parents_of_deep_names() -> None:
    assert names.parents_of(["a/b/c", "a/b/d", "e", "f/g"]) == {"a", "a/b", "f"}
