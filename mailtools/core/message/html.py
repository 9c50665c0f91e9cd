"""Converts HTML to text that reads well on a terminal.

Knows the elements used in mail, not the standard's parsing rules: it reads tags with one pattern and keeps no
tree. It shows nothing that a browser would hide and fetches nothing. It does not escape control characters:
the code that writes to the terminal does.

Invariants: nothing raises on any text; time is linear, nesting costs nothing. (`html.parser` takes quadratic
time on comments and tags that are never closed, and `html.unescape` raises on a number of 5,000 digits.)
"""

import re
from html import unescape

_TOKEN = re.compile(
    r"<!--(?P<comment>)|<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9]{0,30})(?P<attributes>(?:[^<>\"']|\"[^\"<>]{0,4096}+\"|'[^'<>]{0,4096}+')*+)>"
    r"|<[!?/][^<>]*+>|(?P<text>[^<]++|<)"
)
_HREF = re.compile(r"""\bhref\s{0,9}=\s{0,9}(?:"([^"]*+)"|'([^']*+)'|([^\s>]++))""", re.IGNORECASE)
_ALT = re.compile(r"""\balt\s{0,9}=\s{0,9}(?:"([^"]*+)"|'([^']*+)'|([^\s>]++))""", re.IGNORECASE)
_BIG_NUMBER = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9A-Fa-f]{7,});?")
_SPACES = re.compile(r"[ \t\r\n\f\u200b\u200c\ufeff\u00ad]+")
_BLANK = re.compile(r"\n{3,}")

_HIDDEN = {"script", "style", "head", "title", "template", "noscript", "svg", "math", "object", "iframe"}
_BLOCKS = {
    "p", "div", "table", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header",
    "footer", "center", "form", "address", "dl", "dt", "dd", "pre", "blockquote", "li", "hr", "caption",
    "body",
}  # fmt: skip
_SPACED = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "pre", "blockquote", "table", "dl"}
_MAX_INDENT = 8


def to_text(html: str) -> str:
    """Convert *html* to text: blank lines between paragraphs, marked lists, ">" quotes, numbered links."""
    return _Page().render(html)


class _Page:
    """The lines written so far, and the state that tags change."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.lines: list[str] = []
        self.blank = True  # whether the last line written is an empty one
        self.mark = ""  # "* " or "1. ", for the next line of a list item
        self.quotes = 0
        self.pre = 0
        self.lists: list[int] = []  # per open list the number of its last item; -1 for an unnumbered list
        self.links: list[str] = []
        self.numbers: dict[str, int] = {}
        self.href: list[tuple[int, int]] = []

    def render(self, html: str) -> str:
        at = 0
        end = len(html)
        hidden_end: set[str] = set()
        while at < end and (match := _TOKEN.match(html, at)):
            at = match.end()
            if match["comment"] is not None:
                close = -1 if "-->" in hidden_end else html.find("-->", at)
                if close < 0:
                    hidden_end.add("-->")
                else:
                    at = close + 3
            elif match["name"]:
                name = match["name"].lower()
                if name in _HIDDEN and not match["end"]:
                    at = self._behind(html, name, at, hidden_end)
                else:
                    self._tag(name, bool(match["end"]), match["attributes"])
            elif match["text"]:
                self._text(match["text"])
        self._line()
        notes = [f"[{number}] {link}" for number, link in enumerate(self.links, 1)]
        text = "\n".join([*self.lines, "", *notes] if notes else self.lines)
        return _BLANK.sub("\n\n", text).strip("\n") + "\n"

    def _behind(self, html: str, name: str, at: int, unclosed: set[str]) -> int:
        """The offset behind the end tag of the hidden element *name*; *at* if it is never closed."""
        if name in unclosed:
            return at
        match = _END_TAGS[name].search(html, at)
        if match:
            return match.end()
        unclosed.add(name)
        return at

    def _text(self, raw: str) -> None:
        if "&" in raw:
            raw = unescape(_BIG_NUMBER.sub("\ufffd", raw))
        if self.pre:
            first, *rest = raw.replace("\r\n", "\n").split("\n")
            self.pieces.append(first)
            for line in rest:
                self._line(keep=True)
                self.pieces.append(line)
            return
        text = _SPACES.sub(" ", raw)
        if text == " " and (not self.pieces or self.pieces[-1].endswith(" ")):
            return
        if text:
            self.pieces.append(text)

    def _tag(self, name: str, ends: bool, attributes: str) -> None:
        if name in _BLOCKS:
            self._line()
            if name in _SPACED:
                self._gap()
        if name == "br":
            self._line(keep=True)
        elif name == "a":
            self._link(ends, attributes)
        elif name == "img" and (alt := _attribute(_ALT, attributes)):
            self._text(f"[{alt}]")
        elif name in ("td", "th") and ends:
            self.pieces.append("  ")
        elif name == "hr":
            self.lines.append("-" * 40)
        elif name == "pre":
            self.pre = max(self.pre + (-1 if ends else 1), 0)
        elif name == "blockquote":
            self.quotes = max(self.quotes + (-1 if ends else 1), 0)
        elif name in ("ul", "ol"):
            self._list(name, ends)
        elif name == "li" and not ends:
            self._item()

    def _list(self, name: str, ends: bool) -> None:
        if not ends:
            self.lists.append(0 if name == "ol" else -1)
        elif self.lists:
            self.lists.pop()

    def _item(self) -> None:
        number = self.lists[-1] if self.lists else -1
        if number >= 0:
            self.lists[-1] = number = number + 1
        self.mark = f"{number}. " if number > 0 else "* "

    def _link(self, ends: bool, attributes: str) -> None:
        if not ends:
            link = _SPACES.sub("", _attribute(_HREF, attributes))
            if link.lower().startswith(("http:", "https:", "mailto:", "ftp:")):
                number = self.numbers.setdefault(link, len(self.links) + 1)
                if number > len(self.links):
                    self.links.append(link)
                self.href.append((number, len(self.pieces)))
            else:
                self.href.append((0, 0))
        elif self.href:
            number, start = self.href.pop()
            if number and "".join(self.pieces[start:]).strip():
                self.pieces.append(f" [{number}]")

    def _line(self, keep: bool = False) -> None:
        """Write the collected pieces as one line; write an empty line only if *keep*."""
        text = "".join(self.pieces)
        self.pieces = []
        self.href = [(number, 0) for number, _ in self.href[-3:]]
        text = text.rstrip() if self.pre else text.strip()
        if not text and not keep:
            return
        indent = "  " * min(max(len(self.lists) - 1, 0), _MAX_INDENT)
        if self.mark:
            indent, self.mark = indent + self.mark, ""
        elif self.lists:
            indent += "  "
        self.lines.append(("> " * min(self.quotes, _MAX_INDENT) + indent + text).rstrip())

    def _gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")


_END_TAGS = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in _HIDDEN}


def _attribute(pattern: re.Pattern[str], attributes: str) -> str:
    match = pattern.search(attributes)
    if not match:
        return ""
    return unescape(_BIG_NUMBER.sub("\ufffd", match[1] or match[2] or match[3] or "")).strip()
