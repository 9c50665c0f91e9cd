"""The message in a record, on the short way."""

import pytest

from mailtools.core.mbox import catalog, scan, stored
from mailtools.services.transit import mbox_form


@pytest.mark.parametrize(
    "message",
    [
        b"A: b\n\ntext\n",
        b"A: b\nStatus: RO\nX-UID: 4\n\n>From here\n>>From there\n",
        b"A: b\n>Status: R\n\n\n>From first\n",
        b"A: b\nX-Keywords: a\n b\n\ntext\n\nStatus: x\n",
        b">From: x\nA: b\n\n.\n",
    ],
)
def test_the_short_way_to_the_wire_gives_the_same_octets(message: bytes) -> None:
    octets = b"From a@b.test Thu Aug 22 12:00:00 2002\n" + message + b"\n"
    found = stored.wire_of(octets)
    record = scan.whole_record(octets)
    assert record is not None
    assert found == b"".join(catalog.wire(record))
    kept = stored.kept_of(octets)
    assert kept == mbox_form.stored(found), "what another mbox gets of the message"


@pytest.mark.parametrize(
    "octets",
    [
        b"From a\nA: b\r\n\r\ntext\r\n\r\n",  # another program's line ends
        b"From a\nA: b\nContent-Length: 5\n\nFrom \n\n",
        b"From a\nA: b\n\n",  # no body
        b"From a\n\ntext\n\n",  # no header
        b"From a\nA: b\n\ntext without an end",
        b"",
    ],
)
def test_the_short_way_is_not_taken_for_other_records(octets: bytes) -> None:
    assert stored.wire_of(octets) is None
    assert stored.kept_of(octets) is None
