"""Flags out of header fields."""

import pytest

from mailtools.core.mbox.status import flags


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((None, None, None, None), set()),
        ((b"RO", None, None, None), {"read"}),
        ((b"O", b"AF", None, None), {"answered", "flagged"}),
        ((b"RD", b"T", None, None), {"read", "deleted", "draft"}),
        ((None, None, b"work \\Seen \\Flagged", None), {"read", "flagged"}),
        ((None, None, None, b"0003"), {"read", "answered"}),
        ((None, None, None, b"000d"), {"read", "flagged", "deleted"}),
        ((b"\xff\x00", b"?", b"", b"xyz"), set()),
        ((None, None, None, b"9" * 1_000_000), {"read", "deleted"}),
    ],
)
def test_flags(
    values: tuple[bytes | None, bytes | None, bytes | None, bytes | None], expected: set[str]
) -> None:
    assert flags(*values) == expected
