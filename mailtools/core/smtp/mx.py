"""Which hosts take mail for a domain, in which order: decisions over the answers of the DNS.

Records in, an order out, or a `ResolutionError` with the reply that an MTA would have given. Knows no
nameserver and no randomness: equal preferences are shuffled by a function given. Owns RFC 5321 §5.1 (order,
loops), RFC 7505 (null MX), RFC 5321 §4.1.3 (address literals).

Invariants: names are in lower case without a trailing dot, and hold nothing but letters, digits, hyphen,
underscore and dots, so that they may stand in any command, log or argument. Texts are printable ASCII,
whatever the domain held.
"""

import ipaddress
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import NamedTuple

from mailtools.core.errors import MailError, RefusedError, TemporaryError, UnknownHostError
from mailtools.core.patterns import lazy
from mailtools.core.smtp.reply import Reply

MAX_DOMAIN = 253  # octets as text; 255 on the wire (RFC 1035 §2.3.4)
# A first hyphen would read as an option somewhere; the underscore is in use, whatever RFC 952 says.
_HOST_NAME = lazy(r"(?:[a-z0-9_][a-z0-9_-]{0,62}\.)*[a-z0-9_][a-z0-9_-]{0,62}")
# What ends so is an address to inet_aton, in one of its forms: 1.2.3.4, 0x7f.1, 2130706433.
_NUMBER = lazy(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


class ResolutionError(MailError):
    """No host for a domain, or none now; *reply* is what a server would have said."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.status = reply.enhanced


class UnknownDomainError(ResolutionError, UnknownHostError):
    """The domain, or what its MX records name, is nowhere."""


class NoMailError(ResolutionError, RefusedError):
    """The domain is there, but its mail cannot go there."""


class LookupAgainError(ResolutionError, TemporaryError):
    """The nameserver did not answer, or not usefully."""


class Mx(NamedTuple):
    """An MX record; *exchange* in any case, with or without the dot at its end."""

    preference: int
    exchange: str


def order(
    domain: str,
    records: Sequence[Mx],
    shuffle: Callable[[list[Mx]], None],
    own_names: Collection[str] = (),
) -> list[Mx]:
    """The hosts of *domain* to try, best first, each once, as far as the names tell.

    *records*: one at least. *own_names*: our names, as `normalized`; from the first of them on no host is
    left. Raises NoMailError (null MX, a loop to ourselves), UnknownDomainError (no record names a host).
    """
    if all(record.exchange in (".", "") for record in records):
        raise NoMailError(Reply(556, "5.1.10", f"{shown(domain)} does not accept mail (null MX)"))
    best: dict[str, int] = {}
    for preference, exchange in records:
        name = normalized(exchange)
        if is_host_name(name):
            best[name] = min(preference, best.get(name, preference))
    if not best:
        raise no_address(domain)
    limit = min((preference for name, preference in best.items() if name in own_names), default=None)
    left = [Mx(preference, name) for name, preference in best.items() if limit is None or preference < limit]
    if not left:
        raise loop(domain)
    left.sort()  # for a shuffle that can be played again
    hosts: list[Mx] = []
    for _, group in groupby(left, key=lambda record: record.preference):
        equal = list(group)
        shuffle(equal)
        hosts += equal
    return hosts


def normalized(name: str) -> str:
    """*name* in lower case, without the dot at its end."""
    return name.removesuffix(".").lower()


def is_host_name(name: str) -> bool:
    """Tell whether *name*, `normalized`, may be looked up: no address, nothing too long, nothing odd."""
    return len(name) <= MAX_DOMAIN and bool(_HOST_NAME.fullmatch(name)) and not _NUMBER.fullmatch(name)


def is_literal(domain: str) -> bool:
    """Tell whether *domain* is in brackets, and so no name."""
    return domain.startswith("[")


def literal(domain: str) -> str:
    """The address in ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``. Raises UnknownDomainError."""
    inside = domain[1:-1] if domain.endswith("]") and len(domain) <= MAX_DOMAIN else ""
    try:
        if inside[:5].lower() != "ipv6:":
            return str(ipaddress.IPv4Address(inside))
        if "%" not in inside:  # a scope is ours, never the sender's
            return str(ipaddress.IPv6Address(inside[5:]))
    except ValueError:
        pass
    raise UnknownDomainError(Reply(550, "5.1.3", f"{shown(domain)} is not an address literal"))


def plain_address(address: str) -> str:
    """*address* in the one form that compares: lower case, shortest, IPv4 where IPv6 only wraps it."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def is_connectable(address: str) -> bool:
    """Tell whether mail can go to *address*: 0.0.0.0 is ourselves by another name, 224.0.0.1 is nobody."""
    parsed = ipaddress.ip_address(plain_address(address))
    return not (parsed.is_unspecified or parsed.is_multicast or parsed == _BROADCAST)


_BROADCAST = ipaddress.IPv4Address((1 << 32) - 1)


# -- what goes wrong ----------------------------------------------------------------------------------------


def unknown(domain: str) -> UnknownDomainError:
    """There is no such domain."""
    return UnknownDomainError(Reply(550, "5.1.2", f"{shown(domain)}: no such domain; check the address"))


def malformed(domain: str) -> UnknownDomainError:
    """It cannot be a domain."""
    return UnknownDomainError(Reply(550, "5.1.2", f"{shown(domain)}: not a domain name; check the address"))


def no_address(domain: str) -> UnknownDomainError:
    """The domain is there, but no host of it has an address."""
    text = f"{shown(domain)}: no host that takes its mail has an address"
    return UnknownDomainError(Reply(550, "5.4.4", text))


def loop(domain: str) -> NoMailError:
    """The best host for the domain is this one."""
    text = f"mail for {shown(domain)} loops back to myself; make it a local domain, or correct its MX records"
    return NoMailError(Reply(550, "5.4.6", text))


def lookup_again(domain: str, why: str) -> LookupAgainError:
    """The DNS gave no answer; *why*: in a few words."""
    text = f"{shown(domain)}: the name cannot be looked up now: {shown(why)}"
    return LookupAgainError(Reply(451, "4.4.3", text))


def shown(text: str) -> str:
    """*text* as printable ASCII, not too long for a reply."""
    text = text if len(text) <= MAX_DOMAIN else f"{text[:MAX_DOMAIN]}..."
    return "".join([char if " " <= char <= "~" else "?" for char in text])
