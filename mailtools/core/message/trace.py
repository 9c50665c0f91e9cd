"""Trace: the fields a server puts at the head of a message it takes (RFC 5321 §4.4, RFC 5322 §3.6.7)."""

from collections.abc import Iterable

from mailtools.core.lean import NamedTuple
from mailtools.core.patterns import lazy

_NOT_IN_NAME = lazy(r"[^A-Za-z0-9._:\[\]-]")  # a name the client chose must not end the clause it is in


class Stamp(NamedTuple):
    """Where, when and how a message came in: what Received tells."""

    helo: str
    peer: str  # the client's address; "" for a socket without one
    host: str
    protocol: str  # SMTP, ESMTP, UTF8SMTP ...
    identity: str  # our name for this message
    date: str  # RFC 5322 form


def received(stamp: Stamp, recipient: str) -> str:
    """The Received field, LF, folded. *recipient* is shown where there was just one, else ""."""
    origin = f" ([{_literal(stamp.peer)}])" if stamp.peer else ""
    target = f"\n\tfor <{recipient}>" if recipient else ""
    return (
        f"Received: from {_NOT_IN_NAME.sub('?', stamp.helo)}{origin}\n"
        f"\tby {stamp.host} (mailtools) with {stamp.protocol} id {stamp.identity}{target};\n"
        f"\t{stamp.date}\n"
    )


def submitted(user: int, host: str, identity: str, date: str) -> str:
    """The Received field, LF, of a message that a program of user number *user* on this host handed in."""
    return f"Received: by {host} (mailtools, from userid {user})\n\tid {identity}; {date}\n"


def _literal(address: str) -> str:
    """RFC 5321 §4.1.3: an IPv6 address carries a tag."""
    return f"IPv6:{address}" if ":" in address else address


def delivery_fields(reverse_path: str, recipients: Iterable[str]) -> str:
    """Return-Path, and a Delivered-To for each recipient, LF: what final delivery adds (RFC 5321 §4.4)."""
    delivered = "".join([f"Delivered-To: {recipient}\n" for recipient in recipients])
    return f"Return-Path: <{reverse_path}>\n{delivered}"
