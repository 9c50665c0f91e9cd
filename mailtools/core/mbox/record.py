"""What mailtools writes around a message in an mbox: the postmark before it, a blank line after it.

Owns RFC 4155's "From " line as written (design: ASCII, whatever the reverse-path holds).
"""

SEPARATOR = b"\n"  # the blank line after each message
_IN_POSTMARK = bytes([octet if 0x21 <= octet <= 0x7E else ord("?") for octet in range(256)])


def make_postmark(reverse_path: str, asctime: str) -> bytes:
    """The "From " line. *asctime*: as in ``Thu Aug 22 12:00:00 2002``, UTC.

    The null reverse-path is written MAILER-DAEMON; octets that would break the line's form become ``?``.
    """
    sender = reverse_path.encode().translate(_IN_POSTMARK) or b"MAILER-DAEMON"
    return b"From %s %s\n" % (sender, asctime.encode("ascii"))
