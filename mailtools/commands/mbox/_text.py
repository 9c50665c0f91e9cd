"""Text on stdout: many short lines in few writes, controls visible, columns that fit a terminal.

`tabulate` is not used for `list`: it must hold every row, counts a Chinese letter as one cell, and takes 50
ms to import; here rows are written as they come, cut and padded by the cells that a terminal gives them.
"""

import sys
from collections.abc import Iterable
from itertools import islice
from unicodedata import combining, east_asian_width

from mailtools.commands.output.print import visible

_BATCH = 256  # lines a write


def write_lines(lines: Iterable[str]) -> bool:
    """Write *lines* (without line ends) as they come, many a write; tell whether there were any."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the locale lacks is no failure
    write = sys.stdout.write
    lines = iter(lines)
    some = False
    while batch := list(islice(lines, _BATCH)):
        some = True
        write("\n".join(batch) + "\n")
    return some


def clean(text: str) -> str:
    """`visible`, fast for text that needs nothing: what is printable holds no control, no bidi character."""
    return text if text.isprintable() else visible(text)


def cells(text: str) -> int:
    """How many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if combining(char) or char in "\u200b\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def fit(text: str, width: int, right: bool = False) -> str:
    """*text* cut or padded to *width* cells."""
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
