"""Files in the uuencode form: as a transfer encoding, and inside a text, behind a line ``begin 644 NAME``.

The form is older than MIME; POSIX describes it (uuencode). Knows no part. Invariants: nothing raises on any
octets; time is linear, and what is decoded is at most as long as it was; what is damaged is decoded as far as
it can be.
"""

import re
from binascii import Error, a2b_uu
from typing import NamedTuple

from mailtools.core.patterns import lazy

NAMES = ("x-uuencode", "x-uue", "uuencode", "uue")  # values of Content-Transfer-Encoding
_BEGIN = lazy(rb"^begin(?: |-base64 )[0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_LINES = lazy(rb"(?:[!-`][ -`]{1,88}[^\S\n]*\n)*+(?:[` ]?[^\S\n]*\n)?end[^\S\n]*(?:\n|\Z)")
_LINE = lazy(rb"[^\n]*\n|[^\n]+\Z")
_MOST = 100  # files in one text


class UuFile(NamedTuple):
    """A file inside a text: ``text[start:end]``."""

    start: int
    end: int
    name: bytes


def find(text: bytes) -> list[UuFile]:
    """Return the files in *text*, in order. One without an end is text."""
    found: list[UuFile] = []
    at = 0
    while len(found) < _MOST and (match := _BEGIN.search(text, at)):
        lines = _LINES.match(text, match.end())
        at = lines.end() if lines else match.end()
        if lines:
            found.append(UuFile(match.start(), at, match[1].strip()))
    return found


def decode(octets: bytes) -> bytes:
    """Return the content of the first file in *octets*; without a line "begin", of all of it."""
    match = _BEGIN.search(octets)
    found: list[bytes] = []
    left = len(octets)  # spaces at the end of lines may be lost, but a line of one octet is not 45 everywhere
    for ended in _LINE.finditer(octets, match.end() if match else 0):
        line = ended[0].rstrip(b"\r\n")
        if line in (b"end", b"`", b""):
            if found:
                break
            continue
        if left < 0:
            break
        try:
            found.append(a2b_uu(line))
        except Error:  # a line with something behind it, as broken encoders write
            size = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                found.append(a2b_uu(line[:size]))
            except Error:
                continue
        left -= len(found[-1])
    return b"".join(found)
