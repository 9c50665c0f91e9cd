"""Finds the hosts that take mail for a domain, with their addresses. `core/smtp/mx` holds the rules.

Blocks; one `Resolver` serves many threads. Owns RFC 5321 §5.1 (MX, and the domain's own address if it has no
MX), RFC 5891 (A-labels, by UTS 46). Knows no connection.

Invariants: `Resolver.hosts` raises only `ResolutionError`, for any octets from a nameserver. Every wait and
list is bounded.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, groupby, zip_longest
from typing import Any, NamedTuple

from mailtools.core.errors import UnknownHostError
from mailtools.core.smtp import mx
from mailtools.core.smtp.mx import Mx, Network, ResolutionError, Surroundings
from mailtools.system.dns.lookup import Answer, Lookup, family, system_lines

__all__ = ["MxHost", "ResolutionError", "Resolver", "own_addresses", "surroundings"]

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


_NOWHERE = Surroundings()


class _Addresses(NamedTuple):
    """The addresses of a host. *why*: the first one that mail may not go to, and its kind."""

    host: str
    usable: list[str]
    are_ours: bool  # one of them at least is this host's
    why: str


class Resolver:
    """Asks *nameserver* ("ADDRESS[:PORT]"), or those of /etc/resolv.conf.

    *timeout*: seconds for one question, all tries together. *surroundings*: this host, to which mail must not
    be sent, and the networks that are permitted. Raises ConfigurationError if *nameserver* is no address.
    """

    def __init__(
        self,
        nameserver: str = "",
        *,
        timeout: float = 10.0,
        surroundings: Surroundings = _NOWHERE,
        shuffle: Callable[[list[Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = Lookup(nameserver, timeout, clock)
        self._has_machine = not nameserver
        self._timeout = timeout
        self._here = surroundings
        self._shuffle = shuffle or _shuffle
        self._clock = clock

    def hosts(self, domain: str, port: int = mx.SMTP_PORT) -> Iterator[MxHost]:
        """The hosts for mail to *domain* (a name in any script, or an address literal), best first.

        *port*: where they are to be called. Addresses are looked up when a host is requested. Yields at least
        one or raises a ResolutionError: LookupAgainError (a TemporaryError), UnknownDomainError (an
        UnknownHostError) or NoMailError (a RefusedError).
        """
        if mx.is_literal(domain):
            address = mx.literal(domain)
            found = self._sorted(domain, (address,), port)
            if not found.usable:
                raise _no_host(domain, [found])
            yield MxHost(address, (address,))
            return
        name = _a_labels(domain)
        answer = self._lookup.ask(name, "MX")
        if answer.records:
            yield from self._of_records(name, answer.records, port)
        else:
            yield self._implicit(name, answer, port)

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host that an operator named; () if the system's own lookup has to find them.

        A name is looked up here only if a nameserver was given. Raises LookupAgainError, UnknownHostError.
        """
        if self._has_machine or not host or family(host):
            return ()
        if mx.normalized(host).rpartition(".")[2] == "localhost":  # RFC 6761 §6.3: no nameserver is asked
            return ("127.0.0.1", "::1")
        try:
            name = _a_labels(host)
            found = self._addresses(name)
        except mx.UnknownDomainError:
            found = Answer()
        if found.why:
            raise mx.lookup_again(host, found.why)
        if not found.records:
            raise UnknownHostError(f"{mx.shown(host)}: unknown host; check --host or --route")
        return self._in_order(list(found.records))

    def _implicit(self, name: str, answer: Answer, port: int) -> MxHost:
        """The domain itself as the host, if it has no MX (RFC 5321 §5.1)."""
        if name in self._here.names:
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
        its = self._sorted(name, records, port)
        if not its.usable:
            raise _no_host(name, [its])
        return MxHost(name, self._in_order(its.usable))

    def _of_records(self, domain: str, records: tuple[Mx, ...], port: int) -> Iterator[MxHost]:
        """The hosts of MX records. If one is this host, only better ones are used (RFC 5321 §5.1)."""
        best = mx.order(domain, records, self._shuffle, self._here.names)[:MAX_HOSTS]
        why = ""
        is_given = False
        refused: list[_Addresses] = []
        deadline = self._clock() + _PATIENCE * self._timeout
        for _, group in groupby(best, key=lambda record: record.preference):
            lookups: Iterator[tuple[_Addresses, str]] = (
                self._sorted_until(deadline, record.exchange, port) for record in group
            )
            if self._knows_itself:  # look up all hosts of one preference first: one may be this host
                known = list(lookups)
                if any(its.are_ours and not its.usable for its, _ in known):
                    if not is_given and not why:
                        raise mx.loop(domain)
                    break
                lookups = iter(known)
            for its, problem in lookups:
                why = why or problem
                refused.append(its)
                if its.usable:
                    is_given = True
                    used = self._clock()
                    yield MxHost(its.host, self._in_order(its.usable))
                    deadline += self._clock() - used  # do not count the time the caller used
        if not is_given:
            raise mx.lookup_again(domain, why) if why else _no_host(domain, refused)

    @property
    def _knows_itself(self) -> bool:
        return bool(self._here.addresses or self._here.listeners)

    def _sorted_until(self, deadline: float, host: str, port: int) -> tuple["_Addresses", str]:
        """The addresses of an MX host, and why they cannot be looked up, or ""."""
        answer = self._addresses_until(deadline, host)
        return self._sorted(host, answer.records, port), answer.why

    def _sorted(self, host: str, addresses: Sequence[str], port: int) -> "_Addresses":
        """Decide to which of *addresses* mail may go."""
        usable: list[str] = []
        are_ours, why = False, ""
        for address in addresses:
            if self._here.is_ours(address, port):
                are_ours = True
            elif problem := self._here.why_not(address, port):
                shown = address if host == address else f"{host} has {address}"
                why = why or f"{shown} ({problem})"
            else:
                usable.append(address)
        return _Addresses(host, usable, are_ours, why)

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


def _no_host(domain: str, found: Sequence[_Addresses]) -> ResolutionError:
    """The error of a domain none of whose hosts may be connected to."""
    if any(its.are_ours for its in found):
        return mx.loop(domain)
    why = next((its.why for its in found if its.why), "")
    return mx.not_public(domain, why) if why else mx.no_address(domain)


# -- names and addresses ------------------------------------------------------------------------------------


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


def surroundings(
    name: str, permitted: Sequence[Network] = (), listeners: Collection[tuple[str, int]] = ()
) -> Surroundings:
    """The surroundings of this machine, whose host name is *name*."""
    return Surroundings(
        frozenset([mx.normalized(name)]),
        own_addresses(),
        frozenset([(mx.plain_address(address.partition("%")[0]), port) for address, port in listeners]),
        tuple(permitted),
    )


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _shuffle(items: list[Any]) -> None:
    import random

    random.shuffle(items)
