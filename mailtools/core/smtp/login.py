"""AUTH in SMTP: the reply to the outcome of a login, and what a transcript may show of it.

The exchange itself is in core/auth/dialogue. Owns RFC 4954 §4 and §6 (replies).

Invariant: every failed login gets the same reply, whatever the reason.
"""

from mailtools.core.auth import dialogue
from mailtools.core.auth.dialogue import SaslOutcome
from mailtools.core.smtp.reply import Reply

_REPLIES = {
    dialogue.DONE: Reply(235, "2.7.0", "Authentication successful"),
    dialogue.WRONG: Reply(535, "5.7.8", "Authentication credentials invalid"),
    dialogue.NOT_NOW: Reply(454, "4.7.0", "Temporary authentication failure"),
    dialogue.NOT_OFFERED: Reply(504, "5.5.4", "Mechanism not offered"),
    dialogue.BROKEN_LINE: Reply(500, "5.5.6", "Authentication exchange line is too long or broken"),
    dialogue.CANCELLED: Reply(501, "5.7.0", "Authentication cancelled"),
}


def reply(outcome: SaslOutcome) -> Reply:
    """Return the reply to *outcome*."""
    if outcome.how == dialogue.MALFORMED:
        return Reply(501, "5.5.2", f"Bad response: {outcome.reason}")
    return _REPLIES[outcome.how]


def masked(line: bytes, is_auth: bool, is_known: bool, after_auth: bool) -> bytes:
    """Return a command line as a transcript may show it; what can be a part of a login becomes ``***``.

    is_auth, is_known: what the command is. after_auth: the last known command was AUTH.
    """
    if is_auth:
        return b"AUTH " + dialogue.masked_argument(line.partition(b" ")[2]) + b"\r\n"
    if not is_known and (after_auth or b"AUTH" in line.upper()):
        return b"***\r\n"
    return line + b"\r\n"
