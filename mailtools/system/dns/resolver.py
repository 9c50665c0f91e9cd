"""Finds the hosts that take mail for a domain, with their addresses. `core/smtp/mx` holds the rules.

Blocks; one `Resolver` serves many threads. Owns RFC 5321 §5.1 (MX, and the domain's own address if it has no
MX), RFC 5891 (A-labels, by UTS 46). Knows no connection.

Invariants: `Resolver.hosts` raises only `ResolutionError`, for any octets from a nameserver. Every wait and
list is bounded.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterator
from itertools import chain, groupby, zip_longest
from typing import Any, NamedTuple

from mailtools.core.smtp import mx
from mailtools.core.smtp.mx import Mx, ResolutionError
from mailtools.system.dns.lookup import Answer, Lookup, family, system_lines

__all__ = ["MxHost", "ResolutionError", "Resolver", "own_addresses"]

MAX_HOSTS = 10  # hosts tried for a domain
MAX_ADDRESSES = 8  # addresses tried for a host
_PATIENCE = 3  # the address lookups of a domain may take this many time-outs together

_HOSTS = "/etc/hosts"
_IPV6_ROUTES = "/proc/net/ipv6_route"
_IPV6_ADDRESSES = "/proc/net/if_inet6"
_IPV4_ADDRESSES = "/proc/net/fib_trie"


class MxHost(NamedTuple):
    """A host that takes mail. *name*: its MX name, or the address of an address literal; never empty."""

    name: str
    addresses: tuple[str, ...]  # IPv4 and IPv6, best first; one at least


class Resolver:
    """Asks *nameserver* ("ADDRESS[:PORT]"), or those of /etc/resolv.conf.

    *timeout*: seconds for one question, all tries together. *own_names*, *own_addresses*: this host, to which
    mail must not be sent. Raises ConfigurationError if *nameserver* is no address.
    """

    def __init__(
        self,
        nameserver: str = "",
        *,
        timeout: float = 10.0,
        own_names: Collection[str] = (),
        own_addresses: Collection[str] = (),
        shuffle: Callable[[list[Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = Lookup(nameserver, timeout, clock)
        self._has_machine = not nameserver
        self._timeout = timeout
        self._own_names = frozenset(mx.normalized(name) for name in own_names)
        self._own_addresses = frozenset(mx.plain_address(address) for address in own_addresses)
        self._shuffle = shuffle or _shuffle
        self._clock = clock

    def hosts(self, domain: str, anywhere: bool = False) -> Iterator[MxHost]:
        """The hosts for mail to *domain* (a name in any script, or an address literal), best first.

        *anywhere*: also with addresses that are not public, which a stranger's DNS must not make us connect
        to. Names without dots are of this network, and have any address. Addresses are looked up when a
        host is requested. Yields at least one or raises a ResolutionError: LookupAgainError (a
        TemporaryError), UnknownDomainError (an UnknownHostError) or NoMailError (a RefusedError).
        """
        if mx.is_literal(domain):
            address = mx.literal(domain)
            if not mx.is_connectable(address):
                raise mx.no_address(domain)
            if not self._foreign([address]):
                raise mx.loop(domain)
            if not anywhere and not mx.is_public(address):
                raise mx.not_public(domain)
            yield MxHost(address, (address,))
            return
        name = _a_labels(domain)
        answer = self._lookup.ask(name, "MX")
        anywhere = anywhere or "." not in name
        if answer.records:
            yield from self._of_records(name, answer.records, anywhere)
        else:
            yield self._implicit(name, answer, anywhere)

    def _implicit(self, name: str, answer: Answer, anywhere: bool) -> MxHost:
        """The domain itself as the host, if it has no MX (RFC 5321 §5.1)."""
        if name in self._own_names:
            raise mx.loop(name)
        found = answer if answer.why or not answer.exists else self._addresses(name)
        records = found.records
        # A name without dots has no MX anywhere: the machine's own lookup suffices if no nameserver answers.
        if not records and (not found.why or "." not in name):
            records = self._by_the_machine(name).records
        if not records:
            if found.why:
                raise mx.lookup_again(name, found.why)
            raise mx.no_address(name) if answer.exists else mx.unknown(name)
        usable = [address for address in records if mx.is_connectable(address)]
        foreign = self._foreign(usable)
        if not foreign:
            raise mx.loop(name) if usable else mx.no_address(name)
        reachable = _reachable(foreign, anywhere)
        if not reachable:
            raise mx.not_public(name)
        return MxHost(name, self._in_order(reachable))

    def _of_records(self, domain: str, records: tuple[Mx, ...], anywhere: bool) -> Iterator[MxHost]:
        """The hosts of MX records. If one is this host, only better ones are used (RFC 5321 §5.1)."""
        best = mx.order(domain, records, self._shuffle, self._own_names)[:MAX_HOSTS]
        why = ""
        is_given = is_closed = False
        deadline = self._clock() + _PATIENCE * self._timeout
        for _, group in groupby(best, key=lambda record: record.preference):
            lookups: Iterator[tuple[str, Answer]] = (
                (record.exchange, self._addresses_until(deadline, record.exchange)) for record in group
            )
            if self._own_addresses:  # look up all hosts of one preference first: one may be this host
                known = list(lookups)
                if any(self._is_ourselves(answer) for _, answer in known):
                    if not is_given and not why:
                        raise mx.loop(domain)
                    break
                lookups = iter(known)
            for name, answer in lookups:
                why = why or answer.why
                foreign = self._foreign([each for each in answer.records if mx.is_connectable(each)])
                reachable = _reachable(foreign, anywhere)
                is_closed = is_closed or len(reachable) < len(foreign)
                if reachable:
                    is_given = True
                    used = self._clock()
                    yield MxHost(name, self._in_order(reachable))
                    deadline += self._clock() - used  # do not count the time the caller used
        if not is_given:
            if why:
                raise mx.lookup_again(domain, why)
            raise mx.not_public(domain) if is_closed else mx.no_address(domain)

    def _addresses_until(self, deadline: float, name: str) -> Answer:
        if self._clock() >= deadline:
            return Answer(why="too many of its hosts cannot be looked up")
        found = self._addresses(name)
        if not found.records and not found.why:
            found = self._by_the_machine(name)
        return found

    def _addresses(self, name: str) -> Answer:
        """A and AAAA records. A failure of one lookup counts only if the other has no records."""
        four = self._lookup.ask(name, "A")
        if not four.exists:
            return four
        six = self._lookup.ask(name, "AAAA")
        records = four.records + six.records
        return Answer(records, why="" if records else four.why or six.why)

    def _foreign(self, addresses: list[str]) -> list[str]:
        """The addresses that do not belong to this host."""
        return [each for each in addresses if mx.plain_address(each) not in self._own_addresses]

    def _is_ourselves(self, answer: Answer) -> bool:
        return bool(answer.records) and not self._foreign(list(answer.records))

    def _in_order(self, addresses: list[str]) -> tuple[str, ...]:
        """IPv6 and IPv4 alternately, if the machine has an IPv6 route; else IPv4 first."""
        four = [address for address in addresses if ":" not in address]
        six = [address for address in addresses if ":" in address]
        self._shuffle(four)
        self._shuffle(six)
        if not six or not four or not _has_ipv6_route():
            return tuple((four + six)[:MAX_ADDRESSES])
        turns = chain.from_iterable(zip_longest(six, four))
        return tuple([address for address in turns if address][:MAX_ADDRESSES])

    def _by_the_machine(self, name: str) -> Answer:
        """Addresses from /etc/hosts or getaddrinfo(), for names of small sites that the DNS does not know."""
        if not self._has_machine:
            return Answer()
        return Answer(tuple(_by_hosts_file(name) if "." in name else _by_getaddrinfo(name)))


# -- names and addresses ------------------------------------------------------------------------------------


def _reachable(addresses: list[str], anywhere: bool) -> list[str]:
    return addresses if anywhere else list(filter(mx.is_public, addresses))


def _a_labels(domain: str) -> str:
    """*domain* in A-labels (RFC 5891 §5.5). Raises UnknownDomainError if it is no valid name."""
    if len(domain) > mx.MAX_DOMAIN + 1:  # its A-labels would be no shorter, and the library is slow
        raise mx.malformed(domain)
    name = domain
    if not domain.isascii():
        import idna

        try:
            name = idna.encode(domain, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise mx.malformed(domain) from None
    name = mx.normalized(name)
    if not mx.is_host_name(name):
        raise mx.malformed(domain)
    return name


def _by_hosts_file(name: str) -> list[str]:
    """Addresses of *name* in /etc/hosts. getaddrinfo() would apply the search list: another domain's host."""
    found = []
    for line in system_lines(_HOSTS):
        address, *names = line.partition("#")[0].split() or [""]
        if name in (mx.normalized(each) for each in names) and family(address) and "%" not in address:
            found.append(address)
    return found


def _by_getaddrinfo(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name.encode(), 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _has_ipv6_route() -> bool:
    """Tell whether there is a default IPv6 route; one over lo means that the kernel has none."""
    for line in system_lines(_IPV6_ROUTES):
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            return True
    return False


def own_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces except loopback, from /proc; empty if not on Linux."""
    import ipaddress

    found = set()
    last = ""
    for line in system_lines(_IPV4_ADDRESSES):
        words = line.split()
        if words[0] == "|--":
            last = words[-1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(last)
    for line in system_lines(_IPV6_ADDRESSES):
        found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))))
    return frozenset(address for address in found if family(address) and not _is_loopback(address))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _shuffle(items: list[Any]) -> None:
    import random

    random.shuffle(items)
