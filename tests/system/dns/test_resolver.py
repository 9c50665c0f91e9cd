"""system/dns/resolver: every answer of a nameserver becomes hosts or a reply."""

import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.errors import RefusedError, TemporaryError, UnknownHostError
from mailtools.core.smtp.mx import Surroundings, is_host_name, normalized, plain_address
from mailtools.system.dns import lookup, resolver
from mailtools.system.dns.resolver import MxHost, ResolutionError, Resolver
from tests.nameserver import Nameserver
from tests.servers import DEADLINE, eventually, unmeasured

SILENCE = 0.5  # seconds that tests of no answer wait for it

TABLE: dict[str, Any] = {
    "b.test": {"MX": [(20, "mx2.b.test"), (10, "mx.b.test")]},
    "mx.b.test": {"A": ["127.0.0.2"]},
    "mx2.b.test": {"A": ["127.0.0.3"], "AAAA": ["::1"]},
    "plain.test": {"A": ["127.0.0.4"]},
    "six.test": {"AAAA": ["::1"]},
    "nothing.test": {"TXT": ["x"]},
    "null.test": {"MX": [(0, ".")], "A": ["127.0.0.5"]},
    "odd.test": {"MX": [(0, "192.0.2.1"), (1, ".")], "A": ["127.0.0.5"]},
    "alias.test": {"CNAME": "b.test"},
    "round.test": {"CNAME": "about.test"},
    "about.test": {"CNAME": "round.test"},
    "lost.test": {"CNAME": "nowhere.test"},
    "dead.test": {"MX": [(10, "nowhere.test"), (20, "nothing.test")]},
    "half.test": {"MX": [(10, "nowhere.test"), (20, "servfail.test")]},
    "good.test": {"MX": [(10, "nowhere.test"), (20, "servfail.test"), (30, "mx.b.test")]},
    "servfail.test": "servfail",
    "refused.test": "refused",
    "timeout.test": "timeout",
    "garbage.test": "garbage",
    "empty.test": "empty",
    "long.test": {"MX": [(n, f"mx{n}.long.test") for n in range(80)], "A": []},
    **{f"mx{n}.long.test": {"A": [f"127.0.1.{n + 1}"]} for n in range(80)},
    "cut.test": {"MX": [(10, "mx.b.test")], "truncate": True},
    "nocut.test": "truncate",
    "many.test": {"A": [f"127.0.2.{n}" for n in range(1, 21)]},
    "xn--mnchen-3ya.test": {"A": ["127.0.0.6"]},
    "nowhere4.test": {"A": "servfail", "AAAA": ["::1"]},
    "nowhere6.test": {"A": ["127.0.0.7"], "AAAA": "timeout"},
    "neither.test": {"A": "servfail", "AAAA": []},
    "unspecified.test": {"A": ["0.0.0.0"], "AAAA": ["::"]},
    "mxunspecified.test": {"MX": [(1, "unspecified.test"), (2, "plain.test")]},
    "nomx.test": {"MX": "servfail", "A": ["127.0.0.8"]},
}


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(TABLE) as server:
        yield server


def near(*networks: str, names: Sequence[str] = (), addresses: Sequence[str] = (),
         listeners: Sequence[tuple[str, int]] = ()) -> Surroundings:  # fmt: skip
    """Surroundings in which *networks*, or those of this file, are permitted."""
    permitted = networks or ("127.0.0.0/8", "::1")
    return Surroundings(
        frozenset(normalized(name) for name in names),
        frozenset(plain_address(address) for address in addresses),
        frozenset(listeners),
        tuple(ip_network(network) for network in permitted),
    )


def hosts(nameserver: Nameserver, domain: str, port: int = 25, **options: Any) -> list[MxHost]:
    options.setdefault("timeout", DEADLINE)
    options.setdefault("surroundings", near())
    return list(Resolver(nameserver.address, **options).hosts(domain, port))


def refusal(nameserver: Nameserver, domain: str, **options: Any) -> ResolutionError:
    with pytest.raises(ResolutionError) as caught:
        hosts(nameserver, domain, **options)
    return caught.value


# -- answers ------------------------------------------------------------------------------------------------


def test_mx_by_preference(nameserver: Nameserver) -> None:
    found = hosts(nameserver, "b.test")
    assert found[0] == MxHost("mx.b.test", ("127.0.0.2",))
    assert found[1].name == "mx2.b.test"
    assert sorted(found[1].addresses) == ["127.0.0.3", "::1"]


def test_addresses_are_asked_for_when_they_are_wanted(nameserver: Nameserver) -> None:
    walk = Resolver(nameserver.address, surroundings=near()).hosts("long.test")
    assert [next(walk).name for _ in range(3)] == ["mx0.long.test", "mx1.long.test", "mx2.long.test"]
    assert nameserver.questions("A") == ["mx0.long.test", "mx1.long.test", "mx2.long.test"]


def test_no_more_hosts_than_ten(nameserver: Nameserver) -> None:
    found = hosts(nameserver, "long.test")
    assert [host.name for host in found] == [f"mx{n}.long.test" for n in range(10)]
    assert len(nameserver.questions("A")) == 10


def test_no_more_addresses_than_eight(nameserver: Nameserver) -> None:
    (host,) = hosts(nameserver, "many.test", shuffle=random.Random(1).shuffle)
    assert len(set(host.addresses)) == 8
    (other,) = hosts(nameserver, "many.test", shuffle=random.Random(2).shuffle)
    assert host.addresses != other.addresses  # the load is shared


def test_equal_preferences_are_shuffled(nameserver: Nameserver) -> None:
    nameserver.table["equal.test"] = {"MX": [(5, "mx.b.test"), (5, "plain.test"), (5, "six.test")]}
    asked = Resolver(nameserver.address, surroundings=near(), shuffle=random.Random(0).shuffle)
    firsts = {next(asked.hosts("equal.test")).name for _ in range(50)}
    assert firsts == {"mx.b.test", "plain.test", "six.test"}


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("plain.test", "127.0.0.4"),
        ("PLAIN.test.", "127.0.0.4"),
        ("six.test", "::1"),
        ("nowhere4.test", "::1"),
    ],
)
def test_without_mx_the_domain_itself(nameserver: Nameserver, domain: str, address: str) -> None:
    assert hosts(nameserver, domain) == [MxHost(domain.lower().rstrip("."), (address,))]


def test_one_family_that_cannot_be_asked_is_no_harm(nameserver: Nameserver) -> None:
    assert hosts(nameserver, "nowhere6.test", timeout=SILENCE) == [MxHost("nowhere6.test", ("127.0.0.7",))]


@pytest.mark.parametrize(
    "domain", ["münchen.test", "MÜNCHEN.test", "München。test", "xn--mnchen-3ya.test", "XN--MNCHEN-3YA.TEST."]
)
def test_names_in_other_scripts(nameserver: Nameserver, domain: str) -> None:
    assert hosts(nameserver, domain) == [MxHost("xn--mnchen-3ya.test", ("127.0.0.6",))]


def test_not_transitional(nameserver: Nameserver) -> None:
    nameserver.table["xn--strae-oqa.test"] = {"A": ["127.0.0.9"]}
    assert hosts(nameserver, "straße.test")[0].name == "xn--strae-oqa.test"


@pytest.mark.parametrize(
    ("domain", "address"), [("[8.8.8.8]", "8.8.8.8"), ("[IPv6:::1]", "::1"), ("[127.0.0.2]", "127.0.0.2")]
)
def test_address_literals_ask_nobody(nameserver: Nameserver, domain: str, address: str) -> None:
    assert hosts(nameserver, domain) == [MxHost(address, (address,))]
    assert nameserver.asked == []


def test_aliases_are_followed(nameserver: Nameserver) -> None:
    assert [host.name for host in hosts(nameserver, "alias.test")] == ["mx.b.test", "mx2.b.test"]


@pytest.mark.parametrize("domain", ["cut.test", "long.test"])
def test_what_is_too_long_for_udp_comes_over_tcp(nameserver: Nameserver, domain: str) -> None:
    assert hosts(nameserver, domain)
    assert [each.is_tcp for each in nameserver.asked if each.kind == "MX"] == [False, True]


def test_a_host_that_cannot_be_looked_up_is_passed_over(nameserver: Nameserver) -> None:
    assert [host.name for host in hosts(nameserver, "good.test")] == ["mx.b.test"]


def test_a_host_at_no_place_is_passed_over(nameserver: Nameserver) -> None:
    assert [host.name for host in hosts(nameserver, "mxunspecified.test")] == ["plain.test"]


# -- refusals -----------------------------------------------------------------------------------------------

FOR_GOOD = [
    ("nowhere.test", 550, "5.1.2", UnknownHostError),
    ("lost.test", 550, "5.1.2", UnknownHostError),
    ("nothing.test", 550, "5.4.4", UnknownHostError),
    ("empty.test", 550, "5.4.4", UnknownHostError),
    ("dead.test", 550, "5.4.4", UnknownHostError),
    ("nocut.test", 550, "5.4.4", UnknownHostError),
    ("unspecified.test", 550, "5.4.4", RefusedError),
    ("odd.test", 550, "5.4.4", UnknownHostError),
    ("null.test", 556, "5.1.10", RefusedError),
    ("", 550, "5.1.2", UnknownHostError),
    (".", 550, "5.1.2", UnknownHostError),
    ("a..test", 550, "5.1.2", UnknownHostError),
    ("192.0.2.1", 550, "5.1.2", UnknownHostError),
    ("１９２.0.2.1", 550, "5.1.2", UnknownHostError),
    ("a b.test", 550, "5.1.2", UnknownHostError),
    ("a\r\nb.test", 550, "5.1.2", UnknownHostError),
    ("-o.test", 550, "5.1.2", UnknownHostError),
    ("x" * 300, 550, "5.1.2", UnknownHostError),
    ("é" * 100_000, 550, "5.1.2", UnknownHostError),
    ("\udcff.test", 550, "5.1.2", UnknownHostError),
    ("☃\u200d.test", 550, "5.1.2", UnknownHostError),
    ("[192.0.2.256]", 550, "5.1.3", UnknownHostError),
    ("[0.0.0.0]", 550, "5.4.4", RefusedError),
]


@pytest.mark.parametrize(
    ("domain", "code", "enhanced", "kind"),
    FOR_GOOD,
    ids=lambda each: str(each)[:20].encode("unicode_escape").decode(),
)
def test_for_good(nameserver: Nameserver, domain: str, code: int, enhanced: str, kind: type) -> None:
    error = refusal(nameserver, domain)
    assert error.reply[:2] == (code, enhanced)
    assert isinstance(error, kind)
    assert not isinstance(error, TemporaryError)
    assert str(error) == error.reply.text


@pytest.mark.parametrize(
    "domain", ["servfail.test", "refused.test", "half.test", "neither.test", "nomx.test", "round.test"]
)
def test_for_now(nameserver: Nameserver, domain: str) -> None:
    error = refusal(nameserver, domain)
    assert error.reply[:2] == (451, "4.4.3")
    assert isinstance(error, TemporaryError)


@pytest.mark.parametrize("domain", ["timeout.test", "garbage.test"])
def test_silence_is_for_now_and_asked_twice(nameserver: Nameserver, domain: str) -> None:
    assert refusal(nameserver, domain, timeout=SILENCE).reply[:2] == (451, "4.4.3")
    eventually(lambda: len(nameserver.asked) == 2, lambda: nameserver.asked)


def test_what_the_nameserver_said_is_not_asked_again(nameserver: Nameserver) -> None:
    assert "SERVFAIL" in str(refusal(nameserver, "servfail.test"))
    assert len(nameserver.asked) == 1


def test_a_nameserver_that_is_down() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    with pytest.raises(ResolutionError, match="cannot be asked") as caught:
        list(Resolver(address, timeout=DEADLINE, surroundings=near()).hosts("b.test"))
    assert caught.value.reply[:2] == (451, "4.4.3")


def test_a_referral_is_no_word_that_there_is_nothing(nameserver: Nameserver) -> None:
    def referral(octets: bytes, _: bool) -> bytes:
        reply = dns.message.make_response(dns.message.from_wire(octets))
        reply.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.test."))
        return reply.to_wire()

    nameserver.table["referred.test"] = referral
    assert refusal(nameserver, "referred.test").reply.is_transient


def test_an_answer_to_another_question_is_passed_over(nameserver: Nameserver) -> None:
    def other(octets: bytes, _: bool) -> bytes:
        query = dns.message.from_wire(octets)
        reply = dns.message.make_response(query)
        reply.id ^= 1
        return reply.to_wire()

    nameserver.table["spoofed.test"] = other
    assert refusal(nameserver, "spoofed.test", timeout=SILENCE).reply.is_transient


def test_an_answer_is_bounded(nameserver: Nameserver) -> None:
    nameserver.table["huge.test"] = {"MX": [(n, f"mx{n}.b.test") for n in range(1000)]}
    error = refusal(nameserver, "huge.test")
    assert "too long" in str(error)
    assert error.reply.is_transient


def test_dead_hosts_do_not_take_forever(nameserver: Nameserver) -> None:
    nameserver.table["tarpit.test"] = {"MX": [(n, f"{chr(97 + n)}.tarpit.test") for n in range(10)]}
    nameserver.table |= {f"{chr(97 + n)}.tarpit.test": "timeout" for n in range(10)}
    assert refusal(nameserver, "tarpit.test", timeout=0.2).reply.is_transient
    assert len(set(nameserver.questions("A"))) < 6


# -- ourselves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["b.test", "plain.test", "[127.0.0.2]", "mx.b.test"])
def test_a_loop_by_address(nameserver: Nameserver, domain: str) -> None:
    error = refusal(nameserver, domain, surroundings=near(addresses=["127.0.0.2", "127.0.0.4"]))
    assert error.reply[:2] == (550, "5.4.6")
    assert isinstance(error, RefusedError)


@pytest.mark.parametrize(("domain", "own"), [("b.test", "MX.b.test."), ("plain.test", "plain.test")])
def test_a_loop_by_name(nameserver: Nameserver, domain: str, own: str) -> None:
    assert refusal(nameserver, domain, surroundings=near(names=[own])).reply[:2] == (550, "5.4.6")


def test_from_ourselves_on_nobody_is_left(nameserver: Nameserver) -> None:
    assert len(hosts(nameserver, "b.test", surroundings=near(names=["mx2.b.test"]))) == 1
    assert len(hosts(nameserver, "b.test", surroundings=near(addresses=["127.0.0.3", "::1"]))) == 1


def test_not_even_who_is_as_good_as_we_are(nameserver: Nameserver) -> None:
    nameserver.table["equal.test"] = {"MX": [(1, "mx.b.test"), (5, "plain.test"), (5, "six.test")]}
    for seed in range(10):
        here = near(addresses=["::1"])
        found = hosts(nameserver, "equal.test", surroundings=here, shuffle=random.Random(seed).shuffle)
        assert [host.name for host in found] == ["mx.b.test"]


def test_a_better_host_that_cannot_be_looked_up_is_waited_for(nameserver: Nameserver) -> None:
    nameserver.table["later.test"] = {"MX": [(1, "servfail.test"), (5, "plain.test")]}
    assert refusal(nameserver, "later.test", surroundings=near(addresses=["127.0.0.4"])).reply.is_transient


def test_an_address_of_ours_among_others_is_left_out(nameserver: Nameserver) -> None:
    (host,) = hosts(nameserver, "mx2.b.test", surroundings=near(addresses=["0:0:0:0:0:0:0:1"]))
    assert host.addresses == ("127.0.0.3",)


# -- addresses that are not public ---------------------------------------------------------------------------

NOT_PUBLIC = ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.1.1", "100.64.0.1", "0.1.2.3",
              "0.0.0.0", "::", "::1", "fe80::1", "fd00::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
              "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1", "224.0.0.1", "240.0.0.1", "192.0.2.1"]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_mail_goes_to_public_addresses_only(nameserver: Nameserver, address: str) -> None:
    kind = "AAAA" if ":" in address else "A"
    nameserver.table["near.test"] = {kind: [address]}
    nameserver.table["mx.test"] = {"MX": [(10, "near.test")]}
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    for domain in ("near.test", "mx.test", literal):
        error = refusal(nameserver, domain, surroundings=Surroundings())
        assert error.reply[:2] == (550, "5.4.4")
        assert "not public" in str(error)
        assert isinstance(error, RefusedError)


def test_the_reason_names_host_address_and_kind(nameserver: Nameserver) -> None:
    error = refusal(nameserver, "b.test", surroundings=Surroundings())
    expected = (
        "mail for b.test is not sent to an address that is not public: mx.b.test has 127.0.0.2 (loopback)"
    )
    assert str(error) == expected


@pytest.mark.parametrize("address", ["8.8.8.8", "2600::1", "64:ff9b::808:808", "2002:808:808::1"])
def test_public_addresses(nameserver: Nameserver, address: str) -> None:
    nameserver.table["far.test"] = {"AAAA" if ":" in address else "A": [address]}
    assert hosts(nameserver, "far.test", surroundings=Surroundings()) == [MxHost("far.test", (address,))]


def test_public_hosts_and_addresses_beside_others_are_used(nameserver: Nameserver) -> None:
    nameserver.table |= {
        "mixed.test": {"MX": [(5, "mx.b.test"), (10, "both.test"), (20, "plain.test")]},
        "both.test": {"A": ["10.0.0.1", "8.8.8.8"], "AAAA": ["::1"]},
    }
    assert hosts(nameserver, "mixed.test", surroundings=Surroundings()) == [MxHost("both.test", ("8.8.8.8",))]


def test_networks_that_the_operator_permits(nameserver: Nameserver) -> None:
    nameserver.table["inside.test"] = {"A": ["10.1.2.3", "10.2.2.3"], "AAAA": ["::ffff:10.1.2.4"]}
    (host,) = hosts(nameserver, "inside.test", surroundings=near("10.1.0.0/16"))
    assert sorted(host.addresses) == ["10.1.2.3", "::ffff:10.1.2.4"]


@pytest.mark.parametrize("domain", ["b.test", "plain.test", "[127.0.0.2]"])
def test_another_port_is_for_networks_of_ones_own(nameserver: Nameserver, domain: str) -> None:
    assert hosts(nameserver, domain, port=2525, surroundings=Surroundings())
    assert refusal(nameserver, "unspecified.test", port=2525, surroundings=Surroundings())


@pytest.mark.parametrize("listener", ["127.0.0.2", "0.0.0.0", "::"])
@pytest.mark.parametrize("domain", ["b.test", "[127.0.0.2]", "[IPv6:::ffff:127.0.0.2]"])
def test_our_own_server_is_never_called(nameserver: Nameserver, listener: str, domain: str) -> None:
    here = near(listeners=[(listener, 2525)])
    assert refusal(nameserver, domain, port=2525, surroundings=here).reply[:2] == (550, "5.4.6")
    assert hosts(nameserver, domain, port=2526, surroundings=here)


# -- hosts that the operator names ---------------------------------------------------------------------------


def test_a_named_host_is_looked_up_where_a_nameserver_is_given(nameserver: Nameserver) -> None:
    asked = Resolver(nameserver.address, timeout=DEADLINE)
    assert asked.addresses("mx.B.test.") == ("127.0.0.2",)
    assert set(asked.addresses("mx2.b.test")) == {"127.0.0.3", "::1"}
    assert asked.addresses("localhost") == ("127.0.0.1", "::1")
    assert asked.addresses("127.0.0.9") == asked.addresses("::1") == asked.addresses("") == ()
    assert Resolver(timeout=DEADLINE).addresses("mx.b.test") == ()
    for name in ("nowhere.test", "nothing.test", "a b"):
        with pytest.raises(UnknownHostError):
            asked.addresses(name)
    with pytest.raises(TemporaryError):
        asked.addresses("servfail.test")


# -- the addresses of this machine ---------------------------------------------------------------------------


def test_own_addresses_are_addresses_and_not_loopback() -> None:
    for address in resolver.own_addresses():
        assert not address.startswith("127.")
        assert address != "::1"
        assert plain_address(address) == address


def test_own_addresses_of_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trie = tmp_path / "fib_trie"
    trie.write_text(
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
        "     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.0\n        /24 link UNICAST\n"
        "     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n"
    )
    inet6 = tmp_path / "if_inet6"
    inet6.write_text(f"{1:032x} 01 80 10 80       lo\n20010db8{2:024x} 04 40 00 82     eth0\n")
    monkeypatch.setattr(resolver, "_IPV4_ADDRESSES", str(trie))
    monkeypatch.setattr(resolver, "_IPV6_ADDRESSES", str(inet6))
    assert resolver.own_addresses() == {"192.0.2.2", "2001:db8::2"}
    inet6.unlink()
    assert resolver.own_addresses() == {"192.0.2.2"}


# -- which family first -------------------------------------------------------------------------------------

LO = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"
WAY_OUT = f"{'0' * 32} 00 {'0' * 32} 00 fd00{1:028x} 00000400 00000003 00000000 00000003     eth0\n"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (WAY_OUT + LO, ["::1", "127.0.0.1", "::2", "127.0.0.2", "127.0.0.3"]),
        (LO, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1", "::2"]),
    ],
)
def test_families(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, routes: str, expected: list[str]
) -> None:
    file = tmp_path / "ipv6_route"
    file.write_text(routes)
    monkeypatch.setattr(resolver, "_IPV6_ROUTES", str(file))
    nameserver.table["both.test"] = {"A": ["127.0.0.1", "127.0.0.2", "127.0.0.3"], "AAAA": ["::1", "::2"]}
    assert hosts(nameserver, "both.test", port=26, shuffle=list.sort) == [
        MxHost("both.test", tuple(expected))
    ]


# -- the machine's own configuration ------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nameserver: Nameserver) -> Path:
    """A folder with a hosts file, and the nameserver in place of those of resolv.conf."""
    (tmp_path / "hosts").write_text(
        "127.0.0.9 own.site Alias.Site # not.this\n::1 own.site\nx broken.site\n\n#127.0.0.9 off.site\n"
    )
    monkeypatch.setattr(resolver, "_HOSTS", str(tmp_path / "hosts"))
    monkeypatch.setattr(lookup, "system_servers", lambda: [("127.0.0.1", nameserver.port)])
    return tmp_path


def machine_hosts(domain: str) -> list[MxHost]:
    return list(Resolver(timeout=DEADLINE, surroundings=near()).hosts(domain))


def test_the_nameservers_of_the_machine(machine: Path) -> None:
    assert machine_hosts("plain.test") == [MxHost("plain.test", ("127.0.0.4",))]


def test_hosts_that_only_the_machine_knows(machine: Path, nameserver: Nameserver) -> None:
    assert sorted(machine_hosts("own.site")[0].addresses) == ["127.0.0.9", "::1"]
    assert machine_hosts("alias.site")[0].addresses == ("127.0.0.9",)
    assert "127.0.0.1" in machine_hosts("localhost")[0].addresses
    nameserver.table["inside.test"] = {"MX": [(10, "alias.site")]}
    assert machine_hosts("inside.test") == [MxHost("alias.site", ("127.0.0.9",))]
    for domain in ("not.this", "broken.site", "off.site"):
        with pytest.raises(UnknownHostError):
            machine_hosts(domain)


def test_a_nameserver_that_is_given_is_the_only_word(machine: Path, nameserver: Nameserver) -> None:
    for domain in ("own.site", "localhost"):
        assert refusal(nameserver, domain).reply[:2] == (550, "5.1.2")


def test_localhost_needs_no_nameserver(
    machine: Path, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameserver.table["*"] = "servfail"
    assert machine_hosts("localhost")
    with pytest.raises(TemporaryError):  # it may have an MX elsewhere
        machine_hosts("own.site")


@pytest.mark.parametrize("is_there", [True, False])
def test_no_nameserver_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_there: bool) -> None:
    file = tmp_path / "resolv.conf"
    if is_there:
        file.touch()
    monkeypatch.setattr(lookup, "RESOLV_CONF", str(file))
    with pytest.raises(TemporaryError, match="no nameserver in"):
        machine_hosts("b.test")


def test_the_next_nameserver_is_asked(nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    with Nameserver({"*": "refused"}) as refusing, Nameserver({"*": "timeout"}) as silent:
        ports = (refusing.port, silent.port, nameserver.port)
        monkeypatch.setattr(lookup, "system_servers", lambda: [("127.0.0.1", port) for port in ports])
        assert list(Resolver(timeout=1.0, surroundings=near()).hosts("plain.test")) == [
            MxHost("plain.test", ("127.0.0.4",))
        ]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_domain_is_a_name_or_told(text: str) -> None:
    with suppress(ResolutionError):
        assert is_host_name(resolver._a_labels(text))


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, mailtools.system.dns.resolver; print({'dns', 'idna', 'ssl', 'random'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured(), capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout == "set()\n"
