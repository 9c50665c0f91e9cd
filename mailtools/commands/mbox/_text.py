"""Writes text to stdout: many short lines with few writes, controls visible, columns that fit a terminal.

`list` does not use `tabulate`, which needs all rows at once, counts a Chinese letter as one cell, and takes
50 ms to import. Here rows are written as they come, cut and padded by the cells that a terminal uses.
"""

import sys
from collections.abc import Iterable
from itertools import islice
from unicodedata import combining, east_asian_width

from mailtools.core.wire.visible import visible

_BATCH = 256  # lines in one write


def write_lines(lines: Iterable[str]) -> bool:
    """Write *lines* (without line ends) as they come, many at once; return True if there were any."""
    if hasattr(sys.stdout, "reconfigure"):
        # a letter that the locale's encoding lacks is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    write = sys.stdout.write
    lines = iter(lines)
    some = False
    while batch := list(islice(lines, _BATCH)):
        some = True
        write("\n".join(batch) + "\n")
    return some


def clean(text: str) -> str:
    """Do the same as `visible`, but faster: printable text has no control or bidi characters."""
    return text if text.isprintable() else visible(text)


def cells(text: str) -> int:
    """Return the number of terminal cells of *text*."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if combining(char) or char in "\u200b\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def fit(text: str, width: int, right: bool = False) -> str:
    """Return *text* cut or padded to *width* cells."""
    taken = cells(text)
    if taken > width:
        text, taken = _cut(text, width)
    pad = " " * (width - taken)
    return pad + text if right else text + pad


def _cut(text: str, width: int) -> tuple[str, int]:
    taken = 0
    for at, char in enumerate(text):
        wide = _width(char)
        if taken + wide > width - 1:
            return text[:at] + "…", taken + 1
        taken += wide
    return text, taken
