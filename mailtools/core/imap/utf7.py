"""Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3)."""

import base64
import binascii
import re

_SHIFTED = re.compile(r"[^\x20-\x7e]+|&")
_RUN = re.compile(rb"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> str:
    """Return *name* in modified UTF-7, which is printable ASCII."""

    def shifted(match: re.Match[str]) -> str:
        text = match[0]
        if text == "&":
            return "&-"
        octets = base64.b64encode(text.encode("utf-16-be", "surrogatepass"))
        return f"&{octets.rstrip(b'=').replace(b'/', b',').decode()}-"

    return _SHIFTED.sub(shifted, name)


def decode(octets: bytes) -> str:
    """Return the name that *octets* encode. What is no modified UTF-7 is taken as UTF-8."""
    try:
        return _RUN.sub(_decoded, octets).decode()
    except (UnicodeDecodeError, binascii.Error, ValueError):
        return octets.decode("utf-8", "surrogateescape")


def _decoded(match: re.Match[bytes]) -> bytes:
    run = match[1]
    if not run:
        return b"&"
    padded = run.replace(b",", b"/") + b"=" * (-len(run) % 4)
    return base64.b64decode(padded, validate=True).decode("utf-16-be").encode()
