"""A message for delivery: in mbox form, its header bounded, loops found."""

import pytest

from mailtools.core.errors import BadDataError
from mailtools.services.transit.intake import MAX_HEADER
from mailtools.services.transit.received import FROM_HERE, FROM_SMTP, ReceivedIntake


def taken(*chunks: bytes) -> bytes:
    intake = ReceivedIntake(FROM_SMTP, "")
    for chunk in chunks:
        intake.take(chunk)
    intake.end()
    return b"".join(intake.body.blocks())


MESSAGE = b"Status: RO\r\nA: b\r\n\r\nFrom x\r\nStatus: y\r\n"


def test_the_form_of_an_mbox() -> None:
    found = b">Status: RO\nA: b\n\n>From x\nStatus: y\n"
    assert taken(MESSAGE) == found
    assert taken(*MESSAGE.splitlines(keepends=True)) == found
    assert taken(b"\r\n", b"Status: y\r\n") == b"\nStatus: y\n"


@pytest.mark.parametrize("together", [1, 7, 5000])
def test_hops(together: int) -> None:
    def message(hops: int) -> list[bytes]:
        lines = [b"Received: x\r\n"] * 50 + [b"RECEIVED: y\r\n"] * (hops - 50)
        lines += [b"\r\n", *[b"Received: body\r\n"] * 200]
        return [b"".join(lines[n : n + together]) for n in range(0, len(lines), together)]

    assert taken(*message(100))
    with pytest.raises(BadDataError, match="more than 100 Received fields") as refused:
        taken(*message(101))
    assert refused.value.status == "5.4.6"


@pytest.mark.parametrize("together", [1, 100, 5000])
def test_the_header_is_bounded(together: int) -> None:
    line = b"X: " + b"y" * 996 + b"\r\n"
    most = MAX_HEADER // 1000
    chunks = [line * together] * (most // together) + [line * (most % together)]
    assert len(taken(*chunks, b"\r\n", line * 100)) == most * 1000 + 1 + 100_000
    with pytest.raises(BadDataError, match=f"at most {MAX_HEADER} octets") as refused:
        taken(*chunks, line, b"\r\n")
    assert refused.value.status == "5.3.4"


def test_a_header_lies_in_a_file_when_it_is_large() -> None:
    intake = ReceivedIntake(FROM_HERE, "")
    for _ in range(600):
        intake.take(b"X: " + b"y" * 996 + b"\n")
    assert not intake.body.is_in_memory
