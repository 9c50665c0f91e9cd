"""Decodes header text: RFC 2047 encoded words, charsets, raw 8-bit octets.

Owns RFC 2047 §2 (syntax), §4 (B and Q) and §6.2 (white space between neighbours), the charset names of mail,
and the text of headers that hold octets over 127. It does not know which field a value came from: an address
list must be split *before* its names are decoded, or an encoded comma would make a recipient.

Invariants: nothing raises on any octets; time is linear; a text never holds a lone surrogate.

* Adjacent words of one charset are joined as octets before they are decoded: many programs cut a character in
  two.
* A charset is looked up in a closed table, never by Python's codec search, which would import modules named
  by a message and knows codecs that are no charsets (`punycode` takes quadratic time).
* Text of an unknown charset, and 8-bit text declared as ASCII, is decoded as UTF-8 if well-formed, else as
  windows-1252, as browsers do.
"""

import re
from binascii import Error, a2b_base64
from encodings.aliases import aliases

from mailtools.core.patterns import lazy

# =?charset[*language]?encoding?text?= (RFC 2047 §2, RFC 2231 §5). A space in the text is wrong but common.
_WORD = lazy(rb"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,60})?\?([BbQq])\?([^?]*+)\?=")
_HEX = lazy(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = lazy(rb"[^A-Za-z0-9+/]+")

# Codecs that are no charsets, are unsafe, or exist on some systems only.
_NO_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs",
    "tactis",
}  # fmt: skip
_CODECS = {codec: codec for codec in aliases.values()} | aliases
_CODECS = {name: codec for name, codec in _CODECS.items() if codec not in _NO_CHARSETS}
# Wrong names in use, and charsets whose superset is meant (WHATWG Encoding §4.2).
_CODECS |= {
    "iso_8859_1": "cp1252", "latin_1": "cp1252", "latin1": "cp1252",
    "iso8859_1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "x_gbk": "gb18030", "euc_cn": "gb18030",
    "big5": "cp950", "big_5": "cp950", "ks_c_5601_1987": "cp949", "ks_c_5601": "cp949", "euc_kr": "cp949",
    "shift_jis": "cp932", "x_sjis": "cp932", "windows_874": "cp874", "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8", "utf8mb4": "utf_8", "unicode_1_1_utf_7": "utf_7", "windows_31j": "cp932",
    "x_mac_roman": "mac_roman", "iso_8859_11": "cp874", "tis_620": "cp874", "cp_850": "cp850",
    "utf_8": "utf_8",
    "x_euc_jp": "euc_jp",
}  # fmt: skip
_CODECS |= {f"iso_8859_{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16)}
_CODECS |= {f"windows_{page}": f"cp{page}" for page in range(1250, 1259)}


def codec(charset: str) -> str | None:
    """Python's codec name for *charset* in any spelling; None if unknown."""
    return _CODECS.get(charset.strip().strip("\"'").lower().replace("-", "_").replace(" ", "_"))


def decode_charset(octets: bytes, charset: str) -> str:
    """Decode *octets* from *charset*, invalid octets as U+FFFD; an unknown charset as in `decode_raw`."""
    name = codec(charset)
    if name is None or name == "ascii":
        return decode_raw(octets)
    text = octets.decode(name, "replace")
    return text if text.isascii() else _whole(text)


def decode_raw(octets: bytes) -> str:
    """Decode octets of no known charset: as UTF-8 if well-formed, else as windows-1252."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def decode(value: bytes) -> str:
    """The text of an unfolded field value, with its encoded words decoded (RFC 2047 §6.2)."""
    if b"=?" not in value:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return decode_raw(value)
    parts: list[str] = []
    run: list[bytes] = []  # the octets of neighbouring words of one charset
    charset = b""
    at = 0
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        alone = bool(between.strip()) or at == 0
        if run and (alone or match[1].lower() != charset):
            parts.append(decode_charset(b"".join(run), charset.decode("latin-1")))
            run = []
        if alone and between:
            parts.append(decode_raw(between))
        charset = match[1].lower()
        run.append(_octets(match[2], match[3]))
        at = match.end()
    if run:
        parts.append(decode_charset(b"".join(run), charset.decode("latin-1")))
    parts.append(decode_raw(value[at:]))
    return "".join(parts)


def _octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"Qq":
        return unhex(text.replace(b"_", b" "))
    return base64(text)


def unhex(text: bytes) -> bytes:
    """Decode ``=XX``, as used by Q and quoted-printable; any other ``=`` stays."""
    if b"=" not in text:
        return text
    return _HEX.sub(lambda match: _OCTET[match[1]], text)


_OCTET = {
    (high + low).encode(): bytes([int(high + low, 16)])
    for high in "0123456789ABCDEFabcdef"
    for low in "0123456789ABCDEFabcdef"
}


def base64(text: bytes) -> bytes:
    """Decode base64 as far as possible: other octets are dropped, missing padding is added."""
    try:
        return a2b_base64(text)
    except Error:
        # Padding in the middle: an encoder joined two base64 texts.
        return b"".join(_base64_run(run) for run in text.split(b"=") if run)


def _base64_run(text: bytes) -> bytes:
    text = _NOT_BASE64.sub(b"", text)
    whole = text[: len(text) - (len(text) % 4 == 1)]
    return a2b_base64(whole + b"=" * (-len(whole) % 4))


def _whole(text: str) -> str:
    """*text* without lone surrogates: UTF-7 and UTF-16 can hold them, but no output can encode them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


_PARAMETER = lazy(rb';\s*([^\s=;"]{1,100})\s*=\s*(?:"((?:[^"\\]++|\\.)*+)"|([^;]*+))', re.DOTALL)
_ESCAPED = lazy(rb"\\(.)", re.DOTALL)
_SECTION = lazy(r"(.+?)\*(\d{1,3})?(\*)?$")
_PERCENT = lazy(rb"%([0-9A-Fa-f]{2})")


def parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """Parse a Content-Type or Content-Disposition: (value in lower case, decoded parameters by name).

    RFC 2231 sections are joined and decoded; RFC 2047 words are decoded too, although they are not allowed
    there. If a name occurs twice, the first counts. At most 64 KiB are read.
    """
    value = value[:65536]
    found: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for match in _PARAMETER.finditer(b";" + value.partition(b";")[2]):
        name = match[1].decode("latin-1").lower()
        quoted = match[2]
        text = match[3].strip() if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        section = _SECTION.match(name)
        if section:
            number = int(section[2] or 0)
            sections.setdefault(section[1], {}).setdefault(number, (text, bool(section[3]) or not section[2]))
        elif name not in found:
            found[name] = decode(text).strip()
    for name, pieces in sections.items():
        found[name] = _joined(pieces)
    return decode_raw(value.partition(b";")[0]).strip().lower(), found


def _joined(pieces: dict[int, tuple[bytes, bool]]) -> str:
    """Join the sections of a parameter (RFC 2231 §3, §4); the first marked section names the charset."""
    charset = b""
    octets = []
    for number in sorted(pieces):
        text, encoded = pieces[number]
        if encoded:
            if number == min(pieces) and text.count(b"'") >= 2:
                charset, _, text = text.split(b"'", 2)
            text = _PERCENT.sub(lambda match: _OCTET[match[1]], text)
        octets.append(text)
    return decode_charset(b"".join(octets), charset.decode("latin-1"))
