"""core/queue/salvage: what is left of a damaged journal."""

import json

import pytest

from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue import journal, salvage
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import FAILED, Result

WHOLE = QueueEnvelope(
    "0a-1", 1e9, "alice@example.org", (Recipient("bob@b.test"), Recipient("carol@c.test")), stored=70, size=75
)
LINE = envelopes.encode(WHOLE)


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(LINE) | fields).encode() + b"\n"


def test_a_journal_that_can_be_read_is_read() -> None:
    entry = salvage.entry_of(LINE, "0a-1", 0.0)
    assert entry == journal.parse(LINE)


@pytest.mark.parametrize(
    "octets",
    [
        LINE[:-1],
        LINE[:-3],
        LINE.replace(b'"version": 1', b'"version": 2'),
        LINE.replace(b"{", b"\xff", 1),
        changed(ret="x"),
        changed(envid="a b"),
        changed(stored="many"),
        changed(identity="0a-2"),
    ],
)
def test_sender_and_recipients_of_a_damaged_envelope(octets: bytes) -> None:
    envelope = salvage.entry_of(octets, "0a-1", 7.0).envelope
    assert envelope.identity == "0a-1"
    assert envelope.arrived == 1e9
    assert envelope.reverse_path == "alice@example.org"
    assert [one.address for one in envelope.recipients] == ["bob@b.test", "carol@c.test"]


@pytest.mark.parametrize("octets", [b"", b"\n", b"\0" * 5000, b"[" * 1_000_000, b"T1234 a postfix file\n"])
def test_a_journal_that_says_nothing(octets: bytes) -> None:
    entry = salvage.entry_of(octets, "0a-1", 7.0)
    assert entry.envelope == QueueEnvelope("0a-1", 7.0, "", ())
    assert entry.pending == ()


@pytest.mark.parametrize("address", ["a@b>\r\nRCPT TO:<c@d", "a b@c", "<a@b>", "\ud800@b", "a@b\x1b[2J", ""])
def test_an_address_that_no_command_can_hold_is_left_out(address: str) -> None:
    recipients = [{"address": address}, {"address": "carol@c.test"}]
    envelope = salvage.entry_of(changed(reverse_path=address, recipients=recipients), "0a-1", 0.0).envelope
    assert envelope.reverse_path == ""
    assert [one.address for one in envelope.recipients] == ["carol@c.test"]


def test_the_events_behind_a_damaged_envelope_count() -> None:
    octets = changed(ret="x") + journal.encode(
        [journal.attempt(1e9 + 60, Result((1,), FAILED, "550 no")), salvage.set_aside(1e9 + 90, "the reason")]
    )
    entry = salvage.entry_of(octets, "0a-1", 0.0)
    assert entry.pending == (0,)
    assert entry.age(1e9 + 100) == 100
    assert salvage.why_of(octets) == "the reason"


@pytest.mark.parametrize(
    "octets", [b"", LINE, LINE + b"not JSON\n", LINE + b'{"event": "set-aside", "text": 1}\n']
)
def test_no_reason(octets: bytes) -> None:
    assert salvage.why_of(octets) == ""


def test_the_last_reason_counts() -> None:
    records = [salvage.set_aside(1.0, "first"), salvage.set_aside(2.0, "second")]
    assert salvage.why_of(LINE + journal.encode(records)) == "second"
