"""The grammar of SMTP commands: paths, parameters, HELO names.

Takes the peer's octets; returns text or raises `SyntaxProblemError`. Knows no session state. Owns RFC 5321
§4.1.2, RFC 5321 §4.1.3 (address literals, loosely), RFC 6531 §3.3 (UTF-8 in paths), RFC 1870 §3 (SIZE
value).
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from mailtools.core.errors import CommandError
from mailtools.core.patterns import lazy

# RFC 5321 §4.1.2 and RFC 6531 §3.3: UTF8-non-ascii belongs to atext, qtextSMTP and sub-domain. The classes
# name the characters that they exclude: compiling a class with a range up to U+10FFFF takes 20 ms.
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QUOTED_STRING = r'"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*"'
_LET_DIG = r"[^\x00-/:-@\[-^`{-\x7f]"
_LABEL = rf"{_LET_DIG}(?:(?:{_LET_DIG}|-)*{_LET_DIG})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_LITERAL = r"\[[!-;=?-Z^-~]{1,255}\]"  # RFC 5321 §4.1.3 without <>, which no address of a host holds
_MAILBOX = rf"(?P<mailbox>(?P<local>{_DOT_STRING}|{_QUOTED_STRING})@(?P<domain>{_DOMAIN}|{_LITERAL}))"
# What many clients send, and Postfix takes: dots at odd places, no brackets.
_LOOSE_LOCAL = rf"\.*{_ATEXT}+(?:\.+{_ATEXT}+)*\.*"
_LOOSE_MAILBOX = rf"(?P<mailbox>(?P<local>{_LOOSE_LOCAL}|{_QUOTED_STRING})@(?P<domain>{_DOMAIN}|{_LITERAL}))"
_LOCAL = r"(?P<name>[A-Za-z0-9_+=.-]+)"  # no % or !, which are routes to some programs
# "A-d-l ... MUST BE accepted, SHOULD NOT be generated, and SHOULD be ignored" (RFC 5321 §4.1.2).
_ROUTE = rf"(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
_PATH = lazy(rf"<{_ROUTE}{_MAILBOX}>")
_LOOSE_PATH = lazy(rf"<(?:{_ROUTE}{_LOOSE_MAILBOX}|{_LOCAL})>")
_BARE_PATH = lazy(rf"{_LOOSE_MAILBOX}(?= |$)")
_MAILBOX_ONLY = re.compile(_MAILBOX)
# C1 controls can be encoded in UTF-8 and control a terminal; the line and paragraph separators are line
# ends to many programs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HELO = lazy(r"[^\x00-\x1f\x7f]{1,255}")
_NOT_PRINTABLE = lazy(r"[^ -~]+")
_BDAT = lazy(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)
_PARAMETER = lazy(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?")

# Octets; RFC 5321 §4.5.3.1.3 requires at least 256. With a field's name it fits into a line of 998 octets.
MAX_PATH = 900


class SyntaxProblemError(CommandError):
    """A command that cannot be executed: the code, enhanced status code and text of the reply."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.enhanced = enhanced
        self.text = text


def decode_argument(argument: bytes) -> str:
    """Decode the argument of a command.

    Raises SyntaxProblemError for controls and ill-formed UTF-8 (RFC 6531 §3.1).
    """
    try:
        text = argument.decode("utf-8")
    except UnicodeDecodeError:
        raise SyntaxProblemError(501, "5.5.2", "Octets that are not UTF-8 in a command") from None
    if _CONTROL.search(text):
        raise SyntaxProblemError(501, "5.5.2", "Control characters in a command")
    return text


@lru_cache(maxsize=256)  # the same addresses come again and again: this saves 4 of 45 µs for each message
def parse_path_command(argument: bytes, keyword: str) -> tuple[str, Mapping[str, str | None]]:
    """Parse ``FROM:<path> key=value ...``;

    Return the mailbox ("" for the null path ``<>``) and the parameters.

    Keys are in upper case; a parameter without "=" has the value None. The source route is dropped. A path
    without domain, such as ``<postmaster>`` (RFC 5321 §4.5.1) and ``<root>``, is a name of this server. Taken
    as well: a mailbox without brackets, and dots at odd places of a local part, which is quoted then. Raises
    SyntaxProblemError.
    """
    text = decode_argument(argument)
    if text[: len(keyword)].upper() != keyword or text[len(keyword) : len(keyword) + 1] != ":":
        raise SyntaxProblemError(501, "5.5.4", f"Syntax: {keyword}:<address>")
    rest = text[len(keyword) + 1 :].lstrip(" ")
    mailbox, end = _path(rest, keyword)
    tail = rest[end:]
    if tail and not tail.startswith(" "):
        raise SyntaxProblemError(501, "5.5.4", f"Syntax: {keyword}:<address> and parameters after a space")
    return mailbox, _parameters(tail)


def _path(text: str, keyword: str) -> tuple[str, int]:
    bad = "5.1.7" if keyword == "FROM" else "5.1.3"
    if text.startswith("<>") and keyword == "FROM":
        return "", 2
    match = _PATH.match(text)
    mailbox = match["mailbox"] if match else ""
    if match is None:
        match = _LOOSE_PATH.match(text) or _BARE_PATH.match(text)
        mailbox = _quoted(match) if match else ""
    if match is None:
        if not text.startswith("<"):
            raise SyntaxProblemError(501, bad, "Bad address syntax: write it as <local@domain>")
        raise SyntaxProblemError(501 if keyword == "FROM" else 553, bad, "Bad address syntax")
    if len(mailbox.encode()) > MAX_PATH:
        raise SyntaxProblemError(501, bad, "Address too long")
    return mailbox, match.end()


def _quoted(match: "re.Match[str]") -> str:
    """Return the mailbox of a loose path in the strict form: odd dots stand in a quoted string."""
    found = match.groupdict()
    if found.get("name"):
        return "postmaster" if found["name"].lower() == "postmaster" else found["name"]
    mailbox = found["mailbox"]
    local, domain = found["local"], found["domain"]
    return mailbox if is_mailbox(mailbox) else f'"{local}"@{domain}'


def _parameters(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise SyntaxProblemError(501, "5.5.4", "Bad parameter syntax")
        key = match[1].upper()
        if key in found:
            raise SyntaxProblemError(501, "5.5.4", f"Parameter {key} given twice")
        found[key] = match[2]
    return found


def parse_size(value: str | None) -> int:
    """Parse the value of SIZE: 1 to 20 ASCII digits (RFC 1870 §3). Raises SyntaxProblemError."""
    if value is None or not re.fullmatch(r"[0-9]{1,20}", value):
        raise SyntaxProblemError(501, "5.5.4", "Bad SIZE parameter")
    return int(value)


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """Parse ``BDAT size [LAST]`` (RFC 3030 §2); return the octets, and True for the last chunk.

    Raises SyntaxProblemError.
    """
    match = _BDAT.fullmatch(argument)
    if match is None:
        raise SyntaxProblemError(501, "5.5.4", "Syntax: BDAT size [LAST]")
    return int(match[1]), match[2] is not None


def parse_helo(argument: bytes) -> str:
    """Parse the client's name: any text; what is not printable ASCII becomes "?".

    Raises SyntaxProblemError if there is none, or too much, or if it holds control characters.
    """
    name = argument.strip(b" ").decode("utf-8", "replace")
    if not _HELO.fullmatch(name):
        raise SyntaxProblemError(501, "5.5.4", "Syntax: a host name or address literal after the command")
    return _NOT_PRINTABLE.sub("?", name)


def is_mailbox(text: str) -> bool:
    """Return True if an envelope can hold *text* as ``local@domain``. Checked before anything is sent."""
    return bool(_MAILBOX_ONLY.fullmatch(text)) and not _CONTROL.search(text)


def split_mailbox(mailbox: str) -> tuple[str, str]:
    """Return the local part without quotes, and the domain ("" if none) in lower case without final dot."""
    local, at, domain = mailbox.rpartition("@")
    if not at:
        return mailbox, ""
    if local.startswith('"') and local.endswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return local, domain.lower().removesuffix(".")
