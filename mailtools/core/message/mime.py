"""Finds the parts of a message as octet ranges and decodes their contents.

Owns RFC 2045 (Content-Type, Content-Transfer-Encoding), RFC 2046 §5.1 (multipart) and §5.2.1
(message/rfc822), RFC 2183 (Content-Disposition). It copies nothing until a part's content is asked for, and
knows no terminal.

Invariants: nothing raises on any octets; one pass over the message, no recursion, time linear; at most
`MAX_DEPTH` levels and `MAX_PARTS` parts are opened; everything deeper or later stays content of the part that
holds it (promise of bounded decoding: CVE-2020-12100 and its kind).

Programs that do not keep to the standards are read as the big parsers read them: see
`header.reading_offset` for where a header ends, `parameters` for fields, and `uuencode` for files inside a
text.

How: one search finds every line that begins with "--". A stack holds the open multiparts, a table their
boundaries; a delimiter of an outer multipart closes the inner ones, as RFC 2046 §5.1.2 asks. A part's header
is searched only up to the next "--" line, so that parts without a header do not make the search quadratic.
"""

import re
from binascii import a2b_qp

from mailtools.core.message import charsets, header, parameters, uuencode, words

MAX_DEPTH = 100
MAX_PARTS = 10_000
_SAMPLE, _SAMPLED_LINES = 4096, 20  # octets and lines that show whether a text is base64
_LARGEST_BLANK = 4096  # octets; a larger text is taken to say something

_DELIMITER = re.compile(rb"\n--([^\r\n]{1,4096})")
_BOM = b"\xef\xbb\xbf"
_MESSAGES = ("message/rfc822",)  # opened; others are content
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n)")
_TYPE = re.compile(r"[\w!#$%&'*+.^`{|}~-]+/[\w!#$%&'*+.^`{|}~-]+").fullmatch
_META_CHARSET = re.compile(
    rb"<meta\s[^>]{0,200}charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE
)
_PADDED_LINE = re.compile(rb"\s*(?:[A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=)\s")
_ENCODED = ("base64", "quoted-printable", *uuencode.NAMES)
_PICKER = header.Picker("Content-Type", "Content-Disposition", "Content-Transfer-Encoding")


class Part:
    """One part: its header is ``octets[start:body]``, its content, still encoded, ``octets[body:end]``."""

    __slots__ = (
        "_boundary", "_children", "body", "children", "disposition", "encoding", "end", "filename", "number",
        "octets", "params", "parent", "start", "type",
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
        self.parent: Part | None = None
        values, self.body = _picked(octets, start, limit)
        kind, disposition, encoding = values
        self.type, self.params = parameters.parse(kind) if kind else (default, {})
        self.encoding = parameters.token((encoding or b"").split(b";")[0])
        self.disposition, more = parameters.parse(disposition) if disposition else ("", {})
        self.filename = more.get("filename") or self.params.get("name") or ""
        if not _TYPE(self.type):  # RFC 2045 §5.2: then it is plain text; but some write only "pdf" for a file
            self.type = "application/octet-stream" if self.filename else default
        self._boundary = self.params.get("boundary", "").encode("utf-8", "replace").rstrip()

    @property
    def is_multipart(self) -> bool:
        """Whether this part is a multipart with children."""
        return bool(self.children) and self.type.startswith("multipart/")

    @property
    def is_leaf(self) -> bool:
        """Whether this part has content of its own: no multipart, and no message whose parts were opened."""
        return not self.children or not self.type.startswith(("multipart/", "message/"))

    @property
    def is_alternative(self) -> bool:
        """Whether the part is within a multipart/alternative."""
        part = self.parent
        while part is not None and part.type != "multipart/alternative":
            part = part.parent
        return part is not None

    @property
    def message(self) -> "Part | None":
        """The attached message that holds this part; None for a part of the message itself."""
        part = self.parent
        while part is not None and part.type not in _MESSAGES:
            part = part.parent
        return part

    def header(self) -> bytes:
        """The header of the message that an attached message is."""
        start = _behind_bom(self.octets, self.body, self.end)
        return self.octets[start : header.reading_offset(self.octets, start, self.end)]

    def content(self) -> bytes:
        """The content as octets, with the transfer encoding decoded."""
        return decode_transfer(self.octets[self.body : self.end], self.encoding)

    def text(self) -> str:
        """The content of a text part as text with LF, decoded from its charset."""
        octets = self._without_files() if self.children else self.content()
        charset = self.params.get("charset", "")
        if not charset and self.type == "text/html":
            match = _META_CHARSET.search(octets, 0, 4096)
            charset = match[1].decode() if match else ""
        text = charsets.decode(octets, charset)
        return text.replace("\r\n", "\n") if "\r" in text else text

    def _without_files(self) -> bytes:
        """The content of a text with its uuencoded files named in their place."""
        pieces: list[bytes] = []
        at = self.body
        for file in self.children:
            named = f"[{file.filename}: part {file.number}]\n".encode()
            pieces += (self.octets[at : file.start], named)
            at = file.end
        return b"".join((*pieces, self.octets[at : self.end]))


def _with_uuencoded(parts: list[Part]) -> list[Part]:
    """Return *parts* with the uuencoded files in texts behind their texts, as children of them."""
    found = []
    for part in parts:
        found.append(part)
        if part.type != "text/plain" or part.encoding in _ENCODED or part.disposition == "attachment":
            continue
        for number, file in enumerate(uuencode.find(part.octets[part.body : part.end]), 1):
            start, end = part.body + file.start, part.body + file.end
            child = Part(
                part.octets, start, start, f"{part.number or 1}.{number}", "application/octet-stream"
            )
            child.body, child.end, child.encoding, child.parent = start, end, uuencode.NAMES[0], part
            child.filename, child.disposition = words.decode(file.name), "attachment"
            part.children.append(child)
            found.append(child)
    return found


def _picked(octets: bytes, start: int, limit: int) -> tuple[list[bytes | None], int]:
    """Return the picked fields of a header that begins at *start*, and the offset of the body."""
    begin = _behind_bom(octets, start, limit)
    body = header.reading_offset(octets, begin, limit)
    if begin and octets[begin - 1] == 10:
        return _PICKER.pick(octets, begin - 1, body)[0], body
    # No line end stands before the header, as `pick` needs it: put one before a copy.
    return _PICKER.pick(b"\n" + octets[begin:body], 0, body - begin + 1)[0], body


def _behind_bom(octets: bytes, start: int, limit: int) -> int:
    """The offset behind a byte order mark, which editors put before a message."""
    return start + 3 if octets.startswith(_BOM, start, limit) else start


def head_of(message: bytes) -> bytes:
    """The header of *message* as a reader takes it."""
    start = _behind_bom(message, 0, len(message))
    return message[start : header.reading_offset(message, start)]


def body_of(message: bytes) -> int:
    """The offset of the body of *message*, as `parse` has it."""
    line = _DELIMITER.search(message)
    limit = line.start() + 1 if line else len(message)
    return header.reading_offset(message, _behind_bom(message, 0, limit), limit)


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
        if b"begin" in self.octets:
            return _with_uuencoded(self.parts)
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
                part.parent = parent
                parent.children.append(part)
            self.parts.append(part)
            self.open.append(part)
            if len(self.open) > MAX_DEPTH or len(self.parts) >= MAX_PARTS:
                return
            if part.type.startswith("multipart/") and part._boundary:
                self.boundaries.setdefault(part._boundary, []).append(len(self.open) - 1)
                return
            if part.type not in _MESSAGES or part.encoding in _ENCODED:
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
    if parent.type in _MESSAGES and multipart:
        return parent.number
    parent._children += 1
    return f"{parent.number}.{parent._children}" if parent.number else str(parent._children)


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """Decode a Content-Transfer-Encoding (RFC 2045 §6), damaged data as far as possible.

    Octets in an unknown encoding are returned unchanged.
    """
    if encoding == "base64":
        return octets if _is_plain(octets) else words.base64(octets)
    if encoding == "quoted-printable":
        if b"= " in octets or b"=\t" in octets:
            octets = _SOFT_BREAK.sub(b"=", octets)
        return a2b_qp(octets)
    if encoding in uuencode.NAMES:
        return uuencode.decode(octets)
    return octets


def readable(parts: list[Part]) -> list[Part]:
    """The text parts for a reader.

    Of a multipart/alternative one: text/plain, if it is not blank, else HTML.
    """
    passed: set[int] = set()
    chosen = []
    for part in parts:
        if id(part) in passed:
            passed.update(id(child) for child in part.children)
        elif part.is_multipart:
            if part.type == "multipart/alternative":
                best = _best(part.children)
                passed.update(id(child) for child in part.children if child is not best)
        elif part.type in ("text/plain", "text/html") and part.disposition in ("", "inline"):
            chosen.append(part)
        elif part.type.startswith("multipart/") and not part.children:
            chosen.append(part)  # a multipart without parts: show its raw text
    return chosen or [part for part in parts if part.is_leaf and len(parts) == 1 and _is_text(part)]


def _is_plain(octets: bytes) -> bool:
    """Whether octets declared as base64 are words: a line of it has no spaces, except behind padding."""
    lines = octets[:_SAMPLE].split(b"\n")[:_SAMPLED_LINES]
    spaced = sum(b" " in line.strip() and not _PADDED_LINE.match(line) for line in lines)
    return spaced > 0 and 2 * spaced >= sum(bool(line.strip()) for line in lines)


def alternatives(parts: list[Part]) -> list[Part]:
    """The other forms of what `readable` chooses from a multipart/alternative, and what belongs to them."""
    shown = {id(part) for part in readable(parts)}
    return [part for part in parts if id(part) not in shown and part.is_leaf and part.is_alternative]


def attachments(parts: list[Part]) -> list[Part]:
    """All other parts with content, to list and to save."""
    passed = {id(part) for part in (*readable(parts), *alternatives(parts))}
    return [part for part in parts if id(part) not in passed and not part.is_multipart]


def _is_text(part: Part) -> bool:
    return part.type in ("text/plain", "text/html")


def _best(children: list[Part]) -> Part | None:
    for wanted in ("text/plain", "multipart/", "text/html"):
        for child in children:
            if child.type.startswith(wanted) and not (wanted == "text/plain" and _is_blank(child)):
                return child
    return children[0] if children else None


def _is_blank(part: Part) -> bool:
    """Whether a text part has nothing to read."""
    return part.end - part.body < _LARGEST_BLANK and not part.content().strip()
