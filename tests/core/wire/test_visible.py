"""Nothing that others wrote controls a terminal."""

import unicodedata

import pytest

from mailtools.core.wire.visible import visible, visible_lines


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A),
                                  0x61C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF, 0xD800])  # fmt: skip
def test_controls_are_spelled(code: int) -> None:
    found = visible(f"a{chr(code)}b")
    assert chr(code) not in found
    assert not [char for char in found if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert found.startswith("a")
    assert found.endswith("b")


def test_text_stays_and_lines_stay_lines() -> None:
    assert visible("schön, 漢字 ✓") == "schön, 漢字 ✓"
    assert visible("a\tb\n") == "a␉b␊"
    assert visible_lines("a\tb\n\x1b[2Jc\r\n\u202e") == "a\tb\n␛[2Jc␍\n<U+202E>"
