"""system/mbox/annotations: any values, durable, and what is no line of ours."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.system.mbox import annotations

_names = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(_names, st.dictionaries(_names, st.binary(), min_size=1)))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, found: annotations.Annotations
) -> None:
    path = str(tmp_path_factory.mktemp("notes") / "annotations")
    annotations.edit(path, lambda empty: empty.update(found))
    assert annotations.load(path) == found


def test_lines_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "annotations"
    assert annotations.load(str(path)) == {}
    path.write_text('["a", "/b", "c"]\n\n["a"]\n{}\n3\n["a", "/d", 1]\n["a", "/e", "torn')
    assert annotations.load(str(path)) == {"a": {"/b": b"c"}}


def test_renaming_takes_what_is_below_along() -> None:
    found = {"a": {"/x": b"1"}, "a/b": {"/x": b"2"}, "ab": {"/x": b"3"}}
    annotations.renamed(found, "a", "c/d", "/")
    assert found == {"c/d": {"/x": b"1"}, "c/d/b": {"/x": b"2"}, "ab": {"/x": b"3"}}
