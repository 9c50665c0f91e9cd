"""Makes control and bidi characters visible.

What others wrote must not control a terminal, nor look like another text (CVE-2003-0063).
"""

import re
from functools import cache

# C0, DEL, C1, and the bidi and line controls of Unicode
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"


@cache
def unsafe() -> re.Pattern[str]:
    """Return the pattern of such characters, compiled when a text needs it; most do not."""
    return re.compile(_UNSAFE)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of a control character takes one cell
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def visible(text: str) -> str:
    """Return *text* as one line with all control and bidi characters made visible."""
    return text if text.isprintable() else unsafe().sub(_spelled, text)


def visible_lines(text: str) -> str:
    """Return a text of several lines with all control and bidi characters but LF and TAB made visible."""
    return unsafe().sub(lambda m: m.group() if m.group() in "\n\t" else _spelled(m), text)
