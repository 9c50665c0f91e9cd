"""core/wire/visible: what acts on a terminal is made visible; other text stays as it is."""

import pytest

from mailtools.core.wire.visible import visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain \u00fc \u4e2d \U0001f600", "plain \u00fc \u4e2d \U0001f600"),
        ("a\x1b[2Jb", "a\u241b[2Jb"),
        ("a\nb\tc\x7f", "a\u240ab\u2409c\u2421"),
        ("a\x9b\u202eb\u2066", "a<U+009B><U+202E>b<U+2066>"),
        ("\udcff", "<U+DCFF>"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_several_lines_keep_line_ends_and_tabs() -> None:
    assert visible_lines("a\n\tb\x1b\r\n") == "a\n\tb\u241b\u240d\n"
