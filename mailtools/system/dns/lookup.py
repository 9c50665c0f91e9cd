"""Asks the DNS for the records of one name and type.

Blocks; one `Lookup` serves many threads, and equal questions asked at the same time are sent once. Knows no
mail. Owns RFC 1035 §4.2 (UDP, then TCP), the nameservers of resolv.conf(5), and how long an answer is cached
(RFC 2308).

Invariants: no octets of a nameserver raise an error; every wait, answer and list is bounded. No search list
is applied to a name: mail for bob@example.com must not go to example.com.our.example.

dnspython builds and parses the messages; this module transfers the octets to limit their number, because
dnspython takes 15 s for the worst answer of 64 KiB. Importing dns.message takes 56 ms, dns.resolver 70 ms (27
of them importlib.metadata); the additional features of dns.resolver, such as search lists, are not wanted.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import mx
from mailtools.core.smtp.mx import Mx

if TYPE_CHECKING:
    import dns.message

_MAX_RECORDS = 100  # kept of an answer
_MAX_ENTRIES = 10_000
_MAX_TTL = 300  # seconds
_NEGATIVE_TTL = 60
_MAX_ANSWER = 8 << 10  # octets, enough for a hundred MX records
_HEADER = 12  # octets
_TRUNCATED = 2  # the bit TC in the third octet (RFC 1035 §4.1.1)
_ROUNDS = 2  # questions to each nameserver, because a datagram may be lost
_MAX_SERVERS = 3  # the limit of resolv.conf(5)

RESOLV_CONF = "/etc/resolv.conf"


class Answer(NamedTuple):
    """The DNS's answer for one name and type. *why*: the reason if there is no answer, else ""."""

    records: tuple[Any, ...] = ()  # Mx, or addresses as text
    exists: bool = True
    why: str = ""
    ttl: float = 0  # seconds
    is_spoken: bool = False  # *why* is a nameserver's reply; asking it again is useless


class _Flight:
    """A question in progress; other threads with the same question wait for its answer."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.answer = Answer(why="the lookup was given up")


class Lookup:
    """Asks *nameserver* ("ADDRESS[:PORT]"), or those of /etc/resolv.conf.

    *timeout*: seconds for one question, all tries together. Raises ConfigurationError if *nameserver* is no
    address.
    """

    def __init__(self, nameserver: str, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = _server(nameserver) if nameserver else None
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, str], tuple[float, Answer]] = {}  # until when; oldest first
        self._flights: dict[tuple[str, str], _Flight] = {}

    def ask(self, name: str, kind: str) -> Answer:
        """The answer from the cache, from another thread with the same question, or from a nameserver.

        *name*: without a final dot; *kind*: MX, A or AAAA. Never raises for an answer of a nameserver.
        """
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

    def _remember(self, key: tuple[str, str], answer: Answer) -> None:
        self._cache.pop(key, None)
        if answer.ttl <= 0:
            return
        if len(self._cache) >= _MAX_ENTRIES:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = (self._clock() + answer.ttl, answer)

    def _from_nameservers(self, name: str, kind: str) -> Answer:
        servers = [self._server] if self._server else system_servers()
        if not servers:
            return Answer(why=f"no nameserver in {RESOLV_CONF}; write one there")
        deadline = time.monotonic() + self._timeout
        tries = servers * _ROUNDS
        answer = Answer()
        while tries and (left := deadline - time.monotonic()) > 0:
            server, *later = tries
            answer = _exchange(name, kind, *server, left / len(tries))
            if not answer.why:
                return answer
            tries = [each for each in later if each != server] if answer.is_spoken else later
        return Answer(why=answer.why or "no answer in time")


def _exchange(name: str, kind: str, address: str, port: int, timeout: float) -> Answer:
    """Ask one nameserver once: over UDP, then over TCP if the answer is truncated (RFC 1035 §4.2.1)."""
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
        return Answer(why=f"the nameserver {address} does not answer")
    except OSError as error:
        return Answer(why=f"the nameserver {address} cannot be asked: {error.strerror or error}")
    except Exception as error:  # any error of the library means that the answer is useless
        return Answer(why=f"the nameserver {address} answers nonsense ({type(error).__name__})")


def _over_udp(query: "dns.message.QueryMessage", family: int, target: Any, deadline: float) -> Any:
    """The reply; None if it is truncated and TCP is needed. Raises OSError, including TimeoutError.

    Datagrams that do not answer this question are ignored: they may be forged.
    """
    wire = query.to_wire()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        # A connected socket ignores other addresses and reports at once that the nameserver is down (ICMP).
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
    """The reply over TCP, preceded by its length (RFC 1035 §4.2.2). May raise any exception."""
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
    """Parse *octets* as an answer to *query*. May raise any exception."""
    import dns.message

    reply = dns.message.from_wire(octets)
    if not query.is_response(reply):
        raise ValueError("an answer to another question")
    return reply


def _read(reply: "dns.message.QueryMessage", kind: str) -> Answer:
    """The `Answer` in *reply*, with TTLs limited. May raise any exception."""
    import dns.flags
    import dns.rcode

    rcode = reply.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(why=f"the nameserver says {dns.rcode.to_text(rcode)}", is_spoken=True)
    found = reply.resolve_chaining()
    exists = rcode == dns.rcode.NOERROR
    if found.answer is None:
        # A truncated reply, or a referral by a server without recursion, does not mean that no record exists.
        if reply.flags & dns.flags.TC or not reply.flags & (dns.flags.AA | dns.flags.RA):
            return Answer(why="the nameserver gives no answer of its own", is_spoken=True)
        return Answer(exists=exists, ttl=min(found.minimum_ttl, _NEGATIVE_TTL))  # RFC 2308 §5
    ttl = min(found.minimum_ttl, _MAX_TTL)
    if kind == "MX":
        records = sorted(Mx(each.preference, each.exchange.to_text()) for each in found.answer)
        return Answer(tuple(records[:_MAX_RECORDS]), ttl=ttl)
    return Answer(tuple([each.address for each in found.answer][:_MAX_RECORDS]), ttl=ttl)


# -- the machine's configuration ----------------------------------------------------------------------------


def _server(text: str) -> tuple[str, int]:
    """Parse ``192.0.2.1``, ``192.0.2.1:53``, ``[::1]:53`` or ``::1``. Raises ConfigurationError."""
    address, port = text, "53"
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        port = "" if not bracket else rest.removeprefix(":") if rest else port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if family(address) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16:
        return address, int(port)
    raise ConfigurationError(f"{mx.shown(text)}: not a nameserver; write ADDRESS or ADDRESS:PORT")


def family(address: str) -> int:
    """AF_INET or AF_INET6, or 0 if *address* is no address. IPv6 may have a scope (``fe80::1%eth0``)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.partition("%")[0] if family == socket.AF_INET6 else address)
        except (OSError, ValueError):
            continue
        return family
    return 0


def system_servers() -> list[tuple[str, int]]:
    """(address, port) of the nameservers in resolv.conf(5), read each time: the network may change."""
    words = [line.split() for line in system_lines(RESOLV_CONF)]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and family(line[1])]
    return [(address, 53) for address in found[:_MAX_SERVERS]]


def system_lines(path: str) -> list[str]:
    """The non-empty lines of a small system file; [] if it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return [line for line in file.read(1 << 20).splitlines() if line.strip()]
    except OSError:
        return []
