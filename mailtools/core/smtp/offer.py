"""What a server offers: its limits, its extensions as EHLO names them, the name of the protocol in use.

Knows no session; its state is an argument. Owns RFC 5321 §4.1.1.1 (EHLO keywords), RFC 3848 and RFC 6531
§4.3 (the "with" keyword of Received), RFC 9422 (LIMITS).
"""

from collections.abc import Sequence
from typing import NamedTuple


class SmtpOffer(NamedTuple):
    """What all sessions of a server have in common. Sizes are in octets.

    host: our name in greeting and HELO reply. max_size: of a message as sent (CRLF). max_line: of a line of
    a message, with CRLF. max_command: of a command line, with CRLF. max_errors, max_logins: bad commands
    and failed logins after which the session ends with 421. takes_lf: a bare LF ends a line too, and becomes
    CRLF in a message. takes_any_login: any name and password, none as well, for development.
    """

    host: str
    lmtp: bool = False
    starttls: bool = False
    max_size: int = 50 << 20
    max_recipients: int = 1000
    max_line: int = (64 << 10) + 2
    max_command: int = 4096
    max_errors: int = 50
    max_logins: int = 3
    takes_lf: bool = False
    takes_any_login: bool = False

    def keywords(self, starttls: bool, mechanisms: Sequence[str]) -> tuple[str, ...]:
        """Return the lines of the EHLO reply after its first: what is available at this moment."""
        return (
            "PIPELINING",
            f"SIZE {self.max_size}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "DSN",
            "CHUNKING",
            f"LIMITS RCPTMAX={self.max_recipients}",
            *(("STARTTLS",) if starttls else ()),
            *((" ".join(("AUTH", *mechanisms)),) if mechanisms else ()),
        )

    def protocol(self, extended: bool, smtputf8: bool, is_secure: bool, has_login: bool) -> str:
        """Return the protocol of a message: SMTP, ESMTP, ESMTPSA, LMTPS, UTF8SMTPA ..."""
        if not extended:
            return "SMTP"
        kind = "LMTP" if self.lmtp else "SMTP" if smtputf8 else "ESMTP"
        return ("UTF8" if smtputf8 else "") + kind + ("S" if is_secure else "") + ("A" if has_login else "")
