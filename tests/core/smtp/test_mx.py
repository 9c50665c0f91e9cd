"""core/smtp/mx: which hosts, in which order, and why none."""

import random
import string
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import RefusedError, TemporaryError, UnknownHostError
from mailtools.core.smtp import mx
from mailtools.core.smtp.mx import Mx, NoMailError, ResolutionError, UnknownDomainError


def names(records: Sequence[Mx], own: Sequence[str] = ()) -> list[str]:
    return [record.exchange for record in mx.order("b.test", records, list.reverse, own)]


def test_by_preference() -> None:
    assert names([Mx(30, "c.test"), Mx(0, "a.test"), Mx(20, "b.test")]) == ["a.test", "b.test", "c.test"]


def test_equal_preferences_are_shuffled_among_themselves() -> None:
    records = [Mx(10, "a.test"), Mx(10, "b.test"), Mx(20, "z.test"), Mx(10, "c.test")]
    assert names(records) == ["c.test", "b.test", "a.test", "z.test"]  # "shuffled" is reversed here
    firsts = {mx.order("b.test", records, random.Random(seed).shuffle)[0].exchange for seed in range(50)}
    assert firsts == {"a.test", "b.test", "c.test"}


def test_names_come_in_lower_case_and_each_once_at_its_best() -> None:
    assert names([Mx(20, "A.Test."), Mx(10, "a.test"), Mx(15, "b.test")]) == ["a.test", "b.test"]


@pytest.mark.parametrize("exchange", [".", ""])
def test_null_mx(exchange: str) -> None:
    with pytest.raises(NoMailError, match="does not accept mail") as caught:
        names([Mx(0, exchange)])
    assert caught.value.reply[:2] == (556, "5.1.10")
    assert isinstance(caught.value, RefusedError)


def test_null_mx_beside_others_is_passed_over() -> None:
    assert names([Mx(0, "."), Mx(10, "a.test")]) == ["a.test"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (["backup.test"], ["first.test"]),
        (["equal.test"], ["first.test"]),
        (["last.test"], ["first.test", "equal.test", "backup.test"]),
        (["elsewhere.test"], ["first.test", "equal.test", "backup.test", "last.test"]),
    ],
)
def test_from_ourselves_on_nobody_is_left(own: list[str], expected: list[str]) -> None:
    records = [Mx(10, "first.test"), Mx(20, "Backup.test."), Mx(20, "equal.test"), Mx(30, "last.test")]
    assert names(records, own) == expected


def test_a_loop_to_ourselves() -> None:
    with pytest.raises(NoMailError, match=r"mail for b\.test loops back to myself") as caught:
        names([Mx(10, "us.test"), Mx(20, "b.test")], ["us.test"])
    assert caught.value.reply[:2] == (550, "5.4.6")


NO_NAMES = [
    "192.0.2.1", "192.0.2.1.", "2001:db8::1", "[192.0.2.1]", "127.1", "2130706433", "0x7f000001", "0x7f.1", "1.0x",
    "a..test", ".test", "a b.test", "a\\032b.test", "-oproxy.test", "a.-b.test", "a\r\nb.test", "a\0.test", "é.test",
    "a/b.test", "x" * 64 + ".test", ".".join(["x" * 50] * 5), "a.test..", "a.test\n",
]  # fmt: skip


@pytest.mark.parametrize("exchange", NO_NAMES)
def test_what_is_no_host_name_is_skipped(exchange: str) -> None:
    assert names([Mx(0, exchange), Mx(10, "a.test")]) == ["a.test"]
    with pytest.raises(UnknownDomainError) as caught:
        names([Mx(0, exchange)])
    assert caught.value.reply[:2] == (550, "5.4.4")


@pytest.mark.parametrize(
    "name", ["localhost", "a.test", "_x.a_b.test", "3com.com", "a.4b", "xn--mnchen-3ya.de"]
)
def test_host_names(name: str) -> None:
    assert mx.is_host_name(name)


@given(
    st.lists(
        st.builds(Mx, st.integers(0, 65535), st.text() | st.sampled_from(["a.test", "B.test", "c.test"])),
        min_size=1,
    ),
    st.sets(st.sampled_from(["a.test", "b.test"])),
    st.randoms(use_true_random=False),
)
def test_any_records_give_an_order_or_a_reply(records: list[Mx], own: set[str], rng: random.Random) -> None:
    try:
        hosts = mx.order("b.test", records, rng.shuffle, own)
    except ResolutionError as error:
        assert error.reply.code in (550, 556)
        return
    found = [host.exchange for host in hosts]
    assert len(found) == len(set(found)) > 0
    assert [host.preference for host in hosts] == sorted(host.preference for host in hosts)
    assert not set(found) & own
    assert set("".join(found)) <= set(string.ascii_lowercase + string.digits + "-_.")
    ours = [record.preference for record in records if mx.normalized(record.exchange) in own]
    assert all(host.preference < min(ours, default=65536) for host in hosts)


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:::1]", "::1"),
        ("[ipv6:2001:DB8:0::1]", "2001:db8::1"),
        ("[IPv6:::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
    ],
)
def test_literals(domain: str, address: str) -> None:
    assert mx.is_literal(domain)
    assert mx.plain_address(mx.literal(domain)) == mx.plain_address(address)


@pytest.mark.parametrize(
    "domain",
    ["[]", "[", "[192.0.2.1", "[192.0.2]", "[192.0.2.256]", "[192.0.2.01]", "[::1]", "[IPv6:]", "[IPv6:192.0.2.1]", "[IPv6:fe80::1%eth0]",
     "[192.0.2.1]x", "[ 192.0.2.1]", "[x-tag:y]", "[192.0.2.1\r\n]", "[١.0.2.1]", "[" + "1" * 10000 + "]"],
)  # fmt: skip
def test_no_literals(domain: str) -> None:
    with pytest.raises(UnknownDomainError) as caught:
        mx.literal(domain)
    assert caught.value.reply[:2] == (550, "5.1.3")


@given(st.text())
def test_any_literal_is_an_address_or_told(inside: str) -> None:
    with suppress(ResolutionError):
        assert mx.plain_address(mx.literal(f"[{inside}]"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.2", True), ("::1", True), ("10.0.0.1", True), ("0.0.0.0", False), ("::", False), ("::ffff:0.0.0.0", False),
     ("224.0.0.1", False), ("255.255.255.255", False), ("ff02::1", False)],
)  # fmt: skip
def test_where_mail_can_go(address: str, expected: bool) -> None:
    assert mx.is_connectable(address) is expected


def test_one_form_of_an_address() -> None:
    assert mx.plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert mx.plain_address("2001:DB8:0:0::1") == "2001:db8::1"


@given(st.text(max_size=600), st.text(max_size=600))
def test_errors_are_one_line_of_ascii(domain: str, why: str) -> None:
    for error in (
        mx.unknown(domain),
        mx.malformed(domain),
        mx.no_address(domain),
        mx.loop(domain),
        mx.lookup_again(domain, why),
    ):
        octets = error.reply.octets()
        assert octets.isascii()
        assert octets.count(b"\r\n") == 1
        assert octets[:-2].decode().isprintable()
        assert len(octets) < 700
        assert isinstance(error, TemporaryError) == error.reply.is_transient
    assert isinstance(mx.unknown(domain), UnknownHostError)
