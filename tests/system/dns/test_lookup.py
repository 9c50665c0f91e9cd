"""system/dns/lookup: what is asked, how often, and that no octets do harm."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp.mx import Surroundings, is_host_name
from mailtools.system.dns import lookup
from mailtools.system.dns.resolver import MxHost, ResolutionError, Resolver
from tests.nameserver import Nameserver
from tests.servers import DEADLINE, eventually

NEAR = Surroundings(permitted=(ip_network("127.0.0.0/8"), ip_network("::1")))
TABLE: dict[str, Any] = {
    "b.test": {"MX": [(10, "mx.b.test")]},
    "mx.b.test": {"A": ["127.0.0.2"]},
    "servfail.test": "servfail",
}


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(TABLE) as server:
        yield server


# -- the cache ----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("domain", "entry", "seconds"),
    [
        ("short.test", {"A": ["127.0.0.1"], "ttl": 20}, 20),
        ("long.test", {"A": ["127.0.0.1"], "ttl": 86400}, 300),
        ("gone.test", "nxdomain", 60),
    ],
)
def test_answers_are_kept_as_long_as_they_hold(
    nameserver: Nameserver, domain: str, entry: Any, seconds: int
) -> None:
    nameserver.table[domain] = entry
    clock = Clock()
    asked = Resolver(nameserver.address, clock=clock, surroundings=NEAR)
    kind = "MX" if entry == "nxdomain" else "A"

    def times() -> int:
        with suppress(ResolutionError):
            list(asked.hosts(domain))
        return len(nameserver.questions(kind))

    assert times() == 1
    clock.now += seconds - 1
    assert times() == 1
    clock.now += 2
    assert times() == 2


def test_what_failed_is_asked_again(nameserver: Nameserver) -> None:
    asked = Resolver(nameserver.address, surroundings=NEAR)
    with pytest.raises(ResolutionError):
        list(asked.hosts("servfail.test"))
    nameserver.table["servfail.test"] = {"A": ["127.0.0.1"]}
    assert list(asked.hosts("servfail.test"))


def test_no_time_to_live_is_not_kept(nameserver: Nameserver) -> None:
    nameserver.table["fleeting.test"] = {"A": ["127.0.0.1"], "ttl": 0}
    asked = Resolver(nameserver.address, surroundings=NEAR)
    for _ in range(2):
        list(asked.hosts("fleeting.test"))
    assert nameserver.questions("A") == ["fleeting.test"] * 2


def test_the_cache_is_bounded(nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_MAX_ENTRIES", 10)
    asked = Resolver(nameserver.address, surroundings=NEAR)
    for number in range(30):
        with pytest.raises(ResolutionError):
            list(asked.hosts(f"n{number}.test"))
    assert len(asked._lookup._cache) == 10
    with pytest.raises(ResolutionError):
        list(asked.hosts("n29.test"))  # the latest are kept
    assert len(nameserver.asked) == 30


def test_threads_with_one_question_ask_once(nameserver: Nameserver) -> None:
    has_come, may_go = threading.Event(), threading.Event()

    def held(octets: bytes, _: bool) -> bytes:
        has_come.set()
        assert may_go.wait(DEADLINE)
        reply = dns.message.make_response(dns.message.from_wire(octets), recursion_available=True)
        reply.answer.append(dns.rrset.from_text("held.test.", 300, "IN", "MX", "1 mx.b.test."))
        return reply.to_wire()

    nameserver.table["held.test"] = held
    asked = Resolver(nameserver.address, timeout=4 * DEADLINE, surroundings=NEAR)
    found: list[list[MxHost]] = []
    threads = [
        threading.Thread(target=lambda: found.append(list(asked.hosts("held.test"))), daemon=True)
        for _ in range(8)
    ]
    threads[0].start()
    assert has_come.wait(DEADLINE)
    for thread in threads[1:]:
        thread.start()
    may_go.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert found == [[MxHost("mx.b.test", ("127.0.0.2",))]] * 8
    assert nameserver.questions("MX") == ["held.test"]


def test_threads_share_a_failure_too(nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that is a bug: nobody waits for ever."""
    asked = Resolver(nameserver.address, surroundings=NEAR)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asked._lookup, "_from_nameservers", broken)
    with pytest.raises(KeyboardInterrupt):
        list(asked.hosts("b.test"))
    assert not asked._lookup._flights
    assert not asked._lookup._cache


# -- hostile octets -----------------------------------------------------------------------------------------


def _over(query: bytes, tail: bytes, flags: int, counts: list[int]) -> bytes:
    """A header that fits the question, and then anything."""
    head = query[:2] + (flags | dns.flags.QR).to_bytes(2) + b"".join(count.to_bytes(2) for count in counts)
    return head + query[12:] + tail


RECORD = st.builds(
    lambda name, kind, ttl, data: (
        name + kind.to_bytes(2) + b"\0\1" + ttl.to_bytes(4) + len(data).to_bytes(2) + data
    ),
    st.sampled_from([b"\xc0\x0c", b"\0", b"\xc0\xff", b"\1a\xc0\x0c", b"\x80"]) | st.binary(max_size=8),
    st.sampled_from([1, 2, 5, 6, 15, 28, 39, 41, 46, 250]) | st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40)
    | st.sampled_from(
        [
            b"\0\1\xc0\x0c",
            b"\0\1\0",
            b"\0\0\4-oX\n\0",
            b"\x7f\0\0\1",
            b"\xc0\x0c",
            b"\0\1" + b"\x3f" + b"\xff" * 63 + b"\0",
        ]
    ),
)
TAILS = st.lists(RECORD, max_size=5).map(b"".join) | st.binary(max_size=200)


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[Nameserver, list[Callable[[bytes], bytes]]]]:
    """A nameserver that answers by the one function in the list."""
    reply: list[Callable[[bytes], bytes]] = []
    with Nameserver({"*": lambda octets, _: reply[0](octets)}) as server:
        yield server, reply


def _ask_hostile(server: Nameserver) -> None:
    with suppress(ResolutionError):
        for host in Resolver(server.address, timeout=0.02, surroundings=NEAR).hosts("h.test"):
            assert is_host_name(host.name)
            assert host.addresses


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tail=TAILS,
    flags=st.sampled_from([0, 0x0080, 0x0480, 0x0200, 0x0083, 0x0082]) | st.integers(0, 65535),
    counts=st.sampled_from([[1, 1, 0, 0], [1, 2, 0, 0], [1, 1, 1, 1], [1, 5, 0, 0]])
    | st.lists(st.integers(0, 65535), min_size=4, max_size=4),
)
def test_any_octets_are_hosts_or_told(hostile: Any, tail: bytes, flags: int, counts: list[int]) -> None:
    server, reply = hostile
    reply[:] = [lambda query: _over(query, tail, flags, counts)]
    _ask_hostile(server)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(octets=st.binary(max_size=300))
def test_any_datagram_is_hosts_or_told(hostile: Any, octets: bytes) -> None:
    server, reply = hostile
    reply[:] = [lambda _: octets]
    _ask_hostile(server)


@pytest.mark.parametrize("octets", [b"", b"\0", b"\xff" * 500, b"\0" * 12])
def test_nonsense_over_tcp(nameserver: Nameserver, octets: bytes) -> None:
    def nonsense(query: bytes, is_tcp: bool) -> bytes:
        return octets if is_tcp else _over(query, b"", dns.flags.TC, [1, 0, 0, 0])

    nameserver.table["tcp.test"] = nonsense
    with pytest.raises(ResolutionError) as caught:
        list(Resolver(nameserver.address, surroundings=NEAR).hosts("tcp.test"))
    assert caught.value.reply.is_transient


def test_forged_datagrams_are_passed_over(nameserver: Nameserver) -> None:
    def mixed(octets: bytes, _: bool) -> list[bytes]:
        query = dns.message.from_wire(octets)
        good = dns.message.make_response(query, recursion_available=True)
        good.answer.append(dns.rrset.from_text("mixed.test.", 300, "IN", "MX", "1 mx.b.test."))
        other_name = dns.message.make_response(dns.message.make_query("other.test.", "MX", id=query.id))
        other_id = dns.message.make_response(query)
        other_id.id ^= 1
        return [
            b"",
            b"x",
            octets,
            octets[:2],
            octets[:2] + b"\x80" * 30,
            other_name.to_wire(),
            other_id.to_wire(),
            good.to_wire(),
        ]

    nameserver.table["mixed.test"] = mixed
    assert list(
        Resolver(nameserver.address, timeout=2 * DEADLINE, surroundings=NEAR).hosts("mixed.test")
    ) == [MxHost("mx.b.test", ("127.0.0.2",))]
    assert nameserver.questions("MX") == ["mixed.test"]


def test_cut_short_even_over_tcp(nameserver: Nameserver) -> None:
    nameserver.table["cut.test"] = lambda octets, _: _over(
        octets, b"", dns.flags.TC | dns.flags.RA, [1, 0, 0, 0]
    )
    with pytest.raises(ResolutionError) as caught:
        list(Resolver(nameserver.address, surroundings=NEAR).hosts("cut.test"))
    assert caught.value.reply.is_transient


# -- which nameservers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\nnameserver ::1\n", [("192.0.2.1", 53), ("::1", 53)]),
        (
            "# nameserver 192.0.2.9\nsearch x.test\nnameserver\nnameserver x\n\tnameserver fe80::1%eth0 # x\n",
            [("fe80::1%eth0", 53)],
        ),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(9)), [(f"192.0.2.{n}", 53) for n in range(3)]),
        ("", []),
    ],
)
def test_resolv_conf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: list[tuple[str, int]]
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    monkeypatch.setattr(lookup, "RESOLV_CONF", str(file))
    assert lookup.system_servers() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.1", ("192.0.2.1", 53)), ("192.0.2.1:5353", ("192.0.2.1", 5353)), ("::1", ("::1", 53)),
     ("[::1]", ("::1", 53)), ("[::1]:5353", ("::1", 5353))],
)  # fmt: skip
def test_nameserver_forms(text: str, expected: tuple[str, int]) -> None:
    assert lookup._server(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ns.test",
        "ns.test:53",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:٣",
        "[::1",
        "[::1]53x",
        "[]:53",
        "1",
        "\0",
        "192.0.2.1\n",
    ],
)
def test_no_nameservers(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ADDRESS:PORT"):
        Resolver(text)


@given(st.text())
def test_any_nameserver_is_one_or_told(text: str) -> None:
    with suppress(ConfigurationError):
        Resolver(text)


# -- the nameserver for tests, as a program -----------------------------------------------------------------


def test_the_nameserver_as_a_program(tmp_path: Path) -> None:
    table, port_file = tmp_path / "table.json", tmp_path / "port"
    table.write_text(json.dumps(TABLE))
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.nameserver", str(table), "--port-file", str(port_file)],
        cwd=Path(__file__).parents[3], env=os.environ,
    )  # fmt: skip
    try:
        eventually(lambda: port_file.exists() or program.poll() is not None, "the port file")
        address = f"127.0.0.1:{int(port_file.read_text())}"
        assert next(Resolver(address, surroundings=NEAR).hosts("b.test")).name == "mx.b.test"
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0
    finally:
        program.kill()
        program.wait()
