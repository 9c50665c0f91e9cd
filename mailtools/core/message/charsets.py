"""Charsets of mail: names in use, and octets to text.

Owns the labels of the WHATWG Encoding Standard §4.2, and what programs write besides. A charset is looked
up in a closed table, never by Python's codec search, which would import modules named by a message and
knows codecs that are no charsets (`punycode` takes quadratic time).

Invariants: nothing raises on any octets; time is linear; a text never holds a lone surrogate.

* Octets that are wrong in their declared charset, but are UTF-8, are UTF-8: programs declare what the
template said. Otherwise they become U+FFFD. * Text of an unknown charset, and 8-bit text declared as ASCII,
is decoded as UTF-8 if well-formed, else as windows-1252, as browsers do.
"""

import re
from encodings.aliases import aliases

from mailtools.core.patterns import lazy

# Codecs that are no charsets, are unsafe, or exist on some systems only.
_NO_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs",
    "tactis",
}  # fmt: skip
# Python's codec: labels in lower case, "-" and spaces as "_". Where a superset is in use, it is meant.
_LABELS = {
    "utf_8": "unicode_1_1_utf_8 unicode11utf8 unicode20utf8 x_unicode20utf8 utf8mb4 utf_8 utf8",
    "utf_7": "unicode_1_1_utf_7 unicode_2_0_utf_7 csunicode11utf7",
    "utf_16": "csunicode iso_10646_ucs_2 ucs_2 unicode unicodefeff",
    "utf_16_be": "unicodefffe",
    "cp866": "866 csibm866 ibm866",
    "cp850": "cp_850",
    "iso8859_2": "csisolatin2 iso_ir_101 iso88592 iso_8859_2:1987 l2 latin2 latin_2",
    "iso8859_3": "csisolatin3 iso_ir_109 iso88593 iso_8859_3:1988 l3 latin3",
    "iso8859_4": "csisolatin4 iso_ir_110 iso88594 iso_8859_4:1988 l4 latin4",
    "iso8859_5": "csisolatincyrillic cyrillic iso_ir_144 iso88595 iso_8859_5:1988",
    "iso8859_6": "arabic asmo_708 csiso88596e csiso88596i csisolatinarabic ecma_114 iso_8859_6_e"
    " iso_8859_6_i iso_ir_127 iso88596 iso_8859_6:1987",
    "iso8859_7": "csisolatingreek ecma_118 elot_928 greek greek8 iso_ir_126 iso88597 iso_8859_7:1987"
    " sun_eu_greek",
    "iso8859_8": "csiso88598e csisolatinhebrew hebrew iso_8859_8_e iso_ir_138 iso88598 iso_8859_8:1988"
    " visual csiso88598i iso_8859_8_i logical",
    "iso8859_10": "csisolatin6 iso_ir_157 iso885910 l6 latin6",
    "iso8859_13": "iso885913",
    "iso8859_14": "iso885914",
    "iso8859_15": "csisolatin9 iso885915 l9 latin9 latin_9",
    "koi8_r": "cskoi8r koi koi8",
    "koi8_u": "koi8_ru",
    "mac_roman": "csmacintosh mac macintosh x_mac_roman",
    "mac_cyrillic": "x_mac_cyrillic x_mac_ukrainian",
    "mac_greek": "x_mac_greek",
    "mac_turkish": "x_mac_turkish",
    "mac_latin2": "x_mac_ce x_mac_centraleurroman",
    "cp874": "dos_874 iso_8859_11 iso8859_11 iso885911 tis_620 tis620 windows_874",
    "cp1252": "iso_8859_1 latin_1 latin1 iso8859_1 ansi_x3.4_1968 cp819 csisolatin1 ibm819 iso_ir_100"
    " iso88591 iso_8859_1:1987 l1 x_cp1252 x_ansi ansi",
    "cp1254": "csisolatin5 iso_8859_9 iso8859_9 iso88599 iso_ir_148 iso_8859_9:1989 l5 latin5",
    "gb18030": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312_80 gbk iso_ir_58 x_gbk euc_cn"
    " x_euc_cn gb231280 cp936 windows_936",
    "big5hkscs": "big5_hkscs",
    "cp950": "big5 big_5 cn_big5 csbig5 x_x_big5 windows_950",
    "euc_jp": "cseucpkdfmtjapanese x_euc_jp x_euc",
    "iso2022_jp_ext": "csiso2022jp iso_2022_jp iso2022jp iso2022_jp iso_2022_jp_ext iso_2022_jp_ms"
    " cp50220 cp50221",
    "cp932": "csshiftjis ms932 ms_kanji shift_jis shiftjis sjis s_jis x_sjis windows_31j cswindows31j"
    " windows_932 x_ms_cp932",
    "cp949": "cseuckr csksc56011987 euc_kr euckr iso_ir_149 korean ks_c_5601_1987 ks_c_5601_1989"
    " ks_c_5601 ksc5601 ksc_5601 windows_949 x_windows_949 uhc",
    "iso2022_kr": "csiso2022kr",
    "hz": "hz_gb_2312",
}
_CODECS = {codec: codec for codec in aliases.values()} | aliases
_CODECS = {name: codec for name, codec in _CODECS.items() if codec not in _NO_CHARSETS}
_CODECS |= {f"iso_8859_{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)}
_CODECS |= {f"windows_{page}": f"cp{page}" for page in range(1250, 1259)}
_CODECS |= {f"x_cp{page}": f"cp{page}" for page in range(1250, 1259)}
_CODECS |= {f"ibm{page}": f"cp{page}" for page in (437, 850, 852, 855, 857, 858, 862, 864, 865)}
_CODECS |= {codec: codec for codec in _LABELS}
_CODECS |= {label: codec for codec, labels in _LABELS.items() for label in labels.split()}

# ISO 2022: ESC, what it switches to, and the octets up to the next ESC
_SHIFT = lazy(rb"\x1b(\$[@B]|\([BIJ]|\$\([DQP])?([^\x1b]*+)", re.DOTALL)


def codec(charset: str) -> str | None:
    """Return Python's codec name for *charset* in any spelling; None if it is unknown."""
    name = charset.strip(" \t\"'").lower().replace("-", "_").replace(" ", "_")
    return _CODECS.get(name) or _CODECS.get(name.removeprefix("charset="))


def decode(octets: bytes, charset: str) -> str:
    """Decode *octets* from *charset*; of an unknown charset as `decode_raw`."""
    name = codec(charset)
    if name is None or name == "ascii":
        return decode_raw(octets)
    try:
        text = octets.decode(name)
    except UnicodeDecodeError:
        text = _wrong(octets, name)
    return text if text.isascii() else _whole(text)


def _wrong(octets: bytes, name: str) -> str:
    """Decode octets that are not all of the charset of the codec *name*."""
    if name == "iso2022_jp_ext":
        return _iso_2022_jp(octets)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode(name, "replace")


def decode_raw(octets: bytes, charset: str = "") -> str:
    """Decode octets of no declared charset: UTF-8 if well-formed, else *charset*, else windows-1252."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        name = codec(charset)
        if name not in (None, "ascii", "utf_8"):
            return _whole(octets.decode(name or "", "replace"))
        return octets.decode("cp1252", "replace")


def _iso_2022_jp(octets: bytes) -> str:
    """Decode ISO-2022-JP with the characters of Windows (circled digits), which Python's codecs lack."""
    start = octets.find(b"\x1b")
    if start < 0:
        return decode_raw(octets)
    pieces = [decode_raw(octets[:start])]
    for match in _SHIFT.finditer(octets, start):
        pieces.append(_shifted(match[1] or b"", match[2]))
    return "".join(pieces)


def _shifted(to: bytes, octets: bytes) -> str:
    if to in (b"$@", b"$B"):
        text = octets if len(octets) % 2 == 0 else octets[:-1]
        rows, cells = text[::2], text[1::2]
        return b"".join(map(_as_shift_jis, rows, cells)).decode("cp932", "replace")
    if to == b"(I":  # half-width katakana
        return bytes([octet | 0x80 if 0x21 <= octet < 0x60 else octet for octet in octets]).decode(
            "cp932", "replace"
        )
    if to.startswith(b"$("):
        return (b"\x1b" + to + octets).decode("iso2022_jp_ext", "replace")
    return decode_raw(octets)


def _as_shift_jis(row: int, cell: int) -> bytes:
    """Return a character of JIS X 0208, as two 7-bit octets, in Shift_JIS; others as "?"."""
    if not (0x21 <= row < 0x7F and 0x21 <= cell < 0x7F):
        return bytes((cell,)) if row < 0x21 and cell < 0x80 else b"?"
    lead = (row - 0x21) // 2 + (0x81 if row < 0x5F else 0xC1)
    if row % 2:
        return bytes((lead, cell + (0x1F if cell < 0x60 else 0x20)))
    return bytes((lead, cell + 0x7E))


def _whole(text: str) -> str:
    """Return *text* without lone surrogates: UTF-7 and UTF-16 can hold them, no output can encode them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
