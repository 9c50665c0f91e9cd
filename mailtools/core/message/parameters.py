"""Parses the values of MIME fields: a type or disposition, and parameters.

Owns RFC 2045 §5.1 (syntax of Content-Type), RFC 2183 §2, RFC 2231 §3 to §5 (sections, charsets), and RFC 5322
§3.2.2 (comments) in these fields. Takes what programs write in their place: words of RFC 2047, a missing
semicolon or quote, a path as a file name.

Invariants: nothing raises on any octets; time is linear; values are one line. At most 64 KiB are read.
"""

import re

from mailtools.core.message import charsets, words
from mailtools.core.patterns import lazy

_MOST = 65536  # octets
# A parameter behind ";", or behind white space if its name is one of MIME's.
_KNOWN = rb"charset|boundary|name|filename|format|delsp|type|start|report-type|protocol|micalg"
_PARAMETER = lazy(
    rb"(?:;|(?<=[\"\s])(?=(?:" + _KNOWN + rb")\*?[\s]*=))\s*([^\s=;\"]{1,100})\s*="
    rb"\s*(?:\"((?:[^\"\\]++|\\.)*+)\"|((?:[^;\s]++|[ \t\r\n]++(?!(?:" + _KNOWN + rb")\*?\s*=))*))",
    re.DOTALL | re.IGNORECASE,
)
_ESCAPED = lazy(rb"\\([\"\\])")
_SECTION = lazy(r"(.+?)\*(\d{1,3})?(\*)?$")
_PERCENT = lazy(rb"%([0-9A-Fa-f]{2})")
_COMMENT_PIECE = lazy(rb'"(?:[^"\\]|\\.)*+"|[^"()]++|[()"]', re.DOTALL)
_FILE_NAMES = (b"name", b"filename")  # whose unquoted values may hold parentheses
_PLAIN_FILE_NAME = lazy(rb"name\s{0,9}=\s{0,9}[^\"\s;]", re.IGNORECASE)


def parse(value: bytes) -> tuple[str, dict[str, str]]:
    """Return the type or disposition in lower case, and the decoded parameters by name.

    RFC 2231 sections are joined and decoded; RFC 2047 words are decoded too, although they are not allowed
    there. If a name occurs twice, the first counts.
    """
    kind, pairs = written(value)
    found: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for octets, text in pairs:
        name = octets.decode("latin-1")
        section = _SECTION.match(name)
        if section:
            number = int(section[2] or 0)
            sections.setdefault(section[1], {}).setdefault(number, (text, bool(section[3]) or not section[2]))
        elif name not in found:
            found[name] = words.decode(text).strip()
    for name, pieces in sections.items():
        found[name] = _joined(pieces)
    return token(kind), found


def written(value: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the type or disposition, and the names in lower case and values of parameters, not decoded."""
    value = value[:_MOST]
    if b"(" in value and not _PLAIN_FILE_NAME.search(value):
        value = uncommented(value)
    kind, _, rest = value.partition(b";")
    if b"=" in kind:  # a semicolon is missing
        kind, *more = kind.split(None, 1)
        rest = b";".join((*more, rest))
    found = []
    for match in _PARAMETER.finditer(b";" + rest):
        name = match[1].lower()
        found.append((name, _value(match[2], match[3], name.partition(b"*")[0])))
    return kind, found


def token(value: bytes) -> str:
    """Return a value of one word in lower case: without comments, quotes and white space (``"base64"``)."""
    text = uncommented(value) if b"(" in value else value
    return charsets.decode_raw(b"".join(text.split()).strip(b"\"'")).lower()


def _value(quoted: bytes | None, plain: bytes | None, name: bytes) -> bytes:
    if quoted is not None:
        # Only these two are escaped: C:\\file stays a path (as Python and browsers have it).
        return _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted
    text = (plain or b"").strip()
    if b"(" in text and name not in _FILE_NAMES:
        text = uncommented(text).strip()
    return text


def uncommented(value: bytes) -> bytes:
    """Return *value* without comments (RFC 5322 §3.2.2); quoted strings stay. A comment may be unfinished."""
    depth = 0
    kept = []
    for match in _COMMENT_PIECE.finditer(value):
        piece = match[0]
        if piece == b"(":
            depth += 1
        elif piece == b")":
            depth = max(0, depth - 1)
        elif not depth:
            kept.append(piece)
    return b"".join(kept)


def _joined(pieces: dict[int, tuple[bytes, bool]]) -> str:
    """Join the sections of a parameter (RFC 2231 §3, §4); the first marked section names the charset."""
    charset = b""
    octets = []
    for number in sorted(pieces):
        text, encoded = pieces[number]
        if encoded:
            if number == min(pieces) and text.count(b"'") >= 2:
                charset, _, text = text.split(b"'", 2)
            text = _PERCENT.sub(lambda match: bytes((int(match[1], 16),)), text)
        octets.append(text)
    return words.one_line(charsets.decode(b"".join(octets), charset.decode("latin-1")))
