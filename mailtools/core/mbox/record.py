"""What mailtools writes around a message in an mbox: the postmark before it, a blank line after it.

Owns RFC 4155's "From " line as written (design: ASCII, whatever the reverse-path holds).
"""

import re

SEPARATOR = b"\n"  # the blank line after each message
_NOT_IN_POSTMARK = re.compile(rb"[^!-~]")


def make_postmark(reverse_path: str, asctime: str) -> bytes:
    """The "From " line. *asctime*: as in ``Thu Aug 22 12:00:00 2002``, UTC.

    The null reverse-path is written MAILER-DAEMON; octets that would break the line's form become ``?``.
    """
    sender = _NOT_IN_POSTMARK.sub(b"?", reverse_path.encode()) or b"MAILER-DAEMON"
    return b"From %s %s\n" % (sender, asctime.encode("ascii"))
