"""services/queue/dsn: which DSN goes into the spool, and when none does."""

import email
import email.utils
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DEFERRED, DELAYED, FAILED, SENT, Result
from mailtools.core.queue.schedule import DAY, Schedule
from mailtools.services.queue import dsn
from mailtools.services.queue.dsn import Notices
from mailtools.system import clock
from mailtools.system.spool.spool import Spool, SpoolLease

SMALL = b"From: ann@example.com\nSubject: hi\nMessage-ID: <1@example.com>\n\nhello\n"
LARGE = SMALL + b"0123456789\n" * 6000
HUGE = SMALL + b"0123456789\n" * 100_000


class Desk:
    """A spool with one message in it, and those who tell its sender."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(str(root))
        self.notices = Notices(self.spool.add, "mail.example.net", Schedule())
        self.leases: list[SpoolLease] = []

    def add(self, octets: bytes = SMALL, sender: str = "ann@example.com", recipient: str = "bob@b.test",
            result: str = FAILED, remote: str = "mx.b.test", **more: object) -> SpoolLease:  # fmt: skip
        envelope = QueueEnvelope(clock.identity(), clock.now(), sender, (Recipient(recipient),), **more)  # type: ignore[arg-type]
        self.spool.add(envelope, [octets])
        lease = self.spool.claim(envelope.identity)
        assert lease
        self.leases.append(lease)
        reply = Result((0,), result, "550 5.1.1 no such user", "5.1.1", remote, final=True)
        lease.record([journal.attempt(clock.now(), reply)])
        return lease

    def told(self, identity: str) -> tuple[QueueEnvelope, Message]:
        """The DSN *identity* as it waits in the spool."""
        lease = self.spool.claim(identity)
        assert lease
        self.leases.append(lease)
        return lease.entry.envelope, email.message_from_bytes(b"".join(lease.message()))

    def waiting(self) -> int:
        return len(list(self.spool.ready(clock.now())))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "spool")
    yield desk
    for lease in desk.leases:
        lease.close()


SIGNED = (
    b"From: ann@example.com\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b\n"
    b"Content-Transfer-Encoding: 8bit\n\n--b\nContent-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n\ngr\xc3\xbc\xc3\x9fe\n--b\n\nsignature\n--b--\n"
)


def kinds(message: Message) -> list[str]:
    return [part.get_content_type() for part in message.get_payload()]  # type: ignore[union-attr]


def fields(message: Message) -> Message:
    """What is told of the one recipient."""
    return message.get_payload(1).get_payload(1)  # type: ignore[union-attr, return-value, arg-type]


def test_a_failure(desk: Desk) -> None:
    lease = desk.add(envid="QQ1")
    identity = desk.notices.tell(lease, FAILED, [0])
    envelope, message = desk.told(identity)
    assert (envelope.reverse_path, envelope.recipients) == (
        "", (Recipient("ann@example.com", notify="NEVER"),)
    )  # fmt: skip
    assert not envelope.needs_utf8 and not envelope.needs_8bit
    assert message["To"] == "<ann@example.com>"
    assert message["In-Reply-To"] == "<1@example.com>"
    assert message["Message-ID"] == f"<{identity}@mail.example.net>"
    block = fields(message)
    assert (block["Action"], block["Status"], block["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.b.test")
    assert message.get_payload(1).get_payload(0)["Original-Envelope-Id"] == "QQ1"  # type: ignore[union-attr, arg-type]
    assert message.get_payload(1).get_payload(0)["X-Mailtools-Queue-ID"] == lease.identity  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("result", "of", "remote", "action"),
    [
        (FAILED, FAILED, "", "failed"),
        (DEFERRED, DELAYED, "mx.b.test", "delayed"),
        (SENT, SENT, "mx.b.test", "relayed"),
        (SENT, SENT, "", "delivered"),
    ],
)
def test_what_became_of_it(desk: Desk, result: str, of: str, remote: str, action: str) -> None:
    before = int(clock.now())
    _, message = desk.told(desk.notices.tell(desk.add(result=result, remote=remote), of, [0]))
    block = fields(message)
    assert block["Action"] == action
    assert (block["Will-Retry-Until"] is not None) == (action == "delayed")
    if action == "failed":
        assert block["Diagnostic-Code"] == "x-mailtools; 550 5.1.1 no such user"
    if action == "delayed":
        until = email.utils.parsedate_to_datetime(block["Will-Retry-Until"]).timestamp()
        assert before + 5 * DAY - 1 <= until <= clock.now() + 5 * DAY + 1


@pytest.mark.parametrize(
    ("octets", "ret", "of", "kind"),
    [
        (SMALL, "", FAILED, "message/rfc822"),
        (SMALL, "HDRS", FAILED, "text/rfc822-headers"),
        (SMALL, "", DELAYED, "text/rfc822-headers"),
        (SMALL, "FULL", SENT, "text/rfc822-headers"),
        (LARGE, "", FAILED, "text/rfc822-headers"),
        (LARGE, "FULL", FAILED, "message/rfc822"),
        (HUGE, "FULL", FAILED, "text/rfc822-headers"),
        (b"no header", "HDRS", FAILED, ""),
        (b"no header", "", FAILED, "message/rfc822"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_the_whole_message_or_its_header(desk: Desk, octets: bytes, ret: str, of: str, kind: str) -> None:
    _, message = desk.told(desk.notices.tell(desk.add(octets, ret=ret), of, [0]))
    assert kinds(message)[2:] == ([kind] if kind else [])
    if kind == "message/rfc822":
        assert message.get_payload(2).get_payload(0).as_bytes().strip(b"\n") == octets.rstrip(b"\n")  # type: ignore[union-attr, arg-type]
    elif kind:
        assert message.get_payload(2).get_payload() == SMALL.decode().removesuffix("hello\n")  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("damage", ["gone", "cut", "a folder"])
def test_a_message_that_vanished_is_told_of_all_the_same(desk: Desk, damage: str) -> None:
    lease = desk.add()
    path = Path(lease.message_path)
    path.unlink()
    if damage == "cut":
        path.write_bytes(b"x")
    elif damage == "a folder":
        path.mkdir()
    _, message = desk.told(desk.notices.tell(lease, FAILED, [0]))
    assert kinds(message) == ["text/plain", "message/delivery-status"]
    assert fields(message)["Final-Recipient"] == "rfc822; bob@b.test"


def test_a_sender_beyond_ascii_needs_a_server_for_it(desk: Desk) -> None:
    envelope, _ = desk.told(desk.notices.tell(desk.add(sender="büro@例え.jp"), FAILED, [0]))
    assert envelope.needs_utf8
    assert envelope.recipients[0].address == "büro@例え.jp"
    envelope, _ = desk.told(desk.notices.tell(desk.add("Subject: é\n\né\n".encode()), FAILED, [0]))
    assert not envelope.needs_utf8
    assert envelope.needs_8bit


def test_the_null_reverse_path_is_never_told(desk: Desk) -> None:
    assert desk.notices.tell(desk.add(sender=""), FAILED, [0]) == ""
    assert desk.notices.tell(desk.add(), FAILED, []) == ""
    assert desk.waiting() == 2


def test_no_address_is_told_more_than_it_can_bear(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    monkeypatch.setattr(dsn, "_MOST_IN_AN_HOUR", 3)
    lease, other = desk.add(), desk.add(sender="eve@example.com")
    for _ in range(3):
        assert desk.notices.tell(lease, FAILED, [0])
    with pytest.raises(CannotWriteError, match="more than 3 notices to <ann@"):
        desk.notices.tell(lease, FAILED, [0])
    assert desk.notices.tell(other, FAILED, [0])
    assert desk.waiting() == 2 + 4
    now += 3601.0
    assert desk.notices.tell(lease, FAILED, [0])


def test_a_spool_that_cannot_be_written_is_the_callers_affair(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(*_: object) -> QueueEnvelope:
        raise CannotWriteError("no room")

    monkeypatch.setattr(dsn, "_MOST_IN_AN_HOUR", 3)
    lease = desk.add()
    full = Notices(add, "mail.example.net", Schedule())
    for _ in range(5):
        with pytest.raises(CannotWriteError, match="no room"):
            full.tell(lease, FAILED, [0])
    assert desk.waiting() == 1


def test_what_could_not_go_to_every_server_is_not_returned(desk: Desk) -> None:
    """An 8-bit part under a signature cannot be re-encoded, and a DSN that fails tells nobody."""
    _, message = desk.told(desk.notices.tell(desk.add(SIGNED, ret="FULL"), FAILED, [0]))
    assert kinds(message)[2] == "text/rfc822-headers"
    plain = SIGNED.replace(b"multipart/signed", b"multipart/mixed")
    _, message = desk.told(desk.notices.tell(desk.add(plain, ret="FULL"), FAILED, [0]))
    assert kinds(message)[2] == "message/rfc822"
