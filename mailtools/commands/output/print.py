"""Prints results: a table on a terminal, tabs in a pipe, JSON lines for programs."""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

# C0, DEL, C1, and the bidi and line controls of Unicode: with them a stranger's text could control a
# terminal or look like another text (CVE-2003-0063).
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"


@cache
def _unsafe() -> re.Pattern[str]:
    """Return the pattern, compiled when a text needs it; most do not."""
    return re.compile(_UNSAFE)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of a control character takes one cell
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def visible(text: str) -> str:
    """Return *text* as one line with all control and bidi characters made visible."""
    return text if text.isprintable() else _unsafe().sub(_spelled, text)


def visible_lines(text: str) -> str:
    """Return a text of several lines with all control and bidi characters but LF and TAB made visible."""
    return _unsafe().sub(lambda m: m.group() if m.group() in "\n\t" else _spelled(m), text)


def json_line(record: dict[str, Any]) -> str:
    """Return an object as one line of JSON: readable text, control and bidi characters escaped."""
    import json

    text = json.dumps(record, ensure_ascii=False, separators=(", ", ": "))
    return _unsafe().sub(lambda m: f"\\u{ord(m.group()):04x}", text)


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
