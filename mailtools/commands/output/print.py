"""How results reach a person or a program: a table on a terminal, tabs in a pipe, JSON lines for programs."""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

# C0, DEL, C1, and the bidi and line controls of Unicode: octets of a stranger that could drive a terminal
# or make text read as what it is not (CVE-2003-0063).
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"


@cache
def _unsafe() -> re.Pattern[str]:
    """Compiled when a text needs it: most do not."""
    return re.compile(_UNSAFE)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of the control: one cell wide, like the control's place
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def visible(text: str) -> str:
    """*text* as one line with every control and bidi character made visible."""
    return text if text.isprintable() else _unsafe().sub(_spelled, text)


def visible_lines(text: str) -> str:
    """The same for a text of many lines: LF and TAB stay."""
    return _unsafe().sub(lambda m: m.group() if m.group() in "\n\t" else _spelled(m), text)


def json_line(record: dict[str, Any]) -> str:
    """One object on one line; text readable, controls and bidi characters escaped."""
    import json

    text = json.dumps(record, ensure_ascii=False, separators=(", ", ": "))
    return _unsafe().sub(lambda m: f"\\u{ord(m.group()):04x}", text)


def print_rows(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Rows as an aligned table on a terminal, else as tab-separated lines without a headline.

    *right* holds the numbers of the columns that are numbers. Tab-separated rows are written as they
    come, so that memory does not grow with their number.
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
    """One line for a person, on stderr."""
    print(f"mailtools: {visible(sentence)}", file=sys.stderr)
