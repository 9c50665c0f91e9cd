"""How values are written in IMAP responses: strings, literals, dates.

Owns RFC 9051 §4.3 (string), §4.5 (NIL) and §9 (astring, literal8, date-time). Knows no command.

Invariants: any octets give one well-formed value; a quoted string holds no line end and is shorter than 1000
octets, so that a response has no long line because of it. A string of IMAP cannot hold NUL: outside literal8
each NUL becomes 0x80, as Dovecot writes it, so the length stays what the structure of the message says.
"""

import re

from mailtools.core.message import date

_LONGEST_QUOTED = 1000  # octets
_PLAIN = re.compile(rb"[\t !#-\[\]-~]*").fullmatch  # needs no escape
_QUOTABLE = re.compile(rb"[\t -~]*").fullmatch
_QUOTABLE_UTF8 = re.compile(rb"[\t -~\x80-\xff]*").fullmatch
_ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+").fullmatch  # ASTRING-CHAR
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_FIRST, _LAST = -62135596800 + 86400, 253402300799 - 86400  # the years 1 to 9999, in every time zone


def nstring(value: bytes | None, utf8: bool = False) -> bytes:
    """Return *value* as a string, or NIL for None. *utf8*: see `string`."""
    return b"NIL" if value is None else string(value, utf8)


def string(value: bytes, utf8: bool = False) -> bytes:
    """Return *value* as a quoted string, or as a literal where that cannot be.

    *utf8*: well-formed UTF-8 may be quoted (IMAP4rev2, or UTF8=ACCEPT of RFC 6855).
    """
    if len(value) < _LONGEST_QUOTED:
        if _PLAIN(value):
            return b'"%b"' % value
        if _QUOTABLE(value) or (utf8 and _QUOTABLE_UTF8(value) and _is_utf8(value)):
            return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return literal(value)


def astring(value: bytes, utf8: bool = False) -> bytes:
    """Return *value* as an atom, or as a string where that cannot be."""
    if len(value) < _LONGEST_QUOTED and _ASTRING(value) and value.upper() != b"NIL":
        return value
    return string(value, utf8)


def literal(value: bytes, binary: bool = False) -> bytes:
    """Return *value* as a literal. *binary*: as literal8 if there is a NUL, for BINARY (RFC 9051 §6.4.5)."""
    if b"\0" in value:
        if binary:
            return b"~{%d}\r\n%b" % (len(value), value)
        value = value.replace(b"\0", b"\x80")
    return b"{%d}\r\n%b" % (len(value), value)


def internal_date(seconds: float, zone: int = 0) -> bytes:
    """Return a moment as date-time: ``"17-Jul-1996 02:44:25 +0000"``.

    *seconds* since 1970-01-01 UTC; *zone* in minutes east, less than a day. Years are limited to four digits.
    """
    local = int(min(max(seconds, _FIRST), _LAST) // 1) + zone * 60
    days, second = divmod(local, 86400)
    year, month, day = date.civil(days)
    minute, second = divmod(second, 60)
    east = abs(zone)
    return b'"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % (
        *(day, _MONTHS[month - 1], year),
        *(minute // 60, minute % 60, second),
        *(b"-" if zone < 0 else b"+", east // 60, east % 60),
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
