"""Trace fields: what a server adds before a message it accepts (RFC 5321 §4.4, RFC 5322 §3.6.7)."""

from collections.abc import Iterable

from mailtools.core.lean import NamedTuple
from mailtools.core.patterns import lazy

_NOT_IN_NAME = lazy(r"[^A-Za-z0-9._:\[\]-]")  # a name the client chose must not end the clause it is in


class Stamp(NamedTuple):
    """The values of a Received field: where, when and how a message came in."""

    helo: str
    peer: str  # the client's address; "" for a socket without one
    host: str
    protocol: str  # SMTP, ESMTP, UTF8SMTP ...
    identity: str  # our name for this message
    date: str  # RFC 5322 form


def received(stamp: Stamp, recipient: str) -> str:
    """The Received field, LF, folded. *recipient*: the only recipient; "" if there are several."""
    origin = f" ([{_literal(stamp.peer)}])" if stamp.peer else ""
    target = f"\n\tfor <{recipient}>" if recipient else ""
    return (
        f"Received: from {_NOT_IN_NAME.sub('?', stamp.helo)}{origin}\n"
        f"\tby {stamp.host} (mailtools) with {stamp.protocol} id {stamp.identity}{target};\n"
        f"\t{stamp.date}\n"
    )


def submitted(user: int, host: str, identity: str, date: str) -> str:
    """The Received field, LF, of a message that a program of uid *user* on this host submitted."""
    return f"Received: by {host} (mailtools, from userid {user})\n\tid {identity}; {date}\n"


def _literal(address: str) -> str:
    """An address literal without brackets; an IPv6 address gets its tag (RFC 5321 §4.1.3)."""
    return f"IPv6:{address}" if ":" in address else address


def delivery_fields(reverse_path: str, recipients: Iterable[str]) -> str:
    """The fields that final delivery adds, LF: Return-Path (RFC 5321 §4.4), a Delivered-To per recipient."""
    delivered = "".join([f"Delivered-To: {recipient}\n" for recipient in recipients])
    return f"Return-Path: <{reverse_path}>\n{delivered}"
