"""Encodes text for a message: folds fields, encodes words, parameters and contents.

The writing half of `words`, `address` and `mime`. Owns RFC 5322 §2.2.3 (folding), RFC 2047 §2, §5 (encoded
words: where they may stand, how long they are), RFC 2231 §3, §4 (parameters that are long or not ASCII),
RFC 2045 §6 (transfer encodings) and, of RFC 6532, that an address may stay UTF-8. It handles one field,
parameter or content at a time, never a whole message.

Invariants: no text can add a second field or line (CVE-2024-6923: a control character raises BadDataError);
no line is longer than 998 octets, and none is longer than `LINE` if it can be folded at a space or an encoded
word; output is ASCII except for addresses that are not; `words`, `address` and `mime` read the same text
back. Line ends are LF.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.message.address import Address
from mailtools.core.patterns import lazy
from mailtools.core.wire import eol

LINE = 76  # columns of a line with an encoded word (RFC 2047 §2); other lines may have 78 (RFC 5322 §2.1.1)
MAX_LINE = 998  # octets (RFC 5322 §2.1.1)
_WORD = 75  # columns of one encoded word
_LONGEST = 900  # octets of a word that cannot be folded: it still fits into a line with the field's name
_CROWDED = 24  # columns; an encoded word is not started in less room than this

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ODD_SPACE = re.compile(r"[^\S ]")  # atext by RFC 6532 §3.2, but most programs treat it as white space
_NAME = re.compile(r"[!-9;-~]{1,76}")
_TOKEN = re.compile(r" *[^ ]+")  # a word, and the spaces before it
_ID = re.compile(r"[!-~]+")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_PLAIN_PHRASE = re.compile(rf"{_ATEXT}+(?: {_ATEXT}+)*")
_ATEXT_8 = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'  # with RFC 6532 §3.2
_LET_DIG = r"[^\x00-/:-@\[-^`{-\x7f]"
_LABEL = rf"{_LET_DIG}(?:(?:{_LET_DIG}|-)*{_LET_DIG})?"
_SPEC = lazy(
    rf'(?:{_ATEXT_8}+(?:\.{_ATEXT_8}+)*|"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*")'
    rf"@(?:{_LABEL}(?:\.{_LABEL})*|\[[!-Z^-~]{{1,255}}\])"
)
_Q_PLAIN = lazy(rb"[A-Za-z0-9!*+/ -]")  # RFC 2047 §5 (3): the set allowed in a phrase, hence everywhere
_PLAIN_PARAMETER = lazy(r"(?! )[ !#-\[\]-~]*(?<! )")
_QP_PLAIN = bytes({9, 10, *range(32, 127)} - {ord("=")})
_QP_OCTETS = [b"=%02X" % octet for octet in range(256)]
_QP_SPECIAL = lazy(rb"[^\t\n -<>-~]|[\t ](?![^\n])|(?<![^\n])(?:-(?=-)|F(?=rom )|\.(?![^\n]))")
_QP_LONG = lazy(rb"^.{77,}", re.MULTILINE)
_QP_PIECE = lazy(rb"(?=.{75}).{70,73}(?<!=)(?<!=.)")
_QP_START = lazy(rb"=\n(?:-(?=-)|F(?=rom ))")
_PERCENTED = lazy(rb"[^A-Za-z0-9!#$&+.^_`|~-]")  # RFC 2231 §7: attribute-char


def plain(what: str, text: str) -> str:
    """*text* as the value of a field: tabs become spaces, outer spaces are removed.

    Raises BadDataError if it holds a control character; *what* names the field in the error.
    """
    match = _CONTROL.search(text)
    if match:
        raise BadDataError(
            f"{what}: holds the control character U+{ord(match.group()):04X}, "
            "which no header field may; write it on one line without it"
        )
    return text.replace("\t", " ").strip(" ")


def field_name(name: str) -> str:
    """Return *name*. Raises BadDataError if it is no valid field name (RFC 5322 §3.6.8)."""
    if not _NAME.fullmatch(name):
        raise BadDataError(
            f"not the name of a header field: {name[:80]!r}; write letters, digits and hyphens"
        )
    return name


def is_spec(spec: str) -> bool:
    """Tell whether *spec* is a ``local@domain`` (RFC 5322 §3.4.1, RFC 6532) that fits on one line."""
    return (
        len(spec) < _LONGEST
        and bool(_SPEC.fullmatch(spec))
        and not _CONTROL.search(spec)
        and not _ODD_SPACE.search(spec)
        and len(spec.encode()) < _LONGEST
    )


# -- fields --------------------------------------------------------------------------------------------------


class _Fold:
    """Builds a field word by word and folds before a word that does not fit (RFC 5322 §2.2.3)."""

    def __init__(self, name: str) -> None:
        self._pieces = [f"{field_name(name)}:"]
        self._column = len(name) + 1

    def add(self, word: str) -> None:
        """Add a space and *word*. The first word stays on the name's line: some programs want it there."""
        width = len(word.encode()) + 1
        if self._column + width > LINE and len(self._pieces) > 1:
            self._pieces.append("\n")
            self._column = 0
        self._pieces.append(f" {word}")
        self._column += width

    @property
    def room(self) -> int:
        """Columns for the next encoded word: the rest of this line, or a new line."""
        left = LINE - self._column - 1
        return _WORD if left < _CROWDED and len(self._pieces) > 1 else max(min(left, _WORD), _CROWDED)

    def octets(self) -> bytes:
        return ("".join(self._pieces) + "\n").encode()


def text_field(name: str, text: str) -> bytes:
    """A field of free text, such as Subject. Raises BadDataError if *name* or *text* cannot be written.

    Everything from the first to the last word that needs encoding is encoded; the words around it stay plain.
    """
    fold = _Fold(name)
    tokens = _TOKEN.findall(plain(name, text))
    special = [number for number, token in enumerate(tokens) if _needs_encoding(token)]
    first, last = (special[0], special[-1] + 1) if special else (len(tokens), len(tokens))
    for token in tokens[:first]:
        fold.add(token.removeprefix(" "))
    for word in encoded_words("".join(tokens[first:last]).removeprefix(" "), fold.room):
        fold.add(word)
    for token in tokens[last:]:
        fold.add(token.removeprefix(" "))
    return fold.octets()


def _needs_encoding(token: str) -> bool:
    return not token.isascii() or "=?" in token or len(token) > _LONGEST


def address_field(name: str, addresses: Sequence[Address]) -> bytes:
    """A list of mailboxes. Only display names are encoded: addresses stay (RFC 6532). BadDataError."""
    fold = _Fold(name)
    for number, address in enumerate(addresses, 1):
        if not is_spec(address.spec):
            raise BadDataError(f"{name}: not an address: {address.spec[:200]!r}; write local@domain")
        comma = "," if number < len(addresses) else ""
        display = plain(name, address.name)
        if display:
            _add_phrase(fold, display)
            fold.add(f"<{address.spec}>{comma}")
        else:
            fold.add(f"{address.spec}{comma}")
    return fold.octets()


def _add_phrase(fold: _Fold, display: str) -> None:
    tokens = _TOKEN.findall(phrase(display))
    if any(map(_needs_encoding, tokens)):
        tokens = encoded_words(display, fold.room)
    for token in tokens:
        fold.add(token.removeprefix(" "))


def phrase(display: str) -> str:
    """A display name as atoms, or quoted where it must be (RFC 5322 §3.2.5); no encoded words."""
    if _PLAIN_PHRASE.fullmatch(display):
        return display
    if not display.isascii() and not re.search(r'[\x00-\x1f"(),.:;<>@\[\\\]\x7f]|[^\S ]|  ', display):
        return display
    return '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"'


def id_field(name: str, text: str) -> bytes:
    """A field of message ids, folded between ids, never encoded (RFC 5322 §3.6.4). Raises BadDataError."""
    fold = _Fold(name)
    for word in plain(name, text).split():
        if not _ID.fullmatch(word) or len(word) > _LONGEST:
            raise BadDataError(f"{name}: not a message id: {word[:80]!r}; write <local@domain>")
        fold.add(word)
    return fold.octets()


def encoded_words(text: str, room: int = _WORD) -> list[str]:
    """*text* as RFC 2047 encoded words, cut between characters only; the first has at most *room* columns.

    Q encoding if at least half of the octets stay readable in it, else B.
    """
    octets = text.encode()
    is_q = 2 * len(_Q_PLAIN.findall(octets)) >= len(octets)
    found: list[str] = []
    run: list[bytes] = []
    left = _capacity(room, is_q)
    for char in text:
        piece = char.encode()
        cost = len(_q(piece)) if is_q else len(piece)
        if cost > left:
            if run:
                found.append(_word(b"".join(run), is_q))
            run, left = [], _capacity(_WORD, is_q)
        run.append(piece)
        left -= cost
    return [*found, _word(b"".join(run), is_q)] if run else found


def _capacity(columns: int, is_q: bool) -> int:
    inside = columns - len("=?utf-8?q??=")
    return inside if is_q else inside // 4 * 3


def _word(octets: bytes, is_q: bool) -> str:
    return (
        f"=?utf-8?q?{_q(octets)}?=" if is_q else f"=?utf-8?b?{b2a_base64(octets, newline=False).decode()}?="
    )


def _q(octets: bytes) -> str:
    return "".join(
        chr(octet)
        if _Q_PLAIN.match(bytes((octet,))) and octet != 0x20
        else "_"
        if octet == 0x20
        else f"={octet:02X}"
        for octet in octets
    )


# -- parameters ----------------------------------------------------------------------------------------------


def parametrised(name: str, value: str, parameters: Iterable[tuple[str, str]]) -> bytes:
    """A Content-Type or Content-Disposition field; long or non-ASCII parameters as in RFC 2231 §3 and §4.

    A control character, which a file name can hold, becomes ``_``. Raises BadDataError.
    """
    words = [value]
    for key, text in parameters:
        words += _parameter(key, _CONTROL.sub("_", text.replace("\t", " ")))
    fold = _Fold(name)
    for number, word in enumerate(words, 1):
        fold.add(word + (";" if number < len(words) else ""))
    return fold.octets()


def _parameter(key: str, value: str) -> list[str]:
    if _PLAIN_PARAMETER.fullmatch(value) and "=?" not in value and len(key) + len(value) < LINE - 5:
        return [f'{key}="{value}"']
    sections: list[str] = []
    line = "utf-8''"
    room = LINE - len(f" {key}*000*=;")
    for char in value:
        piece = _PERCENTED.sub(lambda match: b"%%%02X" % match[0][0], char.encode()).decode()
        if len(line) + len(piece) > room:
            sections.append(line)
            line = ""
        line += piece
    if not sections:
        return [f"{key}*={line}"]
    return [f"{key}*{number}*={section}" for number, section in enumerate([*sections, line])]


# -- contents ------------------------------------------------------------------------------------------------


class Content(NamedTuple):
    """The encoded octets of a part and the name of their Content-Transfer-Encoding."""

    encoding: str  # 7bit, 8bit, quoted-printable, base64
    octets: bytes


def is_sendable(octets: bytes) -> bool:
    """Tell whether *octets* (LF) need no encoding: no CR, no NUL, no line over 998 octets (RFC 2045 §2.7)."""
    return b"\0" not in octets and b"\r" not in octets and not eol.has_line_over(octets + b"\n", MAX_LINE + 1)


def text_content(octets: bytes) -> Content:
    """7bit if *octets* are ASCII and `is_sendable`, else `encoded_content`."""
    if octets.isascii() and is_sendable(octets):
        return Content("7bit", octets)
    return encoded_content(octets)


def encoded_content(octets: bytes) -> Content:
    """*octets* as quoted-printable or base64, whichever is shorter.

    Decoding gives the same octets; a content with CR or NUL is therefore always base64.
    """
    whole = binary_content(octets)
    if b"\r" in octets or b"\0" in octets:
        return whole
    printable = quoted_printable(octets, len(whole.octets))
    return Content("quoted-printable", printable) if printable is not None else whole


def quoted_printable(octets: bytes, limit: int) -> bytes | None:
    """*octets* (LF) as quoted-printable in lines of 76 (RFC 2045 §6.7); None if longer than *limit* octets.

    No line of the result is a multipart delimiter, a postmark or the end of SMTP's data, even where a soft
    break begins the line: ``--``, ``From `` and a lone dot at the start of a line are encoded.
    """
    if len(octets) + 2 * len(octets.translate(None, _QP_PLAIN)) > limit:
        return None
    printable = _QP_SPECIAL.sub(_qp, octets)
    if eol.has_line_over(printable + b"\n", LINE + 1):
        printable = _QP_LONG.sub(_qp_broken, printable)
    return printable if len(printable) <= limit else None


def _qp(match: re.Match[bytes]) -> bytes:
    return _QP_OCTETS[match[0][0]]


def _qp_broken(line: re.Match[bytes]) -> bytes:
    """Break a long line into pieces that leave room to encode the first octet of each piece."""
    return _QP_START.sub(lambda match: b"=\n" + _QP_OCTETS[match[0][2]], _QP_PIECE.sub(rb"\g<0>=\n", line[0]))


def binary_content(octets: bytes) -> Content:
    """*octets* as base64 in lines of 76 columns (RFC 2045 §6.8)."""
    lines = re.findall(rb".{1,76}", b2a_base64(octets, newline=False))
    return Content("base64", b"\n".join(lines))


def message_content(octets: bytes) -> Content | None:
    """A message/rfc822 content. RFC 2046 §5.2.1 forbids to encode it: None if it cannot be sent as it is."""
    if not is_sendable(octets):
        return None
    return Content("7bit" if octets.isascii() else "8bit", octets)
