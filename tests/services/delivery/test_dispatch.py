"""services/delivery/dispatch: what is taken to which place, and which failures come back."""

from collections.abc import Mapping
from typing import Any

import pytest

from mailtools.core.errors import CannotWriteError, DiskFullError, MailError, TemporaryError
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp.events import Envelope
from mailtools.services.delivery.addressing import MboxPlace, PipePlace, Place, RelayPlace
from mailtools.services.delivery.dispatch import Carriers, Handover, Queued, make_loads, program_failure
from mailtools.services.delivery.failures import as_reply
from mailtools.services.transit.received import Received
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.process.programs import ProgramJob, Ran

BOX, PIPE = MboxPlace("/mail/bob"), PipePlace("sort")
NEAR, FAR = RelayPlace("dan@a.test"), RelayPlace("eve@b.test")
BOB, CAROL, DAN = (
    Recipient("bob@a.test"),
    Recipient("carol@a.test"),
    Recipient("dan@a.test", "NEVER", "rfc822;d"),
)


def received(**envelope: Any) -> Received:
    body = Buffer()
    body.append(b"Subject: x\n\n>From here\n")
    return Received(Envelope("ann@a.test", (), "ESMTP", "client.test", **envelope), body)


def loads(*goals: tuple[Recipient, tuple[Place, ...]], **envelope: Any) -> dict[tuple[Place, ...], Any]:
    return dict(make_loads(received(**envelope), "id", "Received: here\n", goals, "192.0.2.1"))


def test_each_place_gets_the_message_once_and_learns_its_recipients() -> None:
    made = loads((BOB, (BOX,)), (CAROL, (BOX, PIPE)))
    assert list(made) == [(BOX,), (PIPE,)]
    record, job = made[(BOX,)], made[(PIPE,)]
    assert isinstance(record, NewRecord)
    assert record.head.startswith(b"From ann@a.test ")
    assert b"Delivered-To: bob@a.test\n" in record.head
    assert b"Delivered-To: carol@a.test\n" in record.head
    assert record.head.endswith(b"Received: here\n")
    assert isinstance(job, ProgramJob)
    octets = b"".join(job.message)
    assert octets.endswith(b"Subject: x\n\nFrom here\n")  # as it was before it was quoted
    assert b"carol" in octets and b"bob" not in octets
    assert (job.environment["RECIPIENT"], job.environment["SENDER"]) == ("carol@a.test", "ann@a.test")


def test_all_places_elsewhere_are_one_entry_of_the_spool() -> None:
    made = loads((BOB, (NEAR, BOX)), (DAN, (FAR, NEAR)), ret="HDRS", envid="e", smtputf8=True, user="ann")
    assert list(made) == [(BOX,), (NEAR, FAR)]
    queued = made[(NEAR, FAR)]
    assert isinstance(queued, Queued)
    kept = queued.envelope
    assert kept.recipients == (Recipient("dan@a.test"), Recipient("eve@b.test", "NEVER", "rfc822;d"))
    assert (kept.reverse_path, kept.ret, kept.envid, kept.needs_utf8) == ("ann@a.test", "HDRS", "e", True)
    assert kept.origin == "ann"
    assert b"Delivered-To" not in b"".join(queued.blocks)


def test_the_origin_of_a_message_without_login_is_the_client() -> None:
    assert loads((DAN, (FAR,)))[(FAR,)].envelope.origin == "192.0.2.1"


class World:
    """Carriers that keep what they are given, and what `Handover` says in the end."""

    def __init__(self, made: Mapping[tuple[Place, ...], Any]) -> None:
        self.deliveries: list[Any] = []
        self.jobs: list[ProgramJob[Any]] = []
        self.queued: list[Any] = []
        self.warnings: list[str] = []
        self.done: list[dict[Place, str]] = []
        carriers = Carriers(
            self.deliveries.append,
            self.jobs.append,
            self.warnings.append,
            lambda *entry: self.queued.append(entry),
        )
        Handover(carriers, self._finish).start(made)

    def _finish(self, failures: Mapping[Place, MailError]) -> None:
        self.done.append({place: str(as_reply(error)) for place, error in failures.items()})


def ran(code: int, said: str = "") -> Ran:
    return Ran(code, Buffer(), said)


def test_the_end_is_told_once_after_all_places() -> None:
    world = World(loads((BOB, (BOX, PIPE, FAR))))
    assert world.done == []
    world.deliveries[0].done(None)
    world.queued[0][1](None)
    assert world.done == []
    world.jobs[0].done(ran(0))
    assert world.done == [{}]


def test_a_message_for_no_place_is_done_at_once() -> None:
    assert World({}).done == [{}]


def test_each_failed_place_has_its_reason_and_the_operator_learns_the_details() -> None:
    world = World(loads((BOB, (BOX, PIPE, NEAR, FAR))))
    world.deliveries[0].done(CannotWriteError("/mail/bob: no"))
    world.jobs[0].done(ran(3, "oops"))
    world.queued[0][1](DiskFullError("/spool: full"))
    assert world.done == [
        {
            BOX: "451 4.3.0 Mailbox cannot be written, try again later",
            PIPE: "554 5.3.0 The recipient's program refused the message",
            NEAR: "452 4.3.1 Insufficient system storage",
            FAR: "452 4.3.1 Insufficient system storage",
        }
    ]
    assert world.warnings == [
        "message not stored: /mail/bob: no", "sort: failed (3): oops", "message not stored: /spool: full",
    ]  # fmt: skip


def test_a_carrier_may_be_done_before_the_next_begins() -> None:
    done: list[Any] = []
    carriers = Carriers(lambda delivery: delivery.done(None), lambda job: job.done(ran(0)), done.append)
    Handover(carriers, done.append).start(loads((BOB, (BOX, PIPE))))
    assert done == [{}]


@pytest.mark.parametrize(
    ("code", "is_temporary"),
    [(-1, True), (75, True), (126, True), (127, True), (1, False), (67, False), (77, False)],
)
def test_the_exit_code_of_a_program_tells_whether_to_try_again(code: int, is_temporary: bool) -> None:
    warnings: list[str] = []
    failure = program_failure(PIPE, ran(code), warnings.append)
    assert isinstance(failure, TemporaryError) == is_temporary
    assert warnings == [f"sort: failed ({code}): it said nothing"]


def test_a_program_that_took_the_message_is_no_failure() -> None:
    warnings: list[str] = []
    assert program_failure(PIPE, ran(0, "chatter"), warnings.append) is None
    assert warnings == []
