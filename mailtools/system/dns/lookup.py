"""One question to the DNS, and its answer: what a name has of one type.

Blocks; one `Lookup` serves many threads, which ask the same once. Knows no mail. Owns RFC 1035 §4.2 (UDP,
then TCP), resolv.conf(5) as far as it names nameservers, and for how long an answer holds (RFC 2308).

Invariants: nothing is raised, whatever octets a nameserver sends; every wait, answer and list is bounded. A
name is taken as it is, without search list: bob@example.com must not go to example.com.our.example.

dnspython makes and reads the messages; the octets are moved here, so that their number is bounded: it takes
15 s for the worst answer of 64 KiB. Importing dns.message takes 0.8 of the time of dns.resolver (56 of 70 ms,
of which 27 are for importlib.metadata); what that has beyond, search lists among it, is not wanted.
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
_MAX_ANSWER = 8 << 10  # octets, for a hundred MX records
_HEADER = 12  # octets
_TRUNCATED = 2  # in the third octet
_ROUNDS = 2  # each nameserver is asked so often, for a datagram may be lost
_MAX_SERVERS = 3  # as resolv.conf(5)

RESOLV_CONF = "/etc/resolv.conf"


class Answer(NamedTuple):
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
        self.answer = Answer(why="the lookup was given up")


class Lookup:
    """Asks *nameserver* ("ADDRESS[:PORT]"), or those of /etc/resolv.conf.

    *timeout*: seconds for one question, all tries together. Raises ConfigurationError where *nameserver* is
    no address.
    """

    def __init__(self, nameserver: str, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = _server(nameserver) if nameserver else None
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, str], tuple[float, Answer]] = {}  # until when; oldest first
        self._flights: dict[tuple[str, str], _Flight] = {}

    def ask(self, name: str, kind: str) -> Answer:
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
        return Answer(why=f"the nameserver {address} does not answer")
    except OSError as error:
        return Answer(why=f"the nameserver {address} cannot be asked: {error.strerror or error}")
    except Exception as error:  # whatever a library says of octets from afar, it is an answer of no use
        return Answer(why=f"the nameserver {address} answers nonsense ({type(error).__name__})")


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


def _read(reply: "dns.message.QueryMessage", kind: str) -> Answer:
    """What *reply* says; anything may be raised."""
    import dns.flags
    import dns.rcode

    rcode = reply.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(why=f"the nameserver says {dns.rcode.to_text(rcode)}", is_spoken=True)
    found = reply.resolve_chaining()
    exists = rcode == dns.rcode.NOERROR
    if found.answer is None:
        # Cut short, or a referral by somebody who does not look further: that there is nothing, nobody said.
        if reply.flags & dns.flags.TC or not reply.flags & (dns.flags.AA | dns.flags.RA):
            return Answer(why="the nameserver gives no answer of its own", is_spoken=True)
        return Answer(exists=exists, ttl=min(found.minimum_ttl, _NEGATIVE_TTL))
    ttl = min(found.minimum_ttl, _MAX_TTL)
    if kind == "MX":
        records = sorted(Mx(each.preference, each.exchange.to_text()) for each in found.answer)
        return Answer(tuple(records[:_MAX_RECORDS]), ttl=ttl)
    return Answer(tuple([each.address for each in found.answer][:_MAX_RECORDS]), ttl=ttl)


# -- the machine's configuration ----------------------------------------------------------------------------


def _server(text: str) -> tuple[str, int]:
    """A nameserver's address and port, from ``192.0.2.1``, ``192.0.2.1:53``, ``[::1]:53``, or ``::1``."""
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
    """AF_INET or AF_INET6; 0 where it is no address. A scope (``fe80::1%eth0``) may stand at its end."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.partition("%")[0] if family == socket.AF_INET6 else address)
        except (OSError, ValueError):
            continue
        return family
    return 0


def system_servers() -> list[tuple[str, int]]:
    """The nameservers of resolv.conf(5), read each time: the machine may move to another network."""
    words = [line.split() for line in system_lines(RESOLV_CONF)]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and family(line[1])]
    return [(address, 53) for address in found[:_MAX_SERVERS]]


def system_lines(path: str) -> list[str]:
    """The lines of a small file of the system that are not empty; none where it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return [line for line in file.read(1 << 20).splitlines() if line.strip()]
    except OSError:
        return []
