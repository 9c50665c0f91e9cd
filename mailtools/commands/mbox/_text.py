"""Writes text to stdout: many short lines with few writes, controls visible, columns that fit a terminal.

`list` does not use `tabulate`, which needs all rows at once, counts a Chinese letter as one cell, and takes
50 ms to import. Here rows are written as they come, cut and padded by the cells that a terminal uses.
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from itertools import islice
from types import ModuleType

from mailtools.core.wire.visible import visible

_BATCH = 256  # lines in one write
_MARKS = re.compile(r"[> ]*(?:\* |[0-9]{1,4}\. )?")  # of quotes and list items, at the beginning of a line


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
    """Return the number of terminal cells of *text*, which has no control characters."""
    if text.isascii():
        return len(text)
    width: int = wcwidth().wcswidth(text)
    return max(0, width)


@cache
def wcwidth() -> ModuleType:
    """Import the tables of widths (20 ms) at the first text that is not ASCII."""
    import wcwidth

    return wcwidth


def fit(text: str, width: int, right: bool = False) -> str:
    """Return *text* cut or padded to *width* cells."""
    taken = cells(text)
    if taken > width:
        text, taken = _cut(text, width)
    pad = " " * (width - taken)
    return pad + text if right else text + pad


def _cut(text: str, width: int) -> tuple[str, int]:
    """Cut *text* between letters as people see them, with their marks and joiners."""
    if text.isascii():
        return text[: width - 1] + "…", width
    cut: str = wcwidth().clip(text, 0, width - 1, fillchar="")
    return cut + "…", cells(cut) + 1


def wrapped(text: str, width: int) -> str:
    """Return *text* with lines of at most *width* cells, broken at spaces; words stay whole."""
    return "\n".join(
        [_wrapped_line(line, width) if cells(line) > width else line for line in text.split("\n")]
    )


def _wrapped_line(line: str, width: int) -> str:
    """Break *line*: the lines after the first have its quote marks, and are indented as far."""
    marks = _MARKS.match(line)
    assert marks
    following = re.sub("[^> ]", " ", marks[0])
    if len(following) > width // 2:
        return line
    lines, pieces, taken = [], [marks[0]], len(marks[0])
    room = taken
    for word in line[marks.end() :].split(" "):
        size = cells(word)
        if taken + size > width and taken > room:
            lines.append("".join(pieces).rstrip())
            pieces, taken = [following], room
        pieces += (word, " ")
        taken += size + 1
    lines.append("".join(pieces).rstrip())
    return "\n".join(lines)
