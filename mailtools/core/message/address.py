"""Address lists: parses the values of From, To, Cc and the like into mailboxes.

Owns RFC 5322 §3.4 (mailboxes and groups), §4.4 (obsolete: routes, empty entries, white space around dots),
the addresses of RFC 6532 (UTF-8), and the broken lists that real headers hold. Encoded words of names are
decoded *after* the list is split. It does not check that an address can be used; the sending code does.

Invariants: nothing raises on any octets; time is linear in the value, with no recursion: each octet is read
a bounded number of times, so a million addresses, or nested comments, take seconds.

An entry in the usual form is one match of `_USUAL` (1.5 µs); other entries are read by tokens (1 µs a token).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from mailtools.core.message import charsets, words
from mailtools.core.patterns import lazy


class Address(NamedTuple):
    """One mailbox of a list."""

    name: str  # for display, decoded; "" where there is none
    spec: str  # addr-spec: local@domain, the local part quoted where it must be; "" where none was found


class Member(NamedTuple):
    """One mailbox of a list, or the start or the end of a group, in the octets of the field."""

    kind: str  # MAILBOX, GROUP or END
    name: bytes = b""  # display name or name of the group: not decoded, without quotes
    route: bytes = b""  # RFC 5322 §4.4: "@a,@b"
    spec: bytes = b""  # as in `Address`


MAILBOX, GROUP, END = "mailbox", "group", "end"


class ListFault(NamedTuple):
    """An entry of a list that is not one mailbox (RFC 5322 §3.4): guessing could leave a recipient out."""

    entry: str
    why: str


_Token = tuple[str, str]  # (kind, text)

_FOLD = lazy(r"\r?\n(?=[ \t])")
# atext and dots, with every letter beyond ASCII (RFC 6532 §3.2)
_DOTTED = r'[^\s"(),:;<>@\[\]\\\x00-\x1f\x7f]'
_USUAL = re.compile(
    r'[ \t]*+(?:(?:"([^"\\]*+)"|((?:' + _DOTTED + r"|[ \t])*+))[ \t]*+"
    rf"<({_DOTTED}++@{_DOTTED}++)>|({_DOTTED}++@{_DOTTED}++))[ \t\r\n]*+(?:,|$)"
)
_TOKEN = lazy(
    r"(?P<space>[\s\x00-\x1f\x7f]++)|(?P<literal>\[[^\[\]\\]{0,255}+\])"
    r'|(?P<atom>[^\s"(),.:;<>@\[\]\\\x00-\x1f\x7f]++)|(?P<open>["(])|(?P<special>.)'
)
_QUOTED = lazy(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_HIDDEN = lazy(rf"[ \t]*+({_DOTTED}++) at (?=[^\s.]++\.)({_DOTTED}++)[ \t]*+(\(|$)")
_PAREN = lazy(r"\\.|[()]", re.DOTALL)
_ESCAPED = lazy(r"\\(.)", re.DOTALL)
_DOT_ATOM = lazy(r'[^\s"(),.:;<>@\[\]\\\x00-\x1f\x7f]++(?:\.[^\s"(),.:;<>@\[\]\\\x00-\x1f\x7f]++)*')
_SPACES = lazy(r"[\s\x00-\x1f\x7f]+")


def addresses(header_value: bytes | str) -> list[Address]:
    """The mailboxes of a From, To, Cc ... value (folded or not), groups opened, in order.

    An entry without addr-spec ("undisclosed recipients", "Bob <>") has spec ""; a single word ("root") is an
    addr-spec of this host.
    """
    text = charsets.decode_raw(header_value) if isinstance(header_value, bytes) else header_value
    if "\n" in text:
        text = _FOLD.sub("", text)
    found: list[Address] = []
    usual = _USUAL.match
    at = 0
    end = len(text)
    parser = _Parser(text)
    while at < end:
        match = usual(text, at)
        if match:
            at = match.end()
            quoted, plain, spec, bare = match.groups()
            found.append(Address(_named(quoted or plain or ""), spec or bare))
        else:
            at = parser.entry(at, found)
    return found


def members(header_value: bytes, most: int) -> list[Member]:
    """Return the first *most* mailboxes and groups of a list, their octets as they are written.

    Every group that is given has its end; a group without a name is opened. Octets over 127 pass for letters.
    """
    text = header_value.decode("ascii", "surrogateescape")
    if "\n" in text:
        text = _FOLD.sub("", text)
    found: list[Member] = []
    parser = _Parser(text, raw=True)
    at = 0
    in_group = False
    while at < len(text) and len(found) < most:
        if match := _USUAL.match(text, at):
            at = match.end()
            quoted, plain, spec, bare = match.groups()
            found.append(_mailbox((quoted or plain or "").strip(), "", spec or bare))
            continue
        parser.group, parser.route, parser.is_last = "", "", False
        entry: list[Address] = []
        at = parser.entry(at, entry)
        if parser.group:
            found += [Member(END)] * in_group
            found.append(Member(GROUP, _octets(parser.group)))
            in_group = True
        several = entry[: most - len(found)]
        found += (_mailbox(name, parser.route.lstrip(","), spec) for name, spec in several)
        if parser.is_last and in_group:
            found.append(Member(END))
            in_group = False
    if in_group:
        found.append(Member(END))
    return found


def _mailbox(name: str, route: str, spec: str) -> Member:
    return Member(MAILBOX, _octets(name), _octets(route), _octets(spec))


def _octets(text: str) -> bytes:
    return text.encode("ascii", "surrogateescape")


def faults(header_value: bytes | str) -> list[ListFault]:
    """Return the entries of a list that are not one mailbox each. Empty entries and groups are none."""
    text = charsets.decode_raw(header_value) if isinstance(header_value, bytes) else header_value
    if "\n" in text:
        text = _FOLD.sub("", text)
    parser = _Parser(text)
    at = 0
    while at < len(text):
        match = _USUAL.match(text, at)
        at = match.end() if match else parser.entry(at, [])
    return parser.faults


def addr_specs(header_value: bytes | str) -> list[str]:
    """The addr-specs alone, as an envelope needs them. Entries without an addr-spec are left out."""
    return [address.spec for address in addresses(header_value) if address.spec]


def author(header_value: bytes | str) -> Address:
    """The mailbox that a reader is shown for From: the first with a domain, else the first.

    The name is that of the same mailbox. Archives of mailing lists hide addresses: ``bob at x.org (Bob)`` is
    read as bob@x.org, which `addresses` does not guess.
    """
    found = addresses(header_value)
    shown = next(
        (address for address in found if "@" in address.spec), found[0] if found else Address("", "")
    )
    if not shown.spec:
        text = charsets.decode_raw(header_value) if isinstance(header_value, bytes) else header_value
        if hidden := _HIDDEN.match(text):
            return Address(shown.name if hidden[3] else "", f"{hidden[1]}@{hidden[2]}")
    return shown


def first_name(header_value: bytes) -> str:
    """A label for the `author` of a list: its display name, else its addr-spec, else the raw text."""
    return _first_name(header_value) if len(header_value) < 200 else _first_name.__wrapped__(header_value)


@lru_cache(maxsize=2048)  # the same people write again and again
def _first_name(header_value: bytes) -> str:
    text = charsets.decode_raw(header_value[:2000])
    match = _USUAL.match(text)
    if match:
        quoted, plain, spec, bare = match.groups()
        return _named(quoted or plain or "") or spec or bare
    name, spec = author(text)
    return name or spec or words.decode(header_value[:2000]).strip()


def _named(name: str, raw: bool = False) -> str:
    if "=?" in name and not raw:
        name = words.decode(name.encode("utf-8", "replace"))
    return name.strip()


class _Parser:
    """Reads one entry at a time out of *text*.

    A quote or comment that is never closed counts as white space. The parser remembers that none closes:
    searching to the end of the list for each of them would take quadratic time.
    """

    __slots__ = ("faults", "group", "is_last", "open_comment", "open_quote", "raw", "route", "text")

    def __init__(self, text: str, *, raw: bool = False) -> None:
        self.text = text
        self.raw = raw  # names are not decoded
        self.group = self.route = ""  # the group that an entry has begun, and the route of its address
        self.is_last = False  # a semicolon ended the entry
        self.faults: list[ListFault] = []
        self.open_quote = False
        self.open_comment = False

    def entry(self, at: int, found: list[Address]) -> int:
        """Read the entry at offset *at*, add its mailboxes to *found*; return the offset of the next."""
        begin = at
        before: list[_Token] = []
        angle: list[_Token] | None = None
        current = before
        behind: list[_Token] = []
        comment = ""
        has_domain = False  # an "@" stands in `before`: searching the list at each colon would be quadratic
        for kind, text, after in self._tokens(at):
            at = after
            if kind == "comment":
                comment = comment or text[1:-1]
            elif kind == "space":
                if current and current[-1][0] != "space":
                    current.append((kind, text))
            elif kind != "special" or text in "@.\\[]":
                current.append((kind, text))
                has_domain |= text == "@" and current is before
            elif text == "<":
                behind += [(kind, text)] if angle is not None else []
                angle = current = []
            elif text == ">" and current is angle:
                current = behind  # text behind the address is not part of the display name
            elif text == ":" and current is angle:
                # RFC 5322 §4.4, a route: <@a,@b:user@host>
                self.route = "".join(text for kind, text in current if kind != "space").replace("@", ",@")
                current.clear()
            elif text == ":" and not has_domain:
                self.group = _phrase(before, self.raw)
                before.clear()  # RFC 5322 §3.4: the name of a group
                comment = ""
            elif text == ";" or (text == "," and not (current is angle and _is_route(current))):
                self.is_last = text == ";"
                break
        _add(before, angle, comment, found, self.raw)
        if why := _fault(before, angle, behind):
            self.faults.append(ListFault(self.text[begin:at].strip(" \t\r\n,;"), why))
        return at

    def _tokens(self, at: int) -> Iterator[tuple[str, str, int]]:
        """``(kind, text, offset behind)`` of each token from *at* on."""
        text = self.text
        token = _TOKEN.match
        while match := token(text, at):
            kind = match.lastgroup or ""
            at = match.end()
            if kind != "open":
                yield kind, match[0], at
            elif match[0] == "(" and not self.open_comment and (after := self._comment(at)) > 0:
                yield "comment", text[at - 1 : after], after
                at = after
            elif match[0] == '"' and not self.open_quote and (quoted := _QUOTED.match(text, at - 1)):
                at = quoted.end()
                yield "quoted", quoted[0], at
            else:
                self.open_quote |= match[0] == '"'
                self.open_comment |= match[0] == "("
                yield "space", " ", at

    def _comment(self, at: int) -> int:
        """The offset behind the comment whose text begins at *at*, or -1. A counter tracks the nesting."""
        depth = 1
        for match in _PAREN.finditer(self.text, at):
            if match[0] == "(":
                depth += 1
            elif match[0] == ")":
                depth -= 1
                if depth == 0:
                    return match.end()
        return -1


def _is_route(angle: list[_Token]) -> bool:
    """Tell whether a comma at this place separates domains of a route (RFC 5322 §4.4), not mailboxes."""
    return not angle or angle[0] == ("special", "@")


def _fault(before: list[_Token], angle: list[_Token] | None, behind: list[_Token]) -> str:
    """Return why an entry is not one mailbox, or ""."""
    if angle is None:
        return "a comma, or <> around the address, is missing" if len(_specs(before)) > 1 else ""
    if any(kind != "space" for kind, _ in behind):
        return "a comma is missing behind >"
    return "" if len(_specs(angle)) == 1 else "no address between < and >"


def _add(
    before: list[_Token], angle: list[_Token] | None, comment: str, found: list[Address], raw: bool
) -> None:
    comment = _named(_ESCAPED.sub(r"\1", comment), raw)
    if angle is not None:
        specs = _specs(angle)
        name = _phrase(before, raw)
        if specs or name:
            found.append(Address(name or comment, specs[0] if specs else ""))
        return
    specs = _specs(before)
    with_domain = [spec for spec in specs if "@" in spec]
    if with_domain:
        found.extend(Address(comment, spec) for spec in with_domain)
    elif len(specs) == 1:
        found.append(Address(comment, specs[0]))
    elif specs:
        found.append(Address(comment or _phrase(before, raw), ""))


def _specs(tokens: list[_Token]) -> list[str]:
    """The words of *tokens*, without the white space around @ and dots (RFC 5322 §4.4)."""
    specs: list[list[str]] = []
    glue = False
    space = True
    for kind, text in tokens:
        if kind == "space":
            space = True
            continue
        joins = kind == "special" and text in "@."
        piece = _requoted(text) if kind == "quoted" else text
        if specs and (not space or joins or glue):
            specs[-1].append(piece)
        else:
            specs.append([piece])
        glue = joins
        space = False
    return ["".join(pieces) for pieces in specs]


def _requoted(quoted: str) -> str:
    """A quoted local part, without its quotes if it needs none (RFC 5321 §4.1.2: the simplest form)."""
    text = _ESCAPED.sub(r"\1", quoted[1:-1].replace("\r", "").replace("\n", ""))
    if _DOT_ATOM.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _phrase(tokens: list[_Token], raw: bool) -> str:
    """The display name that *tokens* spell."""
    text = "".join(_ESCAPED.sub(r"\1", text[1:-1]) if kind == "quoted" else text for kind, text in tokens)
    return _named(_SPACES.sub(" ", text), raw)
