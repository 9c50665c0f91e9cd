"""services/submission/refused: which recipients of a header are addresses, and the DSN about the rest."""

import pytest

from mailtools.core.errors import BadDataError, CannotWriteError
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.services.submission import refused
from mailtools.services.submission.refused import About, BadAddress


def complete(text: str) -> str:
    if "@@" in text:
        raise BadDataError("no")
    return text if "@" in text else f"{text}@here.test"


@pytest.mark.parametrize(
    ("fields", "good", "bad"),
    [
        (
            b"To: bob, Ann <ann@x>\nCc: team: c@x, d@x;\nBcc: e@x\n",
            ["bob@here.test", "ann@x", "c@x", "d@x", "e@x"],
            [],
        ),
        (b"To: <a@x> <b@x>, c@x\n", ["c@x"], ["'<a@x> <b@x>': To: a comma is missing behind >"]),
        (b"To: a@x\nResent-To: b@x\nResent-Cc: c@x\n", ["b@x", "c@x"], []),
        (b"Cc: a@@x, b@x\n", ["b@x"], ["'a@@x': Cc: not an address; write local@domain"]),
        (b"Subject: none\n", [], []),
    ],
)
def test_recipients_of_a_header(fields: bytes, good: list[str], bad: list[str]) -> None:
    found, others = refused.in_header(fields, complete)
    assert (found, [str(one) for one in others]) == (good, bad)


def test_the_sender_is_told() -> None:
    added: list[tuple[QueueEnvelope, bytes]] = []

    def add(envelope: QueueEnvelope, blocks: object) -> QueueEnvelope:
        added.append((envelope, b"".join(blocks)))  # type: ignore[call-overload]
        return envelope

    warned: list[str] = []
    about = About("ann@x", "0abc-1", "id", b"Subject: lunch\nMessage-ID: <1@x>\n")
    notices = refused.make_notices(add, "here.test")
    assert refused.tell([BadAddress("zoe\x1b q@x", "why")], about, notices, warned.append)
    ((envelope, octets),) = added
    assert envelope.reverse_path == ""
    assert [r.address for r in envelope.recipients] == ["ann@x"]
    assert b"zoe  q@x" in octets
    assert b"\x1b" not in octets
    assert b"In-Reply-To: <1@x>" in octets
    assert not warned


def test_who_cannot_be_told_is_logged() -> None:
    def add(envelope: QueueEnvelope, blocks: object) -> QueueEnvelope:
        raise CannotWriteError("full")

    warned: list[str] = []
    notices = refused.make_notices(add, "here.test")
    for reverse_path in ("", "ann@x"):
        assert not refused.tell(
            [BadAddress("z", "why")], About(reverse_path, "0abc-1", "", b""), notices, warned.append
        )
    assert "nobody to tell" in warned[0]
    assert warned[1].endswith("the sender could not be told: full")
