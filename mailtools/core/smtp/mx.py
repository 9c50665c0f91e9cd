"""Decides from DNS answers which hosts accept mail for a domain, and in which order.

Takes records; returns an order, or raises a `ResolutionError` with the reply that an MTA would give. Knows
no nameserver and no randomness: a function that is an argument shuffles equal preferences. Owns RFC 5321
§5.1 (order, loops), RFC 7505 (null MX), RFC 5321 §4.1.3 (address literals).

Anybody can write an MX record. So mail does not go to addresses that are not public, such as loopback and
private networks: there are servers that trust who is near. The operator may permit networks.

Invariants: names are in lower case without a final dot and contain only letters, digits, hyphens,
underscores and dots, so that they can be put into any command, log or argument. Texts are printable ASCII,
whatever the domain is.
"""

import ipaddress
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import NamedTuple

from mailtools.core.errors import MailError, RefusedError, TemporaryError, UnknownHostError
from mailtools.core.patterns import lazy
from mailtools.core.smtp.reply import Reply

MAX_DOMAIN = 253  # octets as text; 255 on the wire (RFC 1035 §2.3.4)
# A name that begins with a hyphen could be taken for an option. Underscores are in use, though RFC 952
# forbids them.
_HOST_NAME = lazy(r"(?:[a-z0-9_][a-z0-9_-]{0,62}\.)*[a-z0-9_][a-z0-9_-]{0,62}")
# inet_aton reads a name with such an ending as an address: 1.2.3.4, 0x7f.1, 2130706433.
_NUMBER = lazy(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ResolutionError(MailError):
    """There is no host for a domain, or none at the moment; *reply* is what a server would reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.status = reply.enhanced


class UnknownDomainError(ResolutionError, UnknownHostError):
    """The domain does not exist, or the hosts of its MX records do not."""


class NoMailError(ResolutionError, RefusedError):
    """The domain exists, but accepts no mail."""


class LookupAgainError(ResolutionError, TemporaryError):
    """The nameserver gave no usable answer."""


class Mx(NamedTuple):
    """An MX record; *exchange* in any case, with or without final dot."""

    preference: int
    exchange: str


def order(
    domain: str,
    records: Sequence[Mx],
    shuffle: Callable[[list[Mx]], None],
    own_names: Collection[str] = (),
) -> list[Mx]:
    """Return the hosts of *domain* to try, the best first, each once, by their names alone.

    *records*: at least one. *own_names*: our names, `normalized`; the first of them and all hosts after it
    are left out (RFC 5321 §5.1). Raises NoMailError (null MX, a loop to ourselves), UnknownDomainError (no
    record names a host).
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
    left.sort()  # so that a test can repeat the shuffle
    hosts: list[Mx] = []
    for _, group in groupby(left, key=lambda record: record.preference):
        equal = list(group)
        shuffle(equal)
        hosts += equal
    return hosts


def normalized(name: str) -> str:
    """Return *name* in lower case, without final dot."""
    return name.removesuffix(".").lower()


def is_host_name(name: str) -> bool:
    """Return True if *name*, `normalized`, may be looked up: no address, not too long, no odd characters."""
    return len(name) <= MAX_DOMAIN and bool(_HOST_NAME.fullmatch(name)) and not _NUMBER.fullmatch(name)


def is_literal(domain: str) -> bool:
    """Return True if *domain* is an address literal in brackets."""
    return domain.startswith("[")


def literal(domain: str) -> str:
    """Return the address in ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``. Raises UnknownDomainError."""
    inside = domain[1:-1] if domain.endswith("]") and len(domain) <= MAX_DOMAIN else ""
    try:
        if inside[:5].lower() != "ipv6:":
            return str(ipaddress.IPv4Address(inside))
        if "%" not in inside:  # a scope has a meaning only on this host
            return str(ipaddress.IPv6Address(inside[5:]))
    except ValueError:
        pass
    raise UnknownDomainError(Reply(550, "5.1.3", f"{shown(domain)} is not an address literal"))


def plain_address(address: str) -> str:
    """Return *address* in one form for comparisons: lower case, shortest, IPv4 if IPv6 only wraps it."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def is_connectable(address: str) -> bool:
    """Return True if mail can go to *address*: 0.0.0.0 is this host, and 224.0.0.1 is no host."""
    parsed = ipaddress.ip_address(plain_address(address))
    return not (parsed.is_unspecified or parsed.is_multicast or parsed == _BROADCAST)


def why_not_public(address: str) -> str:
    """Return what makes *address* unfit for mail to strangers, such as "loopback"; "" if it is public.

    An IPv6 address that stands for an IPv4 address (mapped, compatible, NAT64, 6to4) is judged by that.
    """
    parsed = ipaddress.ip_address(plain_address(address))
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _THIS_HOST:
        inside = next((parsed for network in _WITH_IPV4_AT_THE_END if parsed in network), None)
        embedded = ipaddress.IPv4Address(int(inside) & 0xFFFFFFFF) if inside else parsed.sixtofour
        if embedded is not None:
            return why_not_public(str(embedded))
    kinds = (
        ("unspecified", parsed.is_unspecified),
        ("loopback", parsed.is_loopback),
        ("link-local", parsed.is_link_local),
        ("multicast", parsed.is_multicast),
        ("reserved", parsed.is_reserved),
        ("private", not parsed.is_global or getattr(parsed, "is_site_local", False)),
    )
    return next((kind for kind, applies in kinds if applies), "")


_BROADCAST = ipaddress.IPv4Address((1 << 32) - 1)
_THIS_HOST = ipaddress.IPv6Network("::/127")  # unspecified and loopback
_WITH_IPV4_AT_THE_END = (
    ipaddress.IPv6Network("::/96"),
    ipaddress.IPv6Network("64:ff9b::/96"),
)  # RFC 4291, 6052


class Surroundings(NamedTuple):
    """What is known of this host and its networks.

    *names*, *addresses*: this host's, `normalized` and `plain_address`. *listeners*: the addresses and ports
    of our own server; an unspecified address stands for all addresses of this host. *permitted*: networks
    that are not public, and to which MX records may lead nevertheless.
    """

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    listeners: frozenset[tuple[str, int]] = frozenset()
    permitted: tuple[Network, ...] = ()

    def is_ours(self, address: str, port: int) -> bool:
        """Return True if a connection to *address* would reach this host's own server (RFC 5321 §5.1)."""
        plain = plain_address(address)
        if plain in self.addresses or (plain, port) in self.listeners:
            return True
        is_any = ("0.0.0.0", port) in self.listeners or ("::", port) in self.listeners
        return is_any and ipaddress.ip_address(plain).is_loopback

    def why_not(self, address: str, port: int) -> str:
        """Return why an MX record may not lead to *address*; "" if it may.

        A port other than 25 is never used by strangers: who names one has a network of their own in mind.
        """
        parsed = ipaddress.ip_address(plain_address(address))
        if port != SMTP_PORT or any(parsed in network for network in self.permitted):
            return "" if is_connectable(address) else why_not_public(address)
        return why_not_public(address)


SMTP_PORT = 25


# -- what goes wrong ----------------------------------------------------------------------------------------


def unknown(domain: str) -> UnknownDomainError:
    """Return the error of a domain that does not exist."""
    return UnknownDomainError(Reply(550, "5.1.2", f"{shown(domain)}: no such domain; check the address"))


def malformed(domain: str) -> UnknownDomainError:
    """Return the error of a text that cannot be a domain."""
    return UnknownDomainError(Reply(550, "5.1.2", f"{shown(domain)}: not a domain name; check the address"))


def no_address(domain: str) -> UnknownDomainError:
    """Return the error of a domain whose hosts have no addresses."""
    text = f"{shown(domain)}: no host that takes its mail has an address"
    return UnknownDomainError(Reply(550, "5.4.4", text))


def not_public(domain: str, why: str) -> NoMailError:
    """Return the error of a domain whose hosts have no public addresses; *why*: host, address and kind."""
    text = f"mail for {shown(domain)} is not sent to an address that is not public: {shown(why)}"
    return NoMailError(Reply(550, "5.4.4", text))


def loop(domain: str) -> NoMailError:
    """Return the error of a domain whose best host is this one."""
    text = f"mail for {shown(domain)} loops back to myself; make it a local domain, or correct its MX records"
    return NoMailError(Reply(550, "5.4.6", text))


def lookup_again(domain: str, why: str) -> LookupAgainError:
    """Return the error of a DNS without an answer; *why*: a few words."""
    text = f"{shown(domain)}: the name cannot be looked up now: {shown(why)}"
    return LookupAgainError(Reply(451, "4.4.3", text))


def shown(text: str) -> str:
    """Return *text* as printable ASCII, not too long for a reply."""
    text = text if len(text) <= MAX_DOMAIN else f"{text[:MAX_DOMAIN]}..."
    return "".join([char if " " <= char <= "~" else "?" for char in text])
