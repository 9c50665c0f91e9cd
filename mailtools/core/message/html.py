"""Converts HTML to text that reads well on a terminal.

Knows the elements used in mail. It shows nothing that a browser would hide and fetches nothing. It does not
escape control characters: the code that writes to the terminal does.

Invariants: nothing raises on any text; time is linear, nesting costs nothing.
"""

import re

from mailtools.core.message.html_tokens import Tag, tokens

_SPACES = re.compile(r"[ \t\r\n\f]+")
# Marks of where a word may be broken, and joiners that stand beside no letter: fillers of hidden previews.
_INVISIBLE = re.compile(r"[\u00ad\u200b\u034f\u2060\ufeff]++|(?<![^\W\d_])\u200c|\u200c(?![^\W\d_])")
_BLANK = re.compile(r"\n{3,}")

_BLOCKS = {
    "p", "div", "table", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header",
    "footer", "center", "form", "address", "dl", "dt", "dd", "pre", "blockquote", "li", "hr", "caption",
    "body", "nav", "main", "aside", "figure", "figcaption", "fieldset", "legend", "details", "summary",
    "menu", "option", "textarea",
}  # fmt: skip
_SPACED = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "pre", "blockquote", "table", "dl"}
_MAX_INDENT = 8
_GAP = "  "  # between two cells


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
        for token in tokens(html):
            if isinstance(token, str):
                self._text(token)
            else:
                self._tag(token)
        self._line()
        notes = [f"[{number}] {link}" for number, link in enumerate(self.links, 1)]
        text = "\n".join([*self.lines, "", *notes] if notes else self.lines)
        return _BLANK.sub("\n\n", text).strip("\n") + "\n"

    def _text(self, raw: str) -> None:
        if self.pre:
            first, *rest = raw.replace("\r\n", "\n").split("\n")
            self.pieces.append(first)
            for line in rest:
                self._line(keep=True)
                self.pieces.append(line)
            return
        text = _SPACES.sub(" ", raw if raw.isascii() else _INVISIBLE.sub("", raw))
        if self.pieces and self.pieces[-1].endswith(" "):
            text = text.removeprefix(" ")
        if text:
            self.pieces.append(text)

    def _tag(self, tag: Tag) -> None:
        name, ends = tag.name, tag.is_end
        if name in _BLOCKS:
            self._line()
            if name in _SPACED:
                self._gap()
        if name == "br":
            self._line(keep=True)
        elif name == "a":
            self._link(ends, tag.attributes.get("href", ""))
        elif name == "img" and (alt := tag.attributes.get("alt", "").strip()):
            self._text(f"[{alt}]")
        elif name in ("td", "th"):
            self._cell()
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

    def _cell(self) -> None:
        """Part the cells of a row, whose end tags may be missing."""
        if self.pieces and self.pieces[-1] != _GAP:
            self.pieces.append(_GAP)

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

    def _link(self, ends: bool, href: str) -> None:
        if not ends:
            link = "".join(href.split())
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
