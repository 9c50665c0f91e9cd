"""The hosts that take mail for a domain, with their addresses: the DNS asked, `core/smtp/mx` decides.

Blocks; one `Resolver` serves many threads. Owns RFC 5321 §5.1 (MX, and the domain's own address where it has
none), RFC 5891 (A-labels, by UTS 46). Knows no connection.

Invariants: nothing but `ResolutionError` comes out of `Resolver.hosts`, whatever octets a nameserver sends.
Every wait, answer and list is bounded. A domain is taken as it is: no search list, for bob@example.com must
not go to example.com.our.example.

dnspython makes and reads the messages; the octets are moved here, so that their number is bounded: it takes
15 s for the worst answer of 64 KiB. Importing dns.message takes 0.8 of the time of dns.resolver (56 of 70 ms,
of which 27 are for importlib.metadata); what that has beyond, search lists among it, is not wanted.
"""

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import chain, groupby, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import mx
from mailtools.core.smtp.mx import Mx, ResolutionError

if TYPE_CHECKING:
    import dns.message

__all__ = ["Host", "ResolutionError", "Resolver", "own_addresses"]

MAX_HOSTS = 10  # hosts tried for a domain
MAX_ADDRESSES = 8  # addresses tried for a host
_MAX_RECORDS = 100  # kept of an answer: an answer may have 4,000, the cache 10,000 answers
_MAX_ENTRIES = 10_000
_MAX_TTL = 300  # seconds
_NEGATIVE_TTL = 60
_MAX_ANSWER = 8 << 10  # octets, for a hundred MX records
_HEADER = 12  # octets
_TRUNCATED = 2  # in the third octet
_ROUNDS = 2  # each nameserver is asked so often, for a datagram may be lost
_MAX_SERVERS = 3  # as resolv.conf(5)
_PATIENCE = 3  # time-outs that all the address lookups of a domain may take together

_RESOLV_CONF = "/etc/resolv.conf"
_HOSTS = "/etc/hosts"
_IPV6_ROUTES = "/proc/net/ipv6_route"
_IPV6_ADDRESSES = "/proc/net/if_inet6"
_IPV4_ADDRESSES = "/proc/net/fib_trie"


class Host(NamedTuple):
    """A host that takes mail. *name*: its MX name, or the address of an address literal; never empty."""

    name: str
    addresses: tuple[str, ...]  # IPv4 and IPv6, best first; one at least


class _Answer(NamedTuple):
    """What the DNS says of one name and type. *why*: why there is no answer; "" where there is one."""

    records: tuple[Any, ...] = ()  # Mx, or addresses as text
    exists: bool = True
    why: str = ""
    ttl: float = 0  # seconds
    is_spoken: bool = False  # a nameserver itself said why; it would say the same again


class _Flight:
    """A question that is on its way; others with the same question wait for its answer."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.answer = _Answer(why="the lookup was given up")


class Resolver:
    """Asks *nameserver* ("ADDRESS[:PORT]"), or those of /etc/resolv.conf.

    *timeout*: seconds for one question, all tries together. *own_names*, *own_addresses*: who we are, for
    mail must not be sent to ourselves. Raises ConfigurationError where *nameserver* is no address.
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
        self._server = _server(nameserver) if nameserver else None
        self._timeout = timeout
        self._own_names = frozenset(mx.normalized(name) for name in own_names)
        self._own_addresses = frozenset(mx.plain_address(address) for address in own_addresses)
        self._shuffle = shuffle or _shuffle
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, str], tuple[float, _Answer]] = {}  # until when; oldest first
        self._flights: dict[tuple[str, str], _Flight] = {}

    def hosts(self, domain: str) -> Iterator[Host]:
        """The hosts for mail to *domain* (a name in any script, or an address literal), best first.

        Addresses are looked up as the hosts are asked for. At least one host, or a ResolutionError:
        LookupAgainError is a TemporaryError, UnknownDomainError an UnknownHostError, NoMailError a
        RefusedError.
        """
        if mx.is_literal(domain):
            address = mx.literal(domain)
            if not self._foreign([address]):
                raise mx.loop(domain)
            yield Host(address, (address,))
            return
        name = _a_labels(domain)
        answer = self._ask(name, "MX")
        if answer.records:
            yield from self._of_records(name, answer.records)
        else:
            yield self._implicit(name, answer)

    def _implicit(self, name: str, answer: _Answer) -> Host:
        """The domain itself, where it has no MX."""
        if name in self._own_names:
            raise mx.loop(name)
        found = _Answer(exists=False)
        if answer.why:
            # A name without dots has no MX anywhere: the machine's own word will do without a nameserver.
            found = self._by_the_machine(name) if "." not in name else _Answer()
            if not found.records:
                raise mx.lookup_again(name, answer.why)
        elif answer.exists:
            found = self._addresses(name)
        if not found.records:
            if found.why:
                raise mx.lookup_again(name, found.why)
            found = self._by_the_machine(name)
        if not found.records:
            raise mx.no_address(name) if answer.exists else mx.unknown(name)
        usable = [address for address in found.records if mx.is_connectable(address)]
        foreign = self._foreign(usable)
        if not foreign:
            raise mx.loop(name) if usable else mx.no_address(name)
        return Host(name, self._in_order(foreign))

    def _of_records(self, domain: str, records: tuple[Mx, ...]) -> Iterator[Host]:
        """The hosts of MX records. Where one turns out to be ourselves, only better ones count."""
        best = mx.order(domain, records, self._shuffle, self._own_names)[:MAX_HOSTS]
        why = ""
        is_given = False
        deadline = self._clock() + _PATIENCE * self._timeout
        for _, group in groupby(best, key=lambda record: record.preference):
            lookups: Iterator[tuple[str, _Answer]] = (
                (record.exchange, self._addresses_until(deadline, record.exchange)) for record in group
            )
            if self._own_addresses:  # then all of one preference have to be known before one of them is used
                known = list(lookups)
                if any(self._is_ourselves(answer) for _, answer in known):
                    if not is_given and not why:
                        raise mx.loop(domain)
                    break
                lookups = iter(known)
            for name, answer in lookups:
                why = why or answer.why
                foreign = self._foreign([each for each in answer.records if mx.is_connectable(each)])
                if foreign:
                    is_given = True
                    used = self._clock()
                    yield Host(name, self._in_order(foreign))
                    deadline += self._clock() - used  # the caller's time, not ours
        if not is_given:
            raise mx.lookup_again(domain, why) if why else mx.no_address(domain)

    def _addresses_until(self, deadline: float, name: str) -> _Answer:
        if self._clock() >= deadline:
            return _Answer(why="too many of its hosts cannot be looked up")
        found = self._addresses(name)
        if not found.records and not found.why:
            found = self._by_the_machine(name)
        return found

    def _addresses(self, name: str) -> _Answer:
        """A and AAAA; that one of them cannot be asked matters only where the other gives nothing."""
        four = self._ask(name, "A")
        if not four.exists:
            return four
        six = self._ask(name, "AAAA")
        records = four.records + six.records
        return _Answer(records, why="" if records else four.why or six.why)

    def _foreign(self, addresses: list[str]) -> list[str]:
        """Those that are not our own."""
        return [each for each in addresses if mx.plain_address(each) not in self._own_addresses]

    def _is_ourselves(self, answer: _Answer) -> bool:
        return bool(answer.records) and not self._foreign(list(answer.records))

    def _in_order(self, addresses: list[str]) -> tuple[str, ...]:
        """Both families in turn, IPv6 first, where the machine has a way out for it; else IPv4 before all."""
        four = [address for address in addresses if ":" not in address]
        six = [address for address in addresses if ":" in address]
        self._shuffle(four)
        self._shuffle(six)
        if not six or not four or not _has_ipv6_route():
            return tuple((four + six)[:MAX_ADDRESSES])
        turns = chain.from_iterable(zip_longest(six, four))
        return tuple([address for address in turns if address][:MAX_ADDRESSES])

    def _by_the_machine(self, name: str) -> _Answer:
        """What the machine itself says where the DNS knows nothing: hosts of small sites."""
        if self._server is not None:
            return _Answer()
        return _Answer(tuple(_by_hosts_file(name) if "." in name else _by_getaddrinfo(name)))

    # -- one question --------------------------------------------------------------------------------------

    def _ask(self, name: str, kind: str) -> _Answer:
        """From the cache, or from whoever asks the same just now, or from a nameserver."""
        key = name, kind
        with self._lock:
            until, answer = self._cache.get(key, (0.0, None))
            if answer is not None and self._clock() < until:
                return answer
            flight = self._flights.get(key)
            is_ours = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not is_ours:
            flight.landed.wait(2 * self._timeout)
            return flight.answer
        try:
            flight.answer = self._from_nameservers(name, kind)
        finally:
            with self._lock:
                del self._flights[key]
                self._remember(key, flight.answer)
            flight.landed.set()
        return flight.answer

    def _remember(self, key: tuple[str, str], answer: _Answer) -> None:
        self._cache.pop(key, None)
        if answer.ttl <= 0:
            return
        if len(self._cache) >= _MAX_ENTRIES:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = (self._clock() + answer.ttl, answer)

    def _from_nameservers(self, name: str, kind: str) -> _Answer:
        servers = [self._server] if self._server else _system_servers()
        if not servers:
            return _Answer(why=f"no nameserver in {_RESOLV_CONF}; write one there")
        deadline = time.monotonic() + self._timeout
        tries = servers * _ROUNDS
        answer = _Answer()
        while tries and (left := deadline - time.monotonic()) > 0:
            server, *later = tries
            answer = _exchange(name, kind, *server, left / len(tries))
            if not answer.why:
                return answer
            tries = [each for each in later if each != server] if answer.is_spoken else later
        return _Answer(why=answer.why or "no answer in time")


def _exchange(name: str, kind: str, address: str, port: int, timeout: float) -> _Answer:
    """Ask one nameserver once: over UDP, and over TCP where the answer is too long for that."""
    import dns.message

    deadline = time.monotonic() + timeout
    try:
        query = dns.message.make_query(f"{name}.", kind)
        target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
        reply = _over_udp(query, target[0], target[4], deadline)
        if reply is None:
            reply = _over_tcp(query, target[0], target[4], deadline)
        return _read(reply, kind)
    except TimeoutError:
        return _Answer(why=f"the nameserver {address} does not answer")
    except OSError as error:
        return _Answer(why=f"the nameserver {address} cannot be asked: {error.strerror or error}")
    except Exception as error:  # whatever a library says of octets from afar, it is an answer of no use
        return _Answer(why=f"the nameserver {address} answers nonsense ({type(error).__name__})")


def _over_udp(query: "dns.message.QueryMessage", family: int, target: Any, deadline: float) -> Any:
    """The reply; None where it has to be asked for over TCP. Raises OSError, TimeoutError among them.

    Octets that are no answer to this question are passed over: anybody may send them.
    """
    wire = query.to_wire()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        # Connected, it hears no other address, and that the nameserver is down (ICMP) at once.
        sock.connect(target)
        sock.send(wire)
        while True:
            sock.settimeout(_left(deadline))
            octets = sock.recv(_MAX_ANSWER)
            if len(octets) < _HEADER or octets[:2] != wire[:2]:
                continue
            if octets[2] & _TRUNCATED:
                return None
            with suppress(Exception):
                return _parsed(query, octets)


def _over_tcp(query: "dns.message.QueryMessage", family: int, target: Any, deadline: float) -> Any:
    """The reply; anything may be raised."""
    wire = query.to_wire()
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(_left(deadline))
        sock.connect(target)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        size = int.from_bytes(_exactly(sock, 2, deadline), "big")
        if size > _MAX_ANSWER:
            raise OSError(f"an answer of {size} octets is too long")
        return _parsed(query, _exactly(sock, size, deadline))


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    octets = b""
    while len(octets) < size:
        sock.settimeout(_left(deadline))
        block = sock.recv(size - len(octets))
        if not block:
            raise OSError("it closed the connection")
        octets += block
    return octets


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parsed(query: "dns.message.QueryMessage", octets: bytes) -> "dns.message.Message":
    """The message in *octets*, if it is an answer to *query*; anything may be raised."""
    import dns.message

    reply = dns.message.from_wire(octets)
    if not query.is_response(reply):
        raise ValueError("an answer to another question")
    return reply


def _read(reply: "dns.message.QueryMessage", kind: str) -> _Answer:
    """What *reply* says; anything may be raised."""
    import dns.flags
    import dns.rcode

    rcode = reply.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return _Answer(why=f"the nameserver says {dns.rcode.to_text(rcode)}", is_spoken=True)
    found = reply.resolve_chaining()
    exists = rcode == dns.rcode.NOERROR
    if found.answer is None:
        # Cut short, or a referral by somebody who does not look further: that there is nothing, nobody said.
        if reply.flags & dns.flags.TC or not reply.flags & (dns.flags.AA | dns.flags.RA):
            return _Answer(why="the nameserver gives no answer of its own", is_spoken=True)
        return _Answer(exists=exists, ttl=min(found.minimum_ttl, _NEGATIVE_TTL))
    ttl = min(found.minimum_ttl, _MAX_TTL)
    if kind == "MX":
        records = sorted(Mx(each.preference, each.exchange.to_text()) for each in found.answer)
        return _Answer(tuple(records[:_MAX_RECORDS]), ttl=ttl)
    return _Answer(tuple([each.address for each in found.answer][:_MAX_RECORDS]), ttl=ttl)


# -- names and addresses ------------------------------------------------------------------------------------


def _a_labels(domain: str) -> str:
    """*domain* as the DNS has it. Raises UnknownDomainError where it can be no name."""
    name = domain
    if not domain.isascii():
        import idna

        try:
            if (
                len(domain) > mx.MAX_DOMAIN
            ):  # every letter is an octet at least; and the library takes its time
                raise mx.malformed(domain)
            name = idna.encode(domain, uts46=True, transitional=False).decode()
        except (idna.IDNAError, UnicodeError):
            raise mx.malformed(domain) from None
    name = mx.normalized(name)
    if not mx.is_host_name(name):
        raise mx.malformed(domain)
    return name


def _server(text: str) -> tuple[str, int]:
    """A nameserver's address and port, from ``192.0.2.1``, ``192.0.2.1:53``, ``[::1]:53``, or ``::1``."""
    address, port = text, "53"
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        port = "" if not bracket else rest.removeprefix(":") if rest else port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if _family(address) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16:
        return address, int(port)
    raise ConfigurationError(f"{mx.shown(text)}: not a nameserver; write ADDRESS or ADDRESS:PORT")


def _family(address: str) -> int:
    """AF_INET or AF_INET6; 0 where it is no address. A scope (``fe80::1%eth0``) may stand at its end."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.partition("%")[0] if family == socket.AF_INET6 else address)
        except (OSError, ValueError):
            continue
        return family
    return 0


def _system_servers() -> list[tuple[str, int]]:
    """The nameservers of resolv.conf(5), read each time: the machine may move to another network."""
    words = [line.split() for line in _lines(_RESOLV_CONF)]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and _family(line[1])]
    return [(address, 53) for address in found[:_MAX_SERVERS]]


def _by_hosts_file(name: str) -> list[str]:
    """getaddrinfo() would look in the search list too, and so find another domain's host."""
    found = []
    for line in _lines(_HOSTS):
        address, *names = line.partition("#")[0].split() or [""]
        if name in (mx.normalized(each) for each in names) and _family(address) and "%" not in address:
            found.append(address)
    return found[:_MAX_RECORDS]


def _by_getaddrinfo(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name.encode(), 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))[:_MAX_RECORDS]


def _has_ipv6_route() -> bool:
    """Tell whether there is a default route for IPv6; one over lo is the kernel's refusal."""
    for line in _lines(_IPV6_ROUTES):
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            return True
    return False


def own_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces, without loopback, as far as Linux tells; else none."""
    import ipaddress

    found = set()
    last = ""
    for line in _lines(_IPV4_ADDRESSES):
        words = line.split()
        if words[0] == "|--":
            last = words[-1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(last)
    for line in _lines(_IPV6_ADDRESSES):
        found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))))
    return frozenset(address for address in found if _family(address) and not _is_loopback(address))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _lines(path: str) -> list[str]:
    """The lines of a small file of the system that are not empty; none where it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return [line for line in file.read(1 << 20).splitlines() if line.strip()]
    except OSError:
        return []


def _shuffle(items: list[Any]) -> None:
    import random

    random.shuffle(items)
