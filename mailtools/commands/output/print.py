"""Prints results: a table on a terminal, tabs in a pipe, JSON lines for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mailtools.core.wire.visible import unsafe, visible, visible_lines

__all__ = ["json_line", "print_rows", "visible", "visible_lines"]


def json_line(record: dict[str, Any]) -> str:
    """Return an object as one line of JSON: readable text, control and bidi characters escaped."""
    import json

    text = json.dumps(record, ensure_ascii=False, separators=(", ", ": "))
    return unsafe().sub(lambda m: f"\\u{ord(m.group()):04x}", text)


def print_rows(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Print rows as an aligned table on a terminal, else as tab-separated lines without a headline.

    *right*: the numbers of the columns with numbers. Tab-separated rows are written as they come, so memory
    does not grow with their number.
    """
    if not sys.stdout.isatty():
        write = sys.stdout.write
        for row in rows:
            write("\t".join([visible(str(cell)) for cell in row]) + "\n")
        return
    from tabulate import tabulate

    shown = [[visible(str(cell)) for cell in row] for row in rows]
    if not shown:
        return
    align = ["right" if column in right else "left" for column in range(len(headers))]
    print(tabulate(shown, headers=headers, tablefmt="plain", disable_numparse=True, colalign=align))


def warn(sentence: str) -> None:
    """Print a line for people on stderr."""
    print(f"mailtools: {visible(sentence)}", file=sys.stderr)
