"""Finds the parts of a message as octet ranges and decodes their contents.

Owns RFC 2045 (Content-Type, Content-Transfer-Encoding), RFC 2046 §5.1 (multipart) and §5.2.1
(message/rfc822), RFC 2183 (Content-Disposition). It copies nothing until a part's content is asked for, and
knows no terminal.

Invariants: nothing raises on any octets; one pass over the message, no recursion, time linear; at most
`MAX_DEPTH` levels and `MAX_PARTS` parts are opened; everything deeper or later stays content of the part that
holds it (promise of bounded decoding: CVE-2020-12100 and its kind).

How: one search finds every line that begins with "--". A stack holds the open multiparts, a table their
boundaries; a delimiter of an outer multipart closes the inner ones, as RFC 2046 §5.1.2 asks. A part's header
is searched only up to the next "--" line, so that parts without a header do not make the search quadratic.
"""

import re
from binascii import a2b_qp

from mailtools.core.message import header, words

MAX_DEPTH = 100
MAX_PARTS = 10_000

_DELIMITER = re.compile(rb"\n--([^\r\n]{1,250})")
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n)")
_META_CHARSET = re.compile(
    rb"<meta\s[^>]{0,200}charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE
)
_PICKER = header.Picker("Content-Type", "Content-Disposition", "Content-Transfer-Encoding")


class Part:
    """One part: its header is ``octets[start:body]``, its content, still encoded, ``octets[body:end]``."""

    __slots__ = (
        "_boundary", "_children", "body", "children", "disposition", "encoding", "end", "filename", "number",
        "octets", "params", "start", "type",
    )  # fmt: skip

    def __init__(self, octets: bytes, start: int, limit: int, number: str, default: str) -> None:
        self.octets = octets
        self.start = start
        self.end = limit
        self.number = (
            number  # IMAP section (RFC 9051 §6.4.5.1): "1.2"; "" for the root of a multipart message
        )
        self.children: list[Part] = []
        self._children = 0
        values, self.body = _picked(octets, start, limit)
        kind, disposition, encoding = values
        self.type, self.params = words.parameters(kind) if kind else (default, {})
        if not re.fullmatch(r"[^\s/]+/[^\s/]+", self.type):
            self.type = default if self.type in ("", "text") else "application/octet-stream"
        self.encoding = (encoding or b"").split(b";")[0].strip().lower().decode("latin-1")
        self.disposition, more = words.parameters(disposition) if disposition else ("", {})
        self.filename = more.get("filename") or self.params.get("name") or ""
        self._boundary = self.params.get("boundary", "").encode("utf-8", "replace").rstrip()

    @property
    def is_multipart(self) -> bool:
        """Whether this part is a multipart with children."""
        return bool(self.children) and self.type.startswith("multipart/")

    @property
    def is_attachment(self) -> bool:
        """Whether the part is a file to save (RFC 2183 §2.2) rather than text to read."""
        return self.disposition == "attachment" or bool(self.filename) or not self.type.startswith("text/")

    def content(self) -> bytes:
        """The content as octets, with the transfer encoding decoded."""
        return decode_transfer(self.octets[self.body : self.end], self.encoding)

    def text(self) -> str:
        """The content of a text part as text with LF, decoded from its charset."""
        octets = self.content()
        charset = self.params.get("charset", "")
        if not charset and self.type == "text/html":
            match = _META_CHARSET.search(octets, 0, 4096)
            charset = match[1].decode() if match else ""
        text = words.decode_charset(octets, charset)
        return text.replace("\r\n", "\n") if "\r" in text else text


def _picked(octets: bytes, start: int, limit: int) -> tuple[list[bytes | None], int]:
    """`Picker.pick` for a header that begins at *start*; it needs the line end before the header."""
    if start:
        return _PICKER.pick(octets, start - 1, limit)
    # At offset 0 no line end stands before the header: put one before a copy of it.
    body = header.body_offset(octets, 0, limit)
    return _PICKER.pick(b"\n" + octets[:body], 0, body + 1)[0], body


def parse(message: bytes) -> list[Part]:
    """The parts of *message* (LF or CRLF) in their order in the octets; the first is the message itself."""
    return _Walk(message).run()


class _Walk:
    """One pass over the delimiter lines, with the stack of open parts."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.parts: list[Part] = []
        self.open: list[Part] = []  # from the message down to the part that is being read
        self.boundaries: dict[
            bytes, list[int]
        ] = {}  # boundary -> depths in `open` of the multiparts that use it

    def run(self) -> list[Part]:
        octets = self.octets
        lines = _DELIMITER.finditer(octets)
        line = next(lines, None)
        self._begin(0, line.start() + 1 if line else len(octets), None)
        if not self.boundaries:
            return self._finished()
        while line:
            following = next(lines, None)
            self._delimiter(line, following.start() + 1 if following else len(octets))
            line = following
            if not self.boundaries or len(self.parts) >= MAX_PARTS:
                break
        return self._finished()

    def _finished(self) -> list[Part]:
        """Close all open parts at the end of the message, which may have been cut off."""
        self._close(0, len(self.octets))
        return self.parts

    def _delimiter(self, line: re.Match[bytes], limit: int) -> None:
        text = line[1].rstrip()
        depths = self.boundaries.get(text)
        closing = depths is None and text.endswith(b"--")
        if closing:
            depths = self.boundaries.get(text[:-2])
        if not depths:
            return
        depth = depths[-1]
        at = line.start()
        self._close(depth + 1, at - self.octets.startswith(b"\r", at - 1) if at else 0)
        if closing:
            # Text behind the closing delimiter belongs to no part (RFC 2046 §5.1.1: epilogue).
            self._forget(depth)
            return
        start = self.octets.find(b"\n", line.end())
        start = len(self.octets) if start < 0 else start + 1
        self._begin(start, max(limit, start), self.open[depth])

    def _begin(self, start: int, limit: int, parent: Part | None) -> None:
        """Open the part at *start* and any message/rfc822 inside it. Headers end at *limit* at the latest."""
        while True:
            # RFC 2046 §5.1.5: the default type in a multipart/digest
            default = "message/rfc822" if parent and parent.type == "multipart/digest" else "text/plain"
            part = Part(self.octets, start, limit, "", default)
            part.number = _number(part, parent)
            if parent:
                parent.children.append(part)
            self.parts.append(part)
            self.open.append(part)
            if len(self.open) > MAX_DEPTH or len(self.parts) >= MAX_PARTS:
                return
            if part.type.startswith("multipart/") and part._boundary:
                self.boundaries.setdefault(part._boundary, []).append(len(self.open) - 1)
                return
            if part.type != "message/rfc822" or part.encoding in ("base64", "quoted-printable"):
                return
            parent, start = part, part.body
            if start >= limit:
                return

    def _close(self, depth: int, end: int) -> None:
        """End all parts from *depth* on at offset *end*."""
        while len(self.open) > depth:
            self._forget(len(self.open) - 1)
            part = self.open.pop()
            part.end = max(end, part.start)
            part.body = min(part.body, part.end)

    def _forget(self, depth: int) -> None:
        """Ignore further delimiters of the multipart at *depth*."""
        boundary = self.open[depth]._boundary
        depths = self.boundaries.get(boundary)
        if depths and depths[-1] == depth:
            depths.pop()
            if not depths:
                del self.boundaries[boundary]


def _number(part: Part, parent: Part | None) -> str:
    """RFC 9051 §6.4.5.1: parts count from 1; a multipart in a message/rfc822 adds no level."""
    multipart = part.type.startswith("multipart/") and part._boundary
    if parent is None:
        return "" if multipart else "1"
    if parent.type == "message/rfc822" and multipart:
        return parent.number
    parent._children += 1
    return f"{parent.number}.{parent._children}" if parent.number else str(parent._children)


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """Decode a Content-Transfer-Encoding (RFC 2045 §6), damaged data as far as possible.

    Octets in an unknown encoding are returned unchanged.
    """
    if encoding == "base64":
        return words.base64(octets)
    if encoding == "quoted-printable":
        if b"= " in octets or b"=\t" in octets:
            octets = _SOFT_BREAK.sub(b"=", octets)
        return a2b_qp(octets)
    return octets


def readable(parts: list[Part]) -> list[Part]:
    """The text parts for a reader; of a multipart/alternative one (text/plain rather than text/html)."""
    passed: set[int] = set()
    chosen = []
    for part in parts:
        if id(part) in passed:
            passed.update(id(child) for child in part.children)
        elif part.is_multipart:
            if part.type == "multipart/alternative":
                best = _best(part.children)
                passed.update(id(child) for child in part.children if child is not best)
        elif part.type in ("text/plain", "text/html") and part.disposition != "attachment":
            if not part.filename or part.disposition == "inline" or len(parts) == 1:
                chosen.append(part)
        elif part.type.startswith("multipart/") and not part.children:
            chosen.append(part)  # a multipart without parts: show its raw text
    return chosen


def attachments(parts: list[Part]) -> list[Part]:
    """The parts to save as files: those with `is_attachment` that `readable` does not choose."""
    shown = {id(part) for part in readable(parts)}
    return [
        part
        for part in parts
        if id(part) not in shown
        and not part.is_multipart
        and (part.is_attachment or part.disposition == "attachment")
    ]


def _best(children: list[Part]) -> Part | None:
    for wanted in ("text/plain", "multipart/", "text/html"):
        for child in children:
            if child.type.startswith(wanted):
                return child
    return children[0] if children else None
