"""Envelopes: what was written comes back; what nobody of ours wrote is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.envelope import QueueEnvelope, decode, encode

WHOLE = QueueEnvelope(
    "0abc-1", 1e9 + 0.5, "alice@example.org",
    (Recipient("bob@example.com", "SUCCESS,FAILURE", "rfc822;bob@example.com"), Recipient('"a b"@example.net')),
    stored=100, size=104, needs_8bit=True, needs_utf8=True, ret="HDRS", envid="x+2By", origin="smtp",
    route="smtp://relay.example", tls="starttls", account="work",
)  # fmt: skip

address = st.from_regex(r"[a-z\u00e0-\u00fc\u4e00.+-]{1,20}@[a-z0-9.-]{1,20}", fullmatch=True)
numbers = st.integers(0, 1 << 59)
whole = st.builds(
    QueueEnvelope,
    st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}", fullmatch=True),
    st.floats(0, 1e11),
    st.just("") | address,
    st.lists(
        st.builds(
            Recipient, address, st.sampled_from(["", "NEVER", "SUCCESS,DELAY"]), st.just("rfc822;a+20@b")
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    numbers,
    numbers,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "FULL", "HDRS"]),
    st.from_regex(r"[!-<>-~]{0,30}", fullmatch=True),
    st.text(max_size=20),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_there_and_back() -> None:
    line = encode(WHOLE)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == WHOLE


@given(whole)
def test_every_envelope_comes_back(envelope: QueueEnvelope) -> None:
    assert decode(encode(envelope)) == envelope


@given(whole)
def test_a_line_is_what_json_writes(envelope: QueueEnvelope) -> None:
    record = {"version": 1, **envelope._asdict()}
    record["recipients"] = [
        {key: value for key, value in each._asdict().items() if value} for each in envelope.recipients
    ]
    assert encode(envelope) == json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize(
    "text", ['a"b', "a\\b", "a\nb", "\x00", "\x7f", "\u2028", "\ud800", "ü", "😀", "a b", ""]
)
def test_any_text_is_written_as_json_writes_it(text: str) -> None:
    assert json.loads(encode(WHOLE._replace(origin=text)))["origin"] == text
    assert json.dumps(text) in encode(WHOLE._replace(origin=text)).decode()


@given(st.binary(max_size=200))
def test_any_octets_are_an_envelope_or_bad_data(octets: bytes) -> None:
    with contextlib.suppress(BadDataError):
        decode(octets)


def record(**changes: Any) -> bytes:
    its = json.loads(encode(WHOLE)) | changes
    return json.dumps({key: value for key, value in its.items() if value is not ...}).encode()


@given(st.sampled_from(["version", *QueueEnvelope._fields]), anything)
def test_any_value_in_any_field_is_sound_or_refused(name: str, value: Any) -> None:
    try:
        found = decode(record(**{name: value}))
    except BadDataError:
        return
    assert envelopes.is_identity(found.identity)
    assert found.recipients
    for text in (found.reverse_path, *(recipient.address for recipient in found.recipients)):
        assert not set(text) & set("\r\n\0<>")
    assert 0 <= found.arrived < 1e12
    assert {type(getattr(found, name)) for name in ("origin", "route", "tls", "account")} == {str}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "version"),
        ({"version": ...}, "version"),
        ({"identity": "../../etc/passwd"}, "identity"),
        ({"identity": ""}, "identity"),
        ({"identity": "a" * 65}, "identity"),
        ({"identity": 5}, "identity"),
        ({"arrived": -1}, "range"),
        ({"arrived": "now"}, "arrived"),
        ({"arrived": True}, "arrived"),
        ({"arrived": float("nan")}, "range"),
        ({"arrived": float("inf")}, "range"),
        ({"stored": -1}, "range"),
        ({"size": 1 << 70}, "range"),
        ({"size": 1.5}, "size"),
        ({"needs_8bit": 1}, "needs_8bit"),
        ({"reverse_path": "a@b>\r\nRCPT TO:<c@d"}, "reverse-path"),
        ({"reverse_path": None}, "reverse_path"),
        ({"recipients": []}, "recipients"),
        ({"recipients": [{}]}, "lacks"),
        ({"recipients": [{"address": ""}]}, "recipient"),
        ({"recipients": [{"address": "a b@c"}]}, "recipient"),
        ({"recipients": [{"address": "a\x85@c"}]}, "recipient"),
        ({"recipients": [{"address": "a@b", "notify": "NEVER\r\nDATA"}]}, "recipient"),
        ({"recipients": [{"address": "a@b", "orcpt": "rfc822;a b"}]}, "recipient"),
        ({"recipients": [{"address": 1}]}, "recipient"),
        ({"recipients": [{"address": "a@b", "shell": "rm"}]}, "lacks"),
        ({"recipients": "a@b"}, "lacks"),
        ({"recipients": ...}, "lacks"),
        ({"ret": "BODY"}, "reverse-path"),
        ({"envid": "a b"}, "envid"),
        ({"program": "/bin/sh"}, "one too many"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadDataError, match=says):
        decode(record(**changes))


@pytest.mark.parametrize("octets", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}{}", b"1" * 5000])
def test_no_json_object(octets: bytes) -> None:
    with pytest.raises(BadDataError):
        decode(octets)


def test_whole_seconds_and_white_space_do_no_harm() -> None:
    assert decode(b" " + record(arrived=5) + b" ").arrived == 5


def test_more_recipients_than_any_message_has() -> None:
    with pytest.raises(BadDataError, match="too many"):
        decode(record(recipients=[{"address": "a@b"}] * 100_001))


def test_who_wants_to_hear_of_what() -> None:
    envelope = WHOLE._replace(
        recipients=(Recipient("a@b"), Recipient("c@d", "NEVER"), Recipient("e@f", "SUCCESS"))
    )
    assert [envelope.wants(n, "FAILURE") for n in range(3)] == [True, False, False]
    assert [envelope.wants(n, "SUCCESS") for n in range(3)] == [False, False, True]
    assert [envelope.wants(n, "DELAY") for n in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ('"a b"@c', True),
        ("a b@c", False),
        ('"a\\" b"@c', True),
        ('"a\tb"@c', False),
        ("ü@c", True),
        ("a\u2028@c", False),
    ],
)
def test_safe_addresses(text: str, safe: bool) -> None:
    assert envelopes.is_safe(text) is safe


@pytest.mark.parametrize(
    ("recipient", "is_usable"),
    [
        (Recipient("a@b"), True),
        (Recipient('"a b"@x'), True),
        (Recipient('"a<b"@x'), True),
        (Recipient("a@[<x>]"), False),
        (Recipient("a b@x"), False),
        (Recipient("a\n@x"), False),
        (Recipient("ü@x"), True),
        (Recipient("a\x85@x"), False),
        (Recipient(""), False),
        (Recipient("a@b", "", "rfc822;" + "+41" * 500), True),
        (Recipient("a@b", "", "utf-8;ü@x"), True),
        (Recipient("a@b", "", "utf-8;\u2028"), False),
        (Recipient("a@b", "", "rfc822;" + "a" * 2000), False),
        (Recipient("a@b", "SUCCESS FAILURE"), False),
    ],
)
def test_a_recipient_is_usable_if_it_can_be_read_back(recipient: Recipient, is_usable: bool) -> None:
    assert envelopes.is_recipient(recipient) is is_usable
    whole = WHOLE._replace(recipients=(recipient,))
    if is_usable:
        envelopes.check(whole)
        assert decode(encode(whole)) == whole
    else:
        with pytest.raises(BadDataError):
            envelopes.check(whole)
        with contextlib.suppress(UnicodeEncodeError), pytest.raises(BadDataError):
            decode(encode(whole))
